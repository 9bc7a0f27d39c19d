/*
 * internal.h - inside of the health room: the table of those who live, between
 * the pipeline's thread (table.c) and the observer's (health.c).
 *
 * The lock guards told, shown and what stands with them; nobody is called and
 * nothing is read while it is held.
 */
#pragma once

#include "agent/base/thread.h"
#include "agent/health/target.h"

struct memo {
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint64_t worker;
	uint32_t device_failures;
	bool worker_died, worker_kept;
};

struct health {
	struct health_options o;
	struct health_limits limits;
	struct thread thread;
	struct waker waker;

	/* observer's thread */
	struct target targets[STATUS_PROCESSES];
	uint64_t mono_ns, watched_ns, pause_ns; /* pause: to the next look, as planned */
	uint64_t retry_ns;                      /* a restart could not be asked for: not before */
	char ordered[STATUS_PROCESSES][64];
	size_t ordered_at;

	/* pipeline's thread */
	struct memo memo[STATUS_PROCESSES];

	/* shared; lock */
	pthread_mutex_t lock;
	struct told told[STATUS_PROCESSES];
	struct status_process shown[STATUS_PROCESSES];
	bool is_shown[STATUS_PROCESSES];
	uint64_t unwatched, looks, cpu_ns;
	uint64_t ill[HEALTH_STATES], restarts_asked, restarts_failed;
	bool deaf, changed;
};
