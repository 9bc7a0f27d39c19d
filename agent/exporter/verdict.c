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
backoff_ms(uint32_t attempt, uint64_t random)
{
	uint64_t top = BACKOFF_MAX_MS;

	if (attempt < 1)
		attempt = 1;
	if (attempt <= 6)
		top = (uint64_t)BACKOFF_FIRST_MS << (attempt - 1);
	if (top > BACKOFF_MAX_MS)
		top = BACKOFF_MAX_MS;
	return 50 + random % (top - 49);
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
