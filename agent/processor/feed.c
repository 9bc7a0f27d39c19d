/*
 * feed.c - what comes in: batches, and at the start the segments of an earlier
 * run.  Pipeline thread.  Both take the same way through feed_record, so both
 * end in the same state.
 */
#include <stdio.h>

#include "agent/processor/internal.h"

enum err
feed_record(struct processor *p, struct probe *probe, const uint8_t *rec, const struct wire_span *s,
    int64_t offset_ns, const struct trace **fresh)
{
	struct trace *t = trace_find(p, probe, s->trace_hi, s->trace_lo);
	enum err e;

	*fresh = NULL;
	if (t == NULL) {
		const struct decision *known = decided_find(p, probe, s->trace_hi, s->trace_lo);

		if ((e = trace_new(p, probe, s->trace_hi, s->trace_lo, &t)) != E_OK)
			return e;
		t->offset_ns = offset_ns;
		if (known != NULL) {
			t->decision = *known;
			t->flags |= TRACE_DECIDED | TRACE_PARTIAL | TRACE_ROOT_DONE;
		}
	}
	trace_touch(p, t);
	e = trace_add(p, t, rec, s);
	if (e == E_OK)
		*fresh = t;
	if (e != E_EXISTS)
		return e;
	if (wire_get16(rec + 12) == EVENT_SPAN) {
		p->stats.repeats++;
		p->step.repeats++;
	}
	return E_OK;
}

const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	return dict_get(s->strings, id, n);
}

/* A record that is new: whoever follows the jobs hears of it. */
static void
tell_seen(const struct processor *p, const struct probe *probe, enum span_kind kind,
    const struct wire_span *s, bool open, int64_t offset_ns)
{
	if (kind == SPAN_WORKFLOW)
		peak_job(p, probe, s, open);
	if (p->o.seen != NULL)
		p->o.seen(p->o.seen_ctx, &(struct span_seen){ .probe = probe->id,
					     .pid = probe->pid,
					     .start_ticks = probe->start_ticks,
					     .kind = kind,
					     .open = open,
					     .offset_ns = offset_ns,
					     .span = s,
					     .strings = &probe->dict });
}

void
processor_open_jobs(struct processor *p, processor_seen_fn fn, void *ctx)
{
	for (struct link *l = p->age.next; l != &p->age; l = l->next) {
		const struct trace *t = trace_of_age(l);

		for (uint32_t at = 0, n; at < t->used; at += n) {
			struct span_seen seen = { .probe = t->probe->id,
				.pid = t->probe->pid,
				.start_ticks = t->probe->start_ticks,
				.open = true,
				.offset_ns = t->offset_ns,
				.strings = &t->probe->dict };
			struct wire_error err;
			struct wire_span s;

			n = wire_get32(t->buf + at + 8);
			if (!trace_open_at(t, at) ||
			    wire_span_get(t->buf + at + RECORD_HEADER_BYTES,
				n - RECORD_HEADER_BYTES, &s, &err) != 0)
				continue;
			seen.span = &s;
			seen.kind = dict_kind(&t->probe->dict, s.name);
			if (seen.kind != SPAN_PLAIN)
				fn(ctx, &seen);
		}
	}
}

static enum err
feed_batch(struct processor *p, struct probe *probe, const struct wire_batch *b)
{
	int64_t offset_ns = (int64_t)(b->real_ns - b->mono_ns);
	uint8_t room[FRAME_RECORD_MAX_BYTES];
	struct wire_error err;
	struct wire_span s;

	for (uint32_t at = 0, length; at < b->records_bytes; at += length) {
		const uint8_t *rec = b->records + at;
		uint16_t type = wire_get16(rec + 12);
		const struct trace *fresh = NULL;
		enum span_kind kind = SPAN_PLAIN;
		enum err e = E_OK;

		length = wire_get32(rec + 8);
		if (type == EVENT_HOOK)
			hooks_take(probe, rec + RECORD_HEADER_BYTES, length - RECORD_HEADER_BYTES);
		else if (type != EVENT_SPAN && type != EVENT_OPEN)
			p->stats.unknown_records += event_find(type) == NULL;
		else if (wire_span_get(rec + RECORD_HEADER_BYTES, length - RECORD_HEADER_BYTES, &s,
			     &err) == 0) {
			kind = dict_kind(&probe->dict, s.name);
			if (type == EVENT_SPAN && (kind == SPAN_WORKFLOW || kind == SPAN_NODE))
				rec = peak_add(p, probe, rec, &s, room);
			e = feed_record(p, probe, rec, &s, offset_ns, &fresh);
		}
		if (e != E_OK)
			return e;
		if (fresh != NULL && kind != SPAN_PLAIN)
			tell_seen(p, probe, kind, &s, type == EVENT_OPEN, fresh->offset_ns);
	}
	return E_OK;
}

