/*
 * salvage_read.c - records, strings and open spans of a dead process's ring, as
 * self-contained batches.  Works on the copy in memory; pipeline's thread.
 *
 * Time is bounded: every byte is hashed at most a few times (budget), whatever
 * the file claims; memory is bounded by the file's size.
 */
#include <stdlib.h>

#include "agent/receiver/salvage_ring.h"
#include "schema/tables.h"

#define BATCH_ROOM   (FRAME_BATCH_MAX_BYTES - BATCH_FIXED_BYTES)
#define BUDGET_TIMES 4u

/* A slot that was open, and whether the record of its finish came out whole. */
struct open_slot {
	uint64_t position;
	const uint8_t *payload;
	uint32_t bytes;
	bool finished;
};

struct reader {
	struct salvage *s;
	salvage_emit_fn emit;
	void *ctx;
	struct salvage_counts *counts;
	uint64_t mono_ns, real_ns, budget, life_ns;

	uint32_t *strings;            /* offsets of arena entries, id - 1 */
	uint32_t string_count, extra; /* extra: first id of our own strings */
	const char *own[4];

	struct open_slot *open;
	size_t open_count;

	uint8_t *out;  /* batch under construction */
	uint32_t *ids; /* named by its records, dict_bytes when written */
	size_t id_count, dict_bytes;
	uint32_t *seen, generation; /* by id: the last batch that has it */
	struct wire_batch batch;
};

enum { OWN_KEY_ERROR, OWN_VERDICT, OWN_KEY_UNFINISHED, OWN_TRUE };

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Where each string lies. A broken length ends the arena: what follows cannot be found. */
static enum err
index_arena(struct reader *r)
{
	const uint8_t *arena = r->s->file + r->s->arena;
	uint64_t used = wire_get64(r->s->file + RING_OFF_ARENA_USED), at = 0;

	if (used > r->s->arena_bytes)
		used = r->s->arena_bytes;
	r->strings = malloc((size_t)(used / 8 + 1) * sizeof *r->strings);
	if (r->strings == NULL)
		return E_NOMEM;
	while (used - at >= 8) {
		uint32_t n = wire_get32(arena + at);

		if (n > FRAME_STRING_MAX_BYTES || wire_dict_entry_bytes(n) > used - at)
			break;
		r->strings[r->string_count++] = (uint32_t)at;
		at += wire_dict_entry_bytes(n);
	}
	r->extra = r->string_count + 1;
	r->seen = calloc((size_t)r->extra + 4, sizeof *r->seen);
	return r->seen != NULL ? E_OK : E_NOMEM;
}

/* The text of an id; empty for one that is not there or damaged: its span is worth keeping. */
static void
string_of(const struct reader *r, uint32_t id, const char **s, uint32_t *n)
{
	*s = "";
	*n = 0;
	if (id >= r->extra && id < r->extra + 4) {
		*s = r->own[id - r->extra];
		*n = (uint32_t)strlen(*s);
	} else if (id >= 1 && id <= r->string_count) {
		const uint8_t *p = r->s->file + r->s->arena + r->strings[id - 1];

		if (wire_crc32c(0, p + 8, wire_get32(p)) == wire_get32(p + 4)) {
			*s = (const char *)p + 8;
			*n = wire_get32(p);
		}
	}
}

static void
count_id(void *ctx, uint32_t id)
{
	struct reader *r = ctx;
	const char *s;
	uint32_t n;

	if (id < r->extra + 4) {
		if (r->seen[id] == r->generation)
			return;
		r->seen[id] = r->generation;
	}
	string_of(r, id, &s, &n);
	r->dict_bytes += wire_dict_entry_bytes(n);
	r->ids[r->id_count++] = id;
}

static int
by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Sort, once each. */
static void
tidy_ids(struct reader *r)
{
	size_t n = 0;

	qsort(r->ids, r->id_count, sizeof *r->ids, by_id);
	for (size_t i = 0; i < r->id_count; i++)
		if (n == 0 || r->ids[n - 1] != r->ids[i])
			r->ids[n++] = r->ids[i];
	r->id_count = n;
}

