/*
 * comfy_body.h - the prompt of a job that waits, as a file, so that it can be
 * put into the queue again after a death.  Only in a life of `comfymon run` with
 * COMFYMON_RESUBMIT=1; else every call does nothing.
 *
 * GIL held by who calls; it is let go around system calls.  No secret is
 * written: a job that needs one is written down as such, without its prompt.
 */
#pragma once

#include "probe/python/py.h"

struct body;

/* Names; -1 with an exception. */
int body_setup(void);
/* Reads the environment. */
void body_restart(void);

/* A queue item (number, prompt id, prompt, extra data, outputs, maybe secrets); NULL: none. */
struct body *body_keep(PyObject *item);
/* Of its file. */
const char *body_name(const struct body *b, size_t *n);
/* It waits no longer; NULL is fine. Its file goes with the next sweep. */
void body_drop(struct body *b);
/* Other threads may run meanwhile: not while a table of ours is walked. */
void body_sweep(void);

/* Jobs that got none while it was on: too large, no room, not to be written or encoded. */
struct body_counts {
	unsigned long long written, too_large, no_room, failed, secret;
};
extern struct body_counts body_counts;
