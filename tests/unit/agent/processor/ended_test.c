/*
 * ended_test.c - the span of a process's end: where it goes, that it is kept,
 * what it says, and that it is one.
 */
#include "tests/unit/agent/processor/feeder.h"

#define S    1000000000ull
#define REAL 1700000000000000000ull /* feeder.h: one second of its monotonic clock */
#define ROOT WIRE_SPAN_LOCAL_ROOT

static struct process_end
alone(void)
{
	return (struct process_end){ .trace_hi = 7,
		.trace_lo = 40,
		.span_id = 41,
		.start_real_ns = REAL + 5 * S,
		.end_real_ns = REAL + 5 * S,
		.offset_ns = (int64_t)(REAL - S),
		.error = true,
		.verdict = "oom_cgroup",
		.certainty = "certain",
		.message = "oom_cgroup: its counter rose",
		.death = "ID",
		.events = "[]",
		.signal = 9,
		.exit_code = -1,
		.limit_bytes = 2ull << 30 };
}

static struct process_end
of_job(uint64_t trace, uint64_t parent)
{
	struct process_end e = alone();

	e.trace_lo = trace;
	e.parent_id = parent;
	e.start_real_ns = REAL + 2 * S;
	return e;
}

/* The only chunk of a step: its last record and that one's strings. */
struct seen {
	struct wire_trace trace;
	struct wire_span span;
	uint8_t dict[8192];
	size_t dict_bytes;
	enum chunk_class class;
	uint8_t records[8192];
};

static void
step_of_one(struct processor *p, struct seen *out)
{
	struct wire_bundle b;
	struct wire_error err;
	const struct step *s;
	size_t at = 0;

	memset(out, 0, sizeof *out);
	CHECK_EQ(processor_step(p, S, REAL, &s), E_OK);
	REQUIRE(s->chunk_count == 1);
	out->class = s->chunks[0].class;
	REQUIRE(wire_bundle_get(s->chunks[0].blob, s->chunks[0].blob_bytes, &b, &err) == 0);
	REQUIRE(wire_trace_next(&b, &at, &out->trace, &err) == 1);
	REQUIRE(
	    out->trace.records_bytes <= sizeof out->records && b.dict_bytes <= sizeof out->dict);
	memcpy(out->records, out->trace.records, out->trace.records_bytes);
	memcpy(out->dict, b.dict, b.dict_bytes);
	out->dict_bytes = b.dict_bytes;
	for (uint32_t i = 0, n; i < out->trace.records_bytes; i += n) {
		n = wire_get32(out->records + i + 8);
		CHECK_EQ(wire_span_get(out->records + i + RECORD_HEADER_BYTES,
			     n - RECORD_HEADER_BYTES, &out->span, &err),
		    0);
	}
	processor_commit(p);
}

static const char *
string_of(const struct seen *s, uint32_t want)
{
	static char text[256];
	struct wire_error err;
	const char *found;
	uint32_t id, n;
	size_t at = 0;

	while (wire_dict_next(s->dict, s->dict_bytes, &at, &id, &found, &n, &err) == 1)
		if (id == want) {
			snprintf(text, sizeof text, "%.*s", (int)n, found);
			return text;
		}
	return "";
}

/* A text tag, or a number as text. */
static const char *
tag(const struct seen *s, const char *key)
{
	static char text[256];
	struct wire_tag_view v;
	uint32_t at = 0;

	while (wire_tag_next(&s->span, &at, &v)) {
		if (strcmp(string_of(s, v.key), key) != 0)
			continue;
		if (v.kind == WIRE_TAG_TEXT)
			snprintf(text, sizeof text, "%.*s", (int)v.text_bytes, v.text);
		else
			snprintf(text, sizeof text, "%.0f", v.kind == WIRE_TAG_I32 ? v.i32 : v.f64);
		return text;
	}
	return "none";
}

TEST(is_a_trace_of_its_own_that_sampling_cannot_take_away)
{
	struct processor *p = NEW(.sample_rate = "0");
	struct process_end e = alone();
	struct seen s;

	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	step_of_one(p, &s);
	CHECK_EQ(s.trace.trace_hi, 7);
	CHECK_EQ(s.trace.trace_lo, 40);
	CHECK_EQ(s.trace.priority, 2);
	CHECK_EQ(s.trace.flags & BUNDLE_KEPT_FAILURE, 0);
	CHECK_EQ(s.class, CHUNK_ERROR);
	CHECK_EQ(s.span.span_id, 41);
	CHECK_EQ(s.span.parent_id, 0);
	CHECK_EQ(s.span.start_ns + (uint64_t)s.trace.offset_ns, REAL + 5 * S);
	CHECK_EQ(s.span.duration_ns, 0);
	CHECK_EQ(s.span.flags, WIRE_SPAN_ERROR | ROOT);
	CHECK_STR(string_of(&s, s.span.name), "comfyui.process.exit");
	CHECK_STR(string_of(&s, s.span.resource), "oom_cgroup");
	CHECK_EQ(s.span.service, 0);
	CHECK_STR(tag(&s, "exit.verdict"), "oom_cgroup");
	CHECK_STR(tag(&s, "exit.certainty"), "certain");
	CHECK_STR(tag(&s, "exit.signal"), "9");
	CHECK_STR(tag(&s, "exit.code"), "none");
	CHECK_STR(tag(&s, "exit.restarted"), "false");
	CHECK_STR(tag(&s, "exit.death"), "ID");
	CHECK_STR(tag(&s, "error.type"), "oom_cgroup");
	CHECK_STR(tag(&s, "error.message"), "oom_cgroup: its counter rose");
	CHECK_STR(tag(&s, "events"), "[]");
	CHECK_STR(tag(&s, "memory.limit_bytes"), "2147483648");
	CHECK_STR(tag(&s, "memory.rss.peak_bytes"), "none");
	CHECK_STR(tag(&s, "prompt.id"), "none");
	processor_free(p);
}

