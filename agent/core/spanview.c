/*
 * spanview.c - from a bundle's records to spans as Datadog shall see them.  One
 * owner each, no locks.  Always true: input was checked by wire_bundle_get and
 * wire_trace_next before a byte of it is used, so walking tags needs no checks;
 * ids that the dictionary does not have read as the empty string.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/normalise.h"
#include "agent/core/span_internal.h"
#include "schema/tables.h"

enum { HAVE_KEY = 1, HAVE_SERVICE = 2, HAVE_NAME = 4, HAVE_TYPE = 8 };
enum key_role { ROLE_PLAIN, ROLE_STATUS, ROLE_SERVICE, ROLE_ENV, ROLE_OURS };

/* One string of the dictionary and what it becomes in each place where it is used. */
struct entry {
	uint32_t id, stamp, slot; /* stamp: the last span that had it as a key, and where */
	uint8_t have, role;
	bool main_service;
	uint16_t common; /* index + 1 of the common tag with this key */
	struct span_text raw, key, service, name, type;
};

struct service_of {
	uint64_t span_id;
	uint32_t service; /* 0: the main one */
};

struct spanview {
	const struct span_identity *id;
	struct arena arena; /* everything of the open bundle */
	struct wire_bundle bundle;
	size_t trace_at;
	struct entry *entries;
	size_t entry_count, entry_cap;
	uint32_t *table; /* id -> entry + 1 */
	size_t table_mask, table_cap;
	/* the current trace */
	struct wire_trace trace;
	bool with_open, services_differ, root_given;
	uint32_t spans, given;
	size_t record_at, root_at;
	struct service_of *services;
	size_t services_mask, services_cap;
	/* the current span */
	uint32_t stamp;
	uint32_t common_stamp[COMMON_MAX];
	struct span_tag *tags;
	uint32_t tag_count, tag_cap;
	struct span_text numbers[2]; /* -<mechanism>, tid */
	char scratch[NORM_SCRATCH_BYTES];
};

#define NO_ROOT SIZE_MAX

enum err
spanview_new(struct spanview **out)
{
	struct spanview *v = calloc(1, sizeof *v);

	if (v == NULL)
		return E_NOMEM;
	*out = v;
	return E_OK;
}

void
spanview_free(struct spanview *v)
{
	if (v == NULL)
		return;
	arena_fini(&v->arena);
	free(v->entries);
	free(v->table);
	free(v->services);
	free(v->tags);
	free(v);
}

/* Grow *p to hold n items of `size`, contents lost. false: no memory. */
static bool
fit(void *pp, size_t *cap, size_t n, size_t size)
{
	void **p = pp;

	if (n <= *cap)
		return true;
	free(*p);
	*cap = 0;
	*p = malloc(n * size);
	if (*p == NULL)
		return false;
	*cap = n;
	return true;
}

static size_t
power_of_two(size_t n)
{
	size_t p = 16;

	while (p < n)
		p *= 2;
	return p;
}

static inline size_t
spread(uint64_t id)
{
	return (size_t)(id * 0x9e3779b97f4a7c15u >> 32);
}

static struct entry *
entry_find(struct spanview *v, uint32_t id)
{
	for (size_t i = spread(id) & v->table_mask; v->table[i] != 0; i = (i + 1) & v->table_mask)
		if (v->entries[v->table[i] - 1].id == id)
			return &v->entries[v->table[i] - 1];
	return &v->entries[0]; /* the empty string */
}

static bool
entry_add(struct spanview *v, uint32_t id, const char *s, uint32_t n)
{
	struct norm_text t = norm_utf8(s, n, FRAME_STRING_MAX_BYTES * 3, v->scratch);
	struct entry *e = &v->entries[v->entry_count];
	size_t i = spread(id) & v->table_mask;

	e->id = id;
	e->stamp = 0;
	e->have = 0;
	if (!text_put(&v->arena, t.s, t.n, &e->raw))
		return false;
	while (v->table[i] != 0)
		i = (i + 1) & v->table_mask;
	v->table[i] = (uint32_t)++v->entry_count;
	return true;
}

