/*
 * lock.h - one agent per directory: flock on a file in it, which says who holds
 * it.  Released by the kernel with the process.
 */
#pragma once

#include "agent/service/service.h"

#define LOCK_NAME "lock"

/* E_BUSY after wait_ms: *holder says who. The descriptor is closed to let go. */
MUST_CHECK enum err lock_directory(
    const char *dir, const char *run_dir, uint64_t wait_ms, struct service_holder *holder, int *fd);
