/*
 * Restart, delays, crash loops.
 */
#include "agent/supervisor/policy.h"
#include "tests/t.h"

static struct policy_verdict
fail_at(struct policy *p, uint64_t now_ms, uint64_t uptime_ms)
{
	struct policy_end end = { .now_ms = now_ms, .uptime_ms = uptime_ms, .failure = true };

	return policy_next(p, &end);
}

TEST(restarts_after_a_failure_and_not_after_a_good_end)
{
	struct policy p = { .when = RESTART_ON_FAILURE };
	struct policy_end good = { .now_ms = 2000 };

	CHECK(fail_at(&p, 1000, 500).restart);
	CHECK(!policy_next(&p, &good).restart);
	p.when = RESTART_ALWAYS;
	CHECK(policy_next(&p, &good).restart);
	p.when = RESTART_NEVER;
	CHECK(!fail_at(&p, 4000, 500).restart);
}

TEST(never_restarts_what_was_told_to_stop)
{
	struct policy p = { .when = RESTART_ALWAYS };
	struct policy_end end = { .failure = true, .asked_to_stop = true, .wants_restart = true };

	CHECK(!policy_next(&p, &end).restart);
}

TEST(restarts_at_once_what_asked_for_it_whatever_the_policy)
{
	struct policy p = { .when = RESTART_NEVER };
	struct policy_end end = { .wants_restart = true };
	struct policy_verdict v = policy_next(&p, &end);

	CHECK(v.restart);
	CHECK_EQ(v.delay_ms, 0);
}

TEST(who_asks_for_a_restart_at_once_again_and_again_has_to_wait)
{
	struct policy p = { .when = RESTART_ALWAYS };
	struct policy_end hasty = { .wants_restart = true, .uptime_ms = 100 };
	struct policy_end calm = { .wants_restart = true, .uptime_ms = POLICY_HASTY_MS };

	for (uint32_t i = 0; i < POLICY_ASKS; i++)
		CHECK_EQ(policy_next(&p, &hasty).delay_ms, 0);
	CHECK(policy_next(&p, &hasty).delay_ms >= POLICY_DELAY_MIN_MS / 2);
	CHECK_EQ(policy_next(&p, &calm).delay_ms, 0);
	CHECK_EQ(policy_next(&p, &hasty).delay_ms, 0);
}

TEST(doubles_the_delay_within_half_and_whole_up_to_a_minute)
{
	struct policy p = { .when = RESTART_ALWAYS };
	uint64_t whole = POLICY_DELAY_MIN_MS;

	for (uint32_t i = 0; i < 20; i++) {
		struct policy_end end = { .now_ms = i, .failure = true, .chance = i * 2654435761u };
		struct policy_verdict v = policy_next(&p, &end);

		CHECK(v.restart);
		CHECK(v.delay_ms >= whole / 2);
		CHECK(v.delay_ms <= whole);
		whole = whole * 2 < POLICY_DELAY_MAX_MS ? whole * 2 : POLICY_DELAY_MAX_MS;
	}
}

TEST(begins_again_at_the_least_delay_after_a_steady_life)
{
	struct policy p = { .when = RESTART_ALWAYS };

	for (int i = 0; i < 6; i++)
		(void)fail_at(&p, 1000, 10);
	CHECK(fail_at(&p, 2000, POLICY_STEADY_MS).delay_ms <= POLICY_DELAY_MIN_MS);
}

TEST(gives_up_when_failures_come_too_fast_and_not_when_they_are_spread)
{
	struct policy fast = { .when = RESTART_ON_FAILURE, .limit = 3 };
	struct policy spread = { .when = RESTART_ON_FAILURE, .limit = 3 };

	CHECK(fail_at(&fast, 1000, 10).restart);
	CHECK(fail_at(&fast, 2000, 10).restart);
	CHECK(!fail_at(&fast, 3000, 10).restart);
	for (uint64_t i = 0; i < 40; i++)
		CHECK(fail_at(&spread, i * POLICY_WINDOW_MS, 10).restart);
}

int
main(void)
{
	RUN(restarts_after_a_failure_and_not_after_a_good_end);
	RUN(never_restarts_what_was_told_to_stop);
	RUN(restarts_at_once_what_asked_for_it_whatever_the_policy);
	RUN(who_asks_for_a_restart_at_once_again_and_again_has_to_wait);
	RUN(doubles_the_delay_within_half_and_whole_up_to_a_minute);
	RUN(begins_again_at_the_least_delay_after_a_steady_life);
	RUN(gives_up_when_failures_come_too_fast_and_not_when_they_are_spread);
	return t_done();
}
