/*
 * dict.c - the strings of one probe, learnt from its batches and segments.
 * Pipeline thread.  An id names the same string for as long as the probe lives;
 * what no open trace uses may be forgotten, because every batch brings the
 * strings that it uses.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"

struct dict_entry {
	uint32_t at, n1; /* n1: bytes + 1, 0 unknown */
	uint32_t mark;
	enum span_kind kind;
};

/* Index of an id's entry, UINT32_MAX for ids that cannot be. */
static uint32_t
index_of(uint32_t id)
{
	if (id >= DICT_OWN && id < DICT_OWN + DICT_OWN_COUNT)
		return id - DICT_OWN;
	return id < DICT_IDS_MAX ? id + DICT_OWN_COUNT : UINT32_MAX;
}

static struct dict_entry *
entry(const struct dict *d, uint32_t id)
{
	uint32_t i = index_of(id);

	return i < d->entry_cap && d->entries[i].n1 != 0 ? &d->entries[i] : NULL;
}

void
dict_fini(struct dict *d)
{
	free(d->entries);
	free(d->bytes);
	free(d->ids);
	memset(d, 0, sizeof *d);
}

enum err
dict_check(const struct dict *d, const uint8_t *dict, size_t n)
{
	struct wire_error err;
	const char *s;
	uint32_t id, bytes;
	size_t at = 0;
	int rv;

	while ((rv = wire_dict_next(dict, n, &at, &id, &s, &bytes, &err)) == 1) {
		const struct dict_entry *e = entry(d, id);

		if (index_of(id) == UINT32_MAX)
			return E_INVAL;
		if (e != NULL && (e->n1 != bytes + 1 || memcmp(d->bytes + e->at, s, bytes) != 0))
			return E_INVAL;
	}
	return rv == 0 ? E_OK : E_INVAL;
}

static enum err
entries_reach(struct dict *d, uint32_t i)
{
	uint32_t cap = d->entry_cap > 0 ? d->entry_cap : 256;

	if (i < d->entry_cap)
		return E_OK;
	while (cap <= i)
		cap *= 2;

	struct dict_entry *e = realloc(d->entries, cap * sizeof *e);

	if (e == NULL)
		return E_NOMEM;
	memset(e + d->entry_cap, 0, (cap - d->entry_cap) * sizeof *e);
	d->entries = e;
	d->entry_cap = cap;
	return E_OK;
}

static enum span_kind
kind_of(const char *s, uint32_t n)
{
	static const struct {
		enum span_kind kind;
		const char *name;
	} kinds[] = {
		{ SPAN_QUEUE_WAIT, "comfyui.queue.wait" },
		{ SPAN_WORKFLOW, "comfyui.workflow.execute" },
		{ SPAN_NODE, "comfyui.node.execute" },
	};

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (n == strlen(kinds[i].name) && memcmp(s, kinds[i].name, n) == 0)
			return kinds[i].kind;
	return SPAN_PLAIN;
}

static enum err
learn_one(struct dict *d, uint32_t id, const char *s, uint32_t n)
{
	uint32_t i = index_of(id), cap = d->cap > 0 ? d->cap : 4096;

	if (entries_reach(d, i) != E_OK)
		return E_NOMEM;
	if (d->entries[i].n1 != 0)
		return E_OK;
	if (d->used + n > DICT_BYTES_MAX)
		return E_FULL;
	while (cap < d->used + n)
		cap *= 2;
	if (cap != d->cap) {
		char *bytes = realloc(d->bytes, cap);

		if (bytes == NULL)
			return E_NOMEM;
		d->bytes = bytes;
		d->cap = cap;
	}
	memcpy(d->bytes + d->used, s, n);
	d->entries[i] = (struct dict_entry){ d->used, n + 1, 0, kind_of(s, n) };
	d->used += n;
	return E_OK;
}

