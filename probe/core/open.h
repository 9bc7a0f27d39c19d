/*
 * open.h - the table of spans that have started and not finished, in the ring
 * file, so that the collector can name them after a death.  Any thread, no
 * locks, never waits.
 *
 * A handle names one use of one slot in one ring: a handle that was used
 * twice, or came from before a fork, finds nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "probe/core/ring.h"

#define OPEN_SLOTS_MAX 1024u
#define OPEN_NONE      UINT32_MAX

struct open_table {
	struct ring *ring;
	uint32_t epoch; /* of the ring, counted in this process */
	_Atomic uint64_t taken[OPEN_SLOTS_MAX / 64];
	_Atomic uint32_t handle[OPEN_SLOTS_MAX]; /* current handle of a taken slot */
};

void open_init(struct open_table *t, struct ring *r, uint32_t epoch);

/* Copy an OPEN payload (its tags cut to what fits) into a free slot. OPEN_NONE: table full. */
uint32_t open_take(struct open_table *t, const struct wire_span *s);

/* The handle is alive: its slot is now the caller's alone, to be given back by open_free. */
bool open_claim(struct open_table *t, uint32_t handle);
/* Where the span's record will be; before the record is published. */
void open_finish_at(struct open_table *t, uint32_t handle, uint64_t position);
void open_free(struct open_table *t, uint32_t handle);

uint32_t open_used(struct open_table *t);
