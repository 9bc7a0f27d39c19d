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

static void
take(struct facts *f, const struct want *w, const struct seen_tag *tag)
{
	char *to = (char *)f + w->at;

	if (w->kind == TEXT && !tag->is_number) {
		seen_copy(to, w->cap, tag->text, tag->text_bytes);
	} else if (w->kind == YES && !tag->is_number) {
		bool yes = tag->text_bytes == 4 && memcmp(tag->text, "true", 4) == 0;

		memcpy(to, &yes, sizeof yes);
	} else if (w->kind == NUMBER && tag->is_number && tag->number >= 0 &&
		   tag->number < 0x1p63) {
		/* nothing here is negative, or more than a counter holds */
		memcpy(to, &tag->number, sizeof tag->number);
	}
}

void
facts_take(struct facts *f, const struct span_seen *s)
{
	struct seen_tag tag;
	uint32_t at = 0;

	memset(f, 0, sizeof *f);
	f->item = f->thread = f->nodes = f->executed = f->cached = f->peak_bytes = -1;
	while (span_seen_next(s, &at, &tag))
		for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++)
			if (seen_is(&tag, wants[i].key))
				take(f, &wants[i], &tag);
}
