/*
 * comfy_rss.h - how much memory of this process is resident, cheaply enough to
 * be asked around every node.
 *
 * libc only; one thread at a time (the GIL's).  A reading that is younger than
 * RSS_FRESH_NS is given again: it costs a system call of about a microsecond,
 * and little comes or goes in a millisecond.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RSS_FRESH_NS 1000000u

/* Resident bytes at `now_ns` (CLOCK_MONOTONIC), 0 when /proc does not tell. */
uint64_t rss_bytes(uint64_t now_ns);
/* The descriptor is of the process that opened it: let it go after a fork. */
void rss_close(void);

/* Resident pages as /proc/self/statm says them; 0 when that is not what it is. */
uint64_t rss_parse(const char *statm, size_t n);
/* The most that was ever resident, bytes. */
uint64_t rss_peak_ever(void);
