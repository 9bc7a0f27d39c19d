/*
 * sampling_test.c - who decides, what is written down, and what is never lost.
 */
#include <math.h>

#include "agent/processor/rules.h"
#include "tests/unit/agent/processor/feeder.h"

#define ROOT WIRE_SPAN_LOCAL_ROOT
#define S    1000000000ull

static struct norm_text
text(const char *s)
{
	return (struct norm_text){ s, strlen(s) };
}

/* A trace id (odd, below 2^63) that the hash keeps at `rate`, or rejects. */
static uint64_t
id_that(bool kept, double rate)
{
	uint64_t id = 1;

	while (sample_hash(id, rate) != kept)
		id += 2;
	return id;
}

TEST(the_hash_is_datadogs)
{
	/* hash = id * 1111111111111111111 mod 2^64, kept when <= rate * (2^64 - 1) */
	CHECK(sample_hash(1, 0.0603));
	CHECK(!sample_hash(1, 0.0602));
	CHECK(sample_hash(123456789, 1));
	CHECK(!sample_hash(123456789, 0));
	CHECK(!sample_hash(123456789, -1));
	CHECK(!sample_hash(123456789, (double)NAN));

	unsigned kept = 0;

	for (uint64_t i = 1; i <= 100000; i++)
		kept += sample_hash(i * 0x9e3779b97f4a7c15u, 0.25);
	CHECK(kept > 24500 && kept < 25500);
}

TEST(globs_match_as_datadog_matches)
{
	static const struct {
		const char *glob, *text;
		bool matches;
	} table[] = { { "*", "", true }, { "*", "x", true }, { "", "", true }, { "", "x", false },
		{ "a?c", "abc", true }, { "a?c", "ac", false }, { "A*C", "abbbc", true },
		{ "*b*", "abc", true }, { "*b", "abc", false }, { "a*b*c", "aXbYbZc", true },
		{ "a**c", "ac", true }, { "?", "", false }, { "COMFY*", "comfyui.node", true } };

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (glob_match(table[i].glob, text(table[i].text)) != table[i].matches) {
			fprintf(stderr, "%s on %s\n", table[i].glob, table[i].text);
			CHECK(0);
		}
}

TEST(bad_rules_say_what_and_where)
{
	static const struct {
		const char *json;
		size_t at;
		const char *problem;
	} table[] = {
		{ "{}", 0, "an array is expected" },
		{ "[1]", 1, "an object is expected" },
		{ "[{\"sample_rate\":2}]", 17, "sample_rate is not 0 to 1" },
		{ "[{\"sample_rate\":0.5},]", 21, "nothing follows the comma" },
		{ "[{\"sample_rate\":0.5}] x", 22, "something follows the end" },
		{ "[{\"name\":1,\"sample_rate\":1}]", 9, "a string is expected" },
		{ "[{\"name\":\"a", 11, "a string is cut short" },
		{ "[{\"sample_rate\":01}]", 16, "a number is expected" },
		{ "[{\"x\":[[[[[[[[[[[[[[[[[[[[1", 20, "nested too deep" },
		{ "[{\"a\":\"\\q\"}]", 9, "an unknown escape" },
		{ "[{\"sample_rate\":0.5", 19, "a comma or the end is expected" },
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct rules *r = NULL;
		const char *problem = "";
		size_t at = 0;

		CHECK_EQ(
		    rules_parse(table[i].json, strlen(table[i].json), &r, &at, &problem), E_INVAL);
		CHECK_STR(problem, table[i].problem);
		CHECK_EQ(at, table[i].at);
	}
}

TEST(the_first_rule_that_matches_decides)
{
	static const char json[] =
	    "[{\"service\":\"other\",\"sample_rate\":0.1},{\"name\":\"no rate\"},"
	    "{\"name\":\"comfy*\",\"resource\":\"K?ampler\",\"tags\":{\"node.id\":\"1*\"},"
	    "\"unknown\":[null,{\"a\":true}],\"sample_rate\":0.25},{\"sample_rate\":5e-1}]";
	struct sample_tag tags[] = { { text("node.id"), text("12") } };
	struct sample_subject s = { .service = text("svc"),
		.name = text("comfyui.node"),
		.resource = text("KSampler"),
		.tags = tags,
		.tag_count = 1 };
	struct rules *r;
	const char *problem;
	size_t at;
	double rate = -1;

	REQUIRE(rules_parse(json, sizeof json - 1, &r, &at, &problem) == E_OK);
	CHECK(rules_match(r, &s, &rate));
	CHECK(rate == 0.25);
	CHECK(rules_read_tags(r));
	s.tag_count = 0;
	CHECK(rules_match(r, &s, &rate));
	CHECK(rate == 0.5);
	s.service = text("Other");
	CHECK(rules_match(r, &s, &rate));
	CHECK(rate == 0.1);
	rules_free(r);
}

/* One trace of one root span through a processor with these options. */
static struct ledger
one(struct processor *p, uint64_t trace, uint16_t flags, int8_t priority)
{
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = trace, .span = 1, .flags = ROOT | flags, .priority = priority, .tags = 1);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	processor_free(p);
	return l;
}

