/*
 * rundir.h - where rings lie and how large they may be.  Called by the
 * starter only; system calls, no memory.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RUNDIR_PATH_BYTES 96 /* with the socket's name it fits a socket address */

/*
 * Open the run directory: `given`, else COMFYMON_RUN_DIR, else the first of
 * /dev/shm/comfymon-<uid> and $XDG_RUNTIME_DIR/comfymon that passes; made when
 * missing, refused unless it is a directory (no link), ours and closed to
 * others.  Returns a descriptor (the caller's) and its path, or -1 and reason.
 */
int rundir_open(const char *given, char path[RUNDIR_PATH_BYTES], char *reason, size_t cap);

/*
 * Bytes for this process's ring file, or 0 and reason.  `wanted` 0: as large
 * as DESIGN.md allows.  All rings together keep to a quarter of the
 * filesystem.
 */
uint64_t rundir_ring_bytes(int dir_fd, uint64_t wanted, char *reason, size_t cap);

/* The same for a forked child that needs `bytes`; counts the children's rings that are there. */
uint64_t rundir_child_bytes(int dir_fd, uint64_t bytes, char *reason, size_t cap);

/* Smallest memory limit of this cgroup and those around it; UINT64_MAX when there is none. */
uint64_t rundir_cgroup_limit(void);
