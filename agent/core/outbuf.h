/*
 * outbuf.h - a growable output buffer.  One owner, no locks.  After a failed
 * allocation `failed` stays set and further writes do nothing, so that a
 * writer checks once, at its end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Bytes behind any reservation that may be scribbled on: short copies are done in one go. */
#define OUTBUF_SLACK 64u

struct outbuf {
	uint8_t *p;
	size_t n, cap;
	bool failed;
};

static inline void
outbuf_free(struct outbuf *b)
{
	free(b->p);
	memset(b, 0, sizeof *b);
}

/* Forget the contents; give a buffer back that has grown beyond `keep` bytes. */
static inline void
outbuf_reset(struct outbuf *b, size_t keep)
{
	if (b->cap > keep)
		outbuf_free(b);
	b->n = 0;
	b->failed = false;
}

/* Room for n bytes and the slack behind them; NULL (and failed) when there is no memory. */
static inline uint8_t *
outbuf_room(struct outbuf *b, size_t n)
{
	if (b->cap - b->n >= n + OUTBUF_SLACK)
		return b->p + b->n;
	if (b->failed || n > SIZE_MAX / 4)
		return NULL;

	size_t cap = b->cap < 4096 ? 4096 : b->cap;

	while (cap - b->n < n + OUTBUF_SLACK)
		cap *= 2;

	uint8_t *p = realloc(b->p, cap);

	if (p == NULL) {
		b->failed = true;
		return NULL;
	}
	b->p = p;
	b->cap = cap;
	return p + b->n;
}

static inline void
outbuf_put(struct outbuf *b, const void *s, size_t n)
{
	uint8_t *p = outbuf_room(b, n);

	if (p == NULL || n == 0)
		return;
	memcpy(p, s, n);
	b->n += n;
}

static inline void
outbuf_str(struct outbuf *b, const char *s)
{
	outbuf_put(b, s, strlen(s));
}
