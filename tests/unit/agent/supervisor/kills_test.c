/*
 * A counter of the kernel as evidence: what rose shortly before the end, and when.
 */
#include "agent/supervisor/kills.h"

#include "agent/base/clock.h"
#include "tests/t.h"

#define S NS_PER_S

TEST(what_rose_since_the_last_look_is_of_the_end)
{
	struct rise c;
	uint64_t age = 9;

	rise_begin(&c, 5);
	rise_look(&c, 5, 10 * S);
	CHECK_EQ(rise_end(&c, 7, 11 * S, &age), 2);
	CHECK_EQ(age, 0);
	CHECK_EQ(rise_end(&c, 5, 11 * S, &age), 0);
	CHECK_EQ(age, 0);
}

TEST(what_rose_and_let_it_live_is_told_with_its_age_and_forgotten_after_a_minute)
{
	struct rise c;
	uint64_t age = 0;

	rise_begin(&c, 0);
	rise_look(&c, 1, 10 * S);
	CHECK_EQ(rise_end(&c, 1, 14 * S, &age), 1);
	CHECK_EQ(age, 4000);
	CHECK_EQ(rise_end(&c, 2, 14 * S, &age), 2);
	CHECK_EQ(age, 0);
	rise_look(&c, 1, 11 * S);
	CHECK_EQ(rise_end(&c, 1, 10 * S + KILLS_RECENT_NS, &age), 1);
	CHECK_EQ(rise_end(&c, 1, 11 * S + KILLS_RECENT_NS, &age), 0);
	rise_look(&c, 1, 11 * S + KILLS_RECENT_NS);
	rise_look(&c, 2, 12 * S + KILLS_RECENT_NS);
	CHECK_EQ(rise_end(&c, 2, 13 * S + KILLS_RECENT_NS, &age), 1);
	CHECK_EQ(age, 1000);
}

TEST(a_counter_that_falls_says_nothing)
{
	struct rise c;
	uint64_t age;

	rise_begin(&c, 5);
	rise_look(&c, 0, S); /* another group has its name */
	CHECK_EQ(rise_end(&c, 0, 2 * S, &age), 0);
	rise_look(&c, 3, 2 * S);
	CHECK_EQ(rise_end(&c, 0, 3 * S, &age), 3);
}

int
main(void)
{
	RUN(what_rose_since_the_last_look_is_of_the_end);
	RUN(what_rose_and_let_it_live_is_told_with_its_age_and_forgotten_after_a_minute);
	RUN(a_counter_that_falls_says_nothing);
	return t_done();
}
