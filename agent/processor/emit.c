/*
 * emit.c - a plan becomes bundles: chunks of about CHUNK_TARGET_BYTES, grouped
 * by probe and class.  Pipeline thread.  Only SPAN records leave.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"

static enum err
chunk_add(struct processor *p, struct probe *probe, enum chunk_class class, struct pack *k,
    uint64_t now_real_ns)
{
	struct step *s = &p->step;
	struct chunk_row row = { .probe = probe->id,
		.signal = SIGNAL_TRACE,
		.class = class,
		.traces = k->traces,
		.spans = k->spans,
		.start_real_ns = k->start_ns,
		.end_real_ns = k->end_ns,
		.created_real_ns = now_real_ns };
	enum err e;

	if (s->chunk_count == p->chunk_cap) {
		size_t cap = p->chunk_cap > 0 ? 2 * p->chunk_cap : 8;
		struct chunk_row *rows = realloc(s->chunks, cap * sizeof *rows);

		if (rows == NULL)
			return E_NOMEM;
		s->chunks = rows;
		p->chunk_cap = cap;
	}
	if ((e = pack_end(k, &row.blob, &row.blob_bytes)) != E_OK)
		return e;
	s->chunks[s->chunk_count++] = row;
	return E_OK;
}

/* The finished spans of one trace; a trace larger than a chunk goes on in the next. */
static enum err
emit_trace(struct processor *p, struct trace *t, enum chunk_class class, struct pack *k,
    uint64_t now_real_ns)
{
	uint16_t flags = t->flags & TRACE_PARTIAL || t->plan == PLAN_PART ? BUNDLE_PARTIAL : 0;
	uint32_t left = t->spans;
	enum err e;

	if ((e = pack_trace_begin(k)) != E_OK)
		return e;
	for (uint32_t at = 0; at < t->used; at += wire_get32(t->buf + at + 8)) {
		if (wire_get16(t->buf + at + 12) != EVENT_SPAN)
			continue;
		if ((e = pack_record(k, t->buf + at, t->offset_ns)) != E_OK)
			return e;
		if (--left == 0 || k->used - k->trace_at < CHUNK_TARGET_BYTES)
			continue;
		flags |= BUNDLE_PARTIAL;
		pack_trace_end(k, t, flags);
		if ((e = chunk_add(p, t->probe, class, k, now_real_ns)) != E_OK ||
		    (e = pack_begin(k, &t->probe->dict)) != E_OK ||
		    (e = pack_trace_begin(k)) != E_OK)
			return e;
	}
	pack_trace_end(k, t, flags | (t->plan == PLAN_ALL ? BUNDLE_LAST : 0));
	return E_OK;
}

static enum err
emit_class(struct processor *p, struct probe *probe, enum chunk_class class, uint64_t now_real_ns)
{
	struct pack k;
	enum err e = pack_begin(&k, &probe->dict);

	for (struct trace *t = probe->plan_head[class]; e == E_OK && t != NULL; t = t->plan_next) {
		e = emit_trace(p, t, class, &k, now_real_ns);
		if (e != E_OK || t->plan_next == NULL ||
		    k.used + t->plan_next->used <= CHUNK_TARGET_BYTES)
			continue;
		e = chunk_add(p, probe, class, &k, now_real_ns);
		if (e == E_OK)
			e = pack_begin(&k, &probe->dict);
	}
	if (e == E_OK)
		e = chunk_add(p, probe, class, &k, now_real_ns);
	pack_abandon(&k);
	return e;
}

enum err
emit_chunks(struct processor *p, struct probe *probe, uint64_t now_real_ns)
{
	enum err e = E_OK;

	for (int c = 0; c <= CHUNK_ERROR && e == E_OK; c++)
		if (probe->plan_head[c] != NULL)
			e = emit_class(p, probe, (enum chunk_class)c, now_real_ns);
	return e;
}
