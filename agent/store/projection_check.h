/*
 * projection_check.h - is jobs.db what the buffer says?  For `verify`, beside a
 * collector too; changes nothing.  The store's owner.
 */
#pragma once

#include "agent/core/store.h"

/*
 * Adds to at->jobs_db what it finds from version at->after on, until that time (0:
 * to the end); E_TIMEOUT: there is more.  What cannot be read, or is of another
 * buffer, is made anew by a collector.
 */
MUST_CHECK enum err projection_check(
    const char *dir, struct store *st, struct store_check *at, uint64_t until_mono_ns);
