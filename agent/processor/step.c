/*
 * step.c - one transaction of the processor: plan it, hand it out, and apply or
 * forget it when its fate is known.  Pipeline thread.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"

/* The blobs of a step that has ended. */
static void
release(struct processor *p)
{
	struct step *s = &p->step;

	for (size_t i = 0; i < s->chunk_count; i++)
		free(s->chunks[i].blob);
	for (size_t i = 0; i < s->segment_count; i++)
		free(s->segments[i].blob);
	s->chunk_count = s->segment_count = s->dead_count = 0;
	p->planned = false;
}

void
processor_abort(struct processor *p)
{
	if (!p->planned)
		return;
	plan_clear(p);
	p->step.sampled_out = 0;
	release(p);
}

enum err
processor_step(
    struct processor *p, uint64_t now_mono_ns, uint64_t now_real_ns, const struct step **out)
{
	enum err e = E_OK;

	processor_abort(p);
	p->planned = true;
	plan_step(p, now_mono_ns);
	for (struct probe *probe = p->probes; e == E_OK && probe != NULL; probe = probe->next) {
		e = emit_chunks(p, probe, now_real_ns);
		if (e == E_OK)
			e = segment_emit(p, probe);
	}
	if (e != E_OK) {
		processor_abort(p);
		return e;
	}
	*out = &p->step;
	return E_OK;
}

static void
apply(struct processor *p, struct trace *t)
{
	switch ((enum plan)t->plan) {
	case PLAN_ALL:
		p->stats.kept_failures += t->decision.kept_failure;
		decided_put(p, t);
		trace_free(p, t);
		return;
	case PLAN_PART:
		trace_keep_open(p, t);
		break;
	case PLAN_NONE:
		break;
	}
	t->plan = PLAN_NONE;
	t->touched = false;
	t->saved = t->used;
	if (t->flags & TRACE_DECIDED)
		t->flags |= TRACE_DECISION_SAVED;
	if (t->lingers)
		trace_touch(p, t);
}

void
processor_commit(struct processor *p)
{
	struct trace *touched = p->touched;

	if (!p->planned)
		return;
	for (struct probe *probe = p->probes; probe != NULL; probe = probe->next)
		segment_commit(p, probe);
	p->touched = NULL;
	p->touched_tail = &p->touched;
	for (struct trace *t = touched, *next; t != NULL; t = next) {
		next = t->touched_next;
		apply(p, t);
	}
	release(p);
	p->step.sampled_out = p->step.received = p->step.repeats = 0;
	memset(p->step.dropped, 0, sizeof p->step.dropped);
	probes_forget(p);
}
