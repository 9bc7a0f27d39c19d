/*
 * contract_test.c - the processor from outside: batches in, steps out, as
 * agent/core/process.h promises.  Nothing of its inside is included.
 */
#include "agent/core/process.h"

#include "schema/tables.h"
#include "tests/t.h"

#define MS   1000000ull
#define REAL (1700000000ull * 1000 * MS)

enum { S_SERVICE = 1, S_NAME, S_RESOURCE, S_TYPE };

static struct processor *p;
static uint64_t stream;

static struct batch {
	uint8_t p[65536];
	size_t used;
	uint32_t records, spans;
	uint64_t first;
} b;

static void
start(const char *rules, bool forward)
{
	struct processor_options o = { .service = "comfyui",
		.env = "test",
		.version = "1",
		.hostname = "h",
		.sample_rate = "",
		.sampling_rules = rules,
		.rate_limit = -1,
		.memory_cap_bytes = 4u << 20,
		.disk_cap_bytes = 16u << 20,
		.partial_after_ms = 30000,
		.partial_spans = 300,
		.forward_rejected = forward };
	static struct probe_row row = { .id = 7 };

	p = NULL;
	CHECK_EQ(processor_new(&o, &p), E_OK);
	CHECK_EQ(processor_probe(p, &row), E_OK);
}

static void
batch(void)
{
	b.used = BATCH_FIXED_BYTES;
	b.records = b.spans = 0;
	b.first = stream;
}

static void
put(uint16_t type, uint64_t trace, uint64_t id, uint16_t flags, int8_t priority)
{
	struct wire_span s = { .trace_lo = trace,
		.span_id = id,
		.parent_id = flags & WIRE_SPAN_LOCAL_ROOT ? 0 : 1,
		.start_ns = 1000 * MS,
		.duration_ns = type == EVENT_SPAN ? 5 * MS : 0,
		.service = S_SERVICE,
		.name = S_NAME,
		.resource = S_RESOURCE,
		.type = S_TYPE,
		.flags = flags,
		.priority = priority,
		.mechanism = WIRE_PRIORITY_NONE };
	uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES;

	wire_span_put(b.p + b.used + RECORD_HEADER_BYTES, &s);
	wire_record_seal(b.p + b.used, stream, length, type, RECORD_PUBLISHED);
	stream += length;
	b.used += length;
	b.records++;
	b.spans += type == EVENT_SPAN;
}

static void
span(uint64_t trace, uint64_t id, uint16_t flags)
{
	put(EVENT_SPAN, trace, id, flags, WIRE_PRIORITY_NONE);
}

static void
opened(uint64_t trace, uint64_t id, uint16_t flags)
{
	put(EVENT_OPEN, trace, id, flags, WIRE_PRIORITY_NONE);
}

static enum err
feed_named(const char *name)
{
	const char *text[] = { "comfyui", name, "resource", "custom" };
	struct wire_batch w = { .first = b.first,
		.end = stream,
		.mono_ns = 1000 * MS,
		.real_ns = REAL,
		.record_count = b.records,
		.span_count = b.spans,
		.records_bytes = (uint32_t)(b.used - BATCH_FIXED_BYTES) };
	static int64_t ids;
	size_t records_end = b.used;

	for (uint32_t i = 0; i < 4; i++)
		b.used += wire_dict_put(b.p + b.used, i + 1, text[i], (uint32_t)strlen(text[i]));
	w.dict_bytes = (uint32_t)(b.used - records_end);
	w.records = b.p + BATCH_FIXED_BYTES;
	w.dict = b.p + records_end;
	wire_batch_seal(b.p, &w);

	struct raw_row raw = { .id = ++ids,
		.probe = 7,
		.first = w.first,
		.end = w.end,
		.spans = b.spans,
		.blob = b.p,
		.blob_bytes = b.used };

	return processor_feed(p, &raw);
}

static void
feed(void)
{
	CHECK_EQ(feed_named("operation"), E_OK);
}

static const struct step *
step(uint64_t now_ms)
{
	static const struct step none;
	const struct step *s = NULL;

	CHECK_EQ(processor_step(p, now_ms * MS, REAL, &s), E_OK);
	return s != NULL ? s : &none;
}

static uint64_t
spans_of(const struct step *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->chunk_count; i++)
		n += s->chunks[i].spans;
	return n;
}

static uint64_t
held_in(const struct step *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->segment_count; i++)
		n += s->segments[i].spans;
	return n;
}

/* The first trace of a step's only chunk; every string must be in it. */
static struct wire_trace
only_trace(const struct step *s)
{
	struct wire_trace t = { .priority = WIRE_PRIORITY_NONE };
	struct wire_bundle w;
	struct wire_error err;
	size_t at = 0;

	CHECK_EQ(s->chunk_count, 1);
	if (s->chunk_count != 1)
		return t;
	CHECK_EQ(wire_bundle_get(s->chunks[0].blob, s->chunks[0].blob_bytes, &w, &err), 0);
	CHECK_EQ(w.trace_count, 1);
	CHECK_EQ(wire_trace_next(&w, &at, &t, &err), 1);
	t.records = NULL; /* the step's memory */
	return t;
}

