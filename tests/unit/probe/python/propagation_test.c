/* Trace context in headers: what is taken, and what is left. */
#include "probe/python/propagation.h"

#include "tests/t.h"

#define PARENT "00-0123456789abcdef1122334455667788-00f067aa0ba902b7-01"

TEST(reads_a_traceparent)
{
	struct propagation_headers h = { .traceparent = PARENT };
	struct propagation p;
	REQUIRE(propagation_extract(&h, PROPAGATION_DEFAULT, &p));
	CHECK(p.trace_hi == 0x0123456789abcdefu && p.trace_lo == 0x1122334455667788u);
	CHECK(p.parent_id == 0x00f067aa0ba902b7u);
	CHECK_EQ(p.priority, 1);
}

TEST(reads_the_dd_member_of_tracestate)
{
	struct propagation_headers h = { .traceparent = PARENT,
		.tracestate = "x=1, dd=s:2;o:rum;p:0000000000000007;t.dm:-4;t.usr:a~b,y=2" };
	struct propagation p;
	REQUIRE(propagation_extract(&h, PROPAGATION_DEFAULT, &p));
	CHECK_EQ(p.priority, 2);
	CHECK_EQ(p.mechanism, 4);
	CHECK_STR(p.origin, "rum");
	CHECK_STR(p.last_parent, "0000000000000007");
	CHECK_STR(p.tags, "_dd.p.usr=a=b");
}

TEST(the_flag_wins_where_the_state_contradicts_it)
{
	struct propagation_headers h = { .traceparent = PARENT, .tracestate = "dd=s:-1;t.dm:-4" };
	struct propagation p;
	REQUIRE(propagation_extract(&h, PROPAGATION_DEFAULT, &p));
	CHECK_EQ(p.priority, 1);
	CHECK_EQ(p.mechanism, PROPAGATION_NONE);
}

TEST(reads_datadog_headers_with_the_high_bits)
{
	struct propagation_headers h = { .trace_id = "1234",
		.parent_id = "5678",
		.priority = "-1",
		.origin = "synthetics",
		.tags = "_dd.p.tid=640cfd8d00000000,_dd.p.dm=-3,_dd.p.k=v" };
	struct propagation p;
	REQUIRE(propagation_extract(&h, PROPAGATION_DEFAULT, &p));
	CHECK(p.trace_hi == 0x640cfd8d00000000u);
	CHECK_EQ(p.trace_lo, 1234);
	CHECK_EQ(p.parent_id, 5678);
	CHECK_EQ(p.priority, -1);
	CHECK_EQ(p.mechanism, 3);
	CHECK_STR(p.origin, "synthetics");
	CHECK_STR(p.tags, "_dd.p.k=v");
}

TEST(the_w3c_parent_wins_in_the_same_trace)
{
	struct propagation_headers h = {
		.traceparent = PARENT, .trace_id = "1234605616436508552", .parent_id = "9"
	};
	struct propagation p;
	REQUIRE(propagation_extract(&h, PROPAGATION_DEFAULT, &p));
	CHECK(p.parent_id == 0x00f067aa0ba902b7u);
	CHECK_STR(p.last_parent, "0000000000000009");
	CHECK(p.trace_hi == 0x0123456789abcdefu);
}

TEST(obeys_the_styles)
{
	struct propagation_headers h = { .traceparent = PARENT };
	struct propagation p;
	bool bad = false;
	CHECK(!propagation_extract(&h, PROPAGATION_DATADOG, &p));
	CHECK_EQ(propagation_styles("Datadog, tracecontext", &bad), PROPAGATION_DEFAULT);
	CHECK_EQ(propagation_styles("none", &bad), 0);
	CHECK(!bad);
	CHECK_EQ(propagation_styles("datadog,jaeger", &bad), PROPAGATION_DATADOG);
	CHECK(bad);
}

TEST(refuses_what_is_malformed)
{
	static const char *const bad[] = { "", "00",
		"ff-0123456789abcdef1122334455667788-00f067aa0ba902b7-01",
		"00-0123456789ABCDEF1122334455667788-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-0123456789abcdef1122334455667788-0000000000000000-01", PARENT "-x",
		"00-0123456789abcdef1122334455667788-00f067aa0ba902b7-0g" };
	struct propagation p = { .parent_id = 42 };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct propagation_headers h = { .traceparent = bad[i] };
		CHECK(!propagation_extract(&h, PROPAGATION_DEFAULT, &p));
	}
	CHECK_EQ(p.parent_id, 42);
	struct propagation_headers numbers = { .trace_id = "18446744073709551616" };
	CHECK(!propagation_extract(&numbers, PROPAGATION_DEFAULT, &p));
	numbers.trace_id = "12x";
	CHECK(!propagation_extract(&numbers, PROPAGATION_DEFAULT, &p));
}

TEST(writes_what_it_reads)
{
	struct propagation_headers h = { .traceparent = PARENT,
		.tracestate = "dd=s:2;o:rum;t.dm:-4" };
	struct propagation p, q;
	char parent[56], state[PROPAGATION_STATE_BYTES];
	REQUIRE(propagation_extract(&h, PROPAGATION_DEFAULT, &p));
	propagation_traceparent(&p, parent);
	CHECK_STR(parent, PARENT);
	CHECK_EQ(propagation_tracestate(&p, state), strlen(state));
	h = (struct propagation_headers){ .traceparent = parent, .tracestate = state };
	REQUIRE(propagation_extract(&h, PROPAGATION_DEFAULT, &q));
	CHECK_EQ(q.priority, 2);
	CHECK_EQ(q.mechanism, 4);
	CHECK_STR(q.origin, "rum");
	CHECK_STR(q.last_parent, "00f067aa0ba902b7");
}

TEST(an_origin_cannot_write_other_members_of_the_state)
{
	struct propagation p = { .trace_lo = 7,
		.parent_id = 8,
		.priority = 0,
		.mechanism = PROPAGATION_NONE,
		.origin = "x;s:2,dd=s:2~" };
	char state[PROPAGATION_STATE_BYTES];

	CHECK_EQ(propagation_tracestate(&p, state), strlen(state));
	CHECK_STR(state, "dd=s:0;o:x_s:2_dd~s:2_;p:0000000000000008");
}

int
main(void)
{
	RUN(reads_a_traceparent);
	RUN(reads_the_dd_member_of_tracestate);
	RUN(the_flag_wins_where_the_state_contradicts_it);
	RUN(reads_datadog_headers_with_the_high_bits);
	RUN(the_w3c_parent_wins_in_the_same_trace);
	RUN(obeys_the_styles);
	RUN(refuses_what_is_malformed);
	RUN(writes_what_it_reads);
	RUN(an_origin_cannot_write_other_members_of_the_state);
	return t_done();
}
