/*
 * judge_test.c - from observations to a state: each illness, what looks like one
 * and is none, and which is told when several hold.
 */
#include "agent/base/clock.h"
#include "agent/health/judge.h"
#include "tests/t.h"

#define S NS_PER_S
#define T (1000 * S)

static const struct health_limits limits = { 60 * S, 1800 * S };
static char why[200];

static struct vitals
well(void)
{
	return (struct vitals){ .visible = true, .http_ok_ns = T - S, .worker = 7 };
}

static enum health_state
judge(const struct vitals *v)
{
	return health_judge(v, &limits, T, why, sizeof why);
}

TEST(who_answers_is_well_and_who_never_did_is_starting)
{
	struct vitals v = well();

	CHECK_EQ(judge(&v), HEALTH_WELL);
	CHECK_STR(why, "");
	v.http_ok_ns = 0;
	CHECK_EQ(judge(&v), HEALTH_STARTING);
	v.visible = false;
	CHECK_EQ(judge(&v), HEALTH_UNKNOWN);
}

TEST(who_cannot_work_is_broken_and_who_may_only_be_slow_is_not)
{
	for (int s = 0; s < HEALTH_STATES; s++)
		CHECK_EQ(health_state_is_broken((enum health_state)s),
		    s == HEALTH_ZOMBIE || s == HEALTH_CUDA_POISONED || s == HEALTH_HTTP_SILENT);
}

TEST(a_worker_gone_while_http_answers_is_a_zombie)
{
	struct vitals v = well();

	v.worker_gone_ns = T - 3 * S;
	v.worker_needed = true;
	CHECK_EQ(judge(&v), HEALTH_ZOMBIE);
	CHECK(strstr(why, "(7) ended 3 s ago and HTTP still answers") != NULL);
	v.worker_gone_ns = T - S; /* its last record may be on its way */
	v.http_ok_ns = T;
	CHECK_EQ(judge(&v), HEALTH_WELL);
	v.worker_gone_ns = T - 3 * S;
	v.worker_needed = false; /* a thread for each job */
	CHECK_EQ(judge(&v), HEALTH_WELL);
}

TEST(an_orderly_end_is_no_zombie)
{
	struct vitals v = well();

	v.http_ok_ns = T - 20 * S;
	v.http_unanswered_ns = T - 15 * S;
	v.http_refused = true;
	v.worker_gone_ns = T - 14 * S;
	v.worker_needed = true;
	CHECK_EQ(judge(&v), HEALTH_WELL);
	v.worker_gone_ns = T - 30 * S;
	v.http_ok_ns = T - 31 * S;
	CHECK_EQ(judge(&v), HEALTH_ZOMBIE);
}

TEST(silence_is_an_illness_only_after_its_time)
{
	struct vitals v = well();

	v.http_unanswered_ns = T - 59 * S;
	CHECK_EQ(judge(&v), HEALTH_WELL);
	CHECK_STR(why, "HTTP has not answered for 59 s");
	v.http_unanswered_ns = T - 60 * S;
	CHECK_EQ(judge(&v), HEALTH_HTTP_SILENT);
	v.http_refused = true;
	CHECK_EQ(judge(&v), HEALTH_HTTP_SILENT);
	CHECK_STR(why, "HTTP was refused for 60 s");
	CHECK_EQ(
	    health_judge(&v, &(struct health_limits){ 0, 0 }, T, why, sizeof why), HEALTH_WELL);
}

TEST(a_quiet_job_is_told_with_what_its_process_did)
{
	struct vitals v = well();

	v.job_quiet_ns = 1; /* the watched clock's first moment */
	CHECK_EQ(health_judge(&v, &limits, 1799 * S, why, sizeof why), HEALTH_WELL);
	v.job_cpu_known = true;
	CHECK_EQ(health_judge(&v, &limits, 1801 * S, why, sizeof why), HEALTH_NO_PROGRESS);
	CHECK(strstr(why, "did not work") != NULL);
	v.job_cpu_ms = 60000;
	CHECK_EQ(health_judge(&v, &limits, 1801 * S, why, sizeof why), HEALTH_NO_PROGRESS);
	CHECK(strstr(why, "used 60 s of CPU") != NULL);
}

TEST(two_failures_of_the_device_and_the_worst_is_told)
{
	struct vitals v = well();

	v.device_failures = 1;
	CHECK_EQ(judge(&v), HEALTH_WELL);
	v.device_failures = 2;
	v.http_unanswered_ns = T - 100 * S;
	CHECK_EQ(judge(&v), HEALTH_CUDA_POISONED);
	v.worker_gone_ns = T - 40 * S;
	v.worker_needed = true;
	CHECK_EQ(judge(&v), HEALTH_ZOMBIE);
}

TEST(a_policy_is_words_and_none_stands_alone)
{
	uint32_t states = 99;

	CHECK_EQ(health_policy_parse("none", &states), E_OK);
	CHECK_EQ(states, 0);
	CHECK_EQ(health_policy_parse("zombie,cuda_poisoned", &states), E_OK);
	CHECK_EQ(states, 1u << HEALTH_ZOMBIE | 1u << HEALTH_CUDA_POISONED);
	CHECK_EQ(health_policy_parse("zombie,", &states), E_INVAL);
	CHECK_EQ(health_policy_parse("well", &states), E_INVAL);
	CHECK_EQ(health_policy_parse("none,zombie", &states), E_INVAL);
}

int
main(void)
{
	RUN(who_answers_is_well_and_who_never_did_is_starting);
	RUN(who_cannot_work_is_broken_and_who_may_only_be_slow_is_not);
	RUN(a_worker_gone_while_http_answers_is_a_zombie);
	RUN(an_orderly_end_is_no_zombie);
	RUN(silence_is_an_illness_only_after_its_time);
	RUN(a_quiet_job_is_told_with_what_its_process_did);
	RUN(two_failures_of_the_device_and_the_worst_is_told);
	RUN(a_policy_is_words_and_none_stands_alone);
	return t_done();
}
