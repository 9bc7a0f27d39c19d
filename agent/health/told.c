/*
 * told.c - what greetings and records say of a ComfyUI.  Pipeline's thread, under
 * the room's lock.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/health/target.h"

void
told_hello(struct told *t, const struct probe_row *row)
{
	memset(t, 0, sizeof *t);
	t->used = true;
	t->probe = row->id;
	memcpy(t->probe_id, row->probe_id, sizeof t->probe_id);
	t->pid = row->pid;
	t->start_ticks = row->start_ticks;
	(void)wire_attr_find(row->attrs, row->attrs_bytes, "life", t->life, sizeof t->life);
}

/* A text, terminated and clipped; "" when there is none. */
static void
tag_text(const struct span_seen *s, const char *key, char *to, size_t cap)
{
	struct seen_tag tag;
	uint32_t at = 0;

	to[0] = '\0';
	while (span_seen_next(s, &at, &tag))
		if (!tag.is_number && seen_is(&tag, key))
			seen_copy(to, cap, tag.text, tag.text_bytes);
}

static uint64_t
tag_number(const struct span_seen *s, const char *key)
{
	struct seen_tag tag;
	uint32_t at = 0;
	double v = 0;

	while (span_seen_next(s, &at, &tag))
		if (tag.is_number && seen_is(&tag, key))
			v = tag.number;
	return v >= 1 && v < 0x1p63 ? (uint64_t)v : 0;
}

static bool
tag_is(const struct span_seen *s, const char *key, const char *value)
{
	char text[32];

	tag_text(s, key, text, sizeof text);
	return strcmp(text, value) == 0;
}

static bool
begins(struct told *t, const struct span_seen *s)
{
	uint64_t worker = tag_number(s, "thread.id"), was = t->job;

	t->queued = false;
	t->busy = t->sign = true;
	t->trace_hi = s->span->trace_hi;
	t->trace_lo = s->span->trace_lo;
	t->job = s->span->span_id;
	tag_text(s, "prompt.id", t->prompt_id, sizeof t->prompt_id);
	if (worker == 0 || (worker == t->worker && t->worker_kept && !t->worker_died))
		return false;
	t->worker_kept = worker == t->worker && was != s->span->span_id;
	t->worker_died = false;
	t->worker = worker;
	return true;
}

/* A failure of another kind says nothing about the device; a success does. */
static bool
ends(struct told *t, const struct span_seen *s)
{
	bool changed = false;

	if (s->span->span_id == t->job)
		t->busy = false;
	if (tag_is(s, "workflow.worker_died", "true") && !t->worker_died) {
		t->worker_died = changed = true;
		if (t->worker == 0)
			t->worker = tag_number(s, "thread.id");
	}
	if (tag_is(s, "workflow.status", "success") && t->device_failures > 0) {
		t->device_failures = 0;
		changed = true;
	} else if ((s->span->flags & WIRE_SPAN_JOB_FAILED) != 0 &&
		   s->span->span_id != t->failed_job && tag_is(s, "device_error", "true")) {
		t->failed_job = s->span->span_id;
		t->device_failures++;
		changed = true;
	}
	return changed;
}

bool
told_span(struct told *t, const struct span_seen *s)
{
	if (t->busy && s->span->trace_hi == t->trace_hi && s->span->trace_lo == t->trace_lo)
		t->sign = true;
	if (s->kind == SPAN_QUEUE_WAIT)
		t->queued = s->open;
	if (s->kind != SPAN_WORKFLOW)
		return false;
	return s->open ? begins(t, s) : ends(t, s);
}
