/*
 * trend.h - does a number grow from job to job?  Pure.
 *
 * The slope is the median of the slopes between all pairs (Theil and Sen): the
 * first job that loads a model, or one that was large, moves it little.  It
 * counts as a trend when most pairs agree in its direction, it adds up to more
 * than noise over what was looked at, and the newer half goes on with it: a
 * ComfyUI that is warm after its first jobs (torch's pools, what is loaded when
 * it is first used) has grown and leaks nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TREND_LEAST 8u  /* jobs; fewer say nothing */
#define TREND_MOST  20u /* the newest so many are looked at */

enum trend_state { TREND_UNKNOWN, TREND_STEADY, TREND_GROWS, TREND_FALLS };

struct trend {
	enum trend_state state;
	size_t jobs;          /* looked at */
	double bytes_per_job; /* when it is known */
};

/* Values in the order of the jobs. */
struct trend trend_of(const uint64_t *bytes, size_t count);
/* "unknown" "steady" "grows" "falls". */
const char *trend_name(enum trend_state s);
