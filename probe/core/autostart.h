/*
 * autostart.h - make sure that a collector listens, by starting one.  Any
 * thread; takes a few milliseconds, for two execs; leaves no child behind:
 * the agent belongs to init, no SIGCHLD reaches the host.
 */
#pragma once

#include <stddef.h>

#include "probe/core/probe.h"

enum comfymon_autostart {
	COMFYMON_AUTOSTART_FAILED = -1, /* text in reason */
	COMFYMON_AUTOSTART_PRESENT = 0, /* somebody listens */
	COMFYMON_AUTOSTART_STARTED = 1,
};

/*
 * Run `BINARY agent --autostarted` in a session of its own, signals as at
 * birth, no descriptor of ours but /dev/null as its standard three, and
 * COMFYMON_RUN_DIR set to run_dir; only when nobody listens there.
 */
COMFYMON_API enum comfymon_autostart comfymon_autostart(
    const char *binary, const char *run_dir, char *reason, size_t cap);
