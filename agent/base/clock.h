/*
 * clock.h - the three clocks and who booted.  Any thread.  Waits and ages use
 * the monotonic clock; the real one is only for what people and Datadog read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/err.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC */
uint64_t clock_real_ns(void); /* CLOCK_REALTIME */
/* CPU time of the calling thread. */
uint64_t clock_thread_cpu_ns(void);

/*
 * 16 bytes that change with every boot; zeros where the kernel does not say.
 * False: it cannot be read now (no descriptor, say), and nothing follows from the zeros.
 */
MUST_CHECK bool clock_boot_id(uint8_t out[16]);

/* For tests: add these to what the clocks say from now on (0, 0 undoes it). */
void clock_test_shift(int64_t mono_ns, int64_t real_ns);
