/*
 * projection_check.h - is jobs.db what the buffer says?  For `verify`, where no
 * collector runs; changes nothing.
 */
#pragma once

#include "agent/core/store.h"
#include "agent/store/store.h"

/* What cannot be read, or is of another buffer, is made anew when a collector starts. */
void projection_check(const char *dir, struct store *st, struct store_verify_projection *out);
