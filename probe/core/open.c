/*
 * open.c - the open-span table.  Any thread.  Which slot is free is known
 * from a private bitmap; the file holds what a reader of the dead needs.
 */
#include "probe/core/open.h"

#include <string.h>

#define INDEX_BITS 10u
#define EPOCH_BITS 8u

static uint8_t *
slot_at(struct open_table *t, uint32_t handle)
{
	return t->ring->slots + (uint64_t)(handle & (OPEN_SLOTS_MAX - 1)) * SLOT_BYTES;
}

static _Atomic uint32_t *
state_of(uint8_t *slot)
{
	return (_Atomic uint32_t *)(uintptr_t)slot;
}

void
open_init(struct open_table *t, struct ring *r, uint32_t epoch)
{
	t->ring = r;
	t->epoch = epoch & ((1u << EPOCH_BITS) - 1);
	for (uint32_t i = 0; i < OPEN_SLOTS_MAX; i++)
		atomic_store_explicit(&t->handle[i], OPEN_NONE, memory_order_relaxed);
	/* Slots that the ring does not have are taken for ever. */
	for (uint32_t i = 0; i < OPEN_SLOTS_MAX / 64; i++) {
		uint64_t word = 0;

		for (uint32_t k = 0; k < 64; k++)
			if (i * 64 + k >= r->slot_count)
				word |= UINT64_C(1) << k;
		atomic_store_explicit(&t->taken[i], word, memory_order_relaxed);
	}
}

/* Index of a slot that was free and is now taken, or OPEN_NONE. */
static uint32_t
take_index(struct open_table *t)
{
	for (uint32_t i = 0; i * 64 < t->ring->slot_count; i++) {
		uint64_t word = atomic_load_explicit(&t->taken[i], memory_order_relaxed);

		while (word != UINT64_MAX) {
			uint32_t k = (uint32_t)__builtin_ctzll(~word);

			if (atomic_compare_exchange_weak_explicit(&t->taken[i], &word,
				word | UINT64_C(1) << k, memory_order_acquire,
				memory_order_relaxed))
				return i * 64 + k;
		}
	}
	return OPEN_NONE;
}

/* The payload in the slot: whole tags as far as they fit. */
static uint32_t
put_payload(uint8_t *p, const struct wire_span *s)
{
	struct wire_span cut = *s;
	struct wire_tag_view tag;
	uint32_t at = 0;

	cut.duration_ns = 0;
	cut.tag_bytes = 0;
	cut.tag_count = 0;
	while (wire_tag_next(s, &at, &tag) &&
	       at <= SLOT_BYTES - SLOT_HEADER_BYTES - WIRE_SPAN_FIXED_BYTES) {
		cut.tag_bytes = at;
		cut.tag_count++;
	}
	wire_span_put(p, &cut);
	return WIRE_SPAN_FIXED_BYTES + cut.tag_bytes;
}

uint32_t
open_take(struct open_table *t, const struct wire_span *s)
{
	uint32_t index = take_index(t);

	if (index == OPEN_NONE)
		return OPEN_NONE;

	uint8_t *slot = slot_at(t, index);
	uint64_t generation = wire_get64(slot + 16) + 1;
	/* The generation never reaches all ones, so no handle is OPEN_NONE. */
	uint32_t handle = index | t->epoch << INDEX_BITS |
			  (uint32_t)(generation % 0x3fff) << (INDEX_BITS + EPOCH_BITS);
	uint32_t n;

	atomic_store_explicit(state_of(slot), SLOT_BUSY, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	n = put_payload(slot + SLOT_HEADER_BYTES, s);
	wire_put32(slot + 4, n);
	atomic_store_explicit(ring_word_at(slot + 8), SLOT_NO_POSITION, memory_order_relaxed);
	wire_put64(slot + 16, generation);
	wire_put32(slot + 24, wire_crc32c(0, slot + SLOT_HEADER_BYTES, n));
	atomic_store_explicit(state_of(slot), SLOT_OPEN, memory_order_release);
	atomic_store_explicit(&t->handle[index], handle, memory_order_release);
	return handle;
}

bool
open_claim(struct open_table *t, uint32_t handle)
{
	uint32_t index = handle & (OPEN_SLOTS_MAX - 1), expected = handle;

	if (handle == OPEN_NONE || index >= t->ring->slot_count)
		return false;
	return atomic_compare_exchange_strong(&t->handle[index], &expected, OPEN_NONE);
}

void
open_finish_at(struct open_table *t, uint32_t handle, uint64_t position)
{
	atomic_store_explicit(ring_word_at(slot_at(t, handle) + 8), position, memory_order_release);
}

void
open_free(struct open_table *t, uint32_t handle)
{
	uint32_t index = handle & (OPEN_SLOTS_MAX - 1);

	atomic_store_explicit(state_of(slot_at(t, handle)), SLOT_FREE, memory_order_release);
	atomic_fetch_and_explicit(
	    &t->taken[index / 64], ~(UINT64_C(1) << (index % 64)), memory_order_release);
}

uint32_t
open_used(struct open_table *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i * 64 < t->ring->slot_count; i++) {
		uint64_t word = atomic_load_explicit(&t->taken[i], memory_order_relaxed);

		for (uint32_t k = 0; k < 64 && i * 64 + k < t->ring->slot_count; k++)
			n += (uint32_t)(word >> k & 1);
	}
	return n;
}