static enum err
dictionary(struct spanview *v, const uint8_t *dict, size_t n, struct wire_error *err)
{
	size_t at = 0, count = 1;
	uint32_t id, bytes;
	const char *s;
	int more;

	while ((more = wire_dict_next(dict, n, &at, &id, &s, &bytes, err)) == 1)
		count++;
	if (more < 0)
		return E_CORRUPT;

	size_t want = power_of_two(2 * count);

	if (!fit(&v->entries, &v->entry_cap, count, sizeof *v->entries) ||
	    !fit(&v->table, &v->table_cap, want, sizeof *v->table))
		return E_NOMEM;
	v->table_mask = want - 1;
	memset(v->table, 0, want * sizeof *v->table);
	v->entry_count = 0;
	if (!entry_add(v, 0, "", 0))
		return E_NOMEM;
	for (at = 0; wire_dict_next(dict, n, &at, &id, &s, &bytes, err) == 1;)
		if (id != 0 && !entry_add(v, id, s, bytes))
			return E_NOMEM;
	return E_OK;
}

static void
restart(struct spanview *v, const struct span_identity *id)
{
	arena_reset(&v->arena);
	v->id = id;
	v->trace_at = 0;
	v->spans = 0;
	v->given = 0;
	v->with_open = false;
	v->stamp = 0;
	memset(v->common_stamp, 0, sizeof v->common_stamp);
}

enum err
spanview_open(struct spanview *v, const uint8_t *blob, size_t n, const struct span_identity *id,
    struct wire_error *err)
{
	restart(v, id);
	memset(&v->bundle, 0, sizeof v->bundle);
	if (wire_bundle_get(blob, n, &v->bundle, err) != 0) {
		memset(&v->bundle, 0, sizeof v->bundle);
		return E_CORRUPT;
	}
	return dictionary(v, v->bundle.dict, v->bundle.dict_bytes, err);
}

static bool
wanted(const struct spanview *v, const uint8_t *record)
{
	uint16_t type = wire_get16(record + 12);

	return type == EVENT_SPAN || (type == EVENT_OPEN && v->with_open);
}

/* Look once over the records: how many spans, where the root is, do services differ. */
static bool
trace_scan(struct spanview *v)
{
	const uint8_t *r = v->trace.records;
	uint32_t first = 0;

	v->spans = v->given = 0;
	v->record_at = 0;
	v->root_at = NO_ROOT;
	v->services_differ = false;
	for (size_t at = 0; at < v->trace.records_bytes; at += wire_get32(r + at + 8)) {
		const uint8_t *p = r + at + RECORD_HEADER_BYTES;

		if (!wanted(v, r + at))
			continue;
		if (v->spans++ == 0)
			first = wire_get32(p + 48);
		else if (wire_get32(p + 48) != first)
			v->services_differ = true;
		if (v->root_at == NO_ROOT && (wire_get16(p + 64) & WIRE_SPAN_LOCAL_ROOT) != 0)
			v->root_at = at;
	}
	v->root_given = v->root_at == NO_ROOT;
	return true;
}

static bool
entry_service(struct spanview *v, struct entry *e)
{
	if ((e->have & HAVE_SERVICE) != 0)
		return true;
	e->service = v->id->service;
	if (e->raw.n > 0) {
		struct norm_text t = identity_service(v->id, e->raw.s, e->raw.n, v->scratch);

		if (!text_put(&v->arena, t.s, t.n, &e->service))
			return false;
	}
	e->main_service = text_is(e->service, v->id->service.s, v->id->service.n);
	e->have |= HAVE_SERVICE;
	return true;
}

/* Which span belongs to which service, so that a child can ask for its parent's. */
static bool
trace_services(struct spanview *v)
{
	const uint8_t *r = v->trace.records;
	size_t want = power_of_two(2 * (size_t)v->spans);

	if (!fit(&v->services, &v->services_cap, want, sizeof *v->services))
		return false;
	v->services_mask = want - 1;
	memset(v->services, 0, want * sizeof *v->services);
	for (size_t at = 0; at < v->trace.records_bytes; at += wire_get32(r + at + 8)) {
		const uint8_t *p = r + at + RECORD_HEADER_BYTES;

		if (!wanted(v, r + at))
			continue;

		struct entry *e = entry_find(v, wire_get32(p + 48));
		uint64_t span_id = wire_get64(p + 16);
		size_t i = spread(span_id) & v->services_mask;

		if (!entry_service(v, e))
			return false;
		while (v->services[i].span_id != 0)
			i = (i + 1) & v->services_mask;
		v->services[i].span_id = span_id;
		v->services[i].service = e->main_service ? 0 : e->id;
	}
	return true;
}

