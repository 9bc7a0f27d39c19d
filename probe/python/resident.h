/*
 * resident.h - memory of this process, cheap enough for every node: one pread
 * of /proc/self/statm through a descriptor that is kept open.
 *
 * libc only; one thread at a time.  A forked child opens its own.
 */
#pragma once

#include <stdint.h>

/* Resident bytes, 0 when the kernel does not say. */
uint64_t resident_bytes(void);
