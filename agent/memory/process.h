/*
 * process.h - one process, read through descriptors that stay open: a sample
 * costs some small reads.  They stay with the process that they were opened of,
 * also when its pid is given to another.  Sampler's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/err.h"
#include "agent/memory/order.h"
#include "agent/memory/text.h"

struct process {
	uint64_t pid;
	int dir_fd, status_fd, stat_fd;
	int group_fd, group_pressure_fd; /* of its cgroup, -1 none */
	int group_version;               /* 0 unknown */
	char group[512];
};

struct process_sample {
	struct status_text status;
	uint64_t major_faults, descriptors;
	uint64_t group_bytes, group_limit_bytes; /* 0: no group, no limit */
	struct pressure_text group_pressure;
};

/*
 * proc_dir is "/proc" but in tests.  E_NOTFOUND: it does not live, or started at
 * another time than start_ticks says (a pid of another namespace, or given anew).
 */
MUST_CHECK enum err process_open(
    struct process *p, const char *proc_dir, uint64_t pid, uint64_t start_ticks);
void process_close(struct process *p);
/* The devices that its environment lets it see. */
void process_visible(struct process *p, struct gpu_order *o);
/* RSS and its kin, and the group's use. False: it has gone. */
bool process_sample(struct process *p, struct process_sample *s);
/* What changes slowly: faults, pressure. */
void process_sample_more(struct process *p, struct process_sample *s);
/* What costs: its descriptors, and the limits of its group and those above. */
void process_sample_rest(struct process *p, struct process_sample *s);
/* Proportional set size: walks its page tables, on demand only. Any thread. */
MUST_CHECK enum err process_pss(const char *proc_dir, uint64_t pid, uint64_t *bytes);

/* pread of a small file, terminated; false when there is nothing. */
bool text_read(int fd, char *text, uint32_t cap);
