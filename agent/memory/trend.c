/*
 * trend.c - see trend.h.
 */
#include "agent/memory/trend.h"

#include <stdlib.h>

#define PAIRS (TREND_MOST * (TREND_MOST - 1) / 2)
#define NOISE                                                                              \
	(8.0 * 1024 * 1024) /* an allocator keeps that much, or gives it back, as it likes \
			     */
#define AGREEMENT 0.8       /* of the pairs */

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The slopes between all pairs: their median, and how many of all rise and fall. */
struct slopes {
	double median;
	size_t up, down, all;
};

static struct slopes
slopes_of(const uint64_t *bytes, size_t count)
{
	struct slopes s = { .median = 0 };
	double of[PAIRS] = { 0 };

	for (size_t i = 0; i < count; i++)
		for (size_t k = i + 1; k < count; k++) {
			double rise = (double)bytes[k] - (double)bytes[i];

			s.up += rise > 0;
			s.down += rise < 0;
			of[s.all++] = rise / (double)(k - i);
		}
	qsort(of, s.all, sizeof of[0], by_value);
	s.median = s.all % 2 == 1 ? of[s.all / 2] : (of[s.all / 2 - 1] + of[s.all / 2]) / 2;
	return s;
}

struct trend
trend_of(const uint64_t *bytes, size_t count)
{
	struct trend t = { .state = TREND_UNKNOWN };
	struct slopes whole, newer;
	double risen;

	if (count > TREND_MOST) {
		bytes += count - TREND_MOST;
		count = TREND_MOST;
	}
	t.jobs = count;
	if (count < TREND_LEAST)
		return t;
	whole = slopes_of(bytes, count);
	newer = slopes_of(bytes + count / 2, count - count / 2);
	t.bytes_per_job = whole.median;
	risen = whole.median * (double)(count - 1);
	t.state = TREND_STEADY;
	if (risen > NOISE && (double)whole.up >= AGREEMENT * (double)whole.all &&
	    newer.median >= whole.median / 2)
		t.state = TREND_GROWS;
	else if (risen < -NOISE && (double)whole.down >= AGREEMENT * (double)whole.all &&
		 newer.median <= whole.median / 2)
		t.state = TREND_FALLS;
	return t;
}

const char *
trend_name(enum trend_state s)
{
	static const char *const names[] = { "unknown", "steady", "grows", "falls" };

	return names[s];
}
