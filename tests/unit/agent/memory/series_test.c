/*
 * series_test.c - three levels of a series: what each keeps, what a peak takes
 * from it, and what it must not take.
 */
#include "agent/memory/series.h"

#include "agent/base/clock.h"
#include "tests/t.h"

#define MS ((int64_t)NS_PER_MS)
#define S  ((int64_t)NS_PER_S)

static struct series series;

static void
add(int64_t t_ns, uint32_t span_ms, uint32_t now, uint32_t peak)
{
	struct point p = { .t_ns = t_ns, .span_ms = span_ms, .v = { now, peak } }, minute;

	(void)series_add(&series, &p, &minute);
}

static uint32_t
highest(int64_t from_ns, int64_t to_ns)
{
	uint32_t v = 0;

	return series_max(&series, from_ns, to_ns, 0, 1, &v) ? v : 0;
}

static void
begin(void)
{
	CHECK_EQ(series_init(&series), E_OK);
}

TEST(an_empty_series_has_no_peak_and_no_begin)
{
	int64_t t = 7;

	begin();
	CHECK_EQ(highest(0, 100 * S), 0);
	CHECK(!series_since(&series, &t));
	CHECK_EQ(t, 7);
	series_fini(&series);
}

TEST(a_peak_is_of_the_samples_within)
{
	begin();
	for (int i = 1; i <= 20; i++)
		add(i * 100 * MS, 100, (uint32_t)i, (uint32_t)i);
	CHECK_EQ(highest(500 * MS, 900 * MS), 9);
	CHECK_EQ(highest(500 * MS, 500 * MS), 5); /* both ends belong to it */
	CHECK_EQ(highest(510 * MS, 590 * MS), 0); /* between two samples nobody looked */
	CHECK_EQ(highest(900 * MS, 500 * MS), 0);
	CHECK_EQ(highest(0, INT64_MAX), 20);
	CHECK_EQ(highest(3000 * MS, 4000 * MS), 0);
	series_fini(&series);
}

TEST(what_rose_and_fell_between_two_samples_counts_where_both_are_inside)
{
	begin();
	add(1000 * MS, 0, 10, 10);
	add(1100 * MS, 100, 11, 90); /* the kernel saw 90 in between */
	add(1200 * MS, 100, 12, 12);
	CHECK_EQ(highest(1000 * MS, 1200 * MS), 90);
	CHECK_EQ(highest(1050 * MS, 1200 * MS), 12); /* it may have been before */
	CHECK_EQ(highest(1000 * MS, 1050 * MS), 10);
	series_fini(&series);
}

TEST(time_does_not_go_back)
{
	begin();
	add(1000 * MS, 100, 1, 1);
	add(1000 * MS, 100, 8, 8);
	add(900 * MS, 100, 9, 9);
	CHECK_EQ(highest(0, 10 * S), 1);
	series_fini(&series);
}

TEST(old_times_are_told_by_seconds_and_then_by_minutes)
{
	const int64_t end = 3 * 3600 * 10; /* tenths of a second: three hours at 100 ms */

	begin();
	for (int64_t i = 1; i <= end; i++) {
		/* one spike, in the first minutes, of one sample */
		uint32_t v = i == 1234 ? 1000 : 5;

		add(i * 100 * MS, 100, v, v);
	}
	CHECK_EQ(series.levels[0].count, 3000);
	CHECK_EQ(series.levels[1].count, 7200);
	CHECK_EQ(series.levels[2].count, 180);
	CHECK_EQ(highest(0, end * 100 * MS), 1000);
	/* A minute that begins before the asked time is left out: it could be of before. */
	CHECK_EQ(highest(124 * S, end * 100 * MS), 5);
	/* Two hours ago there are seconds. */
	CHECK_EQ(highest((end / 10 - 7000) * S, (end / 10 - 6990) * S), 5);
	/* Within one second of long ago nothing is known. */
	CHECK_EQ(highest(200 * S, 201 * S), 0);
	series_fini(&series);
}

struct walk {
	int64_t last;
	unsigned count, levels[SERIES_LEVELS], backwards;
};

static bool
step(void *ctx, const struct point *p, unsigned level)
{
	struct walk *w = ctx;

	w->count++;
	w->levels[level]++;
	w->backwards += p->t_ns <= w->last;
	w->last = p->t_ns;
	return true;
}

TEST(a_walk_tells_each_moment_once_from_the_finest)
{
	struct walk w = { .last = INT64_MIN };

	begin();
	for (int64_t i = 1; i <= 3 * 3600 * 10; i++)
		add(i * 100 * MS, 100, 1, 1);
	series_each(&series, 0, INT64_MAX, step, &w);
	CHECK_EQ(w.levels[0], 3000);
	CHECK(w.levels[1] >= 7200 - 301 && w.levels[1] <= 7200 - 299 + 1);
	CHECK(w.levels[2] >= 59 && w.levels[2] <= 61);
	CHECK(w.backwards <= 2); /* a bucket at each seam */
	series_fini(&series);
}

TEST(a_minute_is_given_when_it_is_complete)
{
	struct point p = { .t_ns = 0, .span_ms = 1000 }, minute;
	unsigned minutes = 0;

	begin();
	for (int i = 1; i <= 185; i++) {
		p.t_ns = i * S;
		p.v[0] = (uint32_t)i;
		if (series_add(&series, &p, &minute)) {
			minutes++;
			CHECK_EQ(minute.t_ns, (minutes * 60 - 1) * S);
			CHECK_EQ(minute.v[0], minutes * 60 - 1);
			CHECK_EQ(minute.span_ms, minutes == 1 ? 59000 : 60000);
		}
	}
	CHECK_EQ(minutes, 3);
	series_fini(&series);
}

TEST(restored_minutes_come_first_also_from_before_the_boot)
{
	struct point p = { .t_ns = -100 * S, .span_ms = 60000, .v = { 50, 60 } };
	int64_t since = 0;

	begin();
	series_restore(&series, &p);
	series_restore(&series, &p); /* the same again */
	p.t_ns = -40 * S;
	p.v[0] = 55;
	series_restore(&series, &p);
	CHECK_EQ(series.levels[2].count, 2);
	CHECK(series_since(&series, &since));
	CHECK_EQ(since, -160 * S);
	CHECK_EQ(highest(-200 * S, 0), 60);
	add(5 * S, 0, 7, 7);
	CHECK_EQ(highest(-200 * S, 10 * S), 60);
	CHECK_EQ(highest(0, 10 * S), 7);
	series_fini(&series);
}

TEST(amounts_beyond_four_tebibytes_are_held_there)
{
	CHECK_EQ(series_kib(UINT64_MAX), UINT32_MAX);
	CHECK_EQ(series_kib(4095), 3);
}

int
main(void)
{
	RUN(an_empty_series_has_no_peak_and_no_begin);
	RUN(a_peak_is_of_the_samples_within);
	RUN(what_rose_and_fell_between_two_samples_counts_where_both_are_inside);
	RUN(time_does_not_go_back);
	RUN(old_times_are_told_by_seconds_and_then_by_minutes);
	RUN(a_walk_tells_each_moment_once_from_the_finest);
	RUN(a_minute_is_given_when_it_is_complete);
	RUN(restored_minutes_come_first_also_from_before_the_boot);
	RUN(amounts_beyond_four_tebibytes_are_held_there);
	return t_done();
}
