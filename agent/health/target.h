/*
 * target.h - inside of the health room: one ComfyUI as it is watched.  What the
 * pipeline tells lies in `told`, under the room's lock; the rest is the
 * observer's thread's alone.
 */
#pragma once

#include "agent/base/ask.h"
#include "agent/health/health.h"
#include "agent/health/judge.h"
#include "agent/health/proc.h"

/* From records and greetings; a plain value. */
struct told {
	bool used;
	bool gone; /* nobody is left: the observer lets it go */
	int64_t probe;
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint64_t pid, start_ticks;
	char life[64];
	uint64_t worker;  /* thread id of the newest job's, 0 not known */
	bool worker_kept; /* it has run more than one job */
	bool worker_died;
	bool queued;     /* the newest job that came has not been taken */
	bool busy, sign; /* a job runs; it has said something since the last look */
	uint64_t trace_hi, trace_lo, job;
	char prompt_id[65];
	uint32_t device_failures;
	uint64_t failed_job; /* the newest that is counted there */
};

struct target {
	struct told told; /* as copied for this look */
	bool seen_alive;
	/* its worker */
	uint64_t worker, worker_ticks, queued_ns;
	/* its HTTP */
	bool found; /* `at` has answered as ComfyUI does */
	union proc_address at, candidates[PROC_LISTENING];
	size_t candidate, candidate_count;
	bool tls;         /* those are asked by TLS, or `at` is */
	uint32_t hung_up; /* a bit each: closed at a plain question, as who speaks TLS does */
	struct ask ask;
	uint64_t asked_ns; /* the question under way, or the newest */
	uint64_t ask_at_ns;
	unsigned misses;
	/* its job */
	uint64_t job, job_cpu_ms; /* of the process, at the job's last sign */
	/* what follows */
	struct vitals vitals;
	enum health_state state;
	char why[200];
	uint64_t since_ns;
	bool ordered;
};

/* told.c: the pipeline's side; the caller holds the lock. */
void told_hello(struct told *t, const struct probe_row *row);
/* True when the part that outlives us changed. */
bool told_span(struct told *t, const struct span_seen *s);

/*
 * look.c: one look at a target whose `told` is fresh, at `now` of the watched
 * clock.  False: its process has ended.
 */
bool look(struct target *t, const struct health_limits *l, bool deaf, uint64_t now_ns);
void look_end(struct target *t);
