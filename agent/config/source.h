/*
 * source.h - inside of the config room: the text of the configuration file with
 * comments blanked, and where each key stands in it.
 */
#pragma once

#include <stddef.h>

#include "agent/base/err.h"

struct position {
	int line, column; /* from 1; 0 unknown */
};

/* Replace // and # comments (outside strings) by spaces, in place; lines and columns stay. */
void source_blank_comments(char *text, size_t n);

/* Position of the dotted key ("store.cap") in valid JSON text. */
struct position source_find(const char *text, const char *dotted);

/* Read a whole regular file up to `cap` bytes, NUL-terminated; heap. */
MUST_CHECK enum err source_read(const char *path, size_t cap, char **text, size_t *n);
