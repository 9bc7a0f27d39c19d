/*
 * policy.c - restart, with jittered doubling delays and an end to crash loops.
 */
#include "agent/supervisor/policy.h"

#include <stdio.h>

static struct policy_verdict
no(const char *why)
{
	return (struct policy_verdict){ false, 0, why };
}

/* `limit` failures lie within the window. */
static bool
loops(const struct policy *p, uint64_t now_ms)
{
	uint32_t limit = p->limit < POLICY_ENDS_MAX ? p->limit : POLICY_ENDS_MAX;

	if (limit == 0 || p->failures < limit)
		return false;
	return now_ms - p->failed_ms[(p->failures - limit) % POLICY_ENDS_MAX] <= POLICY_WINDOW_MS;
}

/* Between half of the delay and all of it: many hosts shall not start in step. */
static uint64_t
delay(uint32_t streak, uint32_t chance)
{
	uint64_t ms = streak < 6 ? (uint64_t)POLICY_DELAY_MIN_MS << streak : POLICY_DELAY_MAX_MS;

	if (ms > POLICY_DELAY_MAX_MS)
		ms = POLICY_DELAY_MAX_MS;
	return ms / 2 + chance % (ms / 2 + 1);
}

struct policy_verdict
policy_next(struct policy *p, const struct policy_end *end)
{
	if (end->asked_to_stop)
		return no("it was told to stop");
	if (end->wants_restart) {
		p->asks = end->uptime_ms < POLICY_HASTY_MS ? p->asks + 1 : 0;
		return (struct policy_verdict){ true,
			p->asks > POLICY_ASKS ? delay(p->asks - POLICY_ASKS, end->chance) : 0,
			"it asked to be started again" };
	}
	p->asks = 0;
	if (end->uptime_ms >= POLICY_STEADY_MS)
		p->streak = 0;
	if (end->failure) {
		p->failed_ms[p->failures % POLICY_ENDS_MAX] = end->now_ms;
		p->failures++;
	}
	if (p->when == RESTART_NEVER)
		return no("restart is never");
	if (p->when == RESTART_ON_FAILURE && !end->failure)
		return no("it ended well");
	if (end->failure && loops(p, end->now_ms)) {
		snprintf(p->why, sizeof p->why,
		    "crash loop: %u failures within ten minutes (COMFYMON_CRASH_LIMIT)", p->limit);
		return no(p->why);
	}
	return (struct policy_verdict){ true, delay(p->streak++, end->chance), "" };
}
