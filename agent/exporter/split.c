/*
 * split.c - a chunk that is too large for the far end, in two.  Both halves
 * carry the whole dictionary: a 413 is rare, and the next encoding names only
 * what it uses.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/exporter/payload.h"
#include "schema/tables.h"

/* Bytes of the first `want` records of a trace, and how many of them are spans. */
static uint32_t
records_head(const struct wire_trace *t, uint32_t want, uint32_t *spans)
{
	uint32_t at = 0;

	*spans = 0;
	for (uint32_t i = 0; i < want && at < t->records_bytes; i++) {
		*spans += wire_get16(t->records + at + 12) == EVENT_SPAN;
		at += wire_get32(t->records + at + 8);
	}
	return at;
}

static uint32_t
spans_of(const struct wire_trace *t)
{
	uint32_t spans;

	(void)records_head(t, t->record_count, &spans);
	return spans;
}

/* A bundle of the given trace bytes and the dictionary of `b`. */
static enum err
make_half(const struct chunk_row *c, const struct wire_bundle *b, const uint8_t *traces,
    size_t bytes, uint32_t trace_count, uint32_t spans, struct chunk_row *out)
{
	struct wire_bundle half = { .trace_count = trace_count,
		.span_count = spans,
		.traces_bytes = (uint32_t)bytes,
		.dict_bytes = b->dict_bytes };
	size_t n = BUNDLE_FIXED_BYTES + bytes + b->dict_bytes;
	uint8_t *blob = malloc(n);

	if (blob == NULL)
		return E_NOMEM;
	memcpy(blob + BUNDLE_FIXED_BYTES, traces, bytes);
	memcpy(blob + BUNDLE_FIXED_BYTES + bytes, b->dict, b->dict_bytes);
	wire_bundle_seal(blob, &half);
	*out = *c;
	out->id = 0;
	out->traces = trace_count;
	out->spans = spans;
	out->blob = blob;
	out->blob_bytes = n;
	return E_OK;
}

/* Two bundles from one trace: its records in halves, both marked as parts. */
static enum err
split_trace(const struct chunk_row *c, const struct wire_bundle *b, const struct wire_trace *t,
    struct chunk_row *a, struct chunk_row *z)
{
	uint32_t half = t->record_count / 2, spans, bytes = records_head(t, half, &spans);
	uint8_t *p = malloc(2 * BUNDLE_TRACE_BYTES + (size_t)t->records_bytes);
	struct wire_trace one = *t, two = *t;
	enum err rv;

	if (p == NULL)
		return E_NOMEM;
	one.record_count = half;
	one.records_bytes = bytes;
	one.flags = (uint16_t)((t->flags | BUNDLE_PARTIAL) & ~BUNDLE_LAST);
	two.record_count -= half;
	two.records_bytes -= bytes;
	two.flags |= BUNDLE_PARTIAL;

	uint8_t *q = p + BUNDLE_TRACE_BYTES + bytes;

	wire_trace_put(p, &one);
	memcpy(p + BUNDLE_TRACE_BYTES, t->records, bytes);
	wire_trace_put(q, &two);
	memcpy(q + BUNDLE_TRACE_BYTES, t->records + bytes, two.records_bytes);
	rv = make_half(c, b, p, BUNDLE_TRACE_BYTES + (size_t)bytes, 1, spans, a);
	if (rv == E_OK)
		rv = make_half(c, b, q, BUNDLE_TRACE_BYTES + (size_t)two.records_bytes, 1,
		    spans_of(t) - spans, z);
	if (rv != E_OK) {
		free(a->blob);
		a->blob = NULL;
	}
	free(p);
	return rv;
}

enum err
payload_split(const struct chunk_row *c, struct chunk_row *a, struct chunk_row *b)
{
	uint32_t count = 0, spans = 0;
	struct wire_error why;
	struct wire_bundle whole;
	struct wire_trace t;
	size_t at = 0;

	a->blob = b->blob = NULL;
	if (wire_bundle_get(c->blob, c->blob_bytes, &whole, &why) != 0 || whole.trace_count == 0)
		return E_CORRUPT;
	while (count < (whole.trace_count + 1) / 2) {
		if (wire_trace_next(&whole, &at, &t, &why) != 1)
			return E_CORRUPT;
		spans += spans_of(&t);
		count++;
	}
	if (whole.trace_count == 1)
		return t.record_count < 2 ? E_STATE : split_trace(c, &whole, &t, a, b);

	enum err rv = make_half(c, &whole, whole.traces, at, count, spans, a);

	if (rv == E_OK)
		rv = make_half(c, &whole, whole.traces + at, whole.traces_bytes - at,
		    whole.trace_count - count, whole.span_count - spans, b);
	if (rv != E_OK) {
		free(a->blob);
		a->blob = NULL;
	}
	return rv;
}
