/*
 * The soft limit: ask, look, wait, restart; and never in circles.
 */
#include "agent/supervisor/soft.h"
#include "tests/t.h"

#define S 1000u

TEST(does_nothing_below_the_limit)
{
	struct soft s = { 0 };

	for (uint64_t now = S; now < 100 * S; now += S)
		CHECK_EQ(soft_look(&s, false, now), SOFT_NOTHING);
	CHECK_EQ(s.state, SOFT_CALM);
}

TEST(frees_and_is_content_when_that_was_enough)
{
	struct soft s = { 0 };

	CHECK_EQ(soft_look(&s, true, 1 * S), SOFT_FREE);
	CHECK_EQ(soft_look(&s, true, 2 * S), SOFT_NOTHING); /* the answer is awaited */
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, 2 * S), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, 3 * S), SOFT_NOTHING); /* it takes a moment */
	CHECK_EQ(soft_look(&s, false, 2 * S + SOFT_SETTLE_MS), SOFT_NOTHING);
	CHECK_EQ(s.state, SOFT_CALM);
	CHECK_EQ(s.frees, 1);
	CHECK_EQ(s.restarts, 0);
}

/* From over the limit to a restart; when it was said. */
static uint64_t
to_restart(struct soft *s, uint64_t now)
{
	CHECK_EQ(soft_look(s, true, now), SOFT_FREE);
	CHECK_EQ(soft_answer(s, DRAIN_DONE, true, now), SOFT_NOTHING);
	now += SOFT_SETTLE_MS;
	CHECK_EQ(soft_look(s, true, now), SOFT_DRAIN);
	now += 4 * S;
	CHECK_EQ(soft_look(s, true, now), SOFT_NOTHING);
	CHECK_EQ(soft_answer(s, DRAIN_DONE, true, now), SOFT_RESTART);
	CHECK_EQ(soft_look(s, true, now + S), SOFT_NOTHING);
	CHECK_EQ(soft_answer(s, DRAIN_DONE, true, now + S), SOFT_NOTHING);
	return now;
}

TEST(restarts_who_holds_on_to_it_once_it_is_idle)
{
	struct soft s = { 0 };

	(void)to_restart(&s, 5 * S);
	CHECK_EQ(s.state, SOFT_ENDING);
	CHECK_EQ(s.restarts, 1);
}

TEST(does_not_restart_who_fell_below_while_it_drained)
{
	struct soft s = { 0 };

	CHECK_EQ(soft_look(&s, true, S), SOFT_FREE);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, S), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, 10 * S), SOFT_DRAIN);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, false, 20 * S), SOFT_NOTHING);
	CHECK_EQ(s.state, SOFT_CALM);
}

TEST(a_drain_that_takes_too_long_begins_again)
{
	static const enum drain_answer answers[] = { DRAIN_SILENT, DRAIN_BUSY };
	static const enum soft_act acts[] = { SOFT_DRAIN, SOFT_DRAIN_JOB };
	struct soft s = { 0 };
	uint64_t now = 10 * S;

	CHECK_EQ(soft_look(&s, true, S), SOFT_FREE);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, S), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, now), SOFT_DRAIN);
	for (int i = 0; i < 2; i++) {
		now += 600 * S;
		CHECK_EQ(soft_answer(&s, answers[i], true, now), SOFT_NOTHING);
		CHECK_EQ(soft_look(&s, true, now + SOFT_AGAIN_MS - 1), SOFT_NOTHING);
		now += SOFT_AGAIN_MS;
		CHECK_EQ(soft_look(&s, true, now), acts[i]);
	}
}

TEST(who_is_never_idle_is_restarted_between_two_jobs_all_the_same)
{
	struct soft s = { 0 };
	uint64_t now = 10 * S;

	CHECK_EQ(soft_look(&s, true, S), SOFT_FREE);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, S), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, now), SOFT_DRAIN);
	CHECK_EQ(soft_answer(&s, DRAIN_BUSY, true, now), SOFT_NOTHING);
	for (int i = 0; i < 3; i++) { /* a job of an hour is not cut off */
		now += SOFT_AGAIN_MS;
		CHECK_EQ(soft_look(&s, true, now), SOFT_DRAIN_JOB);
		CHECK_EQ(soft_answer(&s, DRAIN_BUSY, true, now), SOFT_NOTHING);
	}
	now += SOFT_AGAIN_MS;
	CHECK_EQ(soft_look(&s, true, now), SOFT_DRAIN_JOB);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, now), SOFT_RESTART);
	soft_begin(&s);
	now += SOFT_LIFE_MS;
	(void)to_restart(&s, now); /* the next one may be idle */
}