TEST(nothing_set_keeps_with_mechanism_0)
{
	struct ledger l = one(NEW(0), 5, 0, 0);

	CHECK_EQ(l.last.priority, 1);
	CHECK_EQ(l.last.mechanism, 0);
	CHECK_EQ(l.last.has, 0);
}

TEST(an_inherited_priority_is_final)
{
	struct ledger l = one(NEW(.sample_rate = "0", .forward_rejected = true), 5, 0, 11);

	CHECK_EQ(l.last.priority, 1);
	CHECK_EQ(l.last.has, 0);
	l = one(NEW(.sample_rate = "1", .forward_rejected = true), 5, 0, 10);
	CHECK_EQ(l.last.priority, 0);
	CHECK_EQ(l.class_spans[CHUNK_SAMPLED_OUT], 1);
}

TEST(the_sample_rate_is_mechanism_3_with_2_and_minus_1)
{
	struct ledger l = one(NEW(.sample_rate = "0.5"), id_that(true, 0.5), 0, 0);

	CHECK_EQ(l.last.priority, 2);
	CHECK_EQ(l.last.mechanism, 3);
	CHECK_EQ(l.last.has, BUNDLE_HAS_RULE_PSR | BUNDLE_HAS_LIMIT_PSR);
	CHECK(l.last.rule_psr == 0.5);
	CHECK(l.last.limit_psr == 1);
	l = one(NEW(.sample_rate = "0.5", .forward_rejected = true), id_that(false, 0.5), 0, 0);
	CHECK_EQ(l.last.priority, -1);
	CHECK_EQ(l.last.mechanism, 3);
	CHECK_EQ(l.last.has, BUNDLE_HAS_RULE_PSR);
	CHECK_EQ(l.class_spans[CHUNK_SAMPLED_OUT], 1);
	CHECK_EQ(l.sampled_out, 0);
}

TEST(a_rejected_trace_that_nobody_wants_is_counted)
{
	struct ledger l = one(NEW(.sample_rate = "0"), 5, 0, 0);

	CHECK_EQ(l.chunk_spans, 0);
	CHECK_EQ(l.sampled_out, 1);
}

TEST(rules_come_before_the_rate_and_see_tags_of_the_root)
{
	static const char rules[] =
	    "[{\"tags\":{\"node.class_type\":\"SAMP*\"},\"sample_rate\":1}]";
	struct ledger l = one(NEW(.sample_rate = "0", .sampling_rules = rules), 5, 0, 0);

	CHECK_EQ(l.last.priority, 2);
	CHECK(l.last.rule_psr == 1);
}

TEST(a_rate_of_the_agent_is_mechanism_1_with_1_and_0)
{
	static const char body[] = "{\"rate_by_service\":{\"service:,env:\":0.75,"
				   "\"service:comfy,env:prod\":0.5},\"x\":[1]}";
	struct processor *p = NEW(.env = "Prod", .forward_rejected = true);

	CHECK_EQ(processor_agent_rates(p, body, sizeof body - 1), E_OK);
	CHECK_EQ(processor_agent_rates(p, "{}", 2), E_INVAL);
	CHECK_EQ(processor_agent_rates(p, "<html>", 6), E_INVAL);

	struct ledger l = one(p, id_that(false, 0.5), 0, 0);

	CHECK_EQ(l.last.priority, 0);
	CHECK_EQ(l.last.mechanism, 1);
	CHECK_EQ(l.last.has, BUNDLE_HAS_AGENT_PSR);
	CHECK(l.last.agent_psr == 0.5);
	p = NEW(.env = "elsewhere");
	CHECK_EQ(processor_agent_rates(p, body, sizeof body - 1), E_OK);
	l = one(p, id_that(true, 0.75), 0, 0);
	CHECK_EQ(l.last.priority, 1);
	CHECK(l.last.agent_psr == 0.75);
}

TEST(a_failed_job_is_kept_although_it_was_rejected)
{
	uint16_t failed = WIRE_SPAN_JOB | WIRE_SPAN_JOB_FAILED | WIRE_SPAN_ERROR;
	struct ledger l = one(NEW(.sample_rate = "0"), 5, failed, 0);

	CHECK_EQ(l.last.priority, 2);
	CHECK(l.last.flags & BUNDLE_KEPT_FAILURE);
	CHECK_EQ(l.class_spans[CHUNK_ERROR], 1);
	l = one(NEW(.forward_rejected = true), 5, failed, 10);
	CHECK_EQ(l.last.priority, 2);
	CHECK(l.last.flags & BUNDLE_KEPT_FAILURE);
	l = one(NEW(.forward_rejected = true), 5, failed, 9);
	CHECK_EQ(l.last.priority, -1);
	CHECK(!(l.last.flags & BUNDLE_KEPT_FAILURE));
	l = one(NEW(0), 5, failed, 0);
	CHECK_EQ(l.last.priority, 1);
	CHECK(!(l.last.flags & BUNDLE_KEPT_FAILURE));
}

