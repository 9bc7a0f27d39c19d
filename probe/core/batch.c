/*
 * batch.c - walk the ring, step over holes, pack records and the strings they
 * use.  The sender's thread only.  A record is copied before it is judged: a
 * writer that was given up on may still be writing in the ring.
 */
#include "probe/core/batch.h"

#include <string.h>

#include "probe/core/ident.h"

#define HOLE_AGE_NS NS_PER_S
#define LOSS_BYTES  (RECORD_HEADER_BYTES + 24u)
#define DICT_MAX    (FRAME_MAX_BYTES - BATCH_FIXED_BYTES)

/* A batch while it grows. */
struct packing {
	struct batch_reader *b;
	uint8_t *records; /* behind the fixed part */
	uint32_t records_bytes, dict_bytes, record_count, span_count;
	uint32_t fresh_bytes; /* dictionary bytes of the record at hand */
	bool unknown_id;
};

enum step { STEP_TAKEN, STEP_SKIPPED, STEP_HOLE, STEP_FULL };

void
batch_reader_init(struct batch_reader *b, struct ring *r, struct arena *a)
{
	memset(b, 0, sizeof *b);
	b->ring = r;
	b->arena = a;
}

static void
note_id(void *ctx, uint32_t id)
{
	struct packing *k = ctx;
	uint64_t *word, bit;
	const char *s;
	uint32_t n;

	if (id >= BATCH_ID_MAX) {
		k->unknown_id = true;
		return;
	}
	word = &k->b->ids[id / 64];
	bit = UINT64_C(1) << (id % 64);
	if ((*word & bit) != 0)
		return;
	if (!arena_get(k->b->arena, id, &s, &n)) {
		k->unknown_id = true;
		return;
	}
	*word |= bit;
	k->b->fresh[k->b->fresh_count++] = id;
	k->fresh_bytes += (uint32_t)wire_dict_entry_bytes(n);
}

static void
forget_fresh(struct packing *k)
{
	struct batch_reader *b = k->b;

	for (uint32_t i = 0; i < b->fresh_count; i++)
		b->ids[b->fresh[i] / 64] &= ~(UINT64_C(1) << (b->fresh[i] % 64));
}

static void
put_loss(struct packing *k, uint64_t from, uint64_t to, enum wire_loss why)
{
	uint8_t *p = k->records + k->records_bytes, *payload = p + RECORD_HEADER_BYTES;

	wire_put64(payload, from);
	wire_put64(payload + 8, to);
	wire_put32(payload + 16, why);
	wire_put32(payload + 20, 0);
	wire_record_seal(p, from, LOSS_BYTES, EVENT_LOSS, RECORD_PUBLISHED);
	k->records_bytes += LOSS_BYTES;
	k->record_count++;
}

static uint32_t
packed_bytes(const struct packing *k)
{
	return BATCH_FIXED_BYTES + k->records_bytes + k->dict_bytes;
}

/* A published record of sane length, copied to the end of the batch: does it belong there? */
static enum step
judge(struct packing *k, uint64_t position, uint32_t length)
{
	struct wire_error err;
	struct wire_record rec;
	struct wire_span span;
	bool bad;

	if (wire_record_get(k->records + k->records_bytes, length, &rec, &err) < 0 ||
	    rec.position != position)
		return STEP_HOLE;
	if (rec.type == EVENT_PAD)
		return STEP_SKIPPED;
	k->fresh_bytes = k->b->fresh_count = 0;
	k->unknown_id = false;
	bad = (rec.type == EVENT_SPAN || rec.type == EVENT_OPEN) &&
	      wire_span_get(rec.payload, rec.payload_bytes, &span, &err) != 0;
	if (!bad)
		wire_record_ids(&rec, note_id, k);
	if (bad || k->unknown_id || length + k->fresh_bytes > DICT_MAX) {
		/* It would have the whole batch refused. */
		forget_fresh(k);
		if (position >= k->b->torn_end)
			ring_lose(k->b->ring,
			    bad || k->unknown_id ? WIRE_LOSS_OTHER : WIRE_LOSS_TOO_LARGE);
		if (position >= k->b->torn_end)
			k->b->torn_end = position + length;
		put_loss(k, position, position + length, WIRE_LOSS_OTHER);
		return STEP_TAKEN;
	}
	if (k->record_count > 0 &&
	    packed_bytes(k) + length + k->fresh_bytes > FRAME_BATCH_MAX_BYTES) {
		forget_fresh(k);
		return STEP_FULL;
	}
	k->records_bytes += length;
	k->dict_bytes += k->fresh_bytes;
	k->record_count++;
	k->span_count += rec.type == EVENT_SPAN;
	return STEP_TAKEN;
}