TEST(who_is_busy_is_asked_again_and_after_a_while_to_free_between_two_jobs)
{
	struct soft s = { 0 };
	uint64_t now = S;

	for (unsigned i = 0; i < SOFT_PATIENCE; i++) {
		CHECK_EQ(soft_look(&s, true, now), SOFT_FREE);
		CHECK_EQ(soft_answer(&s, DRAIN_BUSY, true, now), SOFT_NOTHING);
		CHECK_EQ(soft_look(&s, true, now + SOFT_AGAIN_MS - 1), SOFT_NOTHING);
		now += SOFT_AGAIN_MS;
	}
	CHECK_EQ(soft_look(&s, true, now), SOFT_FREE_NEXT);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, now), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, now + SOFT_SETTLE_MS), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, now + SOFT_BETWEEN_MS), SOFT_DRAIN);
}

TEST(a_peak_within_a_job_makes_nobody_impatient)
{
	struct soft s = { 0 };
	uint64_t now = S;

	for (unsigned i = 0; i < 3 * SOFT_PATIENCE; i++) {
		CHECK_EQ(soft_look(&s, true, now), SOFT_FREE);
		CHECK_EQ(soft_answer(&s, DRAIN_BUSY, true, now), SOFT_NOTHING);
		now += SOFT_AGAIN_MS;
		CHECK_EQ(soft_look(&s, false, now), SOFT_NOTHING);
		now += S;
	}
}

TEST(does_not_ask_more_often_than_every_five_seconds_who_does_not_answer)
{
	struct soft s = { 0 };
	unsigned asked = 0;

	for (uint64_t now = S; now <= 100 * S; now += S)
		if (soft_look(&s, true, now) == SOFT_FREE) {
			asked++;
			(void)soft_answer(&s, DRAIN_SILENT, true, now);
		}
	CHECK_EQ(asked, 20);
	CHECK_EQ(s.frees, 0);
}

TEST(the_rest_between_two_freeings_doubles_and_begins_anew_after_a_quiet_hour)
{
	uint64_t now = S, rest = SOFT_REST_MS;
	struct soft s = { 0 };

	for (unsigned i = 0; i < 8; i++) {
		CHECK_EQ(soft_look(&s, true, now), SOFT_FREE);
		CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, now), SOFT_NOTHING);
		CHECK_EQ(soft_look(&s, false, now + SOFT_SETTLE_MS), SOFT_NOTHING);
		CHECK_EQ(soft_look(&s, true, now + rest - 1), SOFT_NOTHING);
		now += rest;
		rest = rest * 2 < SOFT_REST_MAX_MS ? rest * 2 : SOFT_REST_MAX_MS;
	}
	now += SOFT_QUIET_MS;
	CHECK_EQ(soft_look(&s, false, now), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, now), SOFT_FREE);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, now), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, false, now + SOFT_SETTLE_MS), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, now + SOFT_REST_MS), SOFT_FREE);
}

TEST(the_time_between_two_restarts_doubles)
{
	struct soft s = { 0 };
	uint64_t now = to_restart(&s, S), again;

	soft_begin(&s);
	/* Over the limit from its first moment: that alone restarts nobody for ten minutes. */
	CHECK_EQ(soft_look(&s, true, now + S), SOFT_FREE);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, now + S), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, now + S + SOFT_SETTLE_MS), SOFT_NOTHING);
	CHECK_EQ(s.state, SOFT_CALM);
	again = to_restart(&s, now + SOFT_LIFE_MS);
	CHECK_EQ(s.restarts, 2);
	soft_begin(&s);
	CHECK_EQ(soft_look(&s, true, again + SOFT_LIFE_MS), SOFT_FREE);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, again + SOFT_LIFE_MS), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, again + SOFT_LIFE_MS + SOFT_SETTLE_MS), SOFT_NOTHING);
	(void)to_restart(&s, again + 2 * SOFT_LIFE_MS);
	CHECK_EQ(s.restarts, 3);
}

TEST(who_may_never_be_restarted_is_only_asked)
{
	struct soft s = { .never_restart = true };

	CHECK_EQ(soft_look(&s, true, S), SOFT_FREE);
	CHECK_EQ(soft_answer(&s, DRAIN_DONE, true, S), SOFT_NOTHING);
	CHECK_EQ(soft_look(&s, true, 10 * S), SOFT_NOTHING);
	CHECK_EQ(s.state, SOFT_CALM);
}

int
main(void)
{
	RUN(does_nothing_below_the_limit);
	RUN(frees_and_is_content_when_that_was_enough);
	RUN(restarts_who_holds_on_to_it_once_it_is_idle);
	RUN(does_not_restart_who_fell_below_while_it_drained);
	RUN(a_drain_that_takes_too_long_begins_again);
	RUN(who_is_never_idle_is_restarted_between_two_jobs_all_the_same);
	RUN(who_is_busy_is_asked_again_and_after_a_while_to_free_between_two_jobs);
	RUN(a_peak_within_a_job_makes_nobody_impatient);
	RUN(does_not_ask_more_often_than_every_five_seconds_who_does_not_answer);
	RUN(the_rest_between_two_freeings_doubles_and_begins_anew_after_a_quiet_hour);
	RUN(the_time_between_two_restarts_doubles);
	RUN(who_may_never_be_restarted_is_only_asked);
	return t_done();
}
