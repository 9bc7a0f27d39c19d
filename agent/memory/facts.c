/*
 * facts.c - what the record of a job or node says of memory.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/memory/jobs.h"
#include "schema/wire.h"

#define SHORT_NS (100 * NS_PER_MS) /* there may be no sample in it */
#define LITTLE   (1ull << 20)
#define GPU_KEY  "memory.gpu."
#define GPU_PEAK ".peak_bytes"

static const struct {
	const char *key;
	enum ran_number number;
} numbers[] = {
	{ "memory.rss.before_bytes", RAN_PEAK },
	{ "memory.rss.after_bytes", RAN_PEAK },
	{ "memory.rss.peak_bytes", RAN_PEAK },
	{ "node.output_bytes", RAN_OUTPUTS },
	{ "node.output_bytes.gpu", RAN_OUTPUTS_GPU },
	{ "memory.held.outputs_bytes", RAN_OUTPUTS },
	{ "memory.held.outputs_bytes.gpu", RAN_OUTPUTS_GPU },
	{ "memory.held.models_bytes", RAN_MODELS },
	{ "memory.held.models_bytes.gpu", RAN_MODELS_GPU },
	{ "memory.unaccounted_bytes", RAN_UNACCOUNTED },
};

struct key {
	const char *s;
	uint32_t n;
};

static bool
key_is(struct key k, const char *name)
{
	return strlen(name) == k.n && memcmp(name, k.s, k.n) == 0;
}

/* A text that was clipped by us ends on a character's boundary. */
static void
take_text(char *to, size_t cap, const char *from, size_t n)
{
	if (n >= cap) {
		n = cap - 1;
		while (n > 0 && ((unsigned char)from[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(to, from, n);
	to[n] = '\0';
}

/* "memory.gpu.3.peak_bytes" */
static bool
gpu_peak(struct key k, uint32_t *gpu)
{
	size_t head = strlen(GPU_KEY), tail = strlen(GPU_PEAK);
	uint32_t v = 0;

	if (k.n <= head + tail || k.n > head + tail + 2 || memcmp(k.s, GPU_KEY, head) != 0 ||
	    memcmp(k.s + k.n - tail, GPU_PEAK, tail) != 0)
		return false;
	for (const char *p = k.s + head; p < k.s + k.n - tail; p++) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (uint32_t)(*p - '0');
	}
	*gpu = v;
	return true;
}

static void
at_least(struct ran *r, enum ran_number i, double v)
{
	uint64_t bytes = v >= 0 && v < 0x1p63 ? (uint64_t)v : RAN_UNKNOWN;

	if (bytes != RAN_UNKNOWN && (r->bytes[i] == RAN_UNKNOWN || bytes > r->bytes[i]))
		r->bytes[i] = bytes;
}

static void
take_number(struct ran *r, struct key k, double v)
{
	uint32_t gpu;

	if (gpu_peak(k, &gpu)) {
		uint64_t before = r->bytes[RAN_GPU_PEAK];

		at_least(r, RAN_GPU_PEAK, v);
		if (r->bytes[RAN_GPU_PEAK] != before)
			r->gpu = gpu;
		return;
	}
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		if (key_is(k, numbers[i].key))
			at_least(r, numbers[i].number, v);
}

static void
take_string(struct ran *r, bool job, struct key k, const char *s, size_t n)
{
	if (key_is(k, "prompt.id")) {
		r->prompt = wire_crc32c(0, s, n);
		if (job)
			take_text(r->id, sizeof r->id, s, n);
	} else if (!job && key_is(k, "node.id")) {
		take_text(r->id, sizeof r->id, s, n);
	} else if (!job && key_is(k, "node.class_type")) {
		take_text(r->name, sizeof r->name, s, n);
	} else if (key_is(k, job ? "workflow.status" : "node.status")) {
		take_text(r->status, sizeof r->status, s, n);
	} else if (job && key_is(k, "memory.held.top")) {
		take_text(r->top, sizeof r->top, s, n);
	} else if (job && key_is(k, "memory.held.partial")) {
		r->partial = true;
	} else if (key_is(k, "node.cached")) {
		r->cached = true;
	}
}

static void
take_tags(struct ran *r, const struct span_seen *s)
{
	bool job = s->kind == SPAN_WORKFLOW;
	struct wire_tag_view tag;
	uint32_t at = 0;

	while (wire_tag_next(s->span, &at, &tag)) {
		struct key k = { .n = 0 };
		const char *text = tag.text;
		uint32_t n = tag.text_bytes;

		k.s = span_seen_text(s, tag.key, &k.n);
		if (tag.kind == WIRE_TAG_STR)
			text = span_seen_text(s, tag.str, &n);
		if (k.s == NULL)
			continue;
		if (tag.kind == WIRE_TAG_I32 || tag.kind == WIRE_TAG_F64)
			take_number(r, k, tag.kind == WIRE_TAG_I32 ? tag.i32 : tag.f64);
		else if ((tag.kind == WIRE_TAG_STR || tag.kind == WIRE_TAG_TEXT) && text != NULL)
			take_string(r, job, k, text, n);
	}
}

bool
ran_matters(enum span_kind kind, const struct ran *r)
{
	uint64_t outputs = r->bytes[RAN_OUTPUTS];

	if (kind == SPAN_WORKFLOW)
		return true;
	if (r->cached)
		return false;
	return r->to_ns == 0 || r->unfinished || r->to_ns - r->from_ns >= (int64_t)SHORT_NS ||
	       (outputs != RAN_UNKNOWN && outputs >= LITTLE);
}

bool
ran_from(struct ran *r, const struct span_seen *s)
{
	const struct wire_span *w = s->span;
	uint32_t n = 0;
	const char *resource;

	if ((s->kind != SPAN_WORKFLOW && s->kind != SPAN_NODE) || s->pid == 0 ||
	    w->start_ns > INT64_MAX || w->duration_ns > INT64_MAX - w->start_ns)
		return false;
	memset(r, 0, sizeof *r);
	for (unsigned i = 0; i < RAN_NUMBERS; i++)
		r->bytes[i] = RAN_UNKNOWN;
	r->pid = s->pid;
	r->start_ticks = s->start_ticks;
	r->span_id = w->span_id;
	r->from_ns = (int64_t)w->start_ns;
	r->to_ns = s->open ? 0 : (int64_t)(w->start_ns + w->duration_ns);
	r->unfinished = (w->flags & WIRE_SPAN_UNFINISHED) != 0;
	resource = span_seen_text(s, w->resource, &n);
	if (resource != NULL)
		take_text(r->name, sizeof r->name, resource, n);
	take_tags(r, s);
	return true;
}
