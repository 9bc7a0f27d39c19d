/*
 * spanview.c - from a bundle's records to spans as Datadog shall see them.  One
 * owner each, no locks.  Always true: input was checked by wire_bundle_get and
 * wire_trace_next before a byte of it is used, so walking tags needs no checks;
 * ids that the dictionary does not have read as the empty string.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/spanview_internal.h"
#include "schema/tables.h"

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
bool
view_fit(void *pp, size_t *cap, size_t n, size_t size)
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

struct entry *
view_entry(struct spanview *v, uint32_t id)
{
	for (size_t i = view_spread(id) & v->table_mask; v->table[i] != 0;
	     i = (i + 1) & v->table_mask)
		if (v->entries[v->table[i] - 1].id == id)
			return &v->entries[v->table[i] - 1];
	return &v->entries[0]; /* the empty string */
}

static bool
entry_add(struct spanview *v, uint32_t id, const char *s, uint32_t n)
{
	struct norm_text t = norm_utf8(s, n, FRAME_STRING_MAX_BYTES * 3, v->scratch);
	struct entry *e = &v->entries[v->entry_count];
	size_t i = view_spread(id) & v->table_mask;

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

	if (!view_fit(&v->entries, &v->entry_cap, count, sizeof *v->entries) ||
	    !view_fit(&v->table, &v->table_cap, want, sizeof *v->table))
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

bool
view_service(struct spanview *v, struct entry *e)
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

	if (!view_fit(&v->services, &v->services_cap, want, sizeof *v->services))
		return false;
	v->services_mask = want - 1;
	memset(v->services, 0, want * sizeof *v->services);
	for (size_t at = 0; at < v->trace.records_bytes; at += wire_get32(r + at + 8)) {
		const uint8_t *p = r + at + RECORD_HEADER_BYTES;

		if (!wanted(v, r + at))
			continue;

		struct entry *e = view_entry(v, wire_get32(p + 48));
		uint64_t span_id = wire_get64(p + 16);
		size_t i = view_spread(span_id) & v->services_mask;

		if (!view_service(v, e))
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
	if (!view_span_build(v, r + at, out))
		return -1;
	v->given++;
	return 1;
}
