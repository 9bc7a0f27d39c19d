/*
 * probes.c - who speaks: one object for each probe row, with its strings, its
 * sampling and its open traces.  Pipeline thread.  Lives until the probe is
 * gone and nothing of it is held.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"

struct probe *
probe_find(struct processor *p, int64_t id)
{
	struct probe *probe = p->probes;

	while (probe != NULL && probe->id != id)
		probe = probe->next;
	return probe;
}

void
probe_free(struct probe *probe)
{
	dict_fini(&probe->dict);
	sampler_free(probe->sampler);
	hooks_free(probe->hooks);
	free(probe->segments);
	free(probe);
}

void
probes_forget(struct processor *p)
{
	for (struct probe **at = &p->probes, *probe; (probe = *at) != NULL;) {
		if (!probe->gone || probe->traces.next != &probe->traces ||
		    probe->segment_count > 0) {
			at = &probe->next;
			continue;
		}
		*at = probe->next;
		probe_free(probe);
	}
}

/* The probe's word for a key, else ours. */
static const char *
attr_or(const uint8_t *attrs, size_t n, const char *key, char *buf, size_t cap, const char *ours)
{
	return n > 0 && wire_attr_find(attrs, n, key, buf, cap) ? buf : ours;
}

static enum err
make_sampler(struct processor *p, struct probe *probe, const uint8_t *attrs, size_t n)
{
	char service[256], env[256], rate[64], rules[FRAME_ATTRS_MAX_BYTES], limit[64], *end;
	struct sampler_options o = { .service = attr_or(attrs, n, "service", service,
					 sizeof service, p->o.service),
		.env = attr_or(attrs, n, "env", env, sizeof env, p->o.env),
		.sample_rate =
		    attr_or(attrs, n, "sample_rate", rate, sizeof rate, p->o.sample_rate),
		.sampling_rules =
		    attr_or(attrs, n, "sampling_rules", rules, sizeof rules, p->o.sampling_rules),
		.rate_limit = p->o.rate_limit };
	const char *text = attr_or(attrs, n, "rate_limit", limit, sizeof limit, "");
	double value = strtod(text, &end);
	struct sampler *sampler;
	enum err e;

	if (end != text && *end == '\0')
		o.rate_limit = value;
	e = sampler_new(&o, &sampler, p->stats.last_problem, sizeof p->stats.last_problem);
	if (e != E_OK)
		return e;
	sampler_free(probe->sampler);
	probe->sampler = sampler;
	probe->attrs_bytes = (uint32_t)n;
	probe->attrs_crc = wire_crc32c(0, attrs, n);
	return E_OK;
}

enum err
probe_get(struct processor *p, int64_t id, struct probe **out)
{
	struct probe *probe = probe_find(p, id);
	enum err e;

	if (probe == NULL) {
		if ((probe = calloc(1, sizeof *probe)) == NULL)
			return E_NOMEM;
		probe->id = id;
		link_init(&probe->traces);
		if ((e = make_sampler(p, probe, (const uint8_t *)"", 0)) != E_OK) {
			probe_free(probe);
			return e;
		}
		probe->next = p->probes;
		p->probes = probe;
	}
	*out = probe;
	return E_OK;
}

enum err
processor_probe(struct processor *p, const struct probe_row *row)
{
	struct probe *probe;
	enum err e = probe_get(p, row->id, &probe);

	if (e != E_OK)
		return e;
	probe->pid = row->pid;
	probe->start_ticks = row->start_ticks;
	if (row->mono_ns > probe->end_mono_ns)
		probe->end_mono_ns = row->mono_ns;
	/* The same identity again keeps the limiter's memory. */
	if (probe->attrs_bytes == row->attrs_bytes &&
	    probe->attrs_crc == wire_crc32c(0, row->attrs, row->attrs_bytes))
		return E_OK;
	return make_sampler(p, probe, row->attrs, row->attrs_bytes);
}

enum err
processor_probe_gone(struct processor *p, int64_t id)
{
	struct probe *probe = probe_find(p, id);
	enum err e;

	if (probe == NULL)
		return E_OK;
	if (p->planned)
		return E_STATE;
	e = lost_close(p, probe);
	probe->gone |= e == E_OK;
	return e;
}

enum err
probe_learn(struct probe *probe, const uint8_t *dict, size_t n)
{
	struct dict *d = &probe->dict;
	enum err e = dict_learn(d, dict, n);

	if (e != E_FULL)
		return e;
	dict_begin(d);
	for (struct link *l = probe->traces.next; l != &probe->traces; l = l->next) {
		struct trace *t = trace_of_mine(l);

		for (uint32_t at = 0; at < t->used; at += wire_get32(t->buf + at + 8))
			dict_mark(d, t->buf + at, wire_get32(t->buf + at + 8));
	}
	if ((e = dict_keep_marked(d)) != E_OK)
		return e;
	e = dict_learn(d, dict, n);
	return e == E_FULL ? E_INVAL : e;
}
