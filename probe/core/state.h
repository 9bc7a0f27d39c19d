/*
 * state.h - the one probe of this process, as its own files see it.
 *
 * The hot path reads the gate's ring once and uses what it got; it is NULL
 * whenever the probe takes no records.  Everything else changes only while `phase` is
 * PHASE_STARTING, which one thread holds at a time.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "probe/core/arena.h"
#include "probe/core/open.h"
#include "probe/core/ring.h"
#include "probe/core/rundir.h"

#define ARENA_MAX_BYTES (2u << 20)

enum phase {
	PHASE_NONE,     /* never started, or stopped */
	PHASE_STARTING, /* a thread is at work on this structure */
	PHASE_ON,
	PHASE_CHILD, /* forked from a process with a probe; a ring comes with the first record */
	PHASE_OFF,   /* turned itself off, for good in this process */
};

/*
 * What the hot path reads: a page of its own, which the kernel hands to every
 * child as zeros.  Of a child that no fork handler has told (clone, _Fork) that
 * it is one, this is what keeps it from writing in its parent's ring.
 */
struct gate {
	_Alignas(4096) _Atomic(struct ring *) ring;
	atomic_bool ours; /* this process made the ring */
};

extern struct gate gate;

struct sender;

struct probe {
	_Atomic int phase;
	struct arena arena;
	struct open_table open;
	uint32_t epoch;
	struct sender *sender;
	bool with_sender;
	int dir_fd;
	struct own_fd wake[2]; /* a pair of sockets: the sender hears the first */
	char run_dir[RUNDIR_PATH_BYTES];
	uint8_t attrs[FRAME_ATTRS_MAX_BYTES];
	uint32_t attrs_bytes;
	struct ring *latest;                      /* ring or the one retired last, for figures */
	_Atomic uint64_t losses[WIRE_LOSS_COUNT]; /* while there is no ring */
};

extern struct probe probe;

/* The ring to write in; makes a forked child's own. NULL: count `why` with probe_lose. */
struct ring *probe_ring_slow(void);

static inline struct ring *
probe_ring(void)
{
	struct ring *r = atomic_load_explicit(&gate.ring, memory_order_acquire);

	return __builtin_expect(r != NULL, 1) ? r : probe_ring_slow();
}

/* Count a loss where there is no ring to count it in. */
void probe_lose(void);
