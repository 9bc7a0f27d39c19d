/*
 * policy.h - start again or not, and when.  Pure: time and chance come from the
 * caller.  One owner, no locks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum restart_when { RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_NEVER };

#define POLICY_ENDS_MAX     16u     /* most ends that a crash loop may take */
#define POLICY_DELAY_MIN_MS 1000u   /* doubled at each end ... */
#define POLICY_DELAY_MAX_MS 60000u  /* ... up to this */
#define POLICY_STEADY_MS    60000u  /* who lived this long begins again at the least delay */
#define POLICY_HASTY_MS     10000u  /* who asks for a restart sooner ... */
#define POLICY_ASKS         3u      /* ... and oftener in a row has to wait as well */
#define POLICY_WINDOW_MS    600000u /* a crash loop: `limit` failures within this time */

struct policy {
	enum restart_when when;
	uint32_t limit; /* failures within the window after which we give up, 0 never */
	uint32_t streak, failures;
	uint32_t asks;                       /* in a row, each soon after its start */
	char why[96];                        /* of the newest verdict */
	uint64_t failed_ms[POLICY_ENDS_MAX]; /* when, the newest at failures % POLICY_ENDS_MAX */
};

struct policy_end {
	uint64_t now_ms, uptime_ms; /* monotonic */
	bool failure;               /* it did not end well */
	bool asked_to_stop;         /* we were told to end */
	bool wants_restart;         /* it ended in order to be started again */
	uint32_t chance;            /* any number, for the jitter */
};

struct policy_verdict {
	bool restart;
	uint64_t delay_ms;
	const char *why; /* until the next one */
};

/* One end: counts it and says what follows. `limit` is at most POLICY_ENDS_MAX. */
struct policy_verdict policy_next(struct policy *p, const struct policy_end *end);
