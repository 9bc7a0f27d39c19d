/*
 * supervised.h - what a `comfymon run` says of itself.  The supervisor writes
 * it, the agent's status shows it.  A plain value.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct supervised {
	uint64_t pid;         /* of the supervisor */
	char state[16];       /* "running", "waiting" to start again, "stopping" */
	char life[64];        /* COMFYMON_LIFE of the newest start */
	uint64_t command_pid; /* 0: it does not run now */
	uint64_t command_ticks, started_real_ns;
	uint32_t starts;
	char method[16];                              /* "cgroup2", "cgroup1", "watch", "none" */
	char why[200];                                /* why not a better one, "" */
	uint64_t limit_bytes, soft_bytes, high_bytes; /* 0 none */
	char soft_state[16];                          /* "calm", "freeing", ... */
	uint32_t soft_frees, soft_restarts;
	bool survive;
	uint64_t pid_ns;                            /* of both pids */
	char verdict[32], certainty[16], death[96]; /* of the last end, "" none yet */
	uint64_t ended_real_ns;
};
