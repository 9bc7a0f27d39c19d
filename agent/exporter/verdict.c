/*
 * verdict.c - status to verdict, attempt to delay, Retry-After.  Pure.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/exporter/verdict.h"

static bool
body_of_an_agent(const char *body, size_t n)
{
	while (n > 0 && isspace((unsigned char)*body)) {
		body++;
		n--;
	}
	return n == 0 || body[0] == '{' || (n >= 2 && memcmp(body, "OK", 2) == 0);
}

enum verdict
verdict_of(int status, const char *body, size_t n)
{
	if (status >= 200 && status < 300)
		return body_of_an_agent(body, n) ? VERDICT_SENT : VERDICT_RETRY;
	switch (status) {
	case 413:
		return VERDICT_SPLIT;
	case 401:
	case 403:
	case 404:
	case 405:
	case 407:
	case 415:
		return VERDICT_HOLD;
	case 408:
	case 425:
	case 429:
		return VERDICT_RETRY;
	default:
		break;
	}
	/* a redirect is never followed: traces go where they were told to go, or wait */
	if (status >= 500 || status < 400)
		return VERDICT_RETRY;
	return VERDICT_REJECT;
}

const char *
verdict_hint(int status)
{
	if (status == 401 || status == 403)
		return "refused: is the key right, may this host send?";
	if (status == 404 || status == 405 || status == 415)
		return "takes no traces there: is the address a Datadog agent's?";
	if (status == 407)
		return "the proxy wants a login: see http_proxy, https_proxy, no_proxy";
	if (status >= 300 && status < 400)
		return "a redirect, which is not followed: is the address a Datadog agent's?";
	if (status >= 200 && status < 300)
		return "the reply is not a Datadog agent's";
	return "";
}

uint64_t
backoff_up_to_ms(uint32_t attempt, uint64_t max_ms, uint64_t random)
{
	uint64_t top = BACKOFF_FIRST_MS;

	for (uint32_t i = 1; i < attempt && top < max_ms; i++)
		top *= 2;
	if (top > max_ms)
		top = max_ms;
	return 50 + random % (top - 49);
}

uint64_t
backoff_ms(uint32_t attempt, uint64_t random)
{
	return backoff_up_to_ms(attempt, BACKOFF_MAX_MS, random);
}

uint64_t
random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

bool
retry_after_ms(const char *value, int64_t now_s, uint64_t *ms)
{
	struct tm tm = { 0 };
	const char *end;
	int64_t wait;

	while (isspace((unsigned char)*value))
		value++;
	if (isdigit((unsigned char)*value)) {
		char *stop;

		errno = 0;
		wait = strtoll(value, &stop, 10);
		if (errno != 0)
			wait = RETRY_AFTER_MAX_MS / 1000;
		while (isspace((unsigned char)*stop))
			stop++;
		if (*stop != '\0')
			return false;
	} else {
		end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
		if (end == NULL)
			return false;
		wait = (int64_t)timegm(&tm) - now_s;
	}
	if (wait < 0)
		wait = 0;
	if (wait > (int64_t)(RETRY_AFTER_MAX_MS / 1000))
		wait = RETRY_AFTER_MAX_MS / 1000;
	*ms = (uint64_t)wait * 1000;
	return true;
}
