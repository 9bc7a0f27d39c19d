/*
 * memory.h - the contract between who samples the memory of ComfyUI (agent/memory)
 * and who wants to know: the processor for the peaks of spans, status and
 * metrics for what is now.  Times are CLOCK_MONOTONIC, as in records.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"

#define MEMORY_PROCESSES 16u /* that are followed; the longest gone makes room */
#define MEMORY_GPUS      16u /* devices that have a place; more are not looked at */

/* The highest that was seen within a span's time; 0: no sample falls into it. */
struct memory_peak {
	uint64_t rss_bytes;
	uint64_t gpu_bytes[MEMORY_GPUS]; /* of the device, whoever holds them; by torch's index */
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

/* What is now, for status and metrics; 0 where the kernel or driver does not say. */
struct memory_process_now {
	uint64_t pid, start_ticks;
	uint64_t started_real_ns, ended_real_ns; /* 0: not known, or not yet */
	bool alive, job_runs;
	uint64_t rss_bytes, peak_bytes; /* peak: the kernel's, of its life */
	uint64_t anon_bytes, file_bytes, shmem_bytes, swap_bytes, gpu_bytes;
	uint64_t group_bytes, group_limit_bytes;   /* of its cgroup, and the least limit above it */
	uint32_t group_some_x100, group_full_x100; /* its pressure, percent of 10 s times 100 */
	uint64_t major_faults, descriptors;
	uint32_t threads;
	bool held_known;            /* a job has ended and said what it left held ... */
	uint64_t accounted_bytes;   /* ... of that resident: results of nodes, models */
	uint64_t unaccounted_bytes; /* RSS at its end, less that */
};

struct memory_gpu_now {
	char name[64], id[64];
	bool answers;
	uint64_t used_bytes, total_bytes;
	uint32_t utilisation, celsius, milliwatts; /* percent */
};

struct memory_now {
	bool known;             /* a sampler runs */
	uint64_t since_real_ns; /* what the series begin with, 0: nothing yet */
	uint64_t host_total_bytes, host_available_bytes, swap_total_bytes, swap_free_bytes;
	uint32_t host_some_x100, host_full_x100;
	size_t process_count, gpu_count;
	struct memory_process_now processes[MEMORY_PROCESSES];
	struct memory_gpu_now gpus[MEMORY_GPUS];
	char gpu_problem[120];           /* why none, or not all, answer; "" */
	uint64_t samples, cpu_ns;        /* of the sampler's thread */
	uint64_t gpu_reads, gpu_read_ns; /* the last read took so long */
	uint64_t not_followed;           /* more lived than have a place, or not seen from here */
};

/* What the control socket answers about memory over time. */
struct memory_query {
	uint64_t since_real_ns; /* 0: all */
	uint32_t points;        /* of each series, at most; 1 .. MEMORY_POINTS_MAX */
	bool pss;               /* walk the page tables of each process for it */
};
#define MEMORY_POINTS_MAX 5000u
