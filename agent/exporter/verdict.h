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
	VERDICT_RETRY,  /* the network, 408, 429, 5xx, a reply that is no agent's */
	VERDICT_SPLIT,  /* 413 */
	VERDICT_REJECT, /* the far end said no for good */
	VERDICT_HOLD,   /* 401, 403: waits for a person, tried again now and then */
};

/*
 * An HTTP status and the first bytes of its body.  A 2xx counts only when the
 * body can be an agent's: empty, JSON or "OK".  A captive portal's page is not.
 */
enum verdict verdict_of(int status, const char *body, size_t n);

#define BACKOFF_FIRST_MS   1000u
#define BACKOFF_MAX_MS     60000u
#define RETRY_AFTER_MAX_MS (15u * 60 * 1000)

/*
 * Delay before attempt number `attempt` + 1 (1: after the first failure): full
 * jitter over 1 s doubling to 60 s; `random` is any 64 random bits.  At least 50 ms.
 */
uint64_t backoff_ms(uint32_t attempt, uint64_t random);

/*
 * Value of Retry-After: seconds or an HTTP date against now (seconds since the
 * epoch).  False when it is neither; capped at RETRY_AFTER_MAX_MS.
 */
bool retry_after_ms(const char *value, int64_t now_s, uint64_t *ms);