static bool
trace_begin(struct spanview *v)
{
	char text[24];
	int n;

	if (!trace_scan(v) || (v->services_differ && !trace_services(v)))
		return false;
	n = snprintf(text, sizeof text, "-%d",
	    v->trace.mechanism == WIRE_PRIORITY_NONE ? 0 : v->trace.mechanism);
	if (!text_put(&v->arena, text, (size_t)n, &v->numbers[0]))
		return false;
	n = snprintf(text, sizeof text, "%016llx", (unsigned long long)v->trace.trace_hi);
	return text_put(&v->arena, text, (size_t)n, &v->numbers[1]);
}

int
spanview_trace(struct spanview *v, struct wire_trace *out, struct wire_error *err)
{
	int more = wire_trace_next(&v->bundle, &v->trace_at, &v->trace, err);

	v->spans = v->given = 0;
	if (more != 1)
		return more;
	if (!trace_begin(v)) {
		*err = (struct wire_error){ "no memory", v->trace_at };
		return -1;
	}
	*out = v->trace;
	return 1;
}

enum err
spanview_open_trace(struct spanview *v, const struct wire_trace *t, const uint8_t *dict,
    size_t dict_bytes, const struct span_identity *id, struct wire_error *err)
{
	enum err e;

	restart(v, id);
	memset(&v->bundle, 0, sizeof v->bundle);
	e = dictionary(v, dict, dict_bytes, err);
	if (e != E_OK)
		return e;
	v->with_open = true;
	v->trace = *t;
	return trace_begin(v) ? E_OK : E_NOMEM;
}

uint32_t
spanview_span_count(const struct spanview *v)
{
	return v->spans;
}

/* ---- tags --------------------------------------------------------------- */

static void
key_role(struct spanview *v, struct entry *e)
{
	static const struct {
		const char *key;
		enum key_role role;
	} special[] = { { "http.status_code", ROLE_STATUS }, { "peer.service", ROLE_SERVICE },
		{ "env", ROLE_ENV }, { "_top_level", ROLE_OURS } };

	e->role = e->raw.n == 0 ? ROLE_OURS : ROLE_PLAIN;
	e->common = 0;
	for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
		if (text_is(e->key, special[i].key, strlen(special[i].key)))
			e->role = special[i].role;
	for (int i = 0; i < OWN_COUNT; i++)
		if (text_is(e->key, v->id->own[i].s, v->id->own[i].n))
			e->role = ROLE_OURS;
	for (uint32_t i = 0; i < v->id->common_count; i++)
		if (text_is(e->key, v->id->common[i].tag.key.s, v->id->common[i].tag.key.n))
			e->common = (uint16_t)(i + 1);
}

static bool
entry_key(struct spanview *v, struct entry *e)
{
	if ((e->have & HAVE_KEY) != 0)
		return true;
	e->key = e->raw;
	if (e->raw.n > NORM_META_KEY_MAX) {
		struct norm_text t = norm_meta_key(e->raw.s, e->raw.n, v->scratch);

		if (!text_put(&v->arena, t.s, t.n, &e->key))
			return false;
	}
	key_role(v, e);
	e->have |= HAVE_KEY;
	return true;
}

/* The value a key may have; *keep false: not this one. false: no memory. */
static bool
special_value(struct spanview *v, const struct entry *key, struct span_text *value, bool *keep)
{
	struct norm_text t;

	switch (key->role) {
	case ROLE_STATUS:
		*keep = norm_status_code_ok(value->s, value->n);
		return true;
	case ROLE_SERVICE:
		t = norm_service(value->s, value->n, v->id->language, v->scratch);
		break;
	case ROLE_ENV:
		t = norm_tag_value(value->s, value->n, v->scratch);
		break;
	default:
		return true;
	}
	return t.s == value->s ? true : text_put(&v->arena, t.s, t.n, value);
}

/* Inline text: used where it lies when it is right already. */
static bool
inline_text(struct spanview *v, const char *s, uint32_t n, struct span_text *out)
{
	struct norm_text t = norm_meta_value("", 0, s, n, v->scratch);

	if (t.s == s && t.n == n) {
		*out = (struct span_text){ s, n, 0 };
		return true;
	}
	return text_put(&v->arena, t.s, t.n, out);
}

static inline void
tag_meta(struct spanview *v, struct span_text key, struct span_text value)
{
	v->tags[v->tag_count++] = (struct span_tag){ key, value, 0, false };
}

static inline void
tag_metric(struct spanview *v, struct span_text key, double number)
{
	v->tags[v->tag_count++] = (struct span_tag){ key, { "", 0, 0 }, number, true };
}

