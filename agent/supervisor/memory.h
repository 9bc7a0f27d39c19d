/*
 * memory.h - memory of a process and all that descend from it, and of the host,
 * from /proc.  Main thread.  Source: proc(5).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct memory_tree {
	uint64_t rss_bytes, swap_bytes;
	uint64_t file_bytes; /* of rss: pages of files, which the kernel can take back */
	unsigned processes;
	pid_t largest; /* who holds most of them, and how much */
	uint64_t largest_bytes;
};

/* When it was born, in clock ticks since the boot (field 22 of /proc/PID/stat); 0 when it has gone.
 * With the pid it names a process for good. */
uint64_t process_start_ticks(pid_t pid);
/* It runs, and is no corpse that nobody has taken away. Who cannot look (no descriptor is free)
 * has not seen it gone: true. */
bool process_lives(pid_t pid, uint64_t start_ticks);
/* Of pid alone; false when it has gone. One small read. */
bool memory_of(pid_t pid, struct memory_tree *out);
/* Of those that a file names, a pid a line (cgroup.procs); false when none of them is left. */
bool memory_of_listed(const char *path, struct memory_tree *out);
/*
 * Of all that descend from root, itself not, nor `except` and what descends from that: one walk
 * over /proc, which costs with every process of the host.  What several of them share (after a
 * fork) counts for each.
 */
bool memory_below(pid_t root, pid_t except, struct memory_tree *out);
/* The same with what is shared counted once: the kernel walks all of their pages. */
uint64_t memory_shares_below(pid_t root, pid_t except);

/* MemTotal and MemAvailable of /proc/meminfo; false when it cannot be read. */
bool memory_of_host(uint64_t *total_bytes, uint64_t *available_bytes);
/* oom_kill of /proc/vmstat, 0 where the kernel has none. */
uint64_t memory_host_oom_kills(void);
