/*
 * span.c - records written: spans opened and finished, and the strings they
 * name.  Any thread.  No lock and no system call, but for the wake-up of a
 * sleeping sender; the span is encoded where it will lie.
 */
#include <string.h>

#include "probe/core/probe.h"
#include "probe/core/state.h"
#include "schema/fault.h"

#define SPAN_MAX_TAG_BYTES (FRAME_RECORD_MAX_BYTES - RECORD_HEADER_BYTES - WIRE_SPAN_FIXED_BYTES)

static inline uint32_t
span_length(const struct wire_span *s)
{
	return RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + s->tag_bytes;
}

/* Tags as wire_tags makes them: whole words, no longer than a record. */
static inline bool
span_fits(const struct wire_span *s)
{
	return s->tag_bytes <= SPAN_MAX_TAG_BYTES && s->tag_bytes % 8 == 0;
}

static uint32_t
intern(const char *s, size_t n, bool name)
{
	uint32_t hash, id;

	if (n == 0)
		return 0;

	struct ring *r = atomic_load_explicit(&gate.ring, memory_order_acquire);

	if (n > FRAME_STRING_MAX_BYTES) {
		if ((r = probe_ring()) != NULL)
			ring_lose(r, WIRE_LOSS_TOO_LARGE);
		return 0;
	}
	id = arena_find(&probe.arena, s, n, &hash);
	if (id != 0)
		return id;
	r = r != NULL ? r : probe_ring();
	if (r == NULL)
		return 0;
	if (name || !arena_is_scarce(&probe.arena))
		id = arena_add(&probe.arena, s, n, hash);
	if (id == 0)
		ring_lose(r, WIRE_LOSS_ARENA_FULL);
	return id;
}

uint32_t
comfymon_intern(const char *s, size_t n)
{
	return intern(s, n, true);
}

uint32_t
comfymon_intern_value(const char *s, size_t n)
{
	return intern(s, n, false);
}

uint32_t
comfymon_span_open(const struct wire_span *s)
{
	struct ring *r = probe_ring();
	uint64_t position;
	uint32_t slot;
	uint8_t *p;

	if (r == NULL)
		return COMFYMON_NO_SLOT; /* counted when it finishes */
	if (!span_fits(s)) {
		ring_lose(r, WIRE_LOSS_OPEN_FULL);
		return COMFYMON_NO_SLOT;
	}
	slot = open_take(&probe.open, s);
	if (slot == OPEN_NONE) {
		ring_lose(r, WIRE_LOSS_OPEN_FULL);
		return COMFYMON_NO_SLOT;
	}
	p = ring_reserve(r, span_length(s), EVENT_OPEN, &position);
	if (p == NULL) {
		/* The slot alone tells of it if the process dies: nothing is lost. */
		ring_lose(r, WIRE_LOSS_OPEN_FULL);
		return slot;
	}
	wire_span_put(p + RECORD_HEADER_BYTES, s);
	wire_put64(p + RECORD_HEADER_BYTES + 40, 0);
	ring_publish(r, p, position, span_length(s), EVENT_OPEN);
	return slot;
}

bool
comfymon_span_finish(const struct wire_span *s, uint32_t slot)
{
	struct ring *r = probe_ring();
	uint64_t position;
	bool opened;
	uint8_t *p;

	if (r == NULL) {
		probe_lose();
		return false;
	}
	opened = slot != COMFYMON_NO_SLOT && open_claim(&probe.open, slot);
	p = span_fits(s) ? ring_reserve(r, span_length(s), EVENT_SPAN, &position) : NULL;
	fault_enter("reserve/publish");
	if (p == NULL) {
		if (opened)
			open_free(&probe.open, slot);
		ring_lose(r, span_fits(s) ? WIRE_LOSS_RING_FULL : WIRE_LOSS_TOO_LARGE);
		return false;
	}
	if (fault_breaks("publish-before-payload"))
		ring_publish(r, p, position, span_length(s), EVENT_SPAN);
	wire_span_put(p + RECORD_HEADER_BYTES, s);
	if (opened) {
		wire_put16(p + WIRE_SPAN_OFF_FLAGS, s->flags | WIRE_SPAN_OPENED);
		open_finish_at(&probe.open, slot, position);
	}
	fault_inside("reserve/publish");
	if (!fault_breaks("publish-before-payload"))
		ring_publish(r, p, position, span_length(s), EVENT_SPAN);
	if (opened)
		open_free(&probe.open, slot);
	fault_leave("reserve/publish");
	return true;
}

bool
comfymon_record(uint16_t type, const void *payload, uint32_t bytes)
{
	struct ring *r = probe_ring();
	uint32_t padded, length;
	uint64_t position;
	uint8_t *p;

	if (r == NULL) {
		probe_lose();
		return false;
	}
	if (bytes > FRAME_RECORD_MAX_BYTES - RECORD_HEADER_BYTES) {
		ring_lose(r, WIRE_LOSS_TOO_LARGE);
		return false;
	}
	padded = (uint32_t)WIRE_ALIGN8(bytes);
	length = RECORD_HEADER_BYTES + padded;
	p = ring_reserve(r, length, type, &position);
	if (p == NULL) {
		ring_lose(r, WIRE_LOSS_RING_FULL);
		return false;
	}
	if (bytes > 0)
		memcpy(p + RECORD_HEADER_BYTES, payload, bytes);
	memset(p + RECORD_HEADER_BYTES + bytes, 0, padded - bytes);
	ring_publish(r, p, position, length, type);
	return true;
}
