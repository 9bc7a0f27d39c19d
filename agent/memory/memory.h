/*
 * memory.h - the sampler: memory of every ComfyUI whose probe has said hello,
 * of its cgroup, the host and the devices, over time.
 *
 * Two threads of its own, one for /proc, one for the devices, because a driver may
 * take its time.  Each second, and each 100 ms while a job runs; while no
 * process lives that is followed, both sleep without a timer.
 */
#pragma once

#include "agent/core/memory.h"
#include "agent/core/outbuf.h"
#include "agent/core/process.h"

struct memory;

struct memory_options {
	const char *data_dir;           /* minutes are kept in files there; NULL: nowhere */
	const char *nvml;               /* library to open; "": look for no NVIDIA device */
	const char *proc_dir, *sys_dir; /* NULL: /proc, /sys */
	uint32_t slow_ms, fast_ms;      /* 0: 1000, 100 */
};

/* Reads what an earlier run kept. Texts are copied. */
MUST_CHECK enum err memory_new(const struct memory_options *o, struct memory **out);
MUST_CHECK enum err memory_start(struct memory *m);
/* Idempotent; legal before start. Waits for a driver no longer than a second. */
void memory_stop(struct memory *m);
void memory_free(struct memory *m);

/* ---- any thread; none blocks on more than a short lock --------------------- */

/* A process said hello (again). It is followed until it ends. */
void memory_follow(struct memory *m, uint64_t pid, uint64_t start_ticks);
/* See struct memory_watch. */
void memory_job(void *m, uint64_t pid, uint64_t start_ticks, uint64_t span_id, bool begins);
bool memory_peak(void *m, uint64_t pid, uint64_t start_ticks, uint64_t from_mono_ns,
    uint64_t to_mono_ns, struct memory_peak *out);
/* A record of a job or node, for the picture. */
void memory_saw(struct memory *m, const struct span_seen *s);
void memory_now(struct memory *m, struct memory_now *out);
/* One JSON object, see README.md. With q->pss it reads page tables: some milliseconds. */
MUST_CHECK enum err memory_view(struct memory *m, const struct memory_query *q, struct outbuf *out);
