/*
 * pack.c - one bundle (CMC1) being written: traces, their records, and at the
 * end the dictionary with exactly the ids that the records name.  Pipeline
 * thread.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"

static enum err
room(struct pack *k, size_t n)
{
	size_t cap = k->cap;

	if (n > UINT32_MAX / 2 || k->used + n > UINT32_MAX / 2)
		return E_FULL;
	while (cap < k->used + n)
		cap *= 2;
	if (cap != k->cap) {
		uint8_t *buf = realloc(k->buf, cap);

		if (buf == NULL)
			return E_NOMEM;
		k->buf = buf;
		k->cap = cap;
	}
	return E_OK;
}

enum err
pack_begin(struct pack *k, struct dict *dict)
{
	*k = (struct pack){ .dict = dict, .cap = 16 * 1024, .used = BUNDLE_FIXED_BYTES };
	k->buf = malloc(k->cap);
	if (k->buf == NULL)
		return E_NOMEM;
	dict_begin(dict);
	return E_OK;
}

enum err
pack_trace_begin(struct pack *k)
{
	enum err e = room(k, BUNDLE_TRACE_BYTES);

	if (e != E_OK)
		return e;
	k->trace_at = k->used;
	k->trace_records = 0;
	k->used += BUNDLE_TRACE_BYTES;
	return E_OK;
}

enum err
pack_record(struct pack *k, const uint8_t *rec, int64_t offset_ns)
{
	uint32_t length = wire_get32(rec + 8);
	const uint8_t *payload = rec + RECORD_HEADER_BYTES;
	enum err e = room(k, length);

	if (e != E_OK)
		return e;
	memcpy(k->buf + k->used, rec, length);
	k->used += length;
	k->trace_records++;
	dict_mark(k->dict, rec, length);
	if (wire_get16(rec + 12) == EVENT_SPAN) {
		uint64_t start = wire_get64(payload + 32) + (uint64_t)offset_ns;
		uint64_t end = start + wire_get64(payload + 40);

		if (k->spans == 0 || start < k->start_ns)
			k->start_ns = start;
		if (k->spans == 0 || end > k->end_ns)
			k->end_ns = end;
		k->spans++;
	}
	return E_OK;
}

void
pack_trace_end(struct pack *k, const struct trace *t, uint16_t flags)
{
	const struct decision *d = &t->decision;
	bool decided = (t->flags & TRACE_DECIDED) != 0;
	struct wire_trace w = {
		.trace_hi = t->hi,
		.trace_lo = t->lo,
		.offset_ns = t->offset_ns,
		.records_bytes = (uint32_t)(k->used - k->trace_at - BUNDLE_TRACE_BYTES),
		.record_count = k->trace_records,
		.flags = flags,
		.priority = decided ? d->priority : WIRE_PRIORITY_NONE,
		.mechanism = decided ? d->mechanism : WIRE_PRIORITY_NONE,
		.has = decided ? d->has : 0,
		.rule_psr = d->rule_psr,
		.limit_psr = d->limit_psr,
		.agent_psr = d->agent_psr,
	};

	if (decided && d->kept_failure)
		w.flags |= BUNDLE_KEPT_FAILURE;
	if (t->flags & TRACE_ERROR)
		w.flags |= BUNDLE_ERROR;
	if (t->flags & TRACE_UNFINISHED)
		w.flags |= BUNDLE_UNFINISHED;
	wire_trace_put(k->buf + k->trace_at, &w);
	k->traces++;
}

enum err
pack_end(struct pack *k, uint8_t **blob, size_t *bytes)
{
	struct wire_bundle b = { .trace_count = k->traces,
		.span_count = k->spans,
		.traces_bytes = (uint32_t)(k->used - BUNDLE_FIXED_BYTES) };
	enum err e = k->dict->failed ? E_NOMEM : room(k, k->dict->marked_bytes);

	if (e != E_OK)
		return e;
	b.dict_bytes = (uint32_t)dict_put(k->dict, k->buf + k->used);
	k->used += b.dict_bytes;
	wire_bundle_seal(k->buf, &b);
	*blob = k->buf;
	*bytes = k->used;
	k->buf = NULL;
	return E_OK;
}

void
pack_abandon(struct pack *k)
{
	free(k->buf);
	k->buf = NULL;
}
