/*
 * arena.c - interned strings: bytes in the ring file, index in private memory.
 * Any thread.  The index is made once, of pages that cost nothing until used;
 * a forked child inherits it with the ids that its parent gave out.
 */
#include "probe/core/arena.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "probe/core/ring.h"

/* The average entry is longer than this, so the index never fills first in practice. */
#define ENTRY_AVERAGE_BYTES 32u
#define ENTRY_HEADER_BYTES  8u
#define ADD_YIELDS          10000

int
arena_init(struct arena *a, uint64_t bytes)
{
	uint32_t slots = 256;

	memset(a, 0, sizeof *a);
	a->max_strings = (uint32_t)(bytes / ENTRY_AVERAGE_BYTES);
	if (a->max_strings > ARENA_IDS_MAX)
		a->max_strings = ARENA_IDS_MAX;
	while (slots < 2 * a->max_strings)
		slots *= 2;
	a->table_mask = slots - 1;
	a->table_bytes = slots * UINT64_C(8) + a->max_strings * UINT64_C(4);

	void *p = mmap(NULL, a->table_bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -1;
	a->table = p;
	a->offsets = (_Atomic uint32_t *)((uint8_t *)p + slots * UINT64_C(8));
	return 0;
}

void
arena_fini(struct arena *a)
{
	if (a->table != NULL)
		munmap(a->table, a->table_bytes);
	memset(a, 0, sizeof *a);
}

void
arena_forked(struct arena *a)
{
	atomic_store_explicit(&a->busy, 0, memory_order_relaxed);
}

static const uint8_t *
entry(struct arena *a, uint32_t id)
{
	uint32_t at = atomic_load_explicit(&a->offsets[id - 1], memory_order_relaxed);

	return atomic_load_explicit(&a->base, memory_order_relaxed) + at * UINT64_C(8);
}

/* Step through the slots of one hash: its first free one ends the search. */
static uint32_t
search(struct arena *a, const char *s, size_t n, uint32_t hash, uint32_t *free_at)
{
	uint32_t at = (hash * 0x9e3779b1u >> 7) & a->table_mask;

	for (;; at = (at + 1) & a->table_mask) {
		uint64_t v = atomic_load_explicit(&a->table[at], memory_order_acquire);

		if (v == 0)
			break;
		if (v >> 32 != hash)
			continue;

		const uint8_t *e = entry(a, (uint32_t)v);

		if (wire_get32(e) == n && memcmp(e + ENTRY_HEADER_BYTES, s, n) == 0)
			return (uint32_t)v;
	}
	*free_at = at;
	return 0;
}

uint32_t
arena_find(struct arena *a, const char *s, size_t n, uint32_t *hash)
{
	uint32_t free_at;

	*hash = wire_crc32c(0, s, n);
	return a->table == NULL ? 0 : search(a, s, n, *hash, &free_at);
}

uint64_t
arena_count(const uint8_t *base, uint64_t *used)
{
	uint64_t at = 0, n = 0;

	while (*used - at >= ENTRY_HEADER_BYTES) {
		uint64_t total = WIRE_ALIGN8(ENTRY_HEADER_BYTES + (uint64_t)wire_get32(base + at));

		if (total > *used - at)
			break;
		at += total;
		n++;
	}
	*used = at;
	return n;
}

void
arena_attach(struct arena *a, struct ring *r)
{
	uint64_t n = atomic_load(r->arena_strings), at = 0;

	a->bytes = r->arena_bytes;
	a->used = r->arena_used;
	a->strings = r->arena_strings;
	for (uint64_t i = 0; i < n; i++) {
		atomic_store_explicit(&a->offsets[i], (uint32_t)(at / 8), memory_order_relaxed);
		at += WIRE_ALIGN8(ENTRY_HEADER_BYTES + (uint64_t)wire_get32(r->arena + at));
	}
	a->scarce_bytes = at + (a->bytes - at) / 4 * 3;
	a->scarce_strings = n + (a->max_strings - n) / 4 * 3;
	atomic_store(&a->base, r->arena);
	at = 0;
	/* A parent's other thread may have added in the moment of the fork. */
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *e = r->arena + at;
		uint32_t length = wire_get32(e), hash = wire_get32(e + 4), free_at;

		if (search(a, (const char *)e + ENTRY_HEADER_BYTES, length, hash, &free_at) == 0)
			atomic_store_explicit(&a->table[free_at], (uint64_t)hash << 32 | (i + 1),
			    memory_order_release);
		at += WIRE_ALIGN8(ENTRY_HEADER_BYTES + (uint64_t)length);
	}
}

static uint32_t
append(struct arena *a, const char *s, size_t n, uint32_t hash, uint32_t free_at)
{
	uint64_t used = atomic_load_explicit(a->used, memory_order_relaxed);
	uint64_t strings = atomic_load_explicit(a->strings, memory_order_relaxed);
	uint64_t total = WIRE_ALIGN8(ENTRY_HEADER_BYTES + n);
	uint8_t *e = atomic_load_explicit(&a->base, memory_order_relaxed) + used;

	if (total > a->bytes - used || strings >= a->max_strings)
		return 0;
	wire_put32(e, (uint32_t)n);
	wire_put32(e + 4, hash);
	memcpy(e + ENTRY_HEADER_BYTES, s, n);
	memset(e + ENTRY_HEADER_BYTES + n, 0, total - ENTRY_HEADER_BYTES - n);
	atomic_store_explicit(&a->offsets[strings], (uint32_t)(used / 8), memory_order_relaxed);
	strings++;
	atomic_store_explicit(a->strings, strings, memory_order_release);
	atomic_store_explicit(a->used, used + total, memory_order_release);
	atomic_store_explicit(
	    &a->table[free_at], (uint64_t)hash << 32 | strings, memory_order_release);
	return (uint32_t)strings;
}

uint32_t
arena_add(struct arena *a, const char *s, size_t n, uint32_t hash)
{
	uint32_t id, free_at;

	if (a->table == NULL)
		return 0;
	/* The holder copies at most a kilobyte; only its being preempted is waited for. */
	for (int tries = 0; atomic_exchange_explicit(&a->busy, 1, memory_order_acquire) != 0;
	     tries++) {
		if (tries == ADD_YIELDS)
			return 0;
		sched_yield();
	}
	id = search(a, s, n, hash, &free_at);
	if (id == 0)
		id = append(a, s, n, hash, free_at);
	atomic_store_explicit(&a->busy, 0, memory_order_release);
	return id;
}

bool
arena_is_scarce(struct arena *a)
{
	return a->table == NULL ||
	       atomic_load_explicit(a->used, memory_order_relaxed) > a->scarce_bytes ||
	       atomic_load_explicit(a->strings, memory_order_relaxed) > a->scarce_strings;
}

bool
arena_get(struct arena *a, uint32_t id, const char **s, uint32_t *n)
{
	if (id == 0 || id > atomic_load_explicit(a->strings, memory_order_acquire))
		return false;

	const uint8_t *e = entry(a, id);

	*n = wire_get32(e);
	*s = (const char *)e + ENTRY_HEADER_BYTES;
	return true;
}
