/*
 * health.h - sees a ComfyUI that lives and does not work: its worker dead, HTTP
 * silent, a job without progress, a poisoned device.
 *
 * One thread of its own, asleep without a timer while no probe lives.  The
 * pipeline tells it of probes and of their jobs' records (never blocks: a lock
 * held for copies only); everybody may ask how they are.
 */
#pragma once

#include "agent/core/process.h"
#include "agent/core/status.h"

struct health;

struct health_options {
	uint64_t http_silent_ns, no_progress_ns; /* 0: not judged */
	uint32_t restart;                        /* states that cost a life, a bit each */
	uint64_t look_ns;                        /* between two looks, 0: 1 s */
	void *ctx;
	/* Have a life ended and begun anew; asked again after a while when it fails. NULL: nobody
	 * can. Observer's thread. */
	enum err (*restart_fn)(
	    void *ctx, const char *life, enum health_state why, const char *detail);
	/* Do its records reach us now? NULL: always. Observer's thread. */
	bool (*connected)(void *ctx, const uint8_t probe_id[FRAME_PROBE_ID_BYTES]);
};

/* What must outlive the agent: who the workers are. */
#define HEALTH_MEMO_KEY   "health"
#define HEALTH_MEMO_BYTES (STATUS_PROCESSES * 32u)

MUST_CHECK enum err health_new(const struct health_options *o, struct health **out);
MUST_CHECK enum err health_start(struct health *h);
void health_stop(struct health *h); /* idempotent */
void health_free(struct health *h);

/* ---- pipeline's thread -------------------------------------------------- */

/* What an earlier agent knew, before any hello. */
void health_remember(struct health *h, const void *memo, size_t n);
/* It has greeted, or is in the store and not closed. */
void health_hello(struct health *h, const struct probe_row *row);
void health_gone(struct health *h, int64_t probe);
void health_seen(struct health *h, const struct span_seen *s);
/* Records do not come in now (the store is full): silence says nothing. */
void health_deaf(struct health *h, bool deaf);
/* Bytes of what has changed since it was last kept; 0: nothing. */
size_t health_memo(struct health *h, uint8_t memo[HEALTH_MEMO_BYTES]);
/* The last memo is durable. */
void health_kept(struct health *h);

/* ---- any thread --------------------------------------------------------- */

void health_status(struct health *h, struct status_health *out);
/* For tests: look at all of them now, on the caller's thread; the observer must not run. */
void health_look(struct health *h);
