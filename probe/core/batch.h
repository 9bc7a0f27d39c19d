/*
 * batch.h - the reading side of the ring: records from a position on, packed
 * into one self-contained frame.  The sender's thread only; never waits.
 *
 * Holes: a record reserved but never published stops the reader; after a
 * second it is stepped over, counted torn, and a LOSS record takes its place.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/core/arena.h"
#include "probe/core/ring.h"

#define BATCH_ID_MAX (ARENA_IDS_MAX + 1) /* it and ids beyond it are never given out */

struct batch_reader {
	struct ring *ring;
	struct arena *arena;
	uint64_t hole_at;                /* where the reader stands before something unpublished */
	uint64_t hole_head;              /* head when it was first seen */
	uint64_t hole_since_ns;          /* 0: no hole */
	uint64_t torn_end;               /* holes before it are counted already */
	uint64_t ids[BATCH_ID_MAX / 64]; /* in the batch at hand */
	/* Ids that the record at hand is the first to name. */
	uint32_t fresh[FRAME_RECORD_MAX_BYTES / 4];
	uint32_t fresh_count;
};

void batch_reader_init(struct batch_reader *b, struct ring *r, struct arena *a);

/*
 * Pack a batch that begins at stream position `first` into out[FRAME_MAX_BYTES]
 * and set *end to the position behind it.  Where `first` is older than what
 * the ring still holds, a LOSS record speaks of the gap.  Returns the frame's
 * bytes, 0 when nothing can be sent yet (*end then is `first`).
 */
size_t batch_pack(
    struct batch_reader *b, uint64_t first, uint64_t now_ns, uint8_t *out, uint64_t *end);