TEST(an_end_that_is_no_error_says_nothing_of_errors)
{
	struct processor *p = NEW(0);
	struct process_end e = alone();
	struct seen s;

	e.error = false;
	e.verdict = "exit_clean";
	e.signal = -1;
	e.exit_code = 0;
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	step_of_one(p, &s);
	CHECK_EQ(s.span.flags, ROOT);
	CHECK_EQ(s.class, CHUNK_NORMAL);
	CHECK_STR(tag(&s, "error.type"), "none");
	CHECK_STR(tag(&s, "error.message"), "none");
	CHECK_STR(tag(&s, "exit.code"), "0");
	CHECK_STR(tag(&s, "exit.signal"), "none");
	processor_free(p);
}

TEST(stands_beside_the_unfinished_job_and_keeps_its_trace)
{
	struct processor *p = NEW(.sample_rate = "0");
	struct process_end e = of_job(9, 1);
	struct feeder f;
	struct seen s;

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .start_ns = 3 * S, .duration_ns = S,
	    .flags = ROOT | WIRE_SPAN_JOB | WIRE_SPAN_JOB_FAILED | WIRE_SPAN_UNFINISHED |
		     WIRE_SPAN_ERROR);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	step_of_one(p, &s);
	CHECK_EQ(s.trace.record_count, 2);
	CHECK_EQ(s.trace.priority, 2);
	CHECK_EQ(s.span.parent_id, 1);
	CHECK_EQ(s.span.start_ns, 3 * S); /* by the offset that its trace has */
	CHECK_EQ(s.span.duration_ns, 3 * S);
	processor_free(p);
}

TEST(comes_after_its_trace_has_left_and_is_kept_as_that_was)
{
	struct processor *p = NEW(.sample_rate = "0");
	struct process_end e = of_job(9, 1);
	struct feeder f;
	struct seen s;

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .start_ns = 3 * S, .duration_ns = S,
	    .flags = ROOT | WIRE_SPAN_JOB | WIRE_SPAN_JOB_FAILED | WIRE_SPAN_ERROR);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	step_of_one(p, &s);
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	step_of_one(p, &s);
	CHECK_EQ(s.trace.record_count, 1);
	CHECK_EQ(s.trace.priority, 2);
	CHECK_EQ(s.span.span_id, 41);
	processor_free(p);
}

TEST(an_inherited_reject_is_obeyed)
{
	struct processor *p = NEW(0);
	struct process_end e = of_job(9, 1);
	struct ledger l = { 0 };
	struct feeder f;

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .priority = 10 - 1,
	    .flags = ROOT | WIRE_SPAN_JOB | WIRE_SPAN_UNFINISHED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 0);
	CHECK_EQ(l.sampled_out, 2);
	CHECK_EQ(l.received, 1);
	ledger_free(&l);
	processor_free(p);
}

TEST(is_counted_once_and_a_repeat_takes_itself_off)
{
	struct processor *p = NEW(0);
	struct process_end e = alone();
	struct ledger l = { 0 };

	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 1);
	CHECK_EQ(l.received - l.repeats, 1);
	ledger_free(&l);
	processor_free(p);
}

TEST(survives_an_aborted_step_and_is_forgotten_by_a_reset)
{
	struct processor *p = NEW(0);
	struct process_end e = alone();
	struct ledger l = { 0 };
	const struct step *s;

	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	CHECK_EQ(processor_step(p, S, REAL, &s), E_OK);
	CHECK_EQ(processor_ended(p, 3, &e), E_STATE); /* between step and commit */
	processor_abort(p);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 1);
	CHECK_EQ(l.received, 1);
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	processor_reset(p);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 1);
	CHECK_EQ(l.received, 1);
	ledger_free(&l);
	processor_free(p);
}

TEST(a_probe_has_two_ends_at_most_and_each_its_own_words)
{
	struct processor *p = NEW(0);
	struct process_end e = of_job(9, 1);
	struct feeder f;
	struct seen s;

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_OK); /* so that the probe stays */
	e = alone();
	e.verdict = "manager_restart";
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	step_of_one(p, &s);
	CHECK_STR(string_of(&s, s.span.resource), "manager_restart");
	e.verdict = "lost";
	e.span_id++;
	e.trace_lo++;
	CHECK_EQ(processor_ended(p, 3, &e), E_OK);
	step_of_one(p, &s);
	CHECK_STR(string_of(&s, s.span.resource), "lost");
	e.verdict = "killed";
	CHECK_EQ(processor_ended(p, 3, &e), E_STATE);
	processor_free(p);
}

int
main(void)
{
	RUN(is_a_trace_of_its_own_that_sampling_cannot_take_away);
	RUN(an_end_that_is_no_error_says_nothing_of_errors);
	RUN(stands_beside_the_unfinished_job_and_keeps_its_trace);
	RUN(comes_after_its_trace_has_left_and_is_kept_as_that_was);
	RUN(an_inherited_reject_is_obeyed);
	RUN(is_counted_once_and_a_repeat_takes_itself_off);
	RUN(survives_an_aborted_step_and_is_forgotten_by_a_reset);
	RUN(a_probe_has_two_ends_at_most_and_each_its_own_words);
	return t_done();
}
