/*
 * trace.c - open traces: the map from trace id, the records of each, and which
 * span id is still open.  Pipeline thread.
 */
#include <stdlib.h>

#include "agent/processor/internal.h"
#include "schema/fault.h"

void
link_init(struct link *l)
{
	l->prev = l->next = l;
}

void
link_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

void
link_append(struct link *head, struct link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

struct trace *
trace_of_age(struct link *l)
{
	return (struct trace *)((char *)l - offsetof(struct trace, age));
}

struct trace *
trace_of_mine(struct link *l)
{
	return (struct trace *)((char *)l - offsetof(struct trace, mine));
}

static uint32_t
hash(uint64_t lo, int64_t probe)
{
	return (uint32_t)(((lo ^ (uint64_t)probe) * 0x9e3779b97f4a7c15u) >> 32);
}

struct trace *
trace_find(struct processor *p, const struct probe *probe, uint64_t hi, uint64_t lo)
{
	struct trace *t;

	if (p->slot_count == 0)
		return NULL;
	t = p->slots[hash(lo, probe->id) & (p->slot_count - 1)];
	while (t != NULL && (t->lo != lo || t->hi != hi || t->probe != probe))
		t = t->chain;
	return t;
}

static enum err
slots_grow(struct processor *p)
{
	uint32_t count = p->slot_count > 0 ? 2 * p->slot_count : 64;
	struct trace **slots;

	if (p->trace_count < p->slot_count)
		return E_OK;
	slots = calloc(count, sizeof *slots);
	if (slots == NULL)
		return E_NOMEM;
	for (uint32_t i = 0; i < p->slot_count; i++) {
		for (struct trace *t = p->slots[i], *next; t != NULL; t = next) {
			struct trace **to = &slots[hash(t->lo, t->probe->id) & (count - 1)];

			next = t->chain;
			t->chain = *to;
			*to = t;
		}
	}
	free(p->slots);
	p->slots = slots;
	p->slot_count = count;
	return E_OK;
}

enum err
trace_new(struct processor *p, struct probe *probe, uint64_t hi, uint64_t lo, struct trace **out)
{
	struct trace *t;
	struct trace **slot;

	if (slots_grow(p) != E_OK || (t = calloc(1, sizeof *t)) == NULL)
		return E_NOMEM;
	t->probe = probe;
	t->hi = hi;
	t->lo = lo;
	t->inherited_priority = t->inherited_mechanism = WIRE_PRIORITY_NONE;
	link_append(&p->age, &t->age);
	link_append(&probe->traces, &t->mine);
	slot = &p->slots[hash(lo, probe->id) & (p->slot_count - 1)];
	t->chain = *slot;
	*slot = t;
	p->trace_count++;
	p->memory_bytes += sizeof *t;
	*out = t;
	return E_OK;
}

/* The table's cell for a span id: its record's, or the empty one where it belongs. */
static uint32_t *
cell(const struct trace *t, uint64_t span_id)
{
	uint32_t mask = t->table_size - 1;
	uint32_t i = (uint32_t)((span_id * 0x9e3779b97f4a7c15u) >> 32) & mask;

	while (t->table[i] != 0 && wire_get64(t->buf + (size_t)(t->table[i] - 1) * 8 +
					      RECORD_HEADER_BYTES + 16) != span_id)
		i = (i + 1) & mask;
	return &t->table[i];
}

static uint64_t
span_id_at(const struct trace *t, uint32_t at)
{
	return wire_get64(t->buf + at + RECORD_HEADER_BYTES + 16);
}

static enum err
table_grow(struct processor *p, struct trace *t)
{
	uint32_t size = t->table_size > 0 ? 2 * t->table_size : 64, old_size = t->table_size;
	uint32_t *old = t->table;

	if (t->table_count * 2 < t->table_size)
		return E_OK;

	uint32_t *table = calloc(size, sizeof *table);

	if (table == NULL)
		return E_NOMEM;
	t->table = table;
	t->table_size = size;
	for (uint32_t i = 0; i < old_size; i++)
		if (old[i] != 0)
			*cell(t, span_id_at(t, (old[i] - 1) * 8)) = old[i];
	free(old);
	p->memory_bytes += (uint64_t)(size - old_size) * sizeof *table;
	return E_OK;
}

static enum err
buf_reach(struct processor *p, struct trace *t, uint32_t n)
{
	uint32_t cap = t->cap > 0 ? t->cap : 2048;

	if (n > UINT32_MAX / 2 - t->used)
		return E_NOMEM;
	while (cap < t->used + n)
		cap *= 2;
	if (cap == t->cap)
		return E_OK;

	uint8_t *buf = realloc(t->buf, cap);

	if (buf == NULL)
		return E_NOMEM;
	p->memory_bytes += cap - t->cap;
	t->buf = buf;
	t->cap = cap;
	return E_OK;
}

/* What a record says about its trace. */
static void
note(struct trace *t, const struct wire_span *s, bool open, uint32_t at)
{
	if (s->flags & WIRE_SPAN_LOCAL_ROOT)
		t->root = at + 1;
	if (s->priority != WIRE_PRIORITY_NONE && t->inherited_priority == WIRE_PRIORITY_NONE) {
		t->inherited_priority = s->priority;
		t->inherited_mechanism = s->mechanism;
	}
	if (open) {
		t->flags |= TRACE_OPENED;
		return;
	}
	if (s->flags & WIRE_SPAN_LOCAL_ROOT)
		t->flags |= TRACE_ROOT_DONE;
	if (s->flags & WIRE_SPAN_ERROR)
		t->flags |= TRACE_ERROR;
	if (s->flags & WIRE_SPAN_UNFINISHED)
		t->flags |= TRACE_UNFINISHED;
	if (s->flags & WIRE_SPAN_JOB)
		t->flags |= TRACE_JOB_DONE;
	if ((s->flags & WIRE_SPAN_JOB_FAILED) ||
	    ((s->flags & WIRE_SPAN_JOB) && (s->flags & WIRE_SPAN_UNFINISHED)))
		t->flags |= TRACE_FAILED;
}

enum err
trace_add(struct processor *p, struct trace *t, const uint8_t *rec, const struct wire_span *s)
{
	uint32_t length = wire_get32(rec + 8), at = t->used;
	bool open = wire_get16(rec + 12) == EVENT_OPEN, was_open;
	uint32_t *c;

	if (buf_reach(p, t, length) != E_OK || table_grow(p, t) != E_OK)
		return E_NOMEM;
	c = cell(t, s->span_id);
	was_open = *c != 0 && wire_get16(t->buf + (size_t)(*c - 1) * 8 + 12) == EVENT_OPEN;
	if (*c != 0 && (open || !was_open) && !fault_breaks("no-repeats"))
		return E_EXISTS;
	memcpy(t->buf + at, rec, length);
	t->used += length;
	t->records++;
	t->table_count += *c == 0;
	t->opens += open;
	t->opens -= was_open;
	t->spans += !open;
	p->stats.spans_now += !was_open;
	*c = at / 8 + 1;
	note(t, s, open, at);
	return E_OK;
}

void
trace_touch(struct processor *p, struct trace *t)
{
	if (t->touched)
		return;
	t->touched = true;
	t->touched_next = NULL;
	*p->touched_tail = t;
	p->touched_tail = &t->touched_next;
}

bool
trace_open_at(const struct trace *t, uint32_t at)
{
	return wire_get16(t->buf + at + 12) == EVENT_OPEN &&
	       *cell(t, span_id_at(t, at)) == at / 8 + 1;
}

void
trace_keep_open(struct processor *p, struct trace *t)
{
	uint32_t to = 0;

	/* Two passes: the table names the old offsets until all are judged. Byte 15 is spare. */
	for (uint32_t at = 0; at < t->used; at += wire_get32(t->buf + at + 8))
		t->buf[at + 15] = !trace_open_at(t, at);
	memset(t->table, 0, t->table_size * sizeof t->table[0]);
	p->stats.spans_now -= t->spans;
	t->spans = t->records = t->table_count = t->root = 0;
	for (uint32_t at = 0, n; at < t->used; at += n) {
		n = wire_get32(t->buf + at + 8);
		if (t->buf[at + 15] != 0)
			continue;
		memmove(t->buf + to, t->buf + at, n);
		*cell(t, span_id_at(t, to)) = to / 8 + 1;
		if (wire_get16(t->buf + to + WIRE_SPAN_OFF_FLAGS) & WIRE_SPAN_LOCAL_ROOT)
			t->root = to + 1;
		to += n;
		t->records++;
		t->table_count++;
	}
	t->used = to;
	t->saved = 0;
	t->flags |= TRACE_PARTIAL;
}

void
trace_free(struct processor *p, struct trace *t)
{
	struct trace **at = &p->slots[hash(t->lo, t->probe->id) & (p->slot_count - 1)];

	while (*at != t)
		at = &(*at)->chain;
	*at = t->chain;
	link_remove(&t->age);
	link_remove(&t->mine);
	p->trace_count--;
	p->stats.spans_now -= t->spans + t->opens;
	p->memory_bytes -= sizeof *t + t->cap + (uint64_t)t->table_size * sizeof t->table[0];
	free(t->buf);
	free(t->table);
	free(t);
}
