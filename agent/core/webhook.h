/*
 * webhook.h - the contract between the pipeline and who tells a URL of the ends
 * of jobs.  One request at a time, on a thread that exists only where a URL is
 * configured and sleeps without a timer while it has nothing to send; the two
 * meet in a mailbox for one notice and one for its result.
 *
 * What a receiver gets: POST, a JSON object (job_put_json), and the headers
 *
 *	Idempotency-Key: <boot id>-<job>-<state>     the same at every try
 *	Comfymon-Timestamp: <seconds since 1970>     of this try
 *	Comfymon-Signature: t=<the same>,v1=<hex>    with a secret: HMAC-SHA256 of
 *	                                             "<timestamp>.<body>"
 *
 * At least once: a notice is done when a 2xx came, or the far end has refused it
 * WEBHOOK_REFUSALS times; all else is tried again.
 */
#pragma once

#include "agent/core/export.h"
#include "agent/core/outbuf.h"

#define WEBHOOK_REFUSALS 3u /* times that a 4xx is asked for again */
#define WEBHOOK_KEY_MAX  96u

struct webhook;

struct webhook_options {
	char url[512];       /* http or https; "": none is wanted */
	char secret[256];    /* "": requests are not signed */
	char ca_file[256];   /* authorities for https; "": libcurl's own */
	uint64_t timeout_ms; /* of a request in all; 0: 10 s */
};

struct webhook_status {
	bool configured, is_signed;
	char target[300]; /* scheme and host: what stands behind them may be a secret */
	enum destination_state state;
	int32_t last_status; /* HTTP status, 0 none */
	char last_error[160];
	uint64_t told, retries, given_up; /* since the start */
	uint64_t last_ok_real_ns, next_try_real_ns;
	/* the pipeline's */
	uint64_t waiting; /* notices in the store */
	uint64_t expired; /* let go for their age, since the start */
};

struct webhook_notice {
	int64_t id, job;
	uint32_t tries;    /* that have failed */
	uint32_t refusals; /* of them: the far end said no */
	char key[WEBHOOK_KEY_MAX];
	struct outbuf body;
};

struct webhook_result {
	int64_t id, job; /* of the notice */
	enum { WEBHOOK_TOLD, WEBHOOK_AGAIN, WEBHOOK_GIVEN_UP } end;
	bool refused;              /* AGAIN: one more refusal */
	uint64_t next_try_real_ns; /* AGAIN; 0: as soon as it takes one */
};

/* wake is called on the webhook's thread: a result is there, or a notice would be taken. */
MUST_CHECK enum err webhook_new(
    const struct webhook_options *o, exporter_wake_fn wake, void *ctx, struct webhook **out);
MUST_CHECK enum err webhook_start(struct webhook *w);
/* Finish the request in flight within the deadline, then stop. Idempotent, NULL is harmless. */
void webhook_stop(struct webhook *w, uint64_t deadline_ms);
void webhook_free(struct webhook *w);

/* Would it take a notice now?  Else when (monotonic), 0: it will say. */
struct webhook_wish {
	bool ready;
	bool rested; /* what rests is due too: a person has asked */
	uint64_t from_mono_ns;
};
void webhook_wants(struct webhook *w, struct webhook_wish *out);
/* Hand a notice over; takes its body.  E_FULL: nothing changed. */
MUST_CHECK enum err webhook_give(struct webhook *w, struct webhook_notice *n);
/* The result of the one that was given; E_NOTFOUND. */
MUST_CHECK enum err webhook_take(struct webhook *w, struct webhook_result *out);
void webhook_status(struct webhook *w, struct webhook_status *out);
/* A person asks: end all rests now. */
void webhook_retry_now(struct webhook *w);
