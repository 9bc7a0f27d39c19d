/*
 * json.h - a strict reader for the two small shapes that the processor takes:
 * sampling rules and an agent's rates.  It walks the text and copies strings;
 * nothing is allocated.  Any thread.  Nesting is bounded; the first fault stops
 * it and stays, with its position.  (The prefix json_ is jansson's.)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct json {
	const char *text;
	size_t n, at;
	const char *problem; /* NULL: none yet */
	size_t problem_at;
	unsigned depth;
};

void text_init(struct json *j, const char *text, size_t n);
/* Note a fault at the present position, unless there was one. Always false. */
bool text_fail(struct json *j, const char *problem);
/* The next character that is no space, 0 at the end or after a fault. */
char text_peek(struct json *j);
/* Enter an array or object ('[' or '{'). */
bool text_enter(struct json *j, char bracket);
/* Step to the next member: true when there is one. `first` must begin as true. */
bool text_more(struct json *j, char closing, bool *first);
/* A key and its colon. */
bool text_key(struct json *j, char *out, size_t cap);
/* A string, unescaped and terminated; longer than cap - 1 is a fault. */
bool text_string(struct json *j, char *out, size_t cap);
bool text_number(struct json *j, double *out);
/* Any value, left out. */
bool text_skip(struct json *j);
/* Nothing may follow. */
bool text_end(struct json *j);
