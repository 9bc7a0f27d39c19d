/*
 * judge.h - from what was observed of one ComfyUI to how it is.  Pure: no clock,
 * no file, no lock; any thread.
 *
 * Times are of a clock that runs only while we watch (health.c): a machine that
 * was suspended, or an agent that was stopped, has seen nothing meanwhile and
 * concludes nothing from it.
 */
#pragma once

#include "agent/core/status.h"

/* The last record of a worker that ended in order may still be under way to us. */
#define HEALTH_SURE_NS (2 * UINT64_C(1000000000))
/* A worker that is gone, with nobody to answer HTTP, is how an orderly end looks too. */
#define HEALTH_GONE_NS         (30 * UINT64_C(1000000000))
#define HEALTH_DEVICE_FAILURES 2u /* in a row */

struct health_limits {
	uint64_t http_silent_ns, no_progress_ns; /* 0: never judged */
};

/* 0 in a time: never, or not so. */
struct vitals {
	bool visible;                /* its process can be looked at from here */
	uint64_t http_ok_ns;         /* when the newest question that was answered was asked */
	uint64_t http_unanswered_ns; /* since when none is, after one was */
	bool http_refused;           /* nobody listens any more */
	uint64_t worker;             /* thread that runs jobs, 0 not known */
	uint64_t worker_gone_ns;     /* since when it is not there */
	bool worker_needed;          /* a job runs in it, or it was to run the next one too */
	uint64_t job_quiet_ns;       /* since when the running job says nothing */
	bool job_cpu_known;
	uint64_t job_cpu_ms; /* that the process used since */
	uint32_t device_failures;
};

/* The worst that holds; `why` is a sentence without a stop, "" when there is nothing to say. */
enum health_state health_judge(
    const struct vitals *v, const struct health_limits *l, uint64_t now_ns, char *why, size_t cap);

/* "zombie,http_silent", "none"; E_INVAL for any other word. A bit (1 << state) each. */
MUST_CHECK enum err health_policy_parse(const char *text, uint32_t *states);
