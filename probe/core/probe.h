/*
 * probe.h - what a host language sees of the probe: start, intern, spans, stop.
 *
 * Libc and threads only.  Every function may be called from any thread, after
 * fork too (a child gets a ring of its own at its first record), never blocks
 * on a lock held across a system call, never aborts, never writes to stdio.
 * When something is inconsistent the probe turns itself off, keeps the reason
 * (comfymon_off_reason) and every call becomes a cheap no-op.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/wire.h"

#define COMFYMON_API __attribute__((visibility("default")))

/* Slot handle of a span without a slot. */
#define COMFYMON_NO_SLOT UINT32_MAX

struct comfymon_options {
	const char *run_dir;  /* NULL: COMFYMON_RUN_DIR, /dev/shm/comfymon-<uid>,
				 $XDG_RUNTIME_DIR/comfymon */
	uint64_t ring_bytes;  /* 0: min(16 MB, 1/8 of what is free there, 1/64 of the cgroup's
				 limit), >= 1 MB */
	const uint8_t *attrs; /* identity, see frame.h; copied */
	uint32_t attrs_bytes;
	bool sender; /* start the sender thread (false in tests and when only the file is wanted) */
};

/*
 * Open the ring and start the sender.  0, or -1 with a text in reason[cap]
 * (the probe is then off; the host goes on).  Calling twice is harmless.
 */
COMFYMON_API int comfymon_start(const struct comfymon_options *o, char *reason, size_t cap);

/* Let the sender try for at most timeout_ms to hand over what is in the ring, then close. The ring
 * file stays when unacknowledged records remain. */
COMFYMON_API void comfymon_stop(uint32_t timeout_ms);

COMFYMON_API bool comfymon_is_on(void);
COMFYMON_API const char *comfymon_off_reason(void); /* "" while on */

/* CLOCK_MONOTONIC, nanoseconds. */
COMFYMON_API uint64_t comfymon_now_ns(void);
/* Non-zero random ids from a per-thread generator, reseeded after fork. */
COMFYMON_API uint64_t comfymon_random_id(void);
/* A 128-bit trace id as Datadog makes them: high = (unix seconds << 32). */
COMFYMON_API void comfymon_new_trace_id(uint64_t *hi, uint64_t *lo);

/*
 * Id of a string in this process's arena, 0 when it is empty, too long or the
 * arena is full (counted).  Cheap when seen before (one lock-free probe of a
 * table); keep ids of constants.  Ids stay valid in a forked child.
 */
COMFYMON_API uint32_t comfymon_intern(const char *s, size_t n);
/*
 * The same for a text that may never come again (a resource): the last quarter
 * of the arena is not for it, so that names still have ids after days of them.
 */
COMFYMON_API uint32_t comfymon_intern_value(const char *s, size_t n);

/*
 * A span that can outlive a batch has started: take a slot and write an OPEN
 * record.  `s->duration_ns` is ignored.  Returns the slot, or COMFYMON_NO_SLOT
 * (table full, counted open_full: the span is then recorded at its finish only).
 */
COMFYMON_API uint32_t comfymon_span_open(const struct wire_span *s);

/*
 * A span has finished: one SPAN record.  With a slot, the slot is given the
 * record's position, the record is published, and the slot is freed, in this
 * order.  Returns false when the record was dropped (counted).
 */
COMFYMON_API bool comfymon_span_finish(const struct wire_span *s, uint32_t slot);

/* Any other record by event id; payload as events.def says. */
COMFYMON_API bool comfymon_record(uint16_t type, const void *payload, uint32_t bytes);

/*
 * What became of the hook of this name (a string id; states are those of the
 * HOOK event): a record now, and again for each collector that greets us later.
 */
COMFYMON_API bool comfymon_hook(uint32_t name, uint32_t state);

struct comfymon_stats {
	uint64_t head, acknowledged, area_bytes;
	uint64_t losses[WIRE_LOSS_COUNT];
	uint64_t records, spans;      /* written by this process */
	uint64_t batches, reconnects; /* of the sender */
	uint32_t open_slots_used, strings;
	bool connected;
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
};
COMFYMON_API void comfymon_stats(struct comfymon_stats *out);

/* The run directory in use, "" while off. */
COMFYMON_API const char *comfymon_run_dir(void);
