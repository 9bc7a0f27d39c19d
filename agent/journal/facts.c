/*
 * facts.c - what the tags of a record say about its job.
 */
#include <string.h>

#include "agent/journal/internal.h"

enum { NUMBER, TEXT, YES };

/* Where a key's value goes. */
static const struct want {
	const char *key;
	int kind;
	size_t at, cap;
} wants[] = {
#define PUT_TEXT(key, field)                                                                  \
	{                                                                                     \
		key, TEXT, offsetof(struct facts, field), sizeof((struct facts *)NULL)->field \
	}
#define PUT_NUMBER(key, field)                                \
	{                                                     \
		key, NUMBER, offsetof(struct facts, field), 0 \
	}
#define PUT_YES(key, field)                                \
	{                                                  \
		key, YES, offsetof(struct facts, field), 0 \
	}
	PUT_TEXT("prompt.id", prompt_id),
	PUT_TEXT("workflow.status", status),
	PUT_TEXT("error.type", error_type),
	PUT_TEXT("oom", oom),
	PUT_TEXT("job.body", body),
	PUT_TEXT("node.id", node_id),
	PUT_TEXT("node.class_type", node_class),
	PUT_NUMBER("queue.item", item),
	PUT_NUMBER("thread.id", thread),
	PUT_NUMBER("workflow.node_count", nodes),
	PUT_NUMBER("workflow.nodes_executed", executed),
	PUT_NUMBER("workflow.nodes_cached", cached),
	PUT_NUMBER("memory.rss.peak_bytes", peak_bytes),
	PUT_YES("device_error", device_error),
	PUT_YES("workflow.worker_died", worker_died),
#undef PUT_TEXT
#undef PUT_NUMBER
#undef PUT_YES
};

void
facts_text(char *to, size_t cap, const char *from, size_t n)
{
	if (n >= cap) {
		n = cap - 1;
		while (n > 0 && ((unsigned char)from[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(to, from, n);
	to[n] = '\0';
}

static void
take(struct facts *f, const struct want *w, const struct span_seen *s,
    const struct wire_tag_view *tag)
{
	char *to = (char *)f + w->at;
	const char *text = tag->text;
	uint32_t n = tag->text_bytes;

	if (tag->kind == WIRE_TAG_STR)
		text = span_seen_text(s, tag->str, &n);
	else if (tag->kind != WIRE_TAG_TEXT)
		text = NULL;
	if (w->kind == TEXT && text != NULL) {
		facts_text(to, w->cap, text, n);
	} else if (w->kind == YES && text != NULL) {
		bool yes = n == 4 && memcmp(text, "true", 4) == 0;

		memcpy(to, &yes, sizeof yes);
	} else if (w->kind == NUMBER && (tag->kind == WIRE_TAG_I32 || tag->kind == WIRE_TAG_F64)) {
		double v = tag->kind == WIRE_TAG_I32 ? tag->i32 : tag->f64;

		if (v >= 0 &&
		    v < 0x1p63) /* nothing here is negative, or more than a counter holds */
			memcpy(to, &v, sizeof v);
	}
}

void
facts_take(struct facts *f, const struct span_seen *s)
{
	struct wire_tag_view tag;
	uint32_t at = 0;

	memset(f, 0, sizeof *f);
	f->item = f->thread = f->nodes = f->executed = f->cached = f->peak_bytes = -1;
	while (wire_tag_next(s->span, &at, &tag)) {
		uint32_t n = 0;
		const char *key = span_seen_text(s, tag.key, &n);

		for (size_t i = 0; key != NULL && i < sizeof wants / sizeof wants[0]; i++)
			if (strlen(wants[i].key) == n && memcmp(wants[i].key, key, n) == 0)
				take(f, &wants[i], s, &tag);
	}
}
