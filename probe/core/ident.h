/*
 * ident.h - clocks, random numbers and who this process is.  Any thread; no
 * locks.  System calls: ident_process always, the generator only to seed
 * itself (first use in a thread, first use after a fork).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "schema/frame.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* CLOCK_MONOTONIC and CLOCK_REALTIME, read back to back. */
void ident_clock_pair(uint64_t *mono_ns, uint64_t *real_ns);

/* Start is field 22 of /proc/self/stat; what cannot be read is 0. */
void ident_process(uint64_t *pid, uint64_t *start_ticks, uint8_t boot_id[FRAME_BOOT_ID_BYTES]);

/* Random bytes from the kernel, from clock and addresses where it has none yet. */
void ident_random(void *p, size_t n);

/* From the child handler of fork: every generator seeds itself anew. */
void ident_forked(void);
