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

/* "memory.gpu.3.peak_bytes" */
static bool
gpu_peak(const struct seen_tag *t, uint32_t *gpu)
{
	size_t head = strlen(GPU_KEY), tail = strlen(GPU_PEAK);
	uint32_t v = 0;

	if (t->key_bytes <= head + tail || t->key_bytes > head + tail + 2 ||
	    memcmp(t->key, GPU_KEY, head) != 0 ||
	    memcmp(t->key + t->key_bytes - tail, GPU_PEAK, tail) != 0)
		return false;
	for (const char *p = t->key + head; p < t->key + t->key_bytes - tail; p++) {
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
take_number(struct ran *r, const struct seen_tag *t)
{
	uint32_t gpu;

	if (gpu_peak(t, &gpu)) {
		uint64_t before = r->bytes[RAN_GPU_PEAK];

		at_least(r, RAN_GPU_PEAK, t->number);
		if (r->bytes[RAN_GPU_PEAK] != before)
			r->gpu = gpu;
		return;
	}
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		if (seen_is(t, numbers[i].key))
			at_least(r, numbers[i].number, t->number);
}

static void
copy(char *to, size_t cap, const struct seen_tag *t)
{
	seen_copy(to, cap, t->text, t->text_bytes);
}

static void
take_string(struct ran *r, bool job, const struct seen_tag *t)
{
	if (seen_is(t, "prompt.id")) {
		r->prompt = wire_crc32c(0, t->text, t->text_bytes);
		if (job)
			copy(r->id, sizeof r->id, t);
	} else if (!job && seen_is(t, "node.id")) {
		copy(r->id, sizeof r->id, t);
	} else if (!job && seen_is(t, "node.class_type")) {
		copy(r->name, sizeof r->name, t);
	} else if (seen_is(t, job ? "workflow.status" : "node.status")) {
		copy(r->status, sizeof r->status, t);
	} else if (job && seen_is(t, "memory.held.top")) {
		copy(r->top, sizeof r->top, t);
	} else if (job && seen_is(t, "memory.held.partial")) {
		r->partial = true;
	} else if (seen_is(t, "node.cached")) {
		r->cached = true;
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
	struct seen_tag tag;
	uint32_t n = 0, at = 0;
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
		seen_copy(r->name, sizeof r->name, resource, n);
	while (span_seen_next(s, &at, &tag))
		if (tag.is_number)
			take_number(r, &tag);
		else
			take_string(r, s->kind == SPAN_WORKFLOW, &tag);
	return true;
}
