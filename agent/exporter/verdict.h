/*
 * verdict.h - what a reply means and how long to wait: pure functions, any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum verdict {
	VERDICT_SENT,
	VERDICT_RETRY,  /* the network, 408, 425, 429, 5xx, 3xx, a reply that is no agent's */
	VERDICT_SPLIT,  /* 413 */
	VERDICT_REJECT, /* the far end said no for good */
	/* 401, 403 (key), 404, 405, 415 (the wrong address), 407 (proxy): nothing is wrong with
	 * the chunk.  It waits for a person and is tried again now and then. */
	VERDICT_HOLD,
};

/*
 * An HTTP status and the first bytes of its body.  A 2xx counts only when the
 * body can be an agent's: empty, JSON or "OK".  A captive portal's page is not.
 */
enum verdict verdict_of(int status, const char *body, size_t n);

/* What a person should look at after this status, which did not take the chunk; "" for none. */
const char *verdict_hint(int status);

#define BACKOFF_FIRST_MS   1000u
#define BACKOFF_MAX_MS     60000u
#define RETRY_AFTER_MAX_MS (15u * 60 * 1000)

/*
 * Delay before attempt number `attempt` + 1 (1: after the first failure): full
 * jitter over 1 s doubling to 60 s; `random` is any 64 random bits.  At least 50 ms.
 */
uint64_t backoff_ms(uint32_t attempt, uint64_t random);
/* The same with another longest one. */
uint64_t backoff_up_to_ms(uint32_t attempt, uint64_t max_ms, uint64_t random);
/* The next 64 random bits of a state: spread, not secrecy. */
uint64_t random_next(uint64_t *state);

/*
 * Value of Retry-After: seconds or an HTTP date against now (seconds since the
 * epoch).  False when it is neither; capped at RETRY_AFTER_MAX_MS.
 */
bool retry_after_ms(const char *value, int64_t now_s, uint64_t *ms);
