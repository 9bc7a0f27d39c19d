/*
 * redact.h - takes a prompt's own strings out of a message or stack.
 *
 * libc only; one thread at a time per set.  Bounded: at most REDACT_STRINGS_MAX
 * strings, of each the first REDACT_STRING_BYTES are compared (where a longer
 * one matches, the rest of the text goes with it), at most REDACT_TEXT_BYTES of a text are read,
 * and the number of comparisons has a limit.  Whenever a limit would leave a
 * doubt, the whole text becomes "<redacted>".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDACT_STRINGS_MAX  4096u
#define REDACT_STRING_BYTES (8u * 1024)
#define REDACT_LEAST_BYTES  4u
#define REDACT_TEXT_BYTES   (64u * 1024)
#define REDACT_MARK         "<redacted>"

struct redact;

struct redact *redact_new(void);    /* NULL: out of memory */
void redact_free(struct redact *r); /* NULL is fine */

/*
 * Remember a string (copied), and the way that repr() and JSON would escape it.
 * Shorter than REDACT_LEAST_BYTES: ignored.  When there is no room for it the
 * set is full, and every text is redacted as a whole.
 */
void redact_add(struct redact *r, const char *s, size_t n);

/* Write text with every occurrence replaced to out[0..cap), clipped. Returns the length. */
size_t redact_apply(const struct redact *r, const char *text, size_t n, char *out, size_t cap);
