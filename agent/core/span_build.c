/*
 * span_build.c - one record into one span: names, recorded tags, and the tags
 * that are added.  Input was checked when the bundle was opened.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/spanview_internal.h"
#include "schema/tables.h"

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
		t->value = view_entry(v, wire_get32(p + 4))->raw;
		break;
	case WIRE_TAG_TEXT:
		if (!inline_text(v, (const char *)p + 8, wire_get32(p + 4), &t->value))
			return false;
		break;
	case WIRE_TAG_I32:
		t->metric = true;
		t->number = (int32_t)wire_get32(p + 4);
		return true;
	case WIRE_TAG_F64:
		t->metric = true;
		memcpy(&t->number, p + 8, 8);
		*keep = isfinite(t->number);
		return true;
	default: /* a newer probe's */
		*keep = false;
		return true;
	}
	return key->role == ROLE_PLAIN || special_value(v, key, &t->value, keep);
}

/* What the probe recorded; of a key said twice the last value counts. */
static bool
recorded_tags(struct spanview *v, const uint8_t *p, uint32_t bytes)
{
	for (const uint8_t *end = p + bytes; p < end; p += wire_tag_bytes(p)) {
		struct entry *e = view_entry(v, wire_get32(p) & WIRE_TAG_KEY_MASK);
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
		for (size_t i = view_spread(parent) & v->services_mask; v->services[i].span_id != 0;
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
	struct entry *name = view_entry(v, wire_get32(p + 52));
	struct entry *resource = view_entry(v, wire_get32(p + 56));
	struct entry *type = view_entry(v, wire_get32(p + 60));
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

bool
view_span_build(struct spanview *v, const uint8_t *record, struct span_model *out)
{
	const uint8_t *p = record + RECORD_HEADER_BYTES;
	struct entry *service = view_entry(v, wire_get32(p + 48));
	uint32_t tag_room = wire_get16(p + 68) + COMMON_MAX + OWN_COUNT;
	size_t cap = v->tag_cap;

	if (!view_service(v, service) || !names(v, p, out) ||
	    !view_fit(&v->tags, &cap, tag_room, sizeof *v->tags))
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
