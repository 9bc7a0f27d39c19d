/*
 * segments.c - what stays open, on disk.  Pipeline thread.
 *
 * A step adds one segment with what arrived since the last one, for each probe
 * that needs it.  When a trace leaves that older segments hold, one new segment
 * with everything that stays replaces all of that probe's: so the spans of the
 * segment rows are exactly those that are held, and the ledger adds up at every
 * commit.  Restoring all segments in the order of their ids gives every trace
 * the same bytes in the same order.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"

/* What its records may not tell any more when a part of them has left. */
static uint16_t
flags_of(const struct trace *t)
{
	uint16_t flags = t->plan == PLAN_PART || (t->flags & TRACE_PARTIAL) ? BUNDLE_PARTIAL : 0;

	if (t->flags & TRACE_ROOT_DONE)
		flags |= SEGMENT_ROOT_DONE;
	if (t->flags & TRACE_FAILED)
		flags |= SEGMENT_FAILED;
	if (t->flags & TRACE_JOB_DONE)
		flags |= SEGMENT_JOB_DONE;
	if ((t->flags & TRACE_DECIDED) && t->decision.inherited)
		flags |= SEGMENT_INHERITED;
	return flags;
}

/* A trace's bytes from `from` on; of one that leaves in part only what stays open. */
static enum err
pack_rest(struct pack *k, struct trace *t, uint32_t from)
{
	bool part = t->plan == PLAN_PART;
	enum err e = pack_trace_begin(k);

	for (uint32_t at = part ? 0 : from; e == E_OK && at < t->used;
	     at += wire_get32(t->buf + at + 8))
		if (!part || trace_open_at(t, at))
			e = pack_record(k, t->buf + at, t->offset_ns);
	if (e == E_OK)
		pack_trace_end(k, t, flags_of(t));
	return e;
}

static bool
has_news(const struct trace *t)
{
	return t->plan == PLAN_PART || t->used > t->saved ||
	       (t->flags & (TRACE_DECIDED | TRACE_DECISION_SAVED)) == TRACE_DECIDED;
}

static enum err
pack_probe(struct pack *k, struct processor *p, struct probe *probe)
{
	enum err e = E_OK;

	if (probe->rewrite) {
		for (struct link *l = probe->traces.next; e == E_OK && l != &probe->traces;
		     l = l->next)
			if (trace_of_mine(l)->plan != PLAN_ALL)
				e = pack_rest(k, trace_of_mine(l), 0);
		return e;
	}
	for (struct trace *t = p->touched; e == E_OK && t != NULL; t = t->touched_next)
		if (t->probe == probe && t->plan != PLAN_ALL && has_news(t))
			e = pack_rest(k, t, t->saved);
	return e;
}

static enum err
reserve(struct processor *p, struct probe *probe)
{
	struct step *s = &p->step;

	if (s->segment_count == p->segment_cap) {
		size_t cap = p->segment_cap > 0 ? 2 * p->segment_cap : 4;
		struct segment_row *rows = realloc(s->segments, cap * sizeof *rows);

		if (rows == NULL)
			return E_NOMEM;
		s->segments = rows;
		p->segment_cap = cap;
	}
	if (s->dead_count + probe->segment_count > p->dead_cap) {
		size_t cap = 2 * (s->dead_count + probe->segment_count);
		int64_t *ids = realloc(s->dead_segments, cap * sizeof *ids);

		if (ids == NULL)
			return E_NOMEM;
		s->dead_segments = ids;
		p->dead_cap = cap;
	}
	if (probe->segment_count == probe->segment_cap) {
		size_t cap = probe->segment_cap > 0 ? 2 * probe->segment_cap : 8;
		int64_t *ids = realloc(probe->segments, cap * sizeof *ids);

		if (ids == NULL)
			return E_NOMEM;
		probe->segments = ids;
		probe->segment_cap = cap;
	}
	return E_OK;
}

enum err
segment_emit(struct processor *p, struct probe *probe)
{
	struct step *s = &p->step;
	struct segment_row row = { .probe = probe->id };
	struct pack k;
	enum err e;

	if (!probe->save && !probe->rewrite)
		return E_OK;
	if ((e = reserve(p, probe)) != E_OK || (e = pack_begin(&k, &probe->dict)) != E_OK)
		return e;
	e = pack_probe(&k, p, probe);
	if (e == E_OK && k.traces > 0) {
		row.spans = k.spans;
		e = pack_end(&k, &row.blob, &row.blob_bytes);
		if (e == E_OK) {
			s->segments[s->segment_count++] = row;
			probe->new_segment = s->segment_count;
		}
	}
	pack_abandon(&k);
	if (e == E_OK && probe->rewrite && probe->segment_count > 0) {
		memcpy(s->dead_segments + s->dead_count, probe->segments,
		    probe->segment_count * sizeof probe->segments[0]);
		s->dead_count += probe->segment_count;
		p->stats.rewrites++;
	}
	return e;
}

enum err
segment_add(struct probe *probe, int64_t id)
{
	if (probe->segment_count == probe->segment_cap) {
		size_t cap = probe->segment_cap > 0 ? 2 * probe->segment_cap : 8;
		int64_t *ids = realloc(probe->segments, cap * sizeof *ids);

		if (ids == NULL)
			return E_NOMEM;
		probe->segments = ids;
		probe->segment_cap = cap;
	}
	probe->segments[probe->segment_count++] = id;
	return E_OK;
}

void
segment_commit(struct processor *p, struct probe *probe)
{
	if (probe->rewrite)
		probe->segment_count = 0;
	if (probe->new_segment > 0) {
		int64_t id = p->step.segments[probe->new_segment - 1].id;

		probe->segments[probe->segment_count++] = id; /* reserved in segment_emit */
		probe->last_segment = id;
	}
}
