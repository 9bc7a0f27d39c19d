/*
 * seen.c - what a record of a job says, tag by tag, for who follows the jobs: see
 * span_seen in process.h.  Pure.
 */
#include "agent/core/process.h"

#include <string.h>

bool
span_seen_next(const struct span_seen *s, uint32_t *at, struct seen_tag *out)
{
	struct wire_tag_view tag;

	while (wire_tag_next(s->span, at, &tag)) {
		*out = (struct seen_tag){ .text = tag.text, .text_bytes = tag.text_bytes };
		out->key = span_seen_text(s, tag.key, &out->key_bytes);
		if (tag.kind == WIRE_TAG_I32)
			out->number = tag.i32;
		else if (tag.kind == WIRE_TAG_F64)
			out->number = tag.f64;
		else if (tag.kind == WIRE_TAG_STR)
			out->text = span_seen_text(s, tag.str, &out->text_bytes);
		out->is_number = tag.kind == WIRE_TAG_I32 || tag.kind == WIRE_TAG_F64;
		if (out->key != NULL && (out->is_number || out->text != NULL))
			return true;
	}
	return false;
}

bool
seen_is(const struct seen_tag *tag, const char *key)
{
	return strlen(key) == tag->key_bytes && memcmp(key, tag->key, tag->key_bytes) == 0;
}

void
seen_copy(char *to, size_t cap, const char *from, size_t n)
{
	if (n >= cap) {
		n = cap - 1;
		while (n > 0 && ((unsigned char)from[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(to, from, n);
	to[n] = '\0';
}
