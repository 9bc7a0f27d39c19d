/*
 * cgroup.h - a memory cgroup of its own for the supervised process, version 1
 * or 2, below the one that we are in.  Main thread; small reads and writes on a
 * kernel file system.
 *
 * Source of the formats: kernel documentation, cgroup-v2.rst, cgroup-v1/memory.rst.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/cgroup.h"
#include "agent/base/err.h"

#define CGROUP_WHY_BYTES 200

struct cgroup {
	int version;    /* 0: none was made */
	char path[512]; /* the group of the supervised process */
	char ours[512]; /* version 2: the leaf that we moved to, "" when we did not */
	int join_fd;    /* its cgroup.procs, for cgroup_join after fork; close on exec */
};

struct cgroup_usage {
	uint64_t current_bytes, peak_bytes; /* 0 where the kernel does not say */
	uint64_t held_bytes;                /* of it what is no file's: the kernel cannot drop it */
};

struct cgroup_counts {
	bool known;
	uint64_t oom_kills;  /* processes of it that the OOM killer struck, for whose limit ever */
	uint64_t limit_hits; /* its limit was met; grows with the first time at the least */
};

/*
 * Make "comfymon-run-PID" with the limit (RAM and swap together).  With
 * version 2 we move ourselves into a leaf first, since a group with processes
 * may not have children with controllers.  E_NOTFOUND, E_PERM, ...: why[] says what
 * is missing; nothing is left behind.
 */
MUST_CHECK enum err cgroup_make(struct cgroup *g, uint64_t limit_bytes, char why[CGROUP_WHY_BYTES]);
/* Where the kernel begins to hold its tasks back, 0 nowhere. E_STATE: version 1 has no such thing.
 */
MUST_CHECK enum err cgroup_set_high(const struct cgroup *g, uint64_t high_bytes);
/* For how long all of its tasks at once have stood still for memory, in microseconds since it was
 * made.  E_STATE: version 1, or the kernel does not say. */
MUST_CHECK enum err cgroup_full_stall(const struct cgroup *g, uint64_t *total_us);
/* In the child, after fork: false when it could not. Async-signal-safe. */
bool cgroup_join(const struct cgroup *g);
/* The least limit in force on us or a group above us; UINT64_MAX when there is none. */
uint64_t cgroup_enclosing_limit(void);
/* The group that we are in (a container's, most likely), to be read alone; version 0: none. */
void cgroup_here(struct cgroup *g);
/* It may have been removed while nobody was in it, by who cleans up. */
MUST_CHECK enum err cgroup_renew(struct cgroup *g, uint64_t limit_bytes);
/* A new process begins in it: version 1 forgets the peak of the one before. */
void cgroup_begin(const struct cgroup *g);
/* All 0 where the kernel does not say. */
struct cgroup_counts cgroup_counts(const struct cgroup *g);
MUST_CHECK enum err cgroup_usage(const struct cgroup *g, struct cgroup_usage *out);
/* Remove the group (its processes must have gone). Harmless when none was made. */
void cgroup_remove(struct cgroup *g);
