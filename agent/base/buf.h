/*
 * buf.h - a byte buffer that grows up to a hard cap.  Not locked: its owner's
 * thread.  When it cannot grow, the call fails, nothing is written, and `failed`
 * stays set until buf_reset, so that a writer may check once at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"

struct buf {
	uint8_t *p;
	size_t used, room, cap; /* room: allocated; cap: never more */
	bool failed;
};

void buf_init(struct buf *b, size_t cap);
void buf_free(struct buf *b);
/* Forget the content, keep the memory. */
void buf_reset(struct buf *b);
/* Room for n more bytes: where to write them, or NULL (E_FULL or no memory). Moves nothing. */
uint8_t *buf_room(struct buf *b, size_t n);
/* Room for n more bytes, taken: they belong to the content from now on. */
uint8_t *buf_take(struct buf *b, size_t n);
bool buf_put(struct buf *b, const void *data, size_t n);
bool buf_puts(struct buf *b, const char *s);
bool buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Hand the memory over to the caller (free it); the buffer is empty then. */
uint8_t *buf_steal(struct buf *b, size_t *bytes);