enum err
dict_learn(struct dict *d, const uint8_t *dict, size_t n)
{
	struct wire_error err;
	const char *s;
	uint32_t id, bytes;
	size_t at = 0;

	while (wire_dict_next(dict, n, &at, &id, &s, &bytes, &err) == 1) {
		enum err e = learn_one(d, id, s, bytes);

		if (e != E_OK)
			return e;
	}
	return E_OK;
}

enum err
dict_own(struct dict *d, uint32_t id, const char *s)
{
	return learn_one(d, id, s, (uint32_t)strlen(s));
}

void
dict_begin(struct dict *d)
{
	if (++d->epoch == 0) {
		for (uint32_t i = 0; i < d->entry_cap; i++)
			d->entries[i].mark = 0;
		d->epoch = 1;
	}
	d->id_count = 0;
	d->marked_bytes = 0;
	d->failed = false;
}

static inline void
mark(struct dict *d, uint32_t id)
{
	struct dict_entry *e = entry(d, id);

	if (e == NULL || e->mark == d->epoch)
		return;
	if (d->id_count == d->id_cap) {
		uint32_t cap = d->id_cap > 0 ? 2 * d->id_cap : 256;
		uint32_t *ids = realloc(d->ids, cap * sizeof *ids);

		if (ids == NULL) {
			d->failed = true;
			return;
		}
		d->ids = ids;
		d->id_cap = cap;
	}
	e->mark = d->epoch;
	d->ids[d->id_count++] = id;
	d->marked_bytes += wire_dict_entry_bytes(e->n1 - 1);
}

void
dict_mark(struct dict *d, const uint8_t *rec, uint32_t length)
{
	const uint8_t *p = rec + RECORD_HEADER_BYTES, *end = rec + length;

	for (int i = 0; i < 4; i++)
		mark(d, wire_get32(p + 48 + 4 * i));
	for (p += WIRE_SPAN_FIXED_BYTES; p < end;) {
		uint32_t word = wire_get32(p), value = wire_get32(p + 4);

		mark(d, word & WIRE_TAG_KEY_MASK);
		if (word >> WIRE_TAG_KIND_SHIFT == WIRE_TAG_STR)
			mark(d, value);
		p += wire_tag_bytes(p);
	}
}

static int
by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

size_t
dict_put(struct dict *d, uint8_t *p)
{
	size_t used = 0;

	if (d->id_count > 1)
		qsort(d->ids, d->id_count, sizeof d->ids[0], by_id);
	for (uint32_t i = 0; i < d->id_count; i++) {
		const struct dict_entry *e = entry(d, d->ids[i]);

		used += wire_dict_put(p + used, d->ids[i], d->bytes + e->at, e->n1 - 1);
	}
	return used;
}

enum err
dict_keep_marked(struct dict *d)
{
	char *bytes = malloc(d->cap > 0 ? d->cap : 1);
	uint32_t used = 0;

	if (bytes == NULL || d->failed) {
		free(bytes);
		return E_NOMEM;
	}
	for (uint32_t i = 0; i < d->entry_cap; i++) {
		struct dict_entry *e = &d->entries[i];

		if (e->n1 == 0)
			continue;
		if (e->mark != d->epoch) {
			e->n1 = 0;
			continue;
		}
		memcpy(bytes + used, d->bytes + e->at, e->n1 - 1);
		e->at = used;
		used += e->n1 - 1;
	}
	free(d->bytes);
	d->bytes = bytes;
	d->used = used;
	return E_OK;
}

enum span_kind
dict_kind(const struct dict *d, uint32_t id)
{
	const struct dict_entry *e = entry(d, id);

	return e != NULL ? e->kind : SPAN_PLAIN;
}

const char *
dict_get(const struct dict *d, uint32_t id, uint32_t *n)
{
	const struct dict_entry *e = entry(d, id);

	*n = e != NULL ? e->n1 - 1 : 0;
	return e != NULL ? d->bytes + e->at : "";
}
