/*
 * err.c - texts of the error codes and the way in from errno.  Pure; any thread.
 */
#include "agent/base/err.h"

#include <errno.h>

const char *
err_text(enum err e)
{
	switch (e) {
	case E_OK:
		return "ok";
	case E_NOMEM:
		return "out of memory";
	case E_INVAL:
		return "invalid data";
	case E_IO:
		return "input/output error";
	case E_FULL:
		return "limit reached";
	case E_EXISTS:
		return "already there";
	case E_NOTFOUND:
		return "not found";
	case E_CORRUPT:
		return "damaged data";
	case E_BUSY:
		return "held by another process";
	case E_STATE:
		return "not possible now";
	case E_PERM:
		return "permission denied";
	case E_TIMEOUT:
		return "timed out";
	case E_GAP:
		return "gap in the stream";
	}
	return "unknown error";
}

enum err
err_from_errno(int error)
{
	switch (error) {
	case 0:
		return E_OK;
	case ENOMEM:
		return E_NOMEM;
	case EINVAL:
	case ENAMETOOLONG:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
		return E_INVAL;
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
		return E_FULL;
	case EEXIST:
		return E_EXISTS;
	case ENOENT:
	case ESRCH:
		return E_NOTFOUND;
	case EAGAIN:
	case EBUSY:
	case EADDRINUSE:
		return E_BUSY;
	case EACCES:
	case EPERM:
	case EROFS:
		return E_PERM;
	case ETIMEDOUT:
		return E_TIMEOUT;
	default:
		return E_IO;
	}
}
