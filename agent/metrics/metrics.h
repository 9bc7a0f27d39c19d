/*
 * metrics.h - what the agent knows, as numbers for others: sent over DogStatsD
 * by a thread that exists only where it is switched on, or written down for
 * who scrapes.  Which numbers: metrics.def.
 */
#pragma once

#include "agent/core/outbuf.h"
#include "agent/core/status.h"

/* The Prometheus text exposition (version 0.0.4) of a snapshot. Any thread; E_NOMEM. */
MUST_CHECK enum err metrics_expose(const struct status_snapshot *s, struct outbuf *out);

/* E_INVAL: it is neither udp://host:port nor unix:///path (or unixgram). */
MUST_CHECK enum err metrics_url_check(const char *url);

struct metrics;

/* Asked on the sender's thread, now and then. */
typedef enum err (*metrics_status_fn)(void *ctx, struct status_snapshot *out);

/*
 * `begin` holds what the counters were when the agent started: what grows from
 * there is told.  Texts are copied.
 */
MUST_CHECK enum err metrics_new(const struct metrics_options *o,
    const struct status_snapshot *begin, metrics_status_fn status, void *ctx, struct metrics **out);
MUST_CHECK enum err metrics_start(struct metrics *m);
/* Idempotent, NULL is harmless. Waits for the resolver no longer than a second. */
void metrics_stop(struct metrics *m);
/* After the stop: what has been counted since the last flush goes out, if it can at once. */
void metrics_flush_last(struct metrics *m, const struct status_snapshot *s);
void metrics_free(struct metrics *m);

/* Any thread; m may be NULL. */
void metrics_status(struct metrics *m, struct metrics_status *out);
