/*
 * soft.h - what is done above the soft limit: memory is asked back when
 * ComfyUI is idle, and if it holds on to it, it is restarted between two jobs.
 * Pure: time, memory and answers come from the caller, who carries out what is
 * said here.  One owner, no locks.
 *
 *	calm --over--> freeing --done--> settling --still over--> draining --idle, still over-->
 *ending ^              |busy             |under                  |under
 *	  +--------------+-----------------+-----------------------+
 *
 * Whom no waiting finds idle is ended between two jobs all the same: at the hard
 * limit it would lose the one that runs with those that wait.
 *
 * It must not go in circles: a ComfyUI whose models alone are larger than the
 * limit would load them for each job.  So each freeing doubles the rest before the
 * next, and each restart the time before the next.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/supervisor/drain.h"

enum soft_state { SOFT_CALM, SOFT_FREEING, SOFT_SETTLING, SOFT_DRAINING, SOFT_ENDING };

enum soft_act {
	SOFT_NOTHING,
	SOFT_FREE,      /* if it is idle */
	SOFT_FREE_NEXT, /* between two jobs: it is never idle */
	SOFT_DRAIN,     /* wait until it is idle */
	SOFT_DRAIN_JOB, /* it never is: wait for the end of the job that runs */
	SOFT_RESTART,   /* end it now */
};

#define SOFT_SETTLE_MS   5000u    /* from the freeing to the look at what it brought */
#define SOFT_BETWEEN_MS  60000u   /* the same while it is busy */
#define SOFT_AGAIN_MS    5000u    /* busy or silent: asked again */
#define SOFT_PATIENCE    12u      /* so often busy, then SOFT_FREE_NEXT */
#define SOFT_REST_MS     60000u   /* least time between two freeings, doubled each time ... */
#define SOFT_REST_MAX_MS 1920000u /* ... up to this */
#define SOFT_QUIET_MS    3600000u /* so long without: begins again at the least */
#define SOFT_LIFE_MS     600000u  /* least time between two restarts, doubled each time ... */
#define SOFT_LIFE_MAX_MS 9600000u /* ... up to this */

struct soft {
	enum soft_state state;
	bool never_restart;
	bool never_idle; /* it was waited for in vain */
	uint64_t due_ms; /* nothing before this */
	uint64_t freed_ms, restarted_ms;
	uint32_t frees_in_row, restarts_in_row, busy;
	uint32_t frees, restarts; /* in all */
};

/* Each second. Time is monotonic. */
enum soft_act soft_look(struct soft *s, bool over, uint64_t now_ms);
/* What was asked for has ended so; `over` as it is now. */
enum soft_act soft_answer(struct soft *s, enum drain_answer answer, bool over, uint64_t now_ms);
/* A new process begins; what was learnt about circles stays. */
void soft_begin(struct soft *s);
const char *soft_state_name(enum soft_state state);
