/*
 * fake_nvml.h - what a test may change in the fake library while it is loaded:
 * dlopen it as well and dlsym "fake_nvml".  Programs set FAKE_NVML_GPUS (and
 * FAKE_NVML_PID, who holds memory on each) before the library is loaded.
 */
#pragma once

#include <stdatomic.h>

#define FAKE_NVML_MOST 32

struct fake_nvml {
	atomic_uint gpus;
	atomic_int init_result, count_result, lost; /* lost: index of a device, -1 none */
	atomic_int processes_result;
	atomic_uint slow_ms, holders, pid; /* holders on each device, from pid on */
	atomic_ullong used[FAKE_NVML_MOST];
	atomic_ullong held; /* by each holder; ~0: the driver does not tell */
	atomic_uint inits, shutdowns, reads;
};
