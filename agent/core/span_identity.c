/*
 * span_identity.c - who recorded a bundle: service, env, version, tags, host,
 * runtime, from the probe's hello, digested once for all its spans.  Immutable
 * after span_identity_new.
 */
#include <stdlib.h>

#include "agent/core/normalise.h"
#include "agent/core/span_internal.h"

static const char *const own_names[OWN_COUNT] = {
	[OWN_PRIORITY] = "_sampling_priority_v1",
	[OWN_DM] = "_dd.p.dm",
	[OWN_TID] = "_dd.p.tid",
	[OWN_RULE_PSR] = "_dd.rule_psr",
	[OWN_LIMIT_PSR] = "_dd.limit_psr",
	[OWN_AGENT_PSR] = "_dd.agent_psr",
	[OWN_TOP_LEVEL] = "_dd.top_level",
	[OWN_MEASURED] = "_dd.measured",
	[OWN_BASE_SERVICE] = "_dd.base_service",
	[OWN_PARTIAL] = "_dd.py.partial_flush",
	[OWN_UNFINISHED] = "comfymon.unfinished",
	[OWN_KEPT] = "comfymon.kept",
	[OWN_HOSTNAME] = "_dd.hostname",
};

/* What hello said, as long as the digest is being made. */
struct draft {
	struct span_identity *id;
	char scratch[NORM_SCRATCH_BYTES];
	char service[256], env[256], version[256], hostname[256], runtime[64];
	char tags[FRAME_ATTRS_MAX_BYTES], mapping[FRAME_ATTRS_MAX_BYTES];
};

static bool
common_has(const struct span_identity *id, const char *key, size_t n)
{
	for (uint32_t i = 0; i < id->common_count; i++)
		if (text_is(id->common[i].tag.key, key, n))
			return true;
	return false;
}

/* Add a tag unless it is there or there is no room; false: no memory. */
static bool
common_add(struct draft *d, const char *key, size_t key_bytes, const char *value,
    size_t value_bytes, enum common_where where)
{
	struct span_identity *id = d->id;
	struct common_tag *c = &id->common[id->common_count];
	struct norm_text k = norm_meta_key(key, key_bytes, d->scratch);

	if (id->common_count == COMMON_MAX || k.n == 0 || common_has(id, k.s, k.n))
		return true;
	memset(c, 0, sizeof *c);
	if (!text_put(&id->arena, k.s, k.n, &c->tag.key))
		return false;

	struct norm_text v =
	    norm_meta_value(c->tag.key.s, c->tag.key.n, value, value_bytes, d->scratch);

	if (!text_put(&id->arena, v.s, v.n, &c->tag.value))
		return false;
	c->where = where;
	id->common_count++;
	return true;
}

/* The next "key:value" of a list; separators are commas, or blanks where there is no comma. */
static bool
pair_next(const char **at, bool commas, struct norm_text *key, struct norm_text *value)
{
	const char *seps = commas ? "," : " \t", *p = *at;

	for (;;) {
		p += strspn(p, ", \t");
		if (*p == '\0')
			return false;

		size_t n = strcspn(p, seps);
		const char *colon = memchr(p, ':', n);
		size_t end = n;

		while (end > 0 && (p[end - 1] == ' ' || p[end - 1] == '\t'))
			end--;
		*key = (struct norm_text){ p, colon != NULL ? (size_t)(colon - p) : end };
		*value = (struct norm_text){ p + end, 0 };
		if (colon != NULL && colon + 1 <= p + end)
			*value = (struct norm_text){ colon + 1, (size_t)(p + end - colon - 1) };
		p += n;
		*at = p;
		if (key->n > 0)
			return true;
	}
}

static void
take_if_empty(char *to, size_t cap, struct norm_text v)
{
	if (to[0] != '\0' || v.n == 0)
		return;
	if (v.n >= cap)
		v.n = cap - 1;
	memcpy(to, v.s, v.n);
	to[v.n] = '\0';
}

static bool
key_is(struct norm_text k, const char *name)
{
	return k.n == strlen(name) && memcmp(k.s, name, k.n) == 0;
}

/* DD_TAGS: service, env and version there are what those variables would be; the rest are tags. */
static bool
global_tags(struct draft *d)
{
	struct norm_text k, v;
	const char *at = d->tags;
	bool commas = strchr(d->tags, ',') != NULL;

	while (pair_next(&at, commas, &k, &v)) {
		if (key_is(k, "service"))
			take_if_empty(d->service, sizeof d->service, v);
		else if (key_is(k, "env"))
			take_if_empty(d->env, sizeof d->env, v);
		else if (key_is(k, "version"))
			take_if_empty(d->version, sizeof d->version, v);
		else if (!common_add(d, k.s, k.n, v.s, v.n, ON_EVERY))
			return false;
	}
	return true;
}

static bool
service_mapping(struct draft *d)
{
	struct span_identity *id = d->id;
	struct norm_text from, to;
	const char *at = d->mapping;
	bool commas = strchr(d->mapping, ',') != NULL;

	while (id->mapping_count < MAPPING_MAX && pair_next(&at, commas, &from, &to)) {
		struct mapping *m = &id->mapping[id->mapping_count];

		if (to.n == 0)
			continue;
		m->from = arena_take(&id->arena, from.n);
		m->to = arena_take(&id->arena, to.n);
		if (m->from == NULL || m->to == NULL)
			return false;
		memcpy(m->from, from.s, from.n);
		memcpy(m->to, to.s, to.n);
		m->from_bytes = from.n;
		m->to_bytes = to.n;
		id->mapping_count++;
	}
	return true;
}

