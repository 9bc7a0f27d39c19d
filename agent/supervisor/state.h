/*
 * state.h - RUN_DIR/supervisor-PID: what the parent of a supervised process says
 * of itself, one "key=value" a line.  Its owner holds a record lock on it, so
 * that everybody, in another pid namespace too, can see whether it lives.
 * Several parents may share a run directory.
 *
 * It is written in place (a lock does not survive a rename): the first line
 * and the last hold the same number, and a reader that meets them different reads again.
 */
#pragma once

#include "agent/base/err.h"
#include "agent/core/supervised.h"

#define STATE_PREFIX "supervisor-"

/* Make and lock the own one; *fd is to be kept until state_close. Fills pid and pid_ns. */
MUST_CHECK enum err state_open(const char *run_dir, struct supervised *s, int *fd);
/* Nobody has removed it. */
bool state_has_name(const char *run_dir, int fd);
MUST_CHECK enum err state_write(int fd, const struct supervised *s);
/* A good end: nobody need wonder. */
void state_close(const char *run_dir, int fd);

/* Those whose parent lives, at most cap; how many were put. */
unsigned state_list(const char *run_dir, struct supervised *out, unsigned cap);
/* The parent of this life; STATE_NONE: it says nothing of itself. */
enum state_of { STATE_NONE, STATE_LIVES, STATE_GONE };
enum state_of state_of(const char *run_dir, const char *life);

/*
 * Parents that ended without a word: the life that each of them had is written
 * down as lost (exits, a black box), unless it goes on without its parent. Cheap when there are
 * none. How many were lost.
 */
unsigned state_sweep(const char *run_dir, const char *data_dir);
