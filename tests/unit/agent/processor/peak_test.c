/*
 * peak_test.c - what the sampler saw lands on the spans of jobs and nodes, on
 * no others, once; what the process itself said is replaced only by more.
 */
#include "tests/unit/agent/processor/feeder.h"

#define S 1000000000ull

struct fake {
	struct memory_watch watch;
	struct memory_peak peak;
	unsigned asked, begun, ended;
	uint64_t from, to;
	bool knows;
};

static void
fake_job(void *ctx, uint64_t pid, uint64_t ticks, uint64_t span, bool begins)
{
	struct fake *f = ctx;

	CHECK_EQ(pid, 4711);
	CHECK_EQ(ticks, 99);
	CHECK_EQ(span, 1);
	*(begins ? &f->begun : &f->ended) += 1;
}

static bool
fake_peak(
    void *ctx, uint64_t pid, uint64_t ticks, uint64_t from, uint64_t to, struct memory_peak *out)
{
	struct fake *f = ctx;

	CHECK_EQ(pid, 4711);
	CHECK_EQ(ticks, 99);
	f->asked++;
	f->from = from;
	f->to = to;
	*out = f->peak;
	return f->knows;
}

static struct processor *
sampled(struct fake *f)
{
	struct probe_row row = { .id = 3, .pid = 4711, .start_ticks = 99 };
	struct processor *p;

	memset(f, 0, sizeof *f);
	f->watch = (struct memory_watch){ f, fake_job, fake_peak };
	f->knows = true;
	p = NEW(.memory = &f->watch);
	CHECK_EQ(processor_probe(p, &row), E_OK);
	return p;
}

/* The tags of the only span of the only open trace. */
struct seen {
	unsigned tags, others;
	double rss, gpu_0, gpu_7;
	unsigned rss_count;
};

static double
value_of(const struct wire_tag_view *t)
{
	return t->kind == WIRE_TAG_I32 ? t->i32 : t->kind == WIRE_TAG_F64 ? t->f64 : -1;
}

static bool
named(const uint8_t *dict, size_t n, uint32_t id, const char *name)
{
	struct wire_error err;
	const char *s;
	uint32_t one, bytes;
	size_t at = 0;

	while (wire_dict_next(dict, n, &at, &one, &s, &bytes, &err) == 1)
		if (one == id)
			return bytes == strlen(name) && memcmp(s, name, bytes) == 0;
	CHECK(!"a key without a string");
	return false;
}

static void
see(void *ctx, const struct wire_trace *t, const uint8_t *dict, size_t dict_bytes, int64_t probe)
{
	struct seen *seen = ctx;
	const uint8_t *last = t->records;
	struct wire_record rec;
	struct wire_error err;
	struct wire_span s;
	struct wire_tag_view tag;
	uint32_t at = 0;

	CHECK_EQ(probe, 3);
	for (uint32_t i = 0; i < t->records_bytes; i += wire_get32(t->records + i + 8))
		last = t->records + i;
	CHECK(wire_record_get(last, t->records_bytes, &rec, &err) > 0); /* its crc is right */
	REQUIRE(wire_span_get(rec.payload, rec.payload_bytes, &s, &err) == 0);
	memset(seen, 0, sizeof *seen);
	for (seen->tags = s.tag_count; wire_tag_next(&s, &at, &tag);) {
		if (named(dict, dict_bytes, tag.key, "memory.rss.peak_bytes")) {
			seen->rss = value_of(&tag);
			seen->rss_count++;
		} else if (named(dict, dict_bytes, tag.key, "memory.gpu.0.peak_bytes")) {
			seen->gpu_0 = value_of(&tag);
		} else if (named(dict, dict_bytes, tag.key, "memory.gpu.7.peak_bytes")) {
			seen->gpu_7 = value_of(&tag);
		} else {
			seen->others++;
		}
	}
}

static struct seen
tags_of(struct processor *p)
{
	struct seen seen = { 0 };

	processor_open_traces(p, see, &seen);
	return seen;
}

TEST(a_node_gets_the_peaks_of_its_time)
{
	struct fake f;
	struct processor *p = sampled(&f);
	struct feeder w;
	struct seen seen;

	f.peak =
	    (struct memory_peak){ .rss_bytes = 3000000000, .gpu_bytes = { 5000000000, [7] = 8 } };
	feeder_init(&w, 3);
	w.strings[STR_NAME] = "comfyui.node.execute";
	PUT(&w, .trace = 9, .span = 2, .start_ns = 5 * S, .duration_ns = 2 * S, .tags = 3);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	seen = tags_of(p);
	CHECK_EQ(f.asked, 1);
	CHECK_EQ(f.from, 5 * S);
	CHECK_EQ(f.to, 7 * S);
	CHECK_EQ(seen.tags, 6);
	CHECK_EQ(seen.others, 3);
	CHECK_EQ(seen.rss, 3000000000);
	CHECK_EQ(seen.gpu_0, 5000000000);
	CHECK_EQ(seen.gpu_7, 8);
	CHECK_EQ(f.begun + f.ended, 0);
	processor_free(p);
}

TEST(other_spans_and_open_ones_ask_nobody)
{
	struct fake f;
	struct processor *p = sampled(&f);
	struct feeder w;

	feeder_init(&w, 3);
	PUT(&w, .trace = 9, .span = 2);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	processor_reset(p);
	CHECK_EQ(processor_probe(p, &(struct probe_row){ .id = 3, .pid = 4711, .start_ticks = 99 }),
	    E_OK);
	w.strings[STR_NAME] = "comfyui.queue.wait";
	PUT(&w, .trace = 9, .span = 3);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	CHECK_EQ(f.asked, 0);
	CHECK_EQ(f.begun + f.ended, 0);
	processor_free(p);
}

