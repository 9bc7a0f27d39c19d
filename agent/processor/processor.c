/*
 * processor.c - the object, and what the views see of it.  Pipeline thread.
 * Contract: agent/core/process.h.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"

static const char *
own(struct processor *p, size_t i, const char *s)
{
	p->texts[i] = strdup(s != NULL ? s : "");
	return p->texts[i];
}

static void
set_options(struct processor *p, const struct processor_options *o)
{
	p->o = *o;
	p->o.service = own(p, 0, o->service);
	p->o.env = own(p, 1, o->env);
	p->o.version = own(p, 2, o->version);
	p->o.hostname = own(p, 3, o->hostname);
	p->o.sample_rate = own(p, 4, o->sample_rate);
	p->o.sampling_rules = own(p, 5, o->sampling_rules);
	if (p->o.memory_cap_bytes == 0)
		p->o.memory_cap_bytes = 4u << 20;
	if (p->o.disk_cap_bytes == 0)
		p->o.disk_cap_bytes = 16u << 20;
	if (p->o.partial_after_ms == 0)
		p->o.partial_after_ms = 30000;
	if (p->o.partial_spans == 0)
		p->o.partial_spans = 300;
}

enum err
processor_new(const struct processor_options *o, struct processor **out)
{
	struct processor *p = calloc(1, sizeof *p);
	bool ok = true;

	if (p == NULL)
		return E_NOMEM;
	link_init(&p->age);
	p->touched_tail = &p->touched;
	p->stamp = 1;
	set_options(p, o);
	for (size_t i = 0; i < OPTION_TEXTS; i++)
		ok &= p->texts[i] != NULL;
	p->decided = calloc(DECIDED_SETS * DECIDED_WAYS, sizeof *p->decided);
	if (!ok || p->decided == NULL || rates_new(&p->rates) != E_OK) {
		processor_free(p);
		return E_NOMEM;
	}
	*out = p;
	return E_OK;
}

static void
forget_all(struct processor *p)
{
	processor_abort(p);
	while (p->age.next != &p->age)
		trace_free(p, trace_of_age(p->age.next));
	for (struct probe *probe = p->probes, *next; probe != NULL; probe = next) {
		next = probe->next;
		probe_free(probe);
	}
	p->probes = NULL;
	p->touched = NULL;
	p->touched_tail = &p->touched;
}

void
processor_reset(struct processor *p)
{
	forget_all(p);
	memset(p->decided, 0, DECIDED_SETS * DECIDED_WAYS * sizeof *p->decided);
	p->step.sampled_out = p->step.received = p->step.repeats = 0;
	memset(p->step.dropped, 0, sizeof p->step.dropped);
}

void
processor_free(struct processor *p)
{
	if (p == NULL)
		return;
	forget_all(p);
	for (size_t i = 0; i < OPTION_TEXTS; i++)
		free(p->texts[i]);
	rates_free(p->rates);
	free(p->step.chunks);
	free(p->step.segments);
	free(p->step.dead_segments);
	free(p->decided);
	free(p->slots);
	free(p);
}

enum err
processor_agent_rates(struct processor *p, const char *json, size_t n)
{
	return rates_parse(p->rates, json, n);
}

void
processor_stats(const struct processor *p, struct processor_stats *out)
{
	*out = p->stats;
	out->traces_now = p->trace_count;
	out->memory_now = p->memory_bytes;
}

uint64_t
processor_open_spans(const struct processor *p)
{
	return p->stats.spans_now;
}

void
processor_open_traces(struct processor *p, processor_open_fn fn, void *ctx)
{
	for (struct link *l = p->age.next; l != &p->age; l = l->next) {
		struct trace *t = trace_of_age(l);
		struct wire_trace w = { .trace_hi = t->hi,
			.trace_lo = t->lo,
			.offset_ns = t->offset_ns,
			.records = t->buf,
			.records_bytes = t->used,
			.record_count = t->records,
			.priority = WIRE_PRIORITY_NONE,
			.mechanism = WIRE_PRIORITY_NONE };
		struct dict *d = &t->probe->dict;
		uint8_t *dict;

		dict_begin(d);
		for (uint32_t at = 0; at < t->used; at += wire_get32(t->buf + at + 8))
			dict_mark(d, t->buf + at, wire_get32(t->buf + at + 8));
		if (d->failed || (dict = malloc(d->marked_bytes + 1)) == NULL)
			return;
		if (t->flags & TRACE_DECIDED) {
			w.priority = t->decision.priority;
			w.mechanism = t->decision.mechanism;
		}
		fn(ctx, &w, dict, dict_put(d, dict), t->probe->id);
		free(dict);
	}
}
