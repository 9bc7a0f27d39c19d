/*
 * sender.h - the one thread of the probe: drains the ring into batches and
 * hands them to the collector.
 *
 * sender_start and sender_stop are the starter's (one at a time); figures may
 * be read from any thread at any time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "probe/core/arena.h"
#include "probe/core/ring.h"

struct sender;

/* NULL when the thread cannot be made.  Keeps what it is given: it all outlives the thread. */
struct sender *sender_start(struct ring *r, struct arena *arena, const struct own_fd *wake,
    const char *run_dir, const uint8_t *attrs, uint32_t attrs_bytes);

/* Hand over what is in the ring for at most timeout_ms, then end the thread. */
void sender_stop(struct sender *s, uint32_t timeout_ms);

/* In the child of a fork, where the thread does not exist: close its descriptor, if there is one.
 */
void sender_forked(void);

/* Of the sender of this process, started last; zeros before. */
void sender_figures(uint64_t *batches_sent, uint64_t *times_reconnected, bool *is_connected);