/* Length of the header at `position` when one is there (busy or published), else 0. */
static uint32_t
header_at(struct ring *r, uint64_t position, uint64_t head, enum record_state *state)
{
	uint64_t offset = position % r->area_bytes, word;
	const uint8_t *p = r->area + offset;
	uint32_t length;

	if (atomic_load_explicit(ring_word_at(p), memory_order_acquire) != position)
		return 0;
	word = atomic_load_explicit(ring_word_at(p + 8), memory_order_acquire);
	length = (uint32_t)word;
	*state = (enum record_state)(word >> 48 & 0xff);
	if (length < RECORD_HEADER_BYTES || length % 8 != 0 || length > FRAME_RECORD_MAX_BYTES ||
	    length > r->area_bytes - offset || length > head - position ||
	    (*state != RECORD_BUSY && *state != RECORD_PUBLISHED))
		return 0;
	return length;
}

static bool
no_header_fits(struct ring *r, uint64_t position)
{
	return r->area_bytes - position % r->area_bytes < RECORD_HEADER_BYTES;
}

/* The next position after `from` that holds a header, at most `head`. */
static uint64_t
next_header(struct ring *r, uint64_t from, uint64_t head)
{
	enum record_state state;

	for (uint64_t p = from + 8; p < head; p += 8)
		if (!no_header_fits(r, p) && header_at(r, p, head, &state) != 0)
			return p;
	return head;
}

/*
 * Something unpublished at `at`: wait for it until it is a second old, then
 * step over it.  Returns where to go on, `at` itself while waiting.
 */
static uint64_t
step_over_hole(struct packing *k, uint64_t at, uint64_t head, uint64_t now_ns)
{
	struct batch_reader *b = k->b;
	enum record_state state;
	uint32_t length;
	uint64_t to;

	if (b->hole_since_ns == 0 || b->hole_at != at) {
		b->hole_at = at;
		b->hole_head = head;
		b->hole_since_ns = now_ns;
	}
	if (at >= b->torn_end && now_ns - b->hole_since_ns < HOLE_AGE_NS)
		return at;
	length = header_at(b->ring, at, head, &state);
	if (length != 0 && state == RECORD_BUSY)
		to = at + length;
	else
		to = next_header(b->ring, at, b->hole_head);
	if (at >= b->torn_end) {
		ring_lose(b->ring, WIRE_LOSS_TORN);
		b->torn_end = to;
	}
	b->hole_since_ns = 0;
	put_loss(k, at, to, WIRE_LOSS_TORN);
	return to;
}

static uint64_t
walk(struct packing *k, uint64_t at, uint64_t head, uint64_t now_ns)
{
	struct ring *r = k->b->ring;
	enum record_state state;

	while (at < head) {
		if (packed_bytes(k) + LOSS_BYTES > FRAME_BATCH_MAX_BYTES)
			return at;
		if (no_header_fits(r, at)) {
			at += r->area_bytes - at % r->area_bytes;
			continue;
		}

		uint32_t length = header_at(r, at, head, &state);
		enum step step = STEP_HOLE;
		uint64_t to;

		if (length != 0 && state == RECORD_PUBLISHED) {
			memcpy(k->records + k->records_bytes, r->area + at % r->area_bytes, length);
			step = judge(k, at, length);
		}
		if (step == STEP_FULL)
			return at;
		to = step == STEP_HOLE ? step_over_hole(k, at, head, now_ns) : at + length;
		if (to == at)
			return at;
		at = to;
	}
	return at;
}

static void
put_dictionary(struct packing *k)
{
	uint8_t *p = k->records + k->records_bytes;
	const char *s;
	uint32_t n;

	for (uint32_t i = 0; i < BATCH_ID_MAX / 64; i++)
		for (uint64_t word = k->b->ids[i]; word != 0; word &= word - 1) {
			uint32_t id = i * 64 + (uint32_t)__builtin_ctzll(word);

			if (arena_get(k->b->arena, id, &s, &n))
				p += wire_dict_put(p, id, s, n);
		}
	memset(k->b->ids, 0, sizeof k->b->ids);
}

size_t
batch_pack(struct batch_reader *b, uint64_t first, uint64_t now_ns, uint8_t *out, uint64_t *end)
{
	struct ring *r = b->ring;
	struct packing k = { .b = b, .records = out + BATCH_FIXED_BYTES };
	uint64_t head = atomic_load_explicit(r->head, memory_order_acquire), at = first;
	uint64_t kept = atomic_load_explicit(r->acked, memory_order_relaxed);

	if (at < kept) {
		/* Another collector than the one we released this to: it is gone here. */
		put_loss(&k, at, kept, WIRE_LOSS_OTHER);
		at = kept;
	}
	*end = walk(&k, at, head, now_ns);
	if (k.record_count == 0) {
		*end = first; /* at most padding */
		return 0;
	}
	put_dictionary(&k);

	struct wire_batch w = {
		.first = first,
		.end = *end,
		.record_count = k.record_count,
		.span_count = k.span_count,
		.records_bytes = k.records_bytes,
		.dict_bytes = k.dict_bytes,
	};

	memcpy(w.probe_id, r->probe_id, sizeof w.probe_id);
	memcpy(w.boot_id, r->boot_id, sizeof w.boot_id);
	ident_clock_pair(&w.mono_ns, &w.real_ns);
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		w.losses[i] = atomic_load_explicit(&r->losses[i], memory_order_relaxed);
	wire_batch_seal(out, &w);
	return packed_bytes(&k);
}
