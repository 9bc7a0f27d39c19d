/*
 * text.h - numbers out of the kernel's texts.  Pure; any thread.  A text is
 * terminated; what is missing, cut short or absurd leaves its field as it was.
 *
 * Sources: proc(5) for status, stat, meminfo and smaps_rollup; the kernel's
 * accounting/psi.rst, cgroup-v1/memory.rst and cgroup-v2.rst.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct status_text {                    /* /proc/PID/status */
	uint64_t rss_bytes, peak_bytes; /* peak: of the process's whole life */
	uint64_t anon_bytes, file_bytes, shmem_bytes, swap_bytes;
	uint32_t threads;
	char state; /* R S D Z X ... */
};
/* False when it is not the status of a process with memory (a zombie has none). */
bool text_status(const char *text, struct status_text *out);

struct stat_text { /* /proc/PID/stat */
	uint64_t major_faults, start_ticks;
	char state;
};
bool text_stat(const char *text, struct stat_text *out);

struct host_text { /* /proc/meminfo */
	uint64_t total_bytes, available_bytes, swap_total_bytes, swap_free_bytes;
};
bool text_meminfo(const char *text, struct host_text *out);

struct pressure_text { /* memory.pressure: percent of the last ten seconds, times 100 */
	uint32_t some_x100, full_x100;
};
bool text_pressure(const char *text, struct pressure_text *out);

/* Pss of smaps_rollup, in bytes. */
bool text_pss(const char *text, uint64_t *bytes);

/* A number on its own ("max" is none: false). */
bool text_value(const char *text, uint64_t *out);
