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

struct trend
trend_of(const uint64_t *bytes, size_t count)
{
	struct trend t = { .state = TREND_UNKNOWN };
	double slopes[PAIRS], whole;
	size_t n = 0, up = 0, down = 0;

	if (count > TREND_MOST) {
		bytes += count - TREND_MOST;
		count = TREND_MOST;
	}
	t.jobs = count;
	if (count < TREND_LEAST)
		return t;
	for (size_t i = 0; i < count; i++)
		for (size_t k = i + 1; k < count; k++) {
			double rise = (double)bytes[k] - (double)bytes[i];

			up += rise > 0;
			down += rise < 0;
			slopes[n++] = rise / (double)(k - i);
		}
	qsort(slopes, n, sizeof slopes[0], by_value);
	t.bytes_per_job = n % 2 == 1 ? slopes[n / 2] : (slopes[n / 2 - 1] + slopes[n / 2]) / 2;
	whole = t.bytes_per_job * (double)(count - 1);
	t.state = TREND_STEADY;
	if (whole > NOISE && (double)up >= AGREEMENT * (double)n)
		t.state = TREND_GROWS;
	else if (whole < -NOISE && (double)down >= AGREEMENT * (double)n)
		t.state = TREND_FALLS;
	return t;
}

const char *
trend_name(enum trend_state s)
{
	static const char *const names[] = { "unknown", "steady", "grows", "falls" };

	return names[s];
}
