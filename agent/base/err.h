/*
 * err.h - the one error enum of the agent.  0 is success, errors are negative,
 * results go through out-parameters and are written only on success.  Codes
 * exist only where some caller branches on them; a library's code is
 * translated in the room that calls it.
 */
#pragma once

#define MUST_CHECK __attribute__((warn_unused_result))

enum err {
	E_OK = 0,
	E_NOMEM = -1,
	E_INVAL = -2,  /* the caller's or an outsider's data is not what it must be */
	E_IO = -3,     /* disk or descriptor; may pass */
	E_FULL = -4,   /* a limit was reached, nothing changed */
	E_EXISTS = -5, /* already there (a repeat) */
	E_NOTFOUND = -6,
	E_CORRUPT = -7, /* stored bytes are damaged */
	E_BUSY = -8,    /* held by somebody else */
	E_STATE = -9,   /* not now (stopped, wrong version) */
	E_PERM = -10,
	E_TIMEOUT = -11,
	E_GAP = -12, /* a batch does not start at the stored end */
};

/* "out of memory", never NULL. */
const char *err_text(enum err e);
/* errno to the nearest code above. */
enum err err_from_errno(int error);