static void
batch_begin(struct reader *r, uint64_t first)
{
	struct wire_batch *b = &r->batch;

	memset(b, 0, sizeof *b);
	memcpy(b->probe_id, r->s->probe.probe_id, sizeof b->probe_id);
	memcpy(b->boot_id, r->s->probe.boot_id, sizeof b->boot_id);
	memcpy(b->losses, r->s->probe.losses, sizeof b->losses);
	b->losses[WIRE_LOSS_TORN] += r->counts->torn;
	b->first = b->end = first;
	b->mono_ns = r->mono_ns;
	b->real_ns = r->real_ns;
	b->flags = BATCH_SALVAGED;
	r->id_count = r->dict_bytes = 0;
	r->generation++;
}

static enum err
batch_emit(struct reader *r)
{
	struct wire_batch *b = &r->batch;
	uint8_t *dict = r->out + BATCH_FIXED_BYTES + b->records_bytes, *at = dict;

	if (b->end == b->first)
		return E_OK;
	tidy_ids(r);
	for (size_t i = 0; i < r->id_count; i++) {
		const char *s;
		uint32_t n;

		string_of(r, r->ids[i], &s, &n);
		at += wire_dict_put(at, r->ids[i], s, n);
	}
	b->dict_bytes = (uint32_t)(at - dict);
	wire_batch_seal(r->out, b);
	r->counts->batches++;
	return r->emit(
	    r->ctx, r->out, BATCH_FIXED_BYTES + (size_t)b->records_bytes + b->dict_bytes);
}

/* Append a whole record; a full batch goes out first and the next begins where it ended. */
static enum err
batch_add(struct reader *r, const uint8_t *rec, uint32_t length, const struct wire_record *view)
{
	struct wire_batch *b = &r->batch;
	size_t had = r->id_count;
	enum err e;

	wire_record_ids(view, count_id, r);
	if (b->record_count > 0 && b->records_bytes + length + r->dict_bytes > BATCH_ROOM) {
		r->id_count = had;
		if ((e = batch_emit(r)) != E_OK)
			return e;
		batch_begin(r, b->end);
		wire_record_ids(view, count_id, r);
	}
	if (length + r->dict_bytes > FRAME_MAX_BYTES - BATCH_FIXED_BYTES) {
		/* Only forged records name that many strings. It is alone in this batch. */
		batch_begin(r, b->first);
		b->end = view->position + length;
		r->counts->torn++;
		return E_OK;
	}
	memcpy(r->out + BATCH_FIXED_BYTES + b->records_bytes, rec, length);
	b->records_bytes += length;
	b->record_count++;
	b->span_count += view->type == EVENT_SPAN;
	r->counts->spans += view->type == EVENT_SPAN;
	b->end = view->position + length;
	return E_OK;
}

static int
by_position(const void *a, const void *b)
{
	const struct open_slot *x = a, *y = b;

	return x->position < y->position ? -1 : x->position > y->position;
}

/* The slots whose span had not finished in what is stored. */
static enum err
read_slots(struct reader *r, uint64_t from)
{
	const struct salvage *s = r->s;

	r->open = calloc((size_t)s->slots + 1, sizeof *r->open);
	if (r->open == NULL)
		return E_NOMEM;
	for (uint32_t i = 0; i < s->slots; i++) {
		const uint8_t *p = s->file + s->slots_at + (uint64_t)i * s->slot_bytes;
		uint32_t n = wire_get32(p + 4);
		struct wire_error err;
		struct wire_span span;

		if (wire_get32(p) != SLOT_OPEN)
			continue;
		if (n > s->slot_bytes - SLOT_HEADER_BYTES ||
		    wire_crc32c(0, p + SLOT_HEADER_BYTES, n) != wire_get32(p + 24) ||
		    wire_span_get(p + SLOT_HEADER_BYTES, n, &span, &err) != 0) {
			r->counts->torn++;
			continue;
		}
		if (wire_get64(p + 8) != SLOT_NO_POSITION && wire_get64(p + 8) < from)
			continue; /* its finish is stored */
		r->open[r->open_count++] = (struct open_slot){
			.position = wire_get64(p + 8), .payload = p + SLOT_HEADER_BYTES, .bytes = n
		};
	}
	qsort(r->open, r->open_count, sizeof *r->open, by_position);
	return E_OK;
}

