/*
 * span_text.c - texts of the span model, copied into blocks that are given back
 * together.  No locks: one owner each.
 */
#include <stdlib.h>

#include "agent/core/outbuf.h"
#include "agent/core/span_internal.h"

#define BLOCK_BYTES (32u * 1024)

void *
arena_take(struct arena *a, size_t n)
{
	struct arena_block *b = a->blocks;

	n = WIRE_ALIGN8(n);
	if (b == NULL || b->cap - b->used < n) {
		size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;

		/* Readers copy short texts by whole words: the slack is theirs. */
		b = malloc(sizeof *b + cap + OUTBUF_SLACK);
		if (b == NULL)
			return NULL;
		b->next = a->blocks;
		b->used = 0;
		b->cap = cap;
		a->blocks = b;
	}

	void *p = b->bytes + b->used;

	b->used += n;
	return p;
}

void
arena_reset(struct arena *a)
{
	struct arena_block *keep = NULL;

	for (struct arena_block *b = a->blocks, *next; b != NULL; b = next) {
		next = b->next;
		if (keep == NULL && b->cap == BLOCK_BYTES)
			keep = b;
		else
			free(b);
	}
	if (keep != NULL) {
		keep->next = NULL;
		keep->used = 0;
	}
	a->blocks = keep;
}

void
arena_fini(struct arena *a)
{
	for (struct arena_block *b = a->blocks, *next; b != NULL; b = next) {
		next = b->next;
		free(b);
	}
	a->blocks = NULL;
}

/* msgpack: fixstr a0|n, str8 d9, str16 da, str32 db, lengths big-endian. */
static uint32_t
put_header(uint8_t *p, size_t n)
{
	if (n < 32) {
		p[0] = (uint8_t)(0xa0 | n);
		return 1;
	}
	if (n < 256) {
		p[0] = 0xd9;
		p[1] = (uint8_t)n;
		return 2;
	}
	if (n < 65536) {
		p[0] = 0xda;
		p[1] = (uint8_t)(n >> 8);
		p[2] = (uint8_t)n;
		return 3;
	}
	p[0] = 0xdb;
	for (int i = 0; i < 4; i++)
		p[1 + i] = (uint8_t)(n >> (24 - 8 * i));
	return 5;
}

bool
text_put(struct arena *a, const char *s, size_t n, struct span_text *out)
{
	uint8_t *p = arena_take(a, n + 5);

	if (p == NULL)
		return false;

	uint32_t lead = put_header(p, n);

	if (n > 0)
		memcpy(p + lead, s, n);
	*out = (struct span_text){ (const char *)p + lead, (uint32_t)n, lead };
	return true;
}