/* Read the tag at p into *t; *keep false: it is not sent. */
static bool
recorded_tag(
    struct spanview *v, const uint8_t *p, struct entry *key, struct span_tag *t, bool *keep)
{
	t->key = key->key;
	t->metric = false;
	switch (wire_get32(p) >> WIRE_TAG_KIND_SHIFT) {
	case WIRE_TAG_STR:
		t->value = entry_find(v, wire_get32(p + 4))->raw;
		break;
	case WIRE_TAG_TEXT:
		if (!inline_text(v, (const char *)p + 8, wire_get32(p + 4), &t->value))
			return false;
		break;
	case WIRE_TAG_I32:
		t->metric = true;
		t->number = (int32_t)wire_get32(p + 4);
		return true;
	default:
		t->metric = true;
		memcpy(&t->number, p + 8, 8);
		*keep = isfinite(t->number);
		return true;
	}
	return key->role == ROLE_PLAIN || special_value(v, key, &t->value, keep);
}

static inline uint32_t
tag_step(const uint8_t *p)
{
	switch (wire_get32(p) >> WIRE_TAG_KIND_SHIFT) {
	case WIRE_TAG_TEXT:
		return 8 + (uint32_t)WIRE_ALIGN8(wire_get32(p + 4));
	case WIRE_TAG_F64:
		return 16;
	default:
		return 8;
	}
}

/* What the probe recorded; of a key said twice the last value counts. */
static bool
recorded_tags(struct spanview *v, const uint8_t *p, uint32_t bytes)
{
	for (const uint8_t *end = p + bytes; p < end; p += tag_step(p)) {
		struct entry *e = entry_find(v, wire_get32(p) & WIRE_TAG_KEY_MASK);
		struct span_tag t;
		bool keep = true;

		if (!entry_key(v, e))
			return false;
		if (e->role == ROLE_OURS)
			continue;
		if (!recorded_tag(v, p, e, &t, &keep))
			return false;
		if (!keep)
			continue;
		if (e->stamp != v->stamp) {
			e->stamp = v->stamp;
			e->slot = v->tag_count++;
			if (e->common != 0)
				v->common_stamp[e->common - 1] = v->stamp;
		}
		v->tags[e->slot] = t;
	}
	return true;
}

/* ---- what we add ---------------------------------------------------------- */

static bool
is_top_level(const struct spanview *v, uint16_t flags, uint64_t parent, const struct entry *service)
{
	uint32_t mine = service->main_service ? 0 : service->id;

	if (parent == 0 || (flags & (WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_REMOTE_PARENT)) != 0)
		return true;
	if (v->services_differ) {
		for (size_t i = spread(parent) & v->services_mask; v->services[i].span_id != 0;
		     i = (i + 1) & v->services_mask)
			if (v->services[i].span_id == parent)
				return v->services[i].service != mine;
		return mine != 0; /* its parent went in another part: of the main service */
	}
	return false;
}

static void
decision_tags(struct spanview *v)
{
	const struct wire_trace *t = &v->trace;
	const struct span_text *own = v->id->own;

	if (t->priority != WIRE_PRIORITY_NONE) {
		tag_metric(v, own[OWN_PRIORITY], t->priority);
		if (t->priority > 0 || t->mechanism != WIRE_PRIORITY_NONE)
			tag_meta(v, own[OWN_DM], v->numbers[0]);
	}
	if (t->trace_hi != 0)
		tag_meta(v, own[OWN_TID], v->numbers[1]);
	if ((t->has & BUNDLE_HAS_RULE_PSR) != 0)
		tag_metric(v, own[OWN_RULE_PSR], t->rule_psr);
	if ((t->has & BUNDLE_HAS_LIMIT_PSR) != 0)
		tag_metric(v, own[OWN_LIMIT_PSR], t->limit_psr);
	if ((t->has & BUNDLE_HAS_AGENT_PSR) != 0)
		tag_metric(v, own[OWN_AGENT_PSR], t->agent_psr);
	if ((t->flags & BUNDLE_PARTIAL) != 0)
		tag_metric(v, own[OWN_PARTIAL], v->spans);
	if ((t->flags & BUNDLE_KEPT_FAILURE) != 0)
		tag_meta(v, own[OWN_KEPT], v->id->text_failure);
}

static void
common_tags(struct spanview *v, bool main_service)
{
	const struct span_identity *id = v->id;

	for (uint32_t i = 0; i < id->common_count; i++)
		if (v->common_stamp[i] != v->stamp &&
		    (main_service || id->common[i].where == ON_EVERY))
			v->tags[v->tag_count++] = id->common[i].tag;
}

