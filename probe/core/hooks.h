/*
 * hooks.h - what became of the host's hooks, for every collector that greets us.
 *
 * A collector keeps this in memory only: the next one would not know it of a
 * process that goes on.  Any thread, no lock.
 */
#pragma once

#include "probe/core/ring.h"

/* Into the ring once more, all that comfymon_hook was told. The sender's thread; a full ring is no
 * loss. */
void hooks_tell(struct ring *r);
