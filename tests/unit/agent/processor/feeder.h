/*
 * feeder.h - a probe for tests of the processor: writes spans, makes batches,
 * counts what comes out.
 */
#pragma once

#include "agent/core/process.h"
#include "schema/tables.h"
#include "tests/t.h"

enum { STR_SERVICE = 1, STR_NAME, STR_RESOURCE, STR_KEY, STR_VALUE, STR_COUNT };
static const char *const feeder_strings[STR_COUNT] = { "", "comfy", "comfyui.node", "KSampler",
	"node.class_type", "sampler" };

struct feeder {
	int64_t probe;
	uint64_t at, first; /* stream positions */
	uint64_t mono_ns, real_ns;
	uint8_t records[200 * 1024];
	uint32_t used, count, spans;
	const char *strings[STR_COUNT];
};

struct feeder_span {
	uint64_t trace, span, parent, start_ns, duration_ns;
	uint16_t flags;
	bool open;
	int8_t priority; /* 0: none; else priority + 10 */
	unsigned tags;
	const char *text;
	uint32_t text_bytes;
};

static inline void
feeder_init(struct feeder *f, int64_t probe)
{
	memset(f, 0, sizeof *f);
	f->probe = probe;
	f->mono_ns = 1000000000;
	f->real_ns = 1700000000000000000;
	for (int i = 0; i < STR_COUNT; i++)
		f->strings[i] = feeder_strings[i];
}

static inline void
feeder_put(struct feeder *f, const struct feeder_span *s)
{
	uint8_t *rec = f->records + f->used;
	struct wire_tags tags = { .buf = rec + RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES,
		.cap = 32 * 1024 };
	struct wire_span w = { .trace_hi = 7,
		.trace_lo = s->trace,
		.span_id = s->span,
		.parent_id = s->parent,
		.start_ns = s->start_ns,
		.duration_ns = s->duration_ns,
		.service = STR_SERVICE,
		.name = STR_NAME,
		.resource = STR_RESOURCE,
		.flags = s->flags,
		.priority = s->priority == 0 ? WIRE_PRIORITY_NONE : (int8_t)(s->priority - 10),
		.mechanism = WIRE_PRIORITY_NONE };

	for (unsigned i = 0; i < s->tags; i++)
		wire_tag_str(&tags, STR_KEY, STR_VALUE);
	if (s->text != NULL)
		wire_tag_text(&tags, STR_KEY, s->text, s->text_bytes);
	w.tag_count = tags.count;
	w.tag_bytes = tags.used;
	wire_span_put(rec + RECORD_HEADER_BYTES, &w);

	uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + tags.used;

	wire_record_seal(rec, f->at, length, s->open ? EVENT_OPEN : EVENT_SPAN, RECORD_PUBLISHED);
	f->at += length;
	f->used += length;
	f->count++;
	f->spans += !s->open;
}

#define PUT(f, ...) feeder_put((f), &(struct feeder_span){ __VA_ARGS__ })

/* What was put so far as a raw row; the caller frees blob. */
static inline struct raw_row
feeder_batch(struct feeder *f)
{
	struct raw_row raw = { .probe = f->probe, .first = f->first, .end = f->at };
	uint8_t *blob = malloc(BATCH_FIXED_BYTES + f->used + 4096);
	uint32_t dict = 0;

	memcpy(blob + BATCH_FIXED_BYTES, f->records, f->used);
	for (uint32_t i = 1; i < STR_COUNT; i++)
		dict += (uint32_t)wire_dict_put(blob + BATCH_FIXED_BYTES + f->used + dict, i,
		    f->strings[i], (uint32_t)strlen(f->strings[i]));

	struct wire_batch b = { .first = f->first,
		.end = f->at,
		.mono_ns = f->mono_ns,
		.real_ns = f->real_ns,
		.record_count = f->count,
		.span_count = f->spans,
		.records_bytes = f->used,
		.dict_bytes = dict };

	wire_batch_seal(blob, &b);
	raw.spans = f->spans;
	raw.blob = blob;
	raw.blob_bytes = BATCH_FIXED_BYTES + f->used + dict;
	f->first = f->at;
	f->used = f->count = f->spans = 0;
	return raw;
}

