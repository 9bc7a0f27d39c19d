/*
 * The list of traces: how far it reads.  Against a store that only hands out
 * chunks, newest first, one a second, each with a span of a trace.
 */
#include "tests/t.h"
#include "agent/base/clock.h"
#include "agent/control/views.h"
#include "schema/tables.h"

#define NOW_NS (UINT64_C(1700000000) * NS_PER_S)

static struct {
	unsigned chunks, given; /* there are; were read */
	uint64_t per_trace;     /* so many neighbours belong to one trace */
} fake;

static size_t
bundle(uint8_t *p, uint64_t trace, uint64_t start_ns, bool partial)
{
	static const char names[][8] = { "", "op", "thing" };
	struct wire_span s = { .trace_lo = trace,
		.span_id = start_ns,
		.start_ns = start_ns,
		.duration_ns = 5,
		.name = 1,
		.resource = 2,
		.flags = partial ? 0 : WIRE_SPAN_LOCAL_ROOT };
	struct wire_bundle b = { .trace_count = 1, .span_count = 1 };
	uint8_t *t = p + BUNDLE_FIXED_BYTES, *rec = t + BUNDLE_TRACE_BYTES;
	uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES;

	memset(t, 0, BUNDLE_TRACE_BYTES);
	wire_put64(t + 8, trace);
	wire_put32(t + 24, length);
	wire_put32(t + 28, 1);
	wire_put16(t + 32, fake.per_trace > 1 ? BUNDLE_PARTIAL : 0);
	t[34] = WIRE_PRIORITY_NONE;
	t[35] = WIRE_PRIORITY_NONE;
	wire_span_put(rec + RECORD_HEADER_BYTES, &s);
	wire_record_seal(rec, 0, length, EVENT_SPAN, RECORD_PUBLISHED);
	b.traces_bytes = BUNDLE_TRACE_BYTES + length;
	for (uint32_t i = 1; i < 3; i++)
		b.dict_bytes += (uint32_t)wire_dict_put(
		    t + b.traces_bytes + b.dict_bytes, i, names[i], (uint32_t)strlen(names[i]));
	wire_bundle_seal(p, &b);
	return BUNDLE_FIXED_BYTES + b.traces_bytes + b.dict_bytes;
}

static enum err
chunks(struct store *st, int64_t before, store_chunk_fn fn, void *ctx)
{
	const struct probe_row probe = { .id = 1 };
	uint8_t blob[512];
	enum err rv = E_OK;

	(void)st;
	(void)before;
	for (fake.given = 0; fake.given < fake.chunks && rv == E_OK; fake.given++) {
		uint64_t trace = fake.given / fake.per_trace, at = NOW_NS - fake.given * NS_PER_S;
		bool first = fake.given % fake.per_trace == 0; /* its root finished last */
		struct chunk_row c = { .id = 1, .probe = 1, .signal = SIGNAL_TRACE };

		c.created_real_ns = at;
		c.blob = blob;
		/* A root has begun before everything below it. */
		c.blob_bytes = bundle(
		    blob, trace + 1, first ? at - fake.per_trace * NS_PER_S : at - 10, !first);
		rv = fn(ctx, &c, &probe, DELIVERY_SENT, false);
	}
	return rv;
}

static unsigned
rows(const struct trace_filter *f, bool *cut, struct outbuf *out)
{
	static const struct store_ops ops = { .chunks = chunks };
	static const struct span_defaults nothing;
	struct store st = { .ops = &ops };
	unsigned n = 0;

	outbuf_reset(out, SIZE_MAX);
	*cut = false;
	CHECK_EQ(view_traces(&st, NULL, &nothing, f, out, cut), E_OK);
	for (size_t i = 0; i < out->n; i++)
		n += out->p[i] == '\n';
	return n;
}

TEST(ends_when_it_has_enough)
{
	struct outbuf out = { 0 };
	bool cut;

	fake.chunks = 1000;
	fake.per_trace = 1;
	CHECK_EQ(rows(&(struct trace_filter){ .limit = 5 }, &cut, &out), 5);
	CHECK(!cut && fake.given < 10);
	outbuf_free(&out);
}

TEST(reads_on_until_no_part_of_a_trace_can_be_missing)
{
	struct outbuf out = { 0 };
	bool cut;

	fake.chunks = 1000;
	fake.per_trace = 100;
	CHECK_EQ(rows(&(struct trace_filter){ .limit = 2 }, &cut, &out), 2);
	CHECK(memmem(out.p, out.n, "\"spans\":100,", 12) != NULL);
	CHECK(memmem(out.p, out.n, "\"spans\":99,", 11) == NULL);
	CHECK(!cut && fake.given > 200 && fake.given < 300);
	outbuf_free(&out);
}

TEST(what_was_written_before_since_is_not_read)
{
	struct outbuf out = { 0 };
	struct trace_filter f = { .limit = 5000, .since_real_ns = NOW_NS - 30 * NS_PER_S };
	bool cut;

	fake.chunks = 5000;
	fake.per_trace = 1;
	CHECK_EQ(rows(&f, &cut, &out), 30);
	CHECK(!cut && fake.given < 120);
	outbuf_free(&out);
}

TEST(stops_when_its_time_is_up_and_says_so)
{
	struct outbuf out = { 0 };
	struct trace_filter f = { .limit = 5000, .text = "thing" };
	bool cut;

	fake.chunks = 1000;
	fake.per_trace = 1;
	f.until_mono_ns = clock_mono_ns() + 3600 * NS_PER_S;
	CHECK_EQ(rows(&f, &cut, &out), 1000);
	CHECK(!cut);
	f.until_mono_ns = 1;
	CHECK_EQ(rows(&f, &cut, &out), 0);
	CHECK(cut && fake.given == 1);
	outbuf_free(&out);
}

int
main(void)
{
	RUN(ends_when_it_has_enough);
	RUN(reads_on_until_no_part_of_a_trace_can_be_missing);
	RUN(what_was_written_before_since_is_not_read);
	RUN(stops_when_its_time_is_up_and_says_so);
	return t_done();
}
