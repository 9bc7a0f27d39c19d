/*
 * export.h - the contract between pipeline and exporter.  The exporter owns one
 * thread; the two meet in two bounded mailboxes: leases in, settlements out.
 */
#pragma once

#include "agent/core/store.h"

struct exporter;

enum destination_kind { DEST_DATADOG_AGENT, DEST_FILE, DEST_NONE };

struct destination_options {
	char name[64];
	enum destination_kind kind;
	char url[512];              /* http://host:port or unix:///path; file: path */
	char ca_file[256];          /* authorities for https; "": libcurl's own */
	uint64_t timeout_ms;        /* without progress; a request that moves may take longer */
	uint32_t request_max_bytes; /* of a body, 0: 8 MB */
	/* identity used where a probe gave none */
	char service[128], env[128], version[128], hostname[256];
	char tags[1024], service_mapping[1024];
	bool asked; /* somebody named this destination, or anything of Datadog: else LOCAL, not
		       OFFLINE */
};

enum destination_state {
	DEST_UNKNOWN, /* nothing tried yet */
	DEST_OK,
	DEST_OFFLINE, /* circuit open */
	DEST_HOLD,    /* 401, 403: waits for a person */
	DEST_LOCAL,   /* never reached and nothing asked for it */
};

struct destination_status {
	enum destination_state state;
	int32_t last_status; /* HTTP status, 0 none */
	char last_error[160];
	uint64_t sent_requests, sent_spans, sent_bytes, retries, last_ok_real_ns;
	uint64_t next_try_real_ns;
};

/* Called on the exporter's thread: settlements are ready, or a lease would be taken; only wakes the
 * pipeline. */
typedef void (*exporter_wake_fn)(void *ctx);

enum err exporter_new(const struct destination_options *d, size_t n, exporter_wake_fn wake,
    void *ctx, struct exporter **out);
enum err exporter_start(struct exporter *e);
/* Finish requests in flight within the deadline, then stop. Idempotent. */
void exporter_stop(struct exporter *e, uint64_t deadline_ms);
void exporter_free(struct exporter *e);

#define EXPORT_CHUNKS_MAX 64u

/*
 * What destination i would take now, for one request: chunks 0 while its
 * circuit is open, or until the results of its last request are all taken, so
 * that a kill repeats at most one.  `bytes` of blobs fill a request; the chunk
 * that passes it may come along.
 */
struct export_wish {
	uint32_t chunks;
	size_t bytes;
	bool fresh;  /* newest first, else oldest: they share the line 1:1, by requests */
	bool rested; /* the network is back: what rests after an earlier failure is due too */
};
void exporter_wants(struct exporter *e, size_t i, struct export_wish *out);
/* Hand leases over as one request, n at most EXPORT_CHUNKS_MAX (takes what they own).  E_FULL:
 * nothing changed.  Each gets a result of its own. */
MUST_CHECK enum err exporter_give(struct exporter *e, size_t i, struct lease *leases, size_t n);
/* The next settlement; E_NOTFOUND when there is none. For SPLIT see split. */
struct export_result {
	struct settlement s;
	bool split; /* 413: the chunk must be split in two; a, b are filled */
	struct chunk_row a, b;
	char *agent_reply; /* body with rate_by_service, or NULL; heap */
	size_t agent_reply_bytes;
};
MUST_CHECK enum err exporter_take(struct exporter *e, struct export_result *out);
void exporter_status(struct exporter *e, size_t i, struct destination_status *out);
/* The network is back or a person asks: close the circuit's wait now. */
void exporter_retry_now(struct exporter *e);