struct norm_text
identity_service(const struct span_identity *id, const char *s, size_t n, char *scratch)
{
	for (uint32_t i = 0; i < id->mapping_count; i++) {
		const struct mapping *m = &id->mapping[i];

		if (m->from_bytes == n && memcmp(m->from, s, n) == 0) {
			s = m->to;
			n = m->to_bytes;
			break;
		}
	}
	return norm_service(s, n, id->language, scratch);
}

static bool
own_texts(struct span_identity *id)
{
	for (int i = 0; i < OWN_COUNT; i++)
		if (!text_put(&id->arena, own_names[i], strlen(own_names[i]), &id->own[i]))
			return false;
	return text_put(&id->arena, "true", 4, &id->text_true) &&
	       text_put(&id->arena, "failure", 7, &id->text_failure);
}

static void
attr_or(const struct probe_row *p, const char *key, char *to, size_t cap, const char *other)
{
	if (p->attrs_bytes > FRAME_ATTRS_MAX_BYTES ||
	    !wire_attr_find(p->attrs, p->attrs_bytes, key, to, cap))
		to[0] = '\0';
	if (other != NULL)
		take_if_empty(to, cap, (struct norm_text){ other, strlen(other) });
}

static bool
process_id_tag(struct span_identity *id)
{
	struct common_tag *c = &id->common[id->common_count];

	if (id->pid == 0 || id->common_count == COMMON_MAX)
		return true;
	memset(c, 0, sizeof *c);
	c->tag.metric = true;
	c->tag.number = (double)id->pid;
	id->common_count++;
	return text_put(&id->arena, "process_id", 10, &c->tag.key);
}

static bool
digest(struct draft *d, const struct probe_row *p, const struct span_defaults *def)
{
	struct span_identity *id = d->id;

	attr_or(p, "service", d->service, sizeof d->service, NULL);
	attr_or(p, "env", d->env, sizeof d->env, NULL);
	attr_or(p, "version", d->version, sizeof d->version, NULL);
	attr_or(p, "hostname", d->hostname, sizeof d->hostname, def->hostname);
	attr_or(p, "runtime_id", d->runtime, sizeof d->runtime, NULL);
	attr_or(p, "language", id->language, sizeof id->language, "python");
	attr_or(p, "tags", d->tags, sizeof d->tags, def->tags);
	attr_or(p, "service_mapping", d->mapping, sizeof d->mapping, def->service_mapping);

	/* Ours first: a global tag of the same name does not replace them. */
	if (!own_texts(id) || !process_id_tag(id) ||
	    !common_add(d, "language", 8, id->language, strlen(id->language), ON_EVERY) ||
	    (d->runtime[0] != '\0' &&
		!common_add(d, "runtime-id", 10, d->runtime, strlen(d->runtime), ON_EVERY)) ||
	    !global_tags(d) || !service_mapping(d))
		return false;
	if (def->service != NULL)
		take_if_empty(d->service, sizeof d->service,
		    (struct norm_text){ def->service, strlen(def->service) });
	if (def->env != NULL)
		take_if_empty(
		    d->env, sizeof d->env, (struct norm_text){ def->env, strlen(def->env) });
	if (def->version != NULL)
		take_if_empty(d->version, sizeof d->version,
		    (struct norm_text){ def->version, strlen(def->version) });

	struct norm_text t = norm_tag_value(d->env, strlen(d->env), d->scratch);

	if (t.n > 0) {
		char env[4 * NORM_TAG_MAX + 8];

		memcpy(env, t.s, t.n);
		if (!common_add(d, "env", 3, env, t.n, ON_EVERY))
			return false;
	}
	if (d->version[0] != '\0' &&
	    !common_add(d, "version", 7, d->version, strlen(d->version), ON_MAIN_SERVICE))
		return false;
	t = norm_utf8(d->hostname, strlen(d->hostname), sizeof d->hostname, d->scratch);
	if (!text_put(&id->arena, t.s, t.n, &id->hostname))
		return false;
	t = identity_service(id, d->service, strlen(d->service), d->scratch);
	return text_put(&id->arena, t.s, t.n, &id->service);
}

enum err
span_identity_new(
    const struct probe_row *probe, const struct span_defaults *def, struct span_identity **out)
{
	struct span_identity *id = calloc(1, sizeof *id);
	struct draft *d = calloc(1, sizeof *d);
	enum err e = E_NOMEM;

	if (id == NULL || d == NULL)
		goto out;
	d->id = id;
	id->probe = probe->id;
	id->pid = probe->pid;
	id->real_ns = probe->real_ns;
	id->attrs_bytes = probe->attrs_bytes <= FRAME_ATTRS_MAX_BYTES ? probe->attrs_bytes : 0;
	id->attrs = arena_take(&id->arena, id->attrs_bytes + 1);
	if (id->attrs == NULL)
		goto out;
	memcpy(id->attrs, probe->attrs, id->attrs_bytes);
	if (!digest(d, probe, def))
		goto out;
	*out = id;
	id = NULL;
	e = E_OK;
out:
	span_identity_free(id);
	free(d);
	return e;
}

bool
span_identity_is(const struct span_identity *id, const struct probe_row *p)
{
	return id->probe == p->id && id->pid == p->pid && id->attrs_bytes == p->attrs_bytes &&
	       memcmp(id->attrs, p->attrs, p->attrs_bytes) == 0;
}

void
span_identity_free(struct span_identity *id)
{
	if (id == NULL)
		return;
	arena_fini(&id->arena);
	free(id);
}
