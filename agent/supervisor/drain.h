/*
 * drain.h - what is asked of ComfyUI over HTTP: to interrupt its job, to free
 * memory, whether it is idle.  In a process of its own, so that the supervisor
 * waits for nobody.  Source: ComfyUI's GET /prompt, GET /queue, POST /interrupt,
 * POST /free.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "agent/supervisor/listen.h"

enum drain_task {
	DRAIN_INTERRUPT, /* the running job, and wait for its end */
	DRAIN_FREE,      /* unload and free, if it is idle */
	DRAIN_FREE_NEXT, /* the same, idle or not: it takes place between two jobs */
	DRAIN_IDLE,      /* wait until it has been idle for a moment */
	DRAIN_JOB,       /* ... or only until the job that runs has ended */
};

/* How such a process ended: its exit code. */
enum drain_answer {
	DRAIN_DONE,
	DRAIN_BUSY,   /* jobs were there, or have not ended in time */
	DRAIN_SILENT, /* no answer, or none that says it */
};

/* Fork a helper that ends within max_ms and a few seconds: pid, or -1 when it could not be started.
 */
pid_t drain_start(const struct listen *to, enum drain_task task, uint32_t max_ms);
/* Of a status of waitpid. */
enum drain_answer drain_answer(int status);
