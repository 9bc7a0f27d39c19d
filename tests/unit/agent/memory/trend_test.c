/*
 * trend_test.c - a leak is a trend, a first model or a large job is none.
 */
#include "agent/memory/trend.h"

#include "tests/t.h"

#define MIB (1ull << 20)

static uint64_t bytes[100];

/* So many jobs: base, and more with each, and noise of up to so much. */
static struct trend
jobs(size_t n, uint64_t base, int64_t more, uint64_t noise)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint64_t)((int64_t)base + (int64_t)i * more) +
			   (noise > 0 ? (i * 2654435761u) % noise : 0);
	return trend_of(bytes, n);
}

TEST(few_jobs_say_nothing)
{
	CHECK_EQ(jobs(0, 0, 0, 0).state, TREND_UNKNOWN);
	CHECK_EQ(jobs(TREND_LEAST - 1, 100 * MIB, 50 * MIB, 0).state, TREND_UNKNOWN);
	CHECK_EQ(jobs(TREND_LEAST - 1, 100 * MIB, 50 * MIB, 0).jobs, TREND_LEAST - 1);
	CHECK_EQ(jobs(TREND_LEAST, 100 * MIB, 50 * MIB, 0).state, TREND_GROWS);
}

TEST(a_leak_is_told_by_its_size_also_under_noise)
{
	struct trend t = jobs(20, 900 * MIB, 12 * MIB, 0);

	CHECK_EQ(t.state, TREND_GROWS);
	CHECK_EQ(t.bytes_per_job, 12 * MIB);
	CHECK_STR(trend_name(t.state), "grows");
	t = jobs(20, 900 * MIB, 12 * MIB, 30 * MIB);
	CHECK_EQ(t.state, TREND_GROWS);
	CHECK(t.bytes_per_job > 9 * (double)MIB && t.bytes_per_job < 15 * (double)MIB);
}

TEST(noise_and_little_growth_are_steady)
{
	CHECK_EQ(jobs(20, 900 * MIB, 0, 200 * MIB).state, TREND_STEADY);
	CHECK_EQ(jobs(20, 900 * MIB, 0, 0).state, TREND_STEADY);
	CHECK_EQ(jobs(20, 900 * MIB, 100000, 0).state, TREND_STEADY);
	CHECK_STR(trend_name(TREND_STEADY), "steady");
}

TEST(the_first_job_and_a_large_one_are_no_leak)
{
	for (size_t i = 0; i < 20; i++)
		bytes[i] = 900 * MIB;
	bytes[0] = 100 * MIB;
	bytes[11] = 5000 * MIB;
	CHECK_EQ(trend_of(bytes, 20).state, TREND_STEADY);
	CHECK_EQ(trend_of(bytes, 20).bytes_per_job, 0);
}

TEST(a_step_that_stays_is_no_leak)
{
	for (size_t i = 0; i < 20; i++)
		bytes[i] = (i < 10 ? 500 : 900) * MIB;
	CHECK_EQ(trend_of(bytes, 20).state, TREND_STEADY);
}

/* As a real one does: it rises with each of its first jobs, then by a page now and then. */
TEST(warming_up_is_no_leak)
{
	for (size_t i = 0; i < 20; i++)
		bytes[i] = (i < 6 ? 550 + 20 * i : 650) * MIB + 4096 * i;
	for (size_t jobs = TREND_LEAST; jobs <= 20; jobs++)
		CHECK_EQ(trend_of(bytes, jobs).state, TREND_STEADY);
}

TEST(the_newest_jobs_count)
{
	struct trend t;

	for (size_t i = 0; i < 100; i++)
		bytes[i] = (i < 80 ? 1000 + 50 * i : 5000) * MIB;
	t = trend_of(bytes, 100);
	CHECK_EQ(t.jobs, TREND_MOST);
	CHECK_EQ(t.state, TREND_STEADY);
	CHECK_EQ(jobs(20, 900 * MIB, -20 * (int64_t)MIB, 0).state, TREND_FALLS);
}

int
main(void)
{
	RUN(few_jobs_say_nothing);
	RUN(a_leak_is_told_by_its_size_also_under_noise);
	RUN(noise_and_little_growth_are_steady);
	RUN(the_first_job_and_a_large_one_are_no_leak);
	RUN(a_step_that_stays_is_no_leak);
	RUN(warming_up_is_no_leak);
	RUN(the_newest_jobs_count);
	return t_done();
}
