/*
 * run.h - `comfymon run -- COMMAND`: a small parent that owns the life of
 * ComfyUI and of an agent beside it.  One thread, no library beyond libc.
 *
 * What always holds: killing the agent costs the command nothing, and the
 * exit status of the command is never lost while we live.  When we are killed
 * the command ends with us, unless `survive`.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/supervisor/policy.h"

struct run_options {
	char *const *command;           /* NULL-terminated */
	const char *program;            /* path of comfymon, for the agent; NULL: no agent */
	const char *run_dir, *data_dir; /* made if missing, 0700 */
	const char *notify;             /* NOTIFY_SOCKET of a service manager, "" none */
	enum restart_when restart;
	uint32_t crash_limit;  /* failures within ten minutes after which we give up; 0 never */
	uint64_t limit_bytes;  /* memory of the command and its children; 0 none */
	uint64_t soft_bytes;   /* ... that is asked back between jobs; 0 none */
	uint32_t soft_wait_ms; /* ... for which it is waited until none is there */
	uint64_t high_bytes;   /* memory.high of a cgroup of version 2; 0 none */
	bool resubmit;         /* jobs that wait are not lost by a restart */
	uint64_t grace_ms;     /* from SIGINT to SIGKILL */
	uint64_t drain_ms;     /* most that a running job gets to be interrupted before SIGINT */
	bool survive;
};

#define RUN_NOT_FOUND 127 /* as a shell says it */
#define RUN_CANNOT    126

/*
 * Run until the command has ended for good; its exit code (128 + signal), or
 * RUN_NOT_FOUND, RUN_CANNOT.  Takes over the process's signals and children.
 */
int run_command(const struct run_options *o);