static void
mark_finished(struct reader *r, uint64_t position)
{
	struct open_slot key = { .position = position };
	struct open_slot *o = bsearch(&key, r->open, r->open_count, sizeof key, by_position);

	if (o != NULL)
		o->finished = true;
}

/* A record that counts: whole, published, and of this lap. */
static bool
record_at(struct reader *r, uint64_t position, struct wire_record *out)
{
	uint64_t offset = position % r->s->area_bytes, left = r->s->area_bytes - offset;
	const uint8_t *p = r->s->file + r->s->area + offset;
	struct wire_error err;
	struct wire_span span;

	if (left > r->s->head - position)
		left = r->s->head - position;
	if (left < RECORD_HEADER_BYTES || wire_get64(p) != position ||
	    wire_get32(p + 8) > r->budget)
		return false;
	r->budget -= wire_get32(p + 8);
	if (wire_record_get(p, (size_t)left, out, &err) < 0)
		return false;

	const struct event_desc *event = event_find(out->type);

	if (event == NULL)
		return true;
	if (event->tail == TAIL_TAGS)
		return wire_span_get(out->payload, out->payload_bytes, &span, &err) == 0;
	return out->payload_bytes >= event->fixed_bytes;
}

/* The length of a record that was reserved and never published, 0 when there is none. */
static uint32_t
busy_length(const struct reader *r, uint64_t position)
{
	uint64_t offset = position % r->s->area_bytes, left = r->s->area_bytes - offset;
	const uint8_t *p = r->s->file + r->s->area + offset;
	uint32_t n;

	if (left < RECORD_HEADER_BYTES || wire_get64(p) != position || p[14] != RECORD_BUSY)
		return 0;
	n = wire_get32(p + 8);
	return n >= RECORD_HEADER_BYTES && n % 8 == 0 && n <= FRAME_RECORD_MAX_BYTES && n <= left
		   ? n
		   : 0;
}

static enum err
take_record(struct reader *r, const struct wire_record *rec)
{
	struct wire_error err;
	struct wire_span span;

	if (rec->type == EVENT_PAD)
		return E_OK;
	if (rec->type == EVENT_SPAN || rec->type == EVENT_OPEN) {
		if (wire_span_get(rec->payload, rec->payload_bytes, &span, &err) != 0)
			return E_OK;
		if (span.start_ns <= UINT64_MAX - span.duration_ns)
			r->life_ns = later(r->life_ns, span.start_ns + span.duration_ns);
		if (rec->type == EVENT_SPAN)
			mark_finished(r, rec->position);
	}
	return batch_add(r, rec->payload - RECORD_HEADER_BYTES, rec->length, rec);
}

static enum err
read_records(struct reader *r, uint64_t from)
{
	bool hole = false;
	uint64_t at = from;

	while (r->s->area_bytes >= RECORD_HEADER_BYTES && at < r->s->head) {
		uint64_t left = r->s->area_bytes - at % r->s->area_bytes;
		struct wire_record rec;
		uint32_t busy;

		if (left < RECORD_HEADER_BYTES) { /* too small for a header: left as it is */
			at += left;
			continue;
		}
		if (record_at(r, at, &rec)) {
			enum err e = take_record(r, &rec);

			if (e != E_OK)
				return e;
			at += rec.length;
			hole = false;
			continue;
		}
		busy = hole ? 0 : busy_length(r, at);
		r->counts->torn += !hole;
		hole = busy == 0;
		at += busy != 0 ? busy : 8;
	}
	return E_OK;
}