static void
commit(const struct step *s)
{
	static int64_t ids = 100;

	for (size_t i = 0; i < s->segment_count; i++)
		s->segments[i].id = ++ids;
	processor_commit(p);
}

TEST(a_trace_spread_over_batches_leaves_as_one_chunk)
{
	struct wire_trace t;

	start("", true);
	batch();
	opened(11, 1, WIRE_SPAN_LOCAL_ROOT);
	span(11, 2, 0);
	feed();
	CHECK_EQ(step(1)->chunk_count, 0);
	CHECK_EQ(held_in(step(1)), 1);
	commit(step(1));
	batch();
	span(11, 3, 0);
	span(11, 1, WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_OPENED);
	feed();

	const struct step *s = step(2);

	CHECK_EQ(spans_of(s), 3);
	CHECK_EQ(s->dead_count, 1);
	CHECK_EQ(s->segment_count, 0);
	t = only_trace(s);
	CHECK_EQ(t.record_count, 3);
	CHECK_EQ(t.trace_lo, 11);
	CHECK(t.offset_ns == (int64_t)(REAL - 1000 * MS));
	CHECK_EQ(t.flags & (BUNDLE_LAST | BUNDLE_PARTIAL), BUNDLE_LAST);
	CHECK_EQ(t.priority, 1);
	commit(s);
	CHECK_EQ(processor_open_spans(p), 0);
	processor_free(p);
}

TEST(a_finished_root_waits_for_its_open_child)
{
	start("", true);
	batch();
	opened(12, 2, 0);
	span(12, 1, WIRE_SPAN_LOCAL_ROOT);
	feed();
	CHECK_EQ(step(1)->chunk_count, 0);
	commit(step(1));
	batch();
	span(12, 2, 0);
	feed();
	CHECK_EQ(spans_of(step(2)), 2);
	processor_free(p);
}

TEST(a_part_leaves_after_thirty_seconds)
{
	start("", true);
	batch();
	opened(13, 1, WIRE_SPAN_LOCAL_ROOT);
	span(13, 2, 0);
	feed();
	CHECK_EQ(step(1)->chunk_count, 0);
	CHECK(step(1)->next_ms > 0);
	CHECK(step(1)->next_ms <= 30001);
	commit(step(1));
	CHECK_EQ(step(29000)->chunk_count, 0);
	commit(step(29000));

	const struct step *s = step(30100);

	CHECK_EQ(spans_of(s), 1);
	CHECK_EQ(only_trace(s).flags & (BUNDLE_LAST | BUNDLE_PARTIAL), BUNDLE_PARTIAL);
	CHECK_EQ(s->segment_count, 1);
	CHECK_EQ(held_in(s), 0);
	commit(s);
	batch();
	span(13, 1, WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_OPENED);
	feed();
	s = step(30200);
	CHECK_EQ(spans_of(s), 1);
	CHECK_EQ(
	    only_trace(s).flags & (BUNDLE_LAST | BUNDLE_PARTIAL), BUNDLE_LAST | BUNDLE_PARTIAL);
	processor_free(p);
}

TEST(three_hundred_spans_leave_as_a_part_at_once)
{
	start("", true);
	batch();
	opened(14, 1, WIRE_SPAN_LOCAL_ROOT);
	for (uint64_t i = 0; i < 300; i++)
		span(14, 100 + i, 0);
	feed();
	CHECK_EQ(spans_of(step(1)), 300);
	processor_free(p);
}

TEST(what_a_dead_probe_left_open_ends_as_lost)
{
	start("", true);
	batch();
	opened(15, 1, WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_JOB);
	span(15, 2, 0);
	feed();
	commit(step(1));
	CHECK_EQ(processor_probe_gone(p, 7), E_OK);

	const struct step *s = step(2);

	CHECK_EQ(s->received, 1);
	CHECK_EQ(spans_of(s), 2);
	CHECK_EQ(s->chunks[0].class, CHUNK_ERROR);
	CHECK((only_trace(s).flags & (BUNDLE_UNFINISHED | BUNDLE_ERROR)) ==
	      (BUNDLE_UNFINISHED | BUNDLE_ERROR));
	CHECK(memmem(s->chunks[0].blob, s->chunks[0].blob_bytes, "error.type", 10) != NULL);
	commit(s);
	CHECK_EQ(step(3)->received, 0);
	processor_free(p);
}

TEST(rejected_traces_are_counted_or_forwarded)
{
	start("[{\"sample_rate\":0}]", false);
	batch();
	span(16, 1, WIRE_SPAN_LOCAL_ROOT);
	feed();
	CHECK_EQ(step(1)->sampled_out, 1);
	CHECK_EQ(step(1)->chunk_count, 0);
	processor_free(p);

	start("[{\"sample_rate\":0}]", true);
	batch();
	span(16, 1, WIRE_SPAN_LOCAL_ROOT);
	feed();

	const struct step *s = step(1);

	CHECK_EQ(s->sampled_out, 0);
	CHECK_EQ(only_trace(s).priority, -1);
	CHECK_EQ(s->chunks[0].class, CHUNK_SAMPLED_OUT);
	processor_free(p);
}

