/*
 * series.h - numbers over time in three levels: as sampled (3000 of them: five
 * minutes at 100 ms), the highest of each second (two hours) and of each minute
 * (a day).  Not locked: its owner's lock.  The memory is asked for once and
 * touched as it fills; when a level is full its oldest point goes.
 *
 * A point stands for (t_ns - span_ms, t_ns].  Values are 32 bits: memory is in
 * KiB (up to 4 TiB, more is held there).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/err.h"

#define SERIES_LEVELS 3u
#define SERIES_VALUES 6u

struct point {
	int64_t t_ns; /* CLOCK_MONOTONIC; below zero for what an earlier boot saw */
	uint32_t span_ms;
	uint32_t v[SERIES_VALUES];
};

struct level {
	struct point *points; /* a ring */
	uint32_t cap, first, count;
	int64_t bucket; /* that is being filled: its number, from 0 at time 0 */
	struct point open;
	bool has_open;
};

struct series {
	struct level levels[SERIES_LEVELS];
};

MUST_CHECK enum err series_init(struct series *s);
void series_fini(struct series *s);

/* The next sample; time never goes back (an older one is left out). *minute becomes a minute that
 * it has closed, true then. */
bool series_add(struct series *s, const struct point *p, struct point *minute);
/* A minute that was kept from before; oldest first, before any series_add. */
void series_restore(struct series *s, const struct point *minute);

/* Every point that ends in (from, to], each moment from the finest level that still has it (0 is
 * the finest), oldest first but for a bucket at the seam of two levels. fn returns false to stop.
 */
typedef bool (*series_fn)(void *ctx, const struct point *p, unsigned level);
void series_each(const struct series *s, int64_t from_ns, int64_t to_ns, series_fn fn, void *ctx);

/*
 * The highest within [from, to]: v[instant] is what a sample saw at its time,
 * v[interval] the highest since the sample before.  What stands for a time that
 * begins before `from` does not count, so that nothing earlier is mistaken for
 * it; of a sample its instant does.  False: there is none.
 */
bool series_max(const struct series *s, int64_t from_ns, int64_t to_ns, unsigned instant,
    unsigned interval, uint32_t *out);

/* Where it begins; false when it is empty. */
bool series_since(const struct series *s, int64_t *t_ns);

static inline uint32_t
series_kib(uint64_t bytes)
{
	uint64_t kib = bytes / 1024;

	return kib < UINT32_MAX ? (uint32_t)kib : UINT32_MAX;
}
