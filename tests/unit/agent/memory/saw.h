/*
 * saw.h - records of jobs and nodes for tests: tags by name, without a probe.
 * Included once by a program: it is the other side of span_seen_text.
 */
#pragma once

#include "agent/core/process.h"
#include "schema/wire.h"
#include "tests/t.h"

#define JOB_TICKS 1000u

struct saw_tag {
	const char *key, *text; /* text NULL: the number */
	double number;
};

struct saw {
	enum span_kind kind;
	uint64_t pid, span, from_ns, took_ns;
	uint16_t flags;
	bool open;
	const char *resource;
	struct saw_tag tags[16];
};

struct saw_strings {
	const char *of[64];
	uint32_t count;
};

const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	const struct saw_strings *t = s->strings;

	*n = 0;
	if (id == 0 || id > t->count)
		return NULL;
	*n = (uint32_t)strlen(t->of[id - 1]);
	return t->of[id - 1];
}

static inline uint32_t
saw_string(struct saw_strings *t, const char *text)
{
	t->of[t->count++] = text;
	return t->count;
}

typedef void (*saw_fn)(void *ctx, const struct span_seen *s);

static inline void
saw_tell(const struct saw *w, saw_fn fn, void *ctx)
{
	uint8_t buf[16 * 400];
	struct wire_tags tags = { .buf = buf, .cap = sizeof buf };
	struct saw_strings strings = { .count = 0 };
	struct wire_span span = { .span_id = w->span,
		.start_ns = w->from_ns,
		.duration_ns = w->took_ns,
		.flags = w->flags };
	struct span_seen seen = { .pid = w->pid,
		.start_ticks = JOB_TICKS,
		.kind = w->kind,
		.open = w->open,
		.span = &span,
		.strings = &strings };

	if (w->resource != NULL)
		span.resource = saw_string(&strings, w->resource);
	for (unsigned i = 0; i < 16 && w->tags[i].key != NULL; i++) {
		const struct saw_tag *t = &w->tags[i];
		uint32_t key = saw_string(&strings, t->key);

		if (t->text == NULL)
			wire_tag_f64(&tags, key, t->number);
		else if (i % 2 == 0) /* either form may come */
			wire_tag_text(&tags, key, t->text, strlen(t->text));
		else
			wire_tag_str(&tags, key, saw_string(&strings, t->text));
	}
	CHECK_EQ(tags.refused, 0);
	span.tags = buf;
	span.tag_bytes = tags.used;
	span.tag_count = tags.count;
	fn(ctx, &seen);
}
#define SAW(fn, ctx, ...) saw_tell(&(struct saw){ __VA_ARGS__ }, fn, ctx)