TEST(a_rejected_trace_is_held_and_a_failed_job_keeps_it)
{
	start("[{\"sample_rate\":0}]", true);
	batch();
	opened(17, 1, WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_JOB);
	span(17, 2, 0);
	feed();
	commit(step(1));
	CHECK_EQ(step(31000)->chunk_count, 0);
	commit(step(31000));
	batch();
	span(17, 1, WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_JOB | WIRE_SPAN_JOB_FAILED | WIRE_SPAN_ERROR);
	feed();

	const struct step *s = step(31100);
	struct wire_trace t = only_trace(s);

	CHECK_EQ(spans_of(s), 2);
	CHECK_EQ(t.priority, 2);
	CHECK((t.flags & BUNDLE_KEPT_FAILURE) != 0);
	CHECK_EQ(s->chunks[0].class, CHUNK_ERROR);
	processor_free(p);
}

TEST(an_inherited_rejection_by_a_user_is_obeyed)
{
	start("", true);
	batch();
	put(EVENT_SPAN, 18, 1, WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_JOB | WIRE_SPAN_JOB_FAILED, -1);
	feed();
	CHECK_EQ(only_trace(step(1)).priority, -1);
	processor_free(p);
}

TEST(an_aborted_step_comes_again_byte_for_byte)
{
	static uint8_t first[65536];
	size_t n;

	start("", true);
	batch();
	opened(19, 1, WIRE_SPAN_LOCAL_ROOT);
	span(19, 2, 0);
	span(20, 1, WIRE_SPAN_LOCAL_ROOT);
	feed();

	const struct step *s = step(1);

	REQUIRE(s->chunk_count == 1 && s->chunks[0].blob_bytes <= sizeof first);
	n = s->chunks[0].blob_bytes;
	memcpy(first, s->chunks[0].blob, n);
	processor_abort(p);
	s = step(1);
	CHECK_EQ(s->chunk_count, 1);
	CHECK_EQ(s->segment_count, 1);
	CHECK_EQ(s->chunks[0].blob_bytes, n);
	CHECK(memcmp(s->chunks[0].blob, first, n) == 0);
	processor_free(p);
}

TEST(a_restart_goes_on_from_the_segments)
{
	struct segment_row kept;

	start("", true);
	batch();
	opened(21, 1, WIRE_SPAN_LOCAL_ROOT);
	span(21, 2, 0);
	feed();

	const struct step *s = step(1);

	REQUIRE(s->segment_count == 1);
	kept = s->segments[0];
	kept.id = 5;
	kept.blob = malloc(kept.blob_bytes);
	REQUIRE(kept.blob != NULL);
	memcpy(kept.blob, s->segments[0].blob, kept.blob_bytes);
	processor_free(p);

	start("", true);
	CHECK_EQ(processor_restore(p, &kept), E_OK);
	free(kept.blob);
	batch();
	span(21, 1, WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_OPENED);
	feed();
	s = step(2);
	CHECK_EQ(spans_of(s), 2);
	CHECK_EQ(s->dead_count, 1);
	CHECK(s->dead_count == 1 && s->dead_segments[0] == 5);
	CHECK_EQ(only_trace(s).flags & (BUNDLE_LAST | BUNDLE_PARTIAL), BUNDLE_LAST);
	processor_free(p);
}

TEST(a_span_that_comes_twice_leaves_once)
{
	start("", true);
	batch();
	opened(22, 1, WIRE_SPAN_LOCAL_ROOT);
	span(22, 2, 0);
	span(22, 2, 0);
	span(22, 1, WIRE_SPAN_LOCAL_ROOT);
	feed();
	CHECK_EQ(spans_of(step(1)), 2);
	processor_free(p);
}

TEST(an_id_that_changes_its_string_is_malformed)
{
	start("", true);
	batch();
	span(23, 1, WIRE_SPAN_LOCAL_ROOT);
	feed();
	batch();
	span(24, 1, WIRE_SPAN_LOCAL_ROOT);
	CHECK_EQ(feed_named("another"), E_INVAL);
	CHECK_EQ(spans_of(step(1)), 1);
	processor_free(p);
}

int
main(void)
{
	RUN(a_trace_spread_over_batches_leaves_as_one_chunk);
	RUN(a_finished_root_waits_for_its_open_child);
	RUN(a_part_leaves_after_thirty_seconds);
	RUN(three_hundred_spans_leave_as_a_part_at_once);
	RUN(what_a_dead_probe_left_open_ends_as_lost);
	RUN(rejected_traces_are_counted_or_forwarded);
	RUN(a_rejected_trace_is_held_and_a_failed_job_keeps_it);
	RUN(an_inherited_rejection_by_a_user_is_obeyed);
	RUN(an_aborted_step_comes_again_byte_for_byte);
	RUN(a_restart_goes_on_from_the_segments);
	RUN(a_span_that_comes_twice_leaves_once);
	RUN(an_id_that_changes_its_string_is_malformed);
	return t_done();
}