enum err
processor_feed(struct processor *p, const struct raw_row *raw)
{
	struct wire_error err;
	struct wire_batch b;
	struct probe *probe;
	enum err e;

	if (p->planned)
		return E_STATE;
	if ((e = probe_get(p, raw->probe, &probe)) != E_OK)
		return e;
	if ((raw->checked ? wire_batch_head : wire_batch_check)(
		raw->blob, raw->blob_bytes, &b, &err) != 0) {
		e = E_INVAL;
		snprintf(p->stats.last_problem, sizeof p->stats.last_problem,
		    "batch: %s at byte %zu", err.what, err.at);
	} else if (dict_check(&probe->dict, b.dict, b.dict_bytes) != E_OK) {
		e = E_INVAL;
		snprintf(p->stats.last_problem, sizeof p->stats.last_problem,
		    "batch: a string id changed its string or is too high");
	} else {
		e = probe_learn(probe, b.dict, b.dict_bytes);
	}
	if (e != E_OK) {
		p->stats.malformed_batches += e == E_INVAL;
		return e;
	}
	if (b.mono_ns > probe->end_mono_ns)
		probe->end_mono_ns = b.mono_ns;
	return feed_batch(p, probe, &b);
}

/* What the records that have left said about their trace. */
static void
restore_flags(struct trace *t, const struct wire_trace *w)
{
	t->saved = t->used;
	if (w->flags & BUNDLE_PARTIAL)
		t->flags |= TRACE_PARTIAL;
	if (w->flags & SEGMENT_ROOT_DONE)
		t->flags |= TRACE_ROOT_DONE;
	if (w->flags & SEGMENT_FAILED)
		t->flags |= TRACE_FAILED;
	if (w->flags & SEGMENT_JOB_DONE)
		t->flags |= TRACE_JOB_DONE;
	if (w->priority == WIRE_PRIORITY_NONE)
		return;
	t->flags |= TRACE_DECIDED | TRACE_DECISION_SAVED;
	t->decision = (struct decision){ .priority = w->priority,
		.mechanism = w->mechanism,
		.inherited = (w->flags & SEGMENT_INHERITED) != 0,
		.kept_failure = (w->flags & BUNDLE_KEPT_FAILURE) != 0,
		.has = w->has,
		.rule_psr = w->rule_psr,
		.limit_psr = w->limit_psr,
		.agent_psr = w->agent_psr };
}

static enum err
restore_trace(struct processor *p, struct probe *probe, const struct wire_trace *w)
{
	struct wire_error err;
	struct wire_span s;
	const struct trace *fresh;
	struct trace *t;
	enum err e = E_OK;

	for (uint32_t at = 0; at < w->records_bytes && e == E_OK;
	     at += wire_get32(w->records + at + 8)) {
		const uint8_t *rec = w->records + at;
		uint16_t type = wire_get16(rec + 12);

		if ((type == EVENT_SPAN || type == EVENT_OPEN) &&
		    wire_span_get(rec + RECORD_HEADER_BYTES,
			wire_get32(rec + 8) - RECORD_HEADER_BYTES, &s, &err) == 0) {
			e = feed_record(p, probe, rec, &s, w->offset_ns, &fresh);
			if (e == E_OK && fresh != NULL &&
			    dict_kind(&probe->dict, s.name) == SPAN_WORKFLOW)
				peak_job(p, probe, &s, type == EVENT_OPEN);
		}
	}
	t = trace_find(p, probe, w->trace_hi, w->trace_lo);
	if (e == E_OK && t != NULL)
		restore_flags(t, w);
	return e;
}

enum err
processor_restore(struct processor *p, const struct segment_row *row)
{
	struct wire_bundle b;
	struct wire_trace w;
	struct wire_error err;
	struct probe *probe;
	size_t at = 0;
	enum err e;
	int rv;

	if (p->planned)
		return E_STATE;
	if ((e = probe_get(p, row->probe, &probe)) != E_OK)
		return e;
	if (row->id <= probe->last_segment)
		return E_OK; /* a walk that began again */
	if (wire_bundle_get(row->blob, row->blob_bytes, &b, &err) != 0 ||
	    dict_check(&probe->dict, b.dict, b.dict_bytes) != E_OK)
		return E_CORRUPT;
	while ((rv = wire_trace_next(&b, &at, &w, &err)) == 1)
		;
	if (rv < 0)
		return E_CORRUPT;
	if ((e = probe_learn(probe, b.dict, b.dict_bytes)) != E_OK)
		return e;
	if ((e = segment_add(probe, row->id)) != E_OK)
		return e;
	probe->last_segment = row->id;
	for (at = 0; e == E_OK && wire_trace_next(&b, &at, &w, &err) == 1;)
		e = restore_trace(p, probe, &w);
	return e;
}
