/*
 * projection.h - DATA_DIR/jobs.db: the journal for any SQLite tool, made from
 * the buffer (schema/jobs/jobs.sql says what is in it).  The owner's thread.
 *
 * The truth is in the buffer.  So this file is written without waiting for the
 * disk, is made anew when it is gone, damaged, or of another version, and
 * whatever goes wrong with it is no error of anybody else: it is behind, says how
 * far, and catches up.  A file that is not ours is left alone.
 */
#pragma once

#include "agent/core/store.h"

#define PROJECTION_FILE_NAME      "jobs.db"
#define PROJECTION_APPLICATION_ID 0x434d4a42 /* "CMJB" */
#define PROJECTION_ROWS           256u       /* at most in one call */

struct projection;

/* Nothing is opened yet. It forgets what the store has forgotten. */
MUST_CHECK enum err projection_new(const char *dir, struct projection **out);
void projection_free(struct projection *p);

struct projection_state {
	uint64_t
	    behind; /* jobs that it does not know, or not as they are; at most 1,000 are counted */
	uint64_t written;      /* rows since the start */
	uint64_t next_mono_ns; /* to be called again then, 0: when a job has changed */
	char problem[128];     /* why it is behind, "" when it is not */
};
/* Bring over what has changed, a slice at a time. */
void projection_sync(
    struct projection *p, struct store *st, uint64_t now_mono_ns, struct projection_state *out);
