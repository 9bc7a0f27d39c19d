/*
 * Routes of the control socket and of the health port, and the ids in them.
 */
#include "agent/control/routes.h"
#include "agent/control/views.h"
#include "tests/t.h"

static const char *other;

/* By the control socket, and by the health port. */
static bool
found(const char *method, const char *path)
{
	return route_find(method, path, false, &other) != NULL;
}

static bool
found_open(const char *method, const char *path)
{
	return route_find(method, path, true, &other) != NULL;
}

TEST(finds_routes_by_method_and_path)
{
	CHECK(found("GET", "/status"));
	CHECK(found("HEAD", "/status"));
	CHECK(found("GET", "/trace/abc"));
	CHECK(!found("GET", "/trace") && other == NULL);
	CHECK(!found("POST", "/status"));
	CHECK_STR(other, "GET");
	CHECK(!found("GET", "/retry"));
	CHECK_STR(other, "POST");
	CHECK(!found("GET", "/status/../x"));
	CHECK(!found("get", "/status"));
}

TEST(the_port_knows_health_and_nothing_else)
{
	static const char *const not_open[] = { "/status", "/traces", "/trace/00000000000000ff",
		"/jobs", "/job/1", "/memory", "/", "", "/healthz/", "/HEALTHZ", "//healthz",
		"/healthz?", "*" };

	CHECK(found_open("GET", "/healthz") && found_open("HEAD", "/healthz"));
	CHECK(found_open("GET", "/readyz") && found_open("HEAD", "/readyz"));
	CHECK(found_open("GET", "/metrics"));
	CHECK(!found_open("POST", "/readyz") && other != NULL);
	for (size_t i = 0; i < sizeof not_open / sizeof not_open[0]; i++) {
		CHECK(!found_open("GET", not_open[i]));
		CHECK(other == NULL);
	}
	CHECK(!found_open("POST", "/retry") && other == NULL);
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
	CHECK(found("GET", "/jobs"));
	CHECK(found("GET", "/job/17"));
	CHECK(!found("GET", "/job") && other == NULL);
	CHECK(!found("DELETE", "/job/17") && other != NULL);
	CHECK(!found("GET", "/jobsx"));
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
	RUN(the_port_knows_health_and_nothing_else);
	RUN(reads_trace_ids_of_16_or_32_digits_and_nothing_else);
	RUN(finds_the_routes_of_jobs);
	RUN(reads_states_of_jobs_and_takes_no_other_word);
	RUN(reads_what_may_be_the_id_of_a_job);
	return t_done();
}
