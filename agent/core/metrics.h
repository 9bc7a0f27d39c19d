/*
 * metrics.h - the contract between who sends metrics (agent/metrics) and who
 * starts it or shows how it fares.  Plain values.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Why a datagram did not go out. */
enum metrics_drop {
	METRICS_REFUSED,    /* nobody listens there */
	METRICS_ABSENT,     /* no such socket */
	METRICS_FULL,       /* the far end does not read fast enough */
	METRICS_UNRESOLVED, /* the host's name has no address */
	METRICS_TOO_LARGE,  /* the network, or a line of its own, does not allow it */
	METRICS_FAILED,     /* anything else */
	METRICS_DROPS,
};
/* "refused" "absent" "full" "unresolved" "too_large" "failed". */
const char *metrics_drop_name(enum metrics_drop d);

struct metrics_options {
	bool on;              /* false: no thread, nothing is sent */
	char url[320];        /* udp://host:port or unix:///path */
	uint64_t interval_ms; /* 0: 10 s */
	/* Tags of every line, as spans have them whose process named none. */
	const char *service, *env, *version, *hostname, *tags;
};

struct metrics_status {
	bool on;
	char url[320];
	char last_error[160]; /* of the newest flush, "" when all of it went out */
	uint64_t flushes;
	uint64_t sent_datagrams, sent_bytes; /* what the kernel took */
	uint64_t dropped[METRICS_DROPS];     /* datagrams; the counts in them go with a later one */
	uint64_t last_ok_real_ns;            /* a flush of which all went out, 0 none */
	uint64_t cpu_ns;                     /* of the sender's thread */
};