TEST(a_rejected_job_is_held_until_it_ends)
{
	struct processor *p = NEW(.sample_rate = "0", .partial_spans = 3);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT | WIRE_SPAN_JOB);
	for (uint64_t i = 2; i < 20; i++)
		PUT(&f, .trace = 9, .span = i, .parent = 1);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	for (uint64_t t = 1; t < 4000; t += 31)
		ledger_step(&l, p, t * S);
	CHECK_EQ(l.chunk_spans + l.sampled_out, 0);
	CHECK_EQ(ledger_held(&l), 18);
	PUT(&f, .trace = 9, .span = 1,
	    .flags = ROOT | WIRE_SPAN_OPENED | WIRE_SPAN_JOB | WIRE_SPAN_JOB_FAILED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 4000 * S);
	CHECK_EQ(l.chunk_spans, 19);
	CHECK(l.last.flags & BUNDLE_KEPT_FAILURE);
	CHECK_EQ(l.segment_count, 0);
	ledger_free(&l);
	processor_free(p);
}

TEST(a_rejected_request_waits_a_moment_for_its_job)
{
	struct processor *p = NEW(.sample_rate = "0");
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT);
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT | WIRE_SPAN_OPENED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 10 * S);
	CHECK_EQ(l.sampled_out, 0);
	CHECK_EQ(l.next_ms, 250);
	PUT(&f, .trace = 9, .span = 2, .parent = 1, .open = true, .flags = WIRE_SPAN_JOB);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 10 * S + S / 2);
	ledger_step(&l, p, 15 * S);
	CHECK_EQ(l.sampled_out, 0);
	PUT(&f, .trace = 9, .span = 2, .parent = 1,
	    .flags = WIRE_SPAN_OPENED | WIRE_SPAN_JOB | WIRE_SPAN_JOB_FAILED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 16 * S);
	CHECK_EQ(l.chunk_spans, 2);
	CHECK_EQ(l.last.priority, 2);
	PUT(&f, .trace = 10, .span = 1, .open = true, .flags = ROOT);
	PUT(&f, .trace = 10, .span = 1, .flags = ROOT | WIRE_SPAN_OPENED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 20 * S);
	ledger_step(&l, p, 22 * S);
	CHECK_EQ(l.sampled_out, 1);
	ledger_free(&l);
	processor_free(p);
}

TEST(the_limit_counts_by_the_second_in_which_a_trace_began)
{
	struct processor *p = NEW(.sample_rate = "1", .rate_limit = 2);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	/* An hour's backlog in one batch: two traces a second, three in the last. */
	for (uint64_t i = 0; i < 200; i++)
		PUT(&f, .trace = 1 + i, .span = 1, .flags = ROOT,
		    .start_ns = i / 2 * S + 1000000000);
	PUT(&f, .trace = 900, .span = 1, .flags = ROOT, .start_ns = 100 * S);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 200);
	CHECK_EQ(l.sampled_out, 1);
	processor_free(p);
	p = NEW(.sample_rate = "1", .rate_limit = -1);
	for (uint64_t i = 0; i < 200; i++)
		PUT(&f, .trace = 1 + i, .span = 1, .flags = ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 400);
	processor_free(p);
}

TEST(what_a_probe_says_of_itself_comes_before_our_own_options)
{
	struct processor *p = NEW(.sample_rate = "1");
	struct processor_stats stats;
	struct probe_row *row = calloc(1, sizeof *row);
	struct wire_attrs attrs = { .buf = row->attrs, .cap = sizeof row->attrs };

	row->id = 3;
	wire_attr_put(&attrs, "sample_rate", "0");
	row->attrs_bytes = attrs.used;
	CHECK_EQ(processor_probe(p, row), E_OK);

	struct ledger l = one(p, 5, 0, 0);

	CHECK_EQ(l.sampled_out, 1);
	p = NEW(.sample_rate = "1");
	wire_attr_put(&attrs, "sampling_rules", "[{\"sample_rate\":}]");
	row->attrs_bytes = attrs.used;
	CHECK_EQ(processor_probe(p, row), E_OK);
	processor_stats(p, &stats);
	CHECK_STR(stats.last_problem, "sampling rules: a number is expected at byte 16");
	processor_free(p);
	free(row);
}

int
main(void)
{
	RUN(the_hash_is_datadogs);
	RUN(globs_match_as_datadog_matches);
	RUN(bad_rules_say_what_and_where);
	RUN(the_first_rule_that_matches_decides);
	RUN(nothing_set_keeps_with_mechanism_0);
	RUN(an_inherited_priority_is_final);
	RUN(the_sample_rate_is_mechanism_3_with_2_and_minus_1);
	RUN(a_rejected_trace_that_nobody_wants_is_counted);
	RUN(rules_come_before_the_rate_and_see_tags_of_the_root);
	RUN(a_rate_of_the_agent_is_mechanism_1_with_1_and_0);
	RUN(a_failed_job_is_kept_although_it_was_rejected);
	RUN(a_rejected_job_is_held_until_it_ends);
	RUN(a_rejected_request_waits_a_moment_for_its_job);
	RUN(the_limit_counts_by_the_second_in_which_a_trace_began);
	RUN(what_a_probe_says_of_itself_comes_before_our_own_options);
	return t_done();
}
