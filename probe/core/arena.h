/*
 * arena.h - strings that records name by id, once each, in the ring file.
 * arena_find and arena_get take no lock; arena_add lets one thread in at a
 * time and holds nobody across a system call.  Any thread.
 *
 * Always true: ids 1..strings are complete in the file, in order; an id in
 * the table is one of them.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_IDS_MAX 65535u

struct ring;

struct arena {
	_Atomic(uint8_t *) base; /* in the ring's map; moved by a forked child */
	uint64_t bytes;
	_Atomic uint64_t *used, *strings; /* in the ring's header */
	_Atomic uint64_t *table;          /* hash << 32 | id; 0 is free */
	uint32_t table_mask, max_strings;
	uint64_t scarce_bytes, scarce_strings; /* three quarters of what was free at attach */
	_Atomic uint32_t *offsets;             /* of entry n at index n - 1, in units of 8 bytes */
	atomic_uint busy;                      /* a thread is adding */
	uint64_t table_bytes;
};

/* Memory for the index of an arena of at most `bytes`; -1 when there is none. */
int arena_init(struct arena *a, uint64_t bytes);
void arena_fini(struct arena *a);

/* Number of whole entries in the first `used` bytes of an arena, and the bytes they fill. */
uint64_t arena_count(const uint8_t *base, uint64_t *used);

/*
 * Use the arena of this ring, which begins with the strings of the one used
 * before (none in a fresh process): their ids stay, the index learns what it
 * has missed.  The caller is the only one who adds.
 */
void arena_attach(struct arena *a, struct ring *r);

/* In a child of fork: whoever was adding in the parent does not exist here. */
void arena_forked(struct arena *a);

/* Id of a string seen before, or 0.  *hash is for arena_add. */
uint32_t arena_find(struct arena *a, const char *s, size_t n, uint32_t *hash);
/* Id of a string, added when new; 0 when the arena is full. */
uint32_t arena_add(struct arena *a, const char *s, size_t n, uint32_t hash);

/* Three quarters of the room are used: what is left is for names, which come again. */
bool arena_is_scarce(struct arena *a);

/* The string with this id, valid until the arena is attached elsewhere; false for an unknown id. */
bool arena_get(struct arena *a, uint32_t id, const char **s, uint32_t *n);
