/*
 * buf.c - doubling growth, checked before it is done.  Not locked.
 */
#include "agent/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
buf_init(struct buf *b, size_t cap)
{
	memset(b, 0, sizeof *b);
	b->cap = cap;
}

void
buf_free(struct buf *b)
{
	free(b->p);
	b->p = NULL;
	b->used = b->room = 0;
}

void
buf_reset(struct buf *b)
{
	b->used = 0;
	b->failed = false;
}

uint8_t *
buf_room(struct buf *b, size_t n)
{
	size_t want = b->room < 256 ? 256 : b->room;
	uint8_t *p;

	if (b->failed || n > b->cap || b->used > b->cap - n) {
		b->failed = true;
		return NULL;
	}
	if (b->p != NULL && n <= b->room - b->used)
		return b->p + b->used;
	while (want < b->used + n)
		want *= 2;
	if (want > b->cap)
		want = b->cap;
	p = realloc(b->p, want > 0 ? want : 1);
	if (p == NULL) {
		b->failed = true;
		return NULL;
	}
	b->p = p;
	b->room = want;
	return p + b->used;
}

uint8_t *
buf_take(struct buf *b, size_t n)
{
	uint8_t *p = buf_room(b, n);

	if (p != NULL)
		b->used += n;
	return p;
}

bool
buf_put(struct buf *b, const void *data, size_t n)
{
	uint8_t *p = buf_take(b, n);

	if (p == NULL)
		return false;
	if (n > 0)
		memcpy(p, data, n);
	return true;
}

bool
buf_puts(struct buf *b, const char *s)
{
	return buf_put(b, s, strlen(s));
}

bool
buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap;
	uint8_t *p;
	int n;

	va_start(ap, format);
	n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (n < 0)
		return false;
	p = buf_room(b, (size_t)n + 1); /* vsnprintf ends with a NUL that is not content */
	if (p == NULL)
		return false;
	va_start(ap, format);
	vsnprintf((char *)p, (size_t)n + 1, format, ap);
	va_end(ap);
	b->used += (size_t)n;
	return true;
}

uint8_t *
buf_steal(struct buf *b, size_t *bytes)
{
	uint8_t *p = b->p;

	*bytes = b->used;
	b->p = NULL;
	b->used = b->room = 0;
	b->failed = false;
	return p;
}
