/*
 * plan.c - which traces leave with the next transaction, whole or in part, and
 * what is decided about them.  Pipeline thread.  A plan changes nothing that a
 * failed transaction would have to undo: decisions stay (they are made once),
 * everything else waits for the commit.
 */
#include <stdio.h>

#include "agent/processor/internal.h"

#define TAGS_MAX 64u

/* The record that speaks for the trace: its local root, else its first. */
static uint32_t
speaker(const struct trace *t)
{
	return t->root != 0 ? t->root - 1 : 0;
}

static struct norm_text
text_of(const struct dict *d, uint32_t id)
{
	uint32_t n;
	const char *s = dict_get(d, id, &n);

	return (struct norm_text){ s, n };
}

static size_t
tags_of(
    const struct dict *d, const struct wire_span *s, struct sample_tag *tags, char numbers[][32])
{
	struct wire_tag_view v;
	uint32_t at = 0;
	size_t n = 0;

	while (n < TAGS_MAX && wire_tag_next(s, &at, &v)) {
		struct norm_text value = { v.text, v.text_bytes };

		if (v.kind == WIRE_TAG_STR) {
			value = text_of(d, v.str);
		} else if (v.kind != WIRE_TAG_TEXT) {
			value.s = numbers[n];
			value.n = (size_t)snprintf(numbers[n], 32, "%.17g", v.f64);
		}
		tags[n++] = (struct sample_tag){ text_of(d, v.key), value };
	}
	return n;
}

static void
decide(struct processor *p, struct trace *t)
{
	struct sample_tag tags[TAGS_MAX];
	char numbers[TAGS_MAX][32];
	const struct dict *d = &t->probe->dict;
	const uint8_t *rec = t->buf + speaker(t);
	struct wire_error err;
	struct wire_span s;

	if (t->flags & TRACE_DECIDED) {
		if ((t->flags & TRACE_FAILED) && SAMPLE_REJECTED(&t->decision)) {
			sample_keep_failure(&t->decision);
			t->flags &= (uint16_t)~TRACE_DECISION_SAVED;
		}
		return;
	}
	if (wire_span_get(rec + RECORD_HEADER_BYTES, wire_get32(rec + 8) - RECORD_HEADER_BYTES, &s,
		&err) != 0)
		return;

	struct sample_subject subject = { .trace_lo = t->lo,
		.start_second = (s.start_ns + (uint64_t)t->offset_ns) / 1000000000u,
		.inherited_priority = t->inherited_priority,
		.inherited_mechanism = t->inherited_mechanism,
		.failed = (t->flags & TRACE_FAILED) != 0,
		.service = text_of(d, s.service),
		.name = text_of(d, s.name),
		.resource = text_of(d, s.resource != 0 ? s.resource : s.name),
		.tags = tags };

	if (sampler_reads_tags(t->probe->sampler))
		subject.tag_count = tags_of(d, &s, tags, numbers);
	sample_decide(t->probe->sampler, p->rates, &subject, &t->decision);
	t->flags |= TRACE_DECIDED;
}

/* A rejected trace of a request may still get its job: a moment's patience. */
static bool
lingers(struct trace *t, uint64_t now_ns)
{
	if (!SAMPLE_REJECTED(&t->decision) || !(t->flags & TRACE_OPENED) ||
	    (t->flags & TRACE_JOB_DONE) || t->probe->gone)
		return false;
	if (t->touched_ns == 0)
		t->touched_ns = now_ns;
	return now_ns - t->touched_ns < LINGER_NS;
}

/* Rejected traces are held until they are complete: see DESIGN section 6. */
static enum plan
judge(struct processor *p, struct trace *t, uint64_t now_ns, bool due)
{
	t->lingers = false;
	if ((t->flags & TRACE_ROOT_DONE) && t->opens == 0) {
		decide(p, t);
		t->lingers = lingers(t, now_ns);
		return t->lingers ? PLAN_NONE : PLAN_ALL;
	}
	t->touched_ns = 0;
	if (t->spans == 0 || (!due && t->spans < p->o.partial_spans))
		return PLAN_NONE;
	decide(p, t);
	if (t->opens == 0 && due)
		return PLAN_ALL; /* its root never came */
	if (SAMPLE_REJECTED(&t->decision))
		return PLAN_NONE;
	p->stats.partial_flushes++;
	return t->opens == 0 ? PLAN_ALL : PLAN_PART;
}

