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

int
main(void)
{
	RUN(finds_routes_by_method_and_path);
	RUN(reads_trace_ids_of_16_or_32_digits_and_nothing_else);
	return t_done();
}
