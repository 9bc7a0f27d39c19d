/*
 * bodies.h - prompts that wait, in files that outlive the process; what they
 * look like is in frame.h.  Any thread; each call is a few system calls on the
 * run directory's filesystem, which is a tmpfs where nobody chose another.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "probe/core/probe.h"

enum comfymon_body {
	COMFYMON_BODY_WRITTEN,
	COMFYMON_BODY_TOO_LARGE, /* more than BODY_JSON_MAX_BYTES */
	COMFYMON_BODY_NO_ROOM, /* all of them are BODY_ALL_MAX_BYTES, or an eighth of the filesystem
				*/
	COMFYMON_BODY_FAILED,  /* the directory is not ours alone, or the system refused */
};

struct comfymon_body_text {
	const char *prompt_id; /* plain: letters, digits and ._:- , at most 64 */
	double number;
	uint64_t workflow; /* hash; its upper half is told */
	bool secret;
	const char *json;
	size_t json_bytes;
};

#define COMFYMON_BODY_PATH_BYTES 224u

/*
 * One file, whole or not at all.  When it was written, `path` is where, *name
 * points into it, and *bytes is what it takes of the room there is.
 */
COMFYMON_API enum comfymon_body comfymon_body_write(const struct comfymon_body_text *b,
    char path[COMFYMON_BODY_PATH_BYTES], const char **name, uint64_t *bytes);
/* By the whole path: also when the probe has turned itself off since. */
COMFYMON_API void comfymon_body_remove(const char *path, uint64_t bytes);
