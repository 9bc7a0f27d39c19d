/*
 * keep_file.h - records of one size in two files of the data directory: `name`,
 * and `name.1` that it becomes at KEEP_FILE_BYTES.  Written with one write(2) a
 * record and not synced: it is a picture, no promise.
 *
 *	0  magic   4  crc32c of what follows   8  the owner's
 *
 * Only records whose checksum holds are believed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/err.h"

#define KEEP_FILE_BYTES  (1u << 20)
#define KEEP_RECORD_HEAD 8u
#define KEEP_RECORD_MOST 1024u

struct keep_file;

typedef void (*keep_record_fn)(void *ctx, const uint8_t *record);
/* Tells what is there, oldest first. */
MUST_CHECK enum err keep_file_open(const char *data_dir, const char *name, uint32_t magic,
    uint32_t record_bytes, keep_record_fn fn, void *ctx, struct keep_file **out);
/* From now on it writes; a failure is logged. */
MUST_CHECK enum err keep_file_start(struct keep_file *k);
/* Fills the head and appends; any thread. A failure is logged once and ends the keeping. */
void keep_file_put(struct keep_file *k, uint8_t *record);
void keep_file_close(struct keep_file *k);