TEST(a_job_begins_and_ends_once_also_when_it_comes_twice)
{
	struct fake f;
	struct processor *p = sampled(&f);
	struct feeder w;
	struct seen seen;

	f.peak.rss_bytes = 77;
	feeder_init(&w, 3);
	w.strings[STR_NAME] = "comfyui.workflow.execute";
	PUT(&w, .trace = 9, .span = 1, .open = true);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	CHECK_EQ(f.begun, 1);
	CHECK_EQ(f.ended, 0);
	PUT(&w, .trace = 9, .span = 1, .flags = WIRE_SPAN_OPENED);
	PUT(&w, .trace = 9, .span = 1, .flags = WIRE_SPAN_OPENED);
	f.peak.rss_bytes = 77;
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	f.peak.rss_bytes = 88; /* the same again, later: what was said stays */
	PUT(&w, .trace = 9, .span = 1, .flags = WIRE_SPAN_OPENED);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	seen = tags_of(p);
	CHECK_EQ(seen.rss, 77);
	CHECK_EQ(seen.rss_count, 1);
	CHECK_EQ(f.ended, 1);
	processor_free(p);
}

TEST(what_the_process_said_is_replaced_by_more_only)
{
	static const struct {
		unsigned count;
		double value; /* I32 of the string's id: 5 */
	} expect[] = { { 1, 5 }, { 1, 6000000000 } };

	for (int higher = 0; higher < 2; higher++) {
		struct fake f;
		struct processor *p = sampled(&f);
		struct feeder w;
		struct seen seen;
		uint8_t *rec;

		f.peak.rss_bytes = higher ? 6000000000 : 4;
		feeder_init(&w, 3);
		w.strings[STR_NAME] = "comfyui.workflow.execute";
		w.strings[STR_KEY] = "memory.rss.peak_bytes";
		PUT(&w, .trace = 9, .span = 1, .tags = 1);
		rec = w.records; /* its tag becomes the number 5 */
		wire_put32(rec + RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES,
		    (uint32_t)WIRE_TAG_I32 << WIRE_TAG_KIND_SHIFT | STR_KEY);
		wire_record_seal(rec, 0, w.used, EVENT_SPAN, RECORD_PUBLISHED);
		CHECK_EQ(feeder_feed(&w, p), E_OK);
		seen = tags_of(p);
		CHECK_EQ(seen.rss_count, expect[higher].count);
		CHECK_EQ(seen.rss, expect[higher].value);
		CHECK_EQ(seen.tags, 1);
		processor_free(p);
	}
}

TEST(a_span_that_nothing_is_known_of_stays_as_it_came)
{
	struct fake f;
	struct processor *p = sampled(&f);
	struct feeder w;
	struct seen seen;

	feeder_init(&w, 3);
	w.strings[STR_NAME] = "comfyui.node.execute";
	f.knows = false;
	f.peak.rss_bytes = 5000000000;
	PUT(&w, .trace = 9, .span = 1, .tags = 2);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	seen = tags_of(p);
	CHECK_EQ(seen.tags, 2);
	CHECK_EQ(seen.rss_count, 0);
	f.knows = true;
	PUT(&w, .trace = 9, .span = 2, .start_ns = UINT64_MAX, .duration_ns = UINT64_MAX,
	    .tags = 1);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	CHECK_EQ(tags_of(p).tags, 1); /* a time that no clock has */
	processor_free(p);
}

TEST(a_restart_knows_that_a_job_runs)
{
	struct fake f, later;
	struct processor *p = sampled(&f), *q;
	struct feeder w;
	struct ledger l = { 0 };

	feeder_init(&w, 3);
	w.strings[STR_NAME] = "comfyui.workflow.execute";
	PUT(&w, .trace = 9, .span = 1, .open = true);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	ledger_step(&l, p, S);
	q = sampled(&later);
	ledger_restore(&l, q);
	CHECK_EQ(later.begun, 1);
	CHECK_EQ(later.ended, 0);
	ledger_free(&l);
	processor_free(p);
	processor_free(q);
}

TEST(peaks_go_through_a_segment_and_a_chunk)
{
	struct fake f;
	struct processor *p = sampled(&f), *q;
	struct feeder w;
	struct ledger l = { 0 };
	struct seen seen;

	f.peak.rss_bytes = 3000000000;
	feeder_init(&w, 3);
	w.strings[STR_NAME] = "comfyui.node.execute";
	PUT(&w, .trace = 9, .span = 5, .flags = WIRE_SPAN_LOCAL_ROOT, .open = true);
	PUT(&w, .trace = 9, .span = 1, .tags = 1);
	CHECK_EQ(feeder_feed(&w, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.segment_count, 1);
	q = NEW(.service = "x"); /* who samples nothing keeps what another saw */
	ledger_restore(&l, q);
	seen = tags_of(q);
	CHECK_EQ(seen.rss, 3000000000);
	PUT(&w, .trace = 9, .span = 5, .flags = WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_OPENED);
	CHECK_EQ(feeder_feed(&w, q), E_OK);
	ledger_step(&l, q, 10 * S);
	CHECK_EQ(l.chunk_spans, 2);
	ledger_free(&l);
	processor_free(p);
	processor_free(q);
}

int
main(void)
{
	RUN(a_node_gets_the_peaks_of_its_time);
	RUN(other_spans_and_open_ones_ask_nobody);
	RUN(a_job_begins_and_ends_once_also_when_it_comes_twice);
	RUN(what_the_process_said_is_replaced_by_more_only);
	RUN(a_span_that_nothing_is_known_of_stays_as_it_came);
	RUN(a_restart_knows_that_a_job_runs);
	RUN(peaks_go_through_a_segment_and_a_chunk);
	return t_done();
}