static void
added_tags(struct spanview *v, uint16_t flags, const struct entry *service, bool top, bool first)
{
	const struct span_text *own = v->id->own;

	common_tags(v, service->main_service);
	if (!service->main_service)
		tag_meta(v, own[OWN_BASE_SERVICE], v->id->service);
	if (top)
		tag_metric(v, own[OWN_TOP_LEVEL], 1);
	if ((flags & WIRE_SPAN_MEASURED) != 0)
		tag_metric(v, own[OWN_MEASURED], 1);
	if ((flags & WIRE_SPAN_UNFINISHED) != 0)
		tag_meta(v, own[OWN_UNFINISHED], v->id->text_true);
	if ((flags & WIRE_SPAN_LOCAL_ROOT) != 0 && v->id->hostname.n > 0)
		tag_meta(v, own[OWN_HOSTNAME], v->id->hostname);
	if (first)
		decision_tags(v);
}

/* ---- spans ---------------------------------------------------------------- */

static bool
names(struct spanview *v, const uint8_t *p, struct span_model *out)
{
	struct entry *name = entry_find(v, wire_get32(p + 52));
	struct entry *resource = entry_find(v, wire_get32(p + 56));
	struct entry *type = entry_find(v, wire_get32(p + 60));
	struct norm_text t;

	if ((name->have & HAVE_NAME) == 0) {
		t = norm_name(name->raw.s, name->raw.n, v->scratch);
		if (!text_put(&v->arena, t.s, t.n, &name->name))
			return false;
		name->have |= HAVE_NAME;
	}
	if ((type->have & HAVE_TYPE) == 0) {
		t = norm_type(type->raw.s, type->raw.n, v->scratch);
		if (!text_put(&v->arena, t.s, t.n, &type->type))
			return false;
		type->have |= HAVE_TYPE;
	}
	out->name = name->name;
	out->type = type->type;
	out->resource = resource->raw.n > 0 ? resource->raw : name->name;
	return true;
}

static void
count_tags(struct spanview *v, struct span_model *out)
{
	uint32_t metrics = 0;

	for (uint32_t i = 0; i < v->tag_count; i++)
		metrics += v->tags[i].metric;
	out->tags = v->tags;
	out->metric_count = metrics;
	out->meta_count = v->tag_count - metrics;
}

static bool
span_build(struct spanview *v, const uint8_t *record, struct span_model *out)
{
	const uint8_t *p = record + RECORD_HEADER_BYTES;
	struct entry *service = entry_find(v, wire_get32(p + 48));
	uint32_t tag_room = wire_get16(p + 68) + COMMON_MAX + OWN_COUNT;
	size_t cap = v->tag_cap;

	if (!entry_service(v, service) || !names(v, p, out) ||
	    !fit(&v->tags, &cap, tag_room, sizeof *v->tags))
		return false;
	v->tag_cap = (uint32_t)cap;
	v->tag_count = 0;
	v->stamp++;
	out->trace_hi = wire_get64(p);
	out->trace_lo = wire_get64(p + 8);
	out->span_id = wire_get64(p + 16);
	out->parent_id = norm_parent(out->trace_lo, out->span_id, wire_get64(p + 24));
	out->start_ns = (int64_t)(wire_get64(p + 32) + (uint64_t)v->trace.offset_ns);
	out->duration_ns = (int64_t)wire_get64(p + 40);
	norm_times(&out->start_ns, &out->duration_ns, v->id->real_ns);
	out->service = service->service;
	out->flags = wire_get16(p + 64);
	out->error = (out->flags & WIRE_SPAN_ERROR) != 0;
	out->open = wire_get16(record + 12) == EVENT_OPEN;
	if (!recorded_tags(v, p + WIRE_SPAN_FIXED_BYTES, (uint32_t)wire_get16(p + 70) * 8))
		return false;
	added_tags(v, out->flags, service, is_top_level(v, out->flags, out->parent_id, service),
	    v->given == 0);
	count_tags(v, out);
	return true;
}

int
spanview_span(struct spanview *v, struct span_model *out)
{
	const uint8_t *r = v->trace.records;
	size_t at;

	if (v->given == v->spans)
		return 0;
	if (!v->root_given) {
		v->root_given = true;
		at = v->root_at;
	} else {
		while (!wanted(v, r + v->record_at) || v->record_at == v->root_at)
			v->record_at += wire_get32(r + v->record_at + 8);
		at = v->record_at;
		v->record_at += wire_get32(r + at + 8);
	}
	if (!span_build(v, r + at, out))
		return -1;
	v->given++;
	return 1;
}
