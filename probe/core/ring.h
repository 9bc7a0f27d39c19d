/*
 * ring.h - one process's ring file and the way records get into it.
 *
 * ring_create and ring_retire belong to whoever starts and stops the probe
 * (one thread at a time); ring_reserve, ring_publish and ring_lose may be
 * called by any number of threads at once and never wait.
 *
 * Always true: acknowledged <= head <= acknowledged + area; a record lies
 * wholly inside the area; its bytes belong to the writer from reserve to
 * publish, then to the reader until acknowledged has passed it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/core/own.h"
#include "schema/frame.h"
#include "schema/tables.h"
#include "schema/wire.h"

#define RING_WAKE_NEVER    UINT64_MAX
#define RING_NAME_BYTES    64
#define RING_COUNTS        16u
#define RING_NAME_FORMAT   RUN_RING_PREFIX "%s" RUN_RING_SUFFIX
#define RING_ANY_MIN_BYTES (64u * 1024) /* smallest file that ring_create makes */

typedef _Atomic uint64_t ring_word;

struct ring {
	uint8_t *map;
	uint64_t map_bytes;
	uint8_t *area;
	uint64_t area_bytes;
	ring_word *head, *acked, *losses, *beat;
	uint8_t *slots;
	uint32_t slot_count;
	uint8_t *arena;
	uint64_t arena_bytes;
	ring_word *arena_used, *arena_strings;
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint8_t boot_id[FRAME_BOOT_ID_BYTES];
	uint64_t pid, start_ticks;
	struct own_fd file; /* holds the lock; closed only by ring_retire */
	int dir_fd;
	char name[RING_NAME_BYTES];
	struct ring *before; /* the one that this one followed, kept for late writers */

	/* Process-local.  Read by every writer, written seldom: a line of its own. */
	_Alignas(64) ring_word wake_at; /* a head at or beyond it wakes the sender */
	ring_word lap;                  /* a multiple of area_bytes near head, saves the division */
	_Atomic(const struct own_fd *) wake; /* a byte to it wakes the sender; NULL without one */
	/* Records written, for figures; threads count in different lines. */
	struct ring_count {
		_Alignas(64) ring_word spans;
		ring_word others;
	} counts[RING_COUNTS];
};

struct ring_plan {
	int dir_fd; /* checked run directory; stays the caller's */
	uint64_t file_bytes;
	uint32_t slot_count;
	uint64_t arena_bytes;
	const uint8_t *attrs;
	uint32_t attrs_bytes;
	const uint8_t *arena; /* copied in, NULL for an empty one */
	uint64_t arena_used, arena_strings;
};

/*
 * Make, lock and rename a ring file.  0 and *r filled, or -1 with a text in
 * reason[cap]; nothing is left behind then.
 */
int ring_create(struct ring *r, const struct ring_plan *plan, char *reason, size_t cap);

/*
 * Let go of the file (its lock with it).  The addresses stay valid, so that a
 * late writer harms nobody: records and slots become anonymous memory, header
 * and arena stay readable for whoever copies the strings, and what is written
 * to them is private.  `unlink_it` removes the file, for a ring that nobody
 * will miss.
 */
void ring_retire(struct ring *r, bool unlink_it);

/*
 * NULL while file and header are what they must be, else what is wrong.  A
 * host that closes descriptors it does not know has released our lock: the
 * collector then takes the ring for a dead process's.  A host that has opened
 * and closed our file (a backup, a virus scanner) has released it too: it is
 * taken again.
 */
const char *ring_fault(struct ring *r);

static inline ring_word *
ring_word_at(const uint8_t *p)
{
	return (ring_word *)(uintptr_t)p;
}

static inline uint64_t
ring_offset(struct ring *r, uint64_t position)
{
	uint64_t lap = atomic_load_explicit(&r->lap, memory_order_relaxed);

	if (position - lap < r->area_bytes)
		return position - lap;
	lap = position - position % r->area_bytes;
	atomic_store_explicit(&r->lap, lap, memory_order_relaxed);
	return position - lap;
}

static inline uint64_t
ring_state_word(uint32_t length, uint16_t type, enum record_state state)
{
	return length | (uint64_t)type << 32 | (uint64_t)state << 48;
}

void ring_pad(struct ring *r, uint64_t position, uint64_t offset, uint64_t bytes);
void ring_wake(struct ring *r);
/* Wake the sender whatever it waits for. errno stays. */
void ring_rouse(struct ring *r);

static inline void
ring_lose(struct ring *r, enum wire_loss why)
{
	atomic_fetch_add_explicit(&r->losses[why], 1, memory_order_relaxed);
}

/*
 * Room for a record of `length` bytes (header included, a multiple of 8, at
 * most FRAME_RECORD_MAX_BYTES), its header written as busy.  NULL when the
 * ring is full; the caller counts.
 */
static inline uint8_t *
ring_reserve(struct ring *r, uint32_t length, uint16_t type, uint64_t *position)
{
	uint64_t h = atomic_load_explicit(r->head, memory_order_relaxed), offset, pad;

	for (;;) {
		uint64_t acked = atomic_load_explicit(r->acked, memory_order_acquire);

		offset = ring_offset(r, h);
		pad = r->area_bytes - offset < length ? r->area_bytes - offset : 0;
		/* h may be old: then the difference is negative and the exchange fails. */
		if ((int64_t)(h + pad + length - acked) > (int64_t)r->area_bytes)
			return NULL;
		if (atomic_compare_exchange_weak_explicit(
			r->head, &h, h + pad + length, memory_order_seq_cst, memory_order_relaxed))
			break;
	}
	if (pad != 0) {
		ring_pad(r, h, offset, pad);
		h += pad;
		offset = 0;
	}

	uint8_t *p = r->area + offset;

	/* Busy before the position: who reads the new position never sees an old state. */
	atomic_store_explicit(
	    ring_word_at(p + 8), ring_state_word(length, type, RECORD_BUSY), memory_order_relaxed);
	atomic_store_explicit(ring_word_at(p), h, memory_order_release);
	*position = h;
	return p;
}

/* The payload at p + RECORD_HEADER_BYTES is complete: give the record to the reader. */
static inline void
ring_publish(struct ring *r, uint8_t *p, uint64_t position, uint32_t length, uint16_t type)
{
	uint8_t head[14];
	uint32_t crc;

	wire_put64(head, position);
	wire_put32(head + 8, length);
	wire_put16(head + 12, type);
	crc = wire_crc32c(0, head, sizeof head);
	crc = wire_crc32c(crc, p + RECORD_HEADER_BYTES, length - RECORD_HEADER_BYTES);
	atomic_store_explicit(ring_word_at(p + 16), crc, memory_order_relaxed);
	atomic_store_explicit(ring_word_at(p + 8), ring_state_word(length, type, RECORD_PUBLISHED),
	    memory_order_release);
	/* Stacks lie apart: the frame's address tells threads apart for nothing. */
	struct ring_count *count =
	    &r->counts[(uintptr_t)__builtin_frame_address(0) >> 16 & (RING_COUNTS - 1)];

	atomic_fetch_add_explicit(
	    type == EVENT_SPAN ? &count->spans : &count->others, 1, memory_order_relaxed);
	/* Pairs with the sender's store of wake_at and load of head, all seq_cst. */
	if (position + length >= atomic_load_explicit(&r->wake_at, memory_order_seq_cst))
		ring_wake(r);
}
