/*
 * judge.c - see judge.h.
 */
#include "agent/health/judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"

static uint64_t
seconds(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? (to_ns - from_ns) / NS_PER_S : 0;
}

static bool
lasts(uint64_t since_ns, uint64_t now_ns, uint64_t limit_ns)
{
	return since_ns != 0 && limit_ns != 0 && now_ns > since_ns && now_ns - since_ns >= limit_ns;
}

/*
 * Threads of a process that ends vanish before it does, and an interpreter that
 * shuts down ends its workers first: only who goes on answering, or goes on
 * living for long, is a zombie.
 */
static bool
is_zombie(const struct vitals *v, uint64_t now_ns, char *why, size_t cap)
{
	bool answers = v->http_ok_ns >= v->worker_gone_ns;

	if (!v->worker_needed ||
	    !lasts(v->worker_gone_ns, now_ns, answers ? HEALTH_SURE_NS : HEALTH_GONE_NS))
		return false;
	snprintf(why, cap,
	    "the thread that runs jobs (%" PRIu64 ") ended %" PRIu64 " s ago%s; jobs are accepted "
	    "and never run",
	    v->worker, seconds(v->worker_gone_ns, now_ns),
	    answers ? " and HTTP still answers" : "");
	return true;
}

static bool
is_silent(
    const struct vitals *v, const struct health_limits *l, uint64_t now_ns, char *why, size_t cap)
{
	if (!lasts(v->http_unanswered_ns, now_ns, l->http_silent_ns))
		return false;
	snprintf(why, cap, "HTTP %s for %" PRIu64 " s",
	    v->http_refused ? "was refused" : "has not answered",
	    seconds(v->http_unanswered_ns, now_ns));
	return true;
}

/* A node that renders for an hour says nothing either: whether it worked is said too. */
static bool
is_stuck(
    const struct vitals *v, const struct health_limits *l, uint64_t now_ns, char *why, size_t cap)
{
	uint64_t quiet_s = seconds(v->job_quiet_ns, now_ns);
	int n;

	if (!lasts(v->job_quiet_ns, now_ns, l->no_progress_ns))
		return false;
	n = snprintf(why, cap, "the running job has made no progress for %" PRIu64 " s", quiet_s);
	if (n < 0 || (size_t)n >= cap || !v->job_cpu_known)
		return true;
	/* less than a hundredth of a core: it waits */
	if (v->job_cpu_ms < 10 * quiet_s)
		snprintf(why + n, cap - (size_t)n, " and its process did not work");
	else
		snprintf(why + n, cap - (size_t)n, "; its process used %" PRIu64 " s of CPU",
		    v->job_cpu_ms / 1000);
	return true;
}

enum health_state
health_judge(
    const struct vitals *v, const struct health_limits *l, uint64_t now_ns, char *why, size_t cap)
{
	why[0] = '\0';
	if (is_zombie(v, now_ns, why, cap))
		return HEALTH_ZOMBIE;
	if (v->device_failures >= HEALTH_DEVICE_FAILURES) {
		snprintf(why, cap, "%" PRIu32 " jobs in a row failed by an error of the device",
		    v->device_failures);
		return HEALTH_CUDA_POISONED;
	}
	if (is_silent(v, l, now_ns, why, cap))
		return HEALTH_HTTP_SILENT;
	if (is_stuck(v, l, now_ns, why, cap))
		return HEALTH_NO_PROGRESS;
	if (!v->visible) {
		snprintf(why, cap, "its process cannot be looked at from here");
		return HEALTH_UNKNOWN;
	}
	if (v->http_ok_ns == 0) {
		snprintf(why, cap, "no port of it has answered as ComfyUI does");
		return HEALTH_STARTING;
	}
	if (lasts(v->http_unanswered_ns, now_ns, NS_PER_S))
		snprintf(why, cap, "HTTP %s for %" PRIu64 " s",
		    v->http_refused ? "was refused" : "has not answered",
		    seconds(v->http_unanswered_ns, now_ns));
	return HEALTH_WELL;
}

enum err
health_policy_parse(const char *text, uint32_t *states)
{
	static const enum health_state ill[] = { HEALTH_ZOMBIE, HEALTH_HTTP_SILENT,
		HEALTH_NO_PROGRESS, HEALTH_CUDA_POISONED };
	uint32_t found = 0;

	if (strcmp(text, "none") == 0) {
		*states = 0;
		return E_OK;
	}
	for (const char *p = text;; p++) {
		size_t n = strcspn(p, ","), i = 0;

		while (i < sizeof ill / sizeof *ill &&
		       (strlen(health_state_name(ill[i])) != n ||
			   strncmp(health_state_name(ill[i]), p, n) != 0))
			i++;
		if (i == sizeof ill / sizeof *ill)
			return E_INVAL;
		found |= 1u << ill[i];
		p += n;
		if (*p == '\0')
			break;
	}
	*states = found;
	return E_OK;
}
