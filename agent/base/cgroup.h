/*
 * cgroup.h - where the memory of a process is accounted.  Pure; any thread.
 *
 * Source of the formats: proc(5) and cgroups(7) for mountinfo and cgroup.
 */
#pragma once

#include <stddef.h>

#include "agent/base/err.h"

/*
 * The directory of the group, by version 1 or 2 of the hierarchy: `mountinfo` and
 * `cgroups` are the texts of /proc/PID/mountinfo and /proc/PID/cgroup.
 * E_NOTFOUND: no memory controller is mounted; E_FULL: dir does not hold the path.
 */
MUST_CHECK enum err cgroup_find(
    const char *mountinfo, const char *cgroups, int version, char *dir, size_t cap);
