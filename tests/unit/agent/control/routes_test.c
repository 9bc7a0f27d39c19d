/*
 * Routes of the control socket, and the ids in them.
 */
#include "agent/control/routes.h"
#include "agent/control/views.h"
#include "tests/t.h"

TEST(finds_routes_by_method_and_path)
{
	bool other;

	CHECK(route_find("GET", "/status", &other) != NULL);
	CHECK(route_find("GET", "/trace/abc", &other) != NULL);
	CHECK(route_find("GET", "/trace", &other) == NULL && !other);
	CHECK(route_find("POST", "/status", &other) == NULL && other);
	CHECK(route_find("GET", "/status/../x", &other) == NULL);
}

TEST(reads_trace_ids_of_16_or_32_digits_and_nothing_else)
{
	uint64_t hi, lo;

	CHECK(view_parse_trace_id("0000000000000001000000000000000f", &hi, &lo));
	CHECK_EQ(hi, 1);
	CHECK_EQ(lo, 15);
	CHECK(view_parse_trace_id("00000000000000ff", &hi, &lo) && hi == 0 && lo == 255);
	CHECK(!view_parse_trace_id("0000000000000000", &hi, &lo));
	CHECK(!view_parse_trace_id("00000000000000fg", &hi, &lo));
	CHECK(!view_parse_trace_id("ff", &hi, &lo));
	CHECK(!view_parse_trace_id("", &hi, &lo));
}

TEST(finds_the_routes_of_jobs)
{
	bool other;

	CHECK(route_find("GET", "/jobs", &other) != NULL);
	CHECK(route_find("GET", "/job/17", &other) != NULL);
	CHECK(route_find("GET", "/job", &other) == NULL && !other);
	CHECK(route_find("DELETE", "/job/17", &other) == NULL && other);
	CHECK(route_find("GET", "/jobsx", &other) == NULL);
}

TEST(reads_states_of_jobs_and_takes_no_other_word)
{
	static const char *const bad[] = { "", ",", "failed,", ",failed", "fail", "failedx",
		"FAILED", "failed lost", "failed,,lost", "unknown",
		"queued,queuedqueuedqueuedqueued", "\xff", "failed\n" };
	uint32_t states = 77;

	CHECK(view_parse_states("failed", &states));
	CHECK_EQ(states, 1u << JOB_FAILED);
	CHECK(view_parse_states("queued,running,lost,lost", &states));
	CHECK_EQ(states, 1u << JOB_QUEUED | 1u << JOB_RUNNING | 1u << JOB_LOST);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		states = 77;
		CHECK(!view_parse_states(bad[i], &states));
		CHECK_EQ(states, 77);
	}
}

TEST(reads_what_may_be_the_id_of_a_job)
{
	char longest[66];

	memset(longest, 'a', sizeof longest);
	longest[65] = '\0';
	CHECK(!view_parse_job_id(longest));
	longest[64] = '\0';
	CHECK(view_parse_job_id(longest));
	CHECK(view_parse_job_id("0f6ac0de-0000-4000-8000-000000000001"));
	CHECK(view_parse_job_id("17"));
	CHECK(!view_parse_job_id(""));
	CHECK(!view_parse_job_id("a/b"));
	CHECK(!view_parse_job_id("a%20"));
	CHECK(!view_parse_job_id("a' OR 1=1 --"));
	CHECK(!view_parse_job_id("\xc3\xa9"));
}

int
main(void)
{
	RUN(finds_routes_by_method_and_path);
	RUN(reads_trace_ids_of_16_or_32_digits_and_nothing_else);
	RUN(finds_the_routes_of_jobs);
	RUN(reads_states_of_jobs_and_takes_no_other_word);
	RUN(reads_what_may_be_the_id_of_a_job);
	return t_done();
}