/* One open slot as the span it would have become. */
static enum err
add_unfinished(struct reader *r, const struct open_slot *o, uint64_t position)
{
	uint8_t rec[FRAME_RECORD_MAX_BYTES], tags[FRAME_RECORD_MAX_BYTES];
	struct wire_tags t = { .buf = tags, .cap = sizeof tags - 256 };
	struct wire_record view;
	struct wire_error err;
	struct wire_span span;
	uint32_t length;

	if (wire_span_get(o->payload, o->bytes, &span, &err) != 0)
		return E_OK;
	memcpy(tags, span.tags, span.tag_bytes);
	t.used = span.tag_bytes;
	t.count = span.tag_count;
	wire_tag_str(&t, r->extra + OWN_KEY_ERROR, r->extra + OWN_VERDICT);
	wire_tag_str(&t, r->extra + OWN_KEY_UNFINISHED, r->extra + OWN_TRUE);
	span.tags = tags;
	span.tag_bytes = t.used;
	span.tag_count = t.count;
	span.flags |= WIRE_SPAN_ERROR | WIRE_SPAN_UNFINISHED | WIRE_SPAN_OPENED;
	if (span.flags & WIRE_SPAN_JOB)
		span.flags |= WIRE_SPAN_JOB_FAILED;
	span.duration_ns = r->life_ns > span.start_ns ? r->life_ns - span.start_ns : 0;
	length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + span.tag_bytes;
	wire_span_put(rec + RECORD_HEADER_BYTES, &span);
	wire_record_seal(rec, position, length, EVENT_SPAN, RECORD_PUBLISHED);
	if (wire_record_get(rec, length, &view, &err) < 0)
		return E_OK;
	r->counts->unfinished++;
	return batch_add(r, rec, length, &view);
}

static enum err
read_all(struct reader *r, uint64_t from)
{
	uint64_t end;
	enum err e;

	if ((e = index_arena(r)) != E_OK || (e = read_slots(r, from)) != E_OK)
		return e;
	batch_begin(r, from);
	if ((e = read_records(r, from)) != E_OK)
		return e;
	/* What follows lies beyond everything that the process ever reserved. */
	end = later(r->s->head, from);
	r->batch.end = later(r->batch.end, end);
	for (size_t i = 0; i < r->open_count; i++) {
		if (r->open[i].finished)
			continue;
		if ((e = add_unfinished(r, &r->open[i], r->batch.end)) != E_OK)
			return e;
	}
	return batch_emit(r);
}

enum err
salvage_read(struct salvage *s, uint64_t from, uint64_t mono_ns, uint64_t real_ns,
    const struct salvage_evidence *evidence, salvage_emit_fn emit, void *ctx,
    struct salvage_counts *counts)
{
	struct reader r = { .s = s,
		.emit = emit,
		.ctx = ctx,
		.counts = counts,
		.mono_ns = mono_ns != 0 ? mono_ns : s->probe.mono_ns,
		.real_ns = mono_ns != 0 ? real_ns : s->probe.real_ns,
		.budget = BUDGET_TIMES * (s->area_bytes + FRAME_RECORD_MAX_BYTES),
		.life_ns = s->beat,
		.own = { "error.type", salvage_verdict(evidence), "comfymon.unfinished", "true" } };
	enum err e = E_NOMEM;

	/* A batch may exceed its aim by one record; each 8 bytes of a record name one id at most.
	 */
	r.out = malloc(FRAME_MAX_BYTES);
	r.ids = malloc(FRAME_MAX_BYTES / 4 * sizeof *r.ids);
	from = later(from, s->acknowledged);
	if (from > UINT64_MAX / 2)
		e = E_INVAL; /* no stream has come that far */
	else if (r.out != NULL && r.ids != NULL)
		e = read_all(
		    &r, WIRE_ALIGN8(from)); /* a stranger's batch may have ended anywhere */
	free(r.out);
	free(r.ids);
	free(r.open);
	free(r.strings);
	free(r.seen);
	return e;
}