static enum chunk_class
class_of(const struct trace *t)
{
	if (SAMPLE_REJECTED(&t->decision))
		return CHUNK_SAMPLED_OUT;
	return t->flags & (TRACE_ERROR | TRACE_FAILED) || t->decision.kept_failure ? CHUNK_ERROR
										   : CHUNK_NORMAL;
}

static void
adopt(struct processor *p, struct trace *t, enum plan plan)
{
	struct probe *probe = t->probe;
	enum chunk_class c;

	t->plan = (uint8_t)plan;
	if (plan == PLAN_NONE) {
		probe->save |= t->used > t->saved ||
			       (t->flags & (TRACE_DECIDED | TRACE_DECISION_SAVED)) == TRACE_DECIDED;
		return;
	}
	probe->rewrite |= t->saved > 0;
	probe->save |= plan == PLAN_PART;
	c = class_of(t);
	if (c == CHUNK_SAMPLED_OUT && !p->o.forward_rejected) {
		p->step.sampled_out += t->spans;
		return;
	}
	t->plan_next = NULL;
	*probe->plan_tail[c] = t;
	probe->plan_tail[c] = &t->plan_next;
}

/* Over the cap the oldest go in parts, rejected ones too. */
static void
shrink(struct processor *p, uint64_t memory)
{
	struct link *l = p->age.next;

	for (; memory > p->o.memory_cap_bytes && l != &p->age; l = l->next) {
		struct trace *t = trace_of_age(l);

		if (t->plan != PLAN_NONE || t->spans == 0)
			continue;
		decide(p, t);
		trace_touch(p, t);
		t->lingers = false;
		adopt(p, t, t->opens == 0 ? PLAN_ALL : PLAN_PART);
		memory -= t->used < memory ? t->used : memory;
		p->stats.cap_flushes++;
	}
}

void
plan_step(struct processor *p, uint64_t now_ns)
{
	uint64_t wait_ns = p->o.partial_after_ms * 1000000u, memory = p->memory_bytes;
	bool soon = false;

	for (struct probe *probe = p->probes; probe != NULL; probe = probe->next) {
		probe->save = false;
		probe->rewrite = probe->segment_count > SEGMENTS_MAX;
		probe->new_segment = 0;
		for (int c = 0; c <= CHUNK_ERROR; c++) {
			probe->plan_head[c] = NULL;
			probe->plan_tail[c] = &probe->plan_head[c];
		}
	}
	/* Due ones join the touched; a new trace's wait begins with its first step. */
	for (struct link *l = p->age.next, *next; l != &p->age; l = next) {
		struct trace *t = trace_of_age(l);

		next = l->next;
		if (t->due_ns == 0 || t->due_ns > now_ns)
			break;
		trace_touch(p, t);
	}
	for (struct trace *t = p->touched; t != NULL; t = t->touched_next) {
		bool due = t->due_ns != 0 && t->due_ns <= now_ns;

		if (t->due_ns == 0 || due) {
			t->due_ns = now_ns + wait_ns;
			link_remove(&t->age);
			link_append(&p->age, &t->age);
		}
		adopt(p, t, judge(p, t, now_ns, due));
		soon |= t->lingers;
		if (t->plan != PLAN_NONE)
			memory -= t->used < memory ? t->used : memory;
	}
	shrink(p, memory);
	p->step.next_ms = 0;
	if (p->age.next != &p->age && trace_of_age(p->age.next)->due_ns > now_ns)
		p->step.next_ms = (trace_of_age(p->age.next)->due_ns - now_ns) / 1000000u + 1;
	if (soon)
		p->step.next_ms = 250;
}

void
plan_clear(struct processor *p)
{
	for (struct trace *t = p->touched; t != NULL; t = t->touched_next)
		t->plan = PLAN_NONE;
}
