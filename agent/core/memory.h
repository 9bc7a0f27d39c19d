/*
 * memory.h - the contract between who samples the memory of ComfyUI (agent/memory)
 * and who wants to know: the processor for the peaks of spans, status and
 * metrics for what is now.  Times are CLOCK_MONOTONIC, as in records.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/err.h"

#define MEMORY_GPUS 16u /* devices that have a place; more are not looked at */

/* The highest that was seen within a span's time; 0: no sample falls into it. */
struct memory_peak {
	uint64_t rss_bytes;
	uint64_t gpu_bytes[MEMORY_GPUS]; /* of the device, whoever holds them */
};

/* What the processor asks and tells. Both never block on I/O; any thread. */
struct memory_watch {
	void *ctx;
	/* A job of that process begins (and is looked at more closely), or ends. */
	void (*job)(void *ctx, uint64_t pid, uint64_t start_ticks, uint64_t span_id, bool begins);
	/* False: nothing is known of that time; *out is all 0. */
	bool (*peak)(void *ctx, uint64_t pid, uint64_t start_ticks, uint64_t from_mono_ns,
	    uint64_t to_mono_ns, struct memory_peak *out);
};