static inline enum err
feeder_feed(struct feeder *f, struct processor *p)
{
	struct raw_row raw = feeder_batch(f);
	enum err e = processor_feed(p, &raw);

	free(raw.blob);
	return e;
}

/* A store in miniature: what the committed steps left. */
struct ledger {
	struct segment_row segments[256];
	size_t segment_count;
	int64_t next_id;
	uint64_t chunk_spans, class_spans[CHUNK_ERROR + 1], chunks, sampled_out, received, repeats;
	uint64_t id_sum;        /* of span ids sent */
	struct wire_trace last; /* of the last chunk; records not valid */
	uint64_t next_ms;
};

static inline void
ledger_chunk(struct ledger *l, const struct chunk_row *c)
{
	struct wire_bundle b;
	struct wire_trace t;
	struct wire_error err;
	size_t at = 0;
	uint32_t spans = 0, traces = 0;
	int rv;

	CHECK(wire_bundle_get(c->blob, c->blob_bytes, &b, &err) == 0);
	while ((rv = wire_trace_next(&b, &at, &t, &err)) == 1) {
		traces++;
		for (uint32_t i = 0; i < t.records_bytes; i += wire_get32(t.records + i + 8)) {
			CHECK_EQ(wire_get16(t.records + i + 12), EVENT_SPAN);
			l->id_sum += wire_get64(t.records + i + RECORD_HEADER_BYTES + 16);
			spans++;
		}
		l->last = t;
	}
	CHECK_EQ(rv, 0);
	CHECK_EQ(spans, c->spans);
	CHECK_EQ(traces, c->traces);
	CHECK_EQ(b.span_count, c->spans);
	l->chunks++;
	l->chunk_spans += spans;
	l->class_spans[c->class] += spans;
}

static inline void
ledger_apply(struct ledger *l, const struct step *s)
{
	for (size_t i = 0; i < s->dead_count; i++) {
		size_t at = 0;

		while (at < l->segment_count && l->segments[at].id != s->dead_segments[i])
			at++;
		CHECK(at < l->segment_count);
		if (at == l->segment_count)
			continue;
		free(l->segments[at].blob);
		memmove(&l->segments[at], &l->segments[at + 1],
		    (--l->segment_count - at) * sizeof l->segments[0]);
	}
	for (size_t i = 0; i < s->segment_count && l->segment_count < 256; i++) {
		struct segment_row *to = &l->segments[l->segment_count++];

		s->segments[i].id = ++l->next_id;
		*to = s->segments[i];
		to->blob = malloc(to->blob_bytes);
		memcpy(to->blob, s->segments[i].blob, to->blob_bytes);
	}
	for (size_t i = 0; i < s->chunk_count; i++)
		ledger_chunk(l, &s->chunks[i]);
	l->sampled_out += s->sampled_out;
	l->received += s->received;
	l->repeats += s->repeats;
	l->next_ms = s->next_ms;
}

static inline void
ledger_step(struct ledger *l, struct processor *p, uint64_t now_ns)
{
	const struct step *s;

	CHECK_EQ(processor_step(p, now_ns, 1700000000000000000, &s), E_OK);
	ledger_apply(l, s);
	processor_commit(p);
}

static inline uint64_t
ledger_held(const struct ledger *l)
{
	uint64_t n = 0;

	for (size_t i = 0; i < l->segment_count; i++)
		n += l->segments[i].spans;
	return n;
}

static inline void
ledger_restore(const struct ledger *l, struct processor *p)
{
	for (size_t i = 0; i < l->segment_count; i++)
		CHECK_EQ(processor_restore(p, &l->segments[i]), E_OK);
}

static inline void
ledger_free(struct ledger *l)
{
	for (size_t i = 0; i < l->segment_count; i++)
		free(l->segments[i].blob);
	memset(l, 0, sizeof *l);
}

static inline struct processor *
processor_with(const struct processor_options *o)
{
	struct processor_options all = *o;
	struct processor *p = NULL;

	if (all.service == NULL)
		all.service = "comfyui-inference";
	if (all.rate_limit == 0)
		all.rate_limit = 100;
	if (processor_new(&all, &p) != E_OK)
		exit(2);
	return p;
}
#define NEW(...) processor_with(&(struct processor_options){ __VA_ARGS__ })
