/*
 * bare.h - what SQLite alone does with blobs: the baseline of the store and of
 * the hand-off.  Same file settings as the store's, one table, nothing else.
 */
#pragma once

#include <stdint.h>

/* Insert `bytes` in blobs of 256 KB, 1 MB a commit, into a new file in dir; seconds. */
double bare_insert(const char *dir, uint64_t bytes);
