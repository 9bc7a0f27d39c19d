/*
 * peak.c - the highest memory of a node or a job, written on its span when it
 * ends.  Pipeline thread.  The keys are strings of our own, see lost.c.
 *
 * A record that comes twice is told apart by its span id before its tags are
 * looked at (trace_add), so it does not matter that the sampler may answer
 * otherwise the second time.
 */
#include <stdio.h>

#include "agent/processor/internal.h"

#define KEY_RSS  "memory.rss.peak_bytes"
#define KEY_GPU  "memory.gpu.%u.peak_bytes"
#define KEY_MAX  40
#define ID_RSS   (DICT_OWN + 4u) /* behind those of lost.c */
#define ID_GPU_0 (DICT_OWN + 5u)
_Static_assert(5 + MEMORY_GPUS <= 24, "each device has an id, and ended.c has the next ones");

void
peak_job(const struct processor *p, const struct probe *probe, const struct wire_span *s, bool open)
{
	const struct memory_watch *w = p->o.memory;

	if (w != NULL && probe->pid != 0)
		w->job(w->ctx, probe->pid, probe->start_ticks, s->span_id, open);
}

/* What the process says itself: its tag's place and value; false when it says nothing. */
static bool
find_rss(const struct dict *d, const struct wire_span *s, uint32_t *at, double *value)
{
	uint32_t n;

	for (*at = 0; *at < s->tag_bytes; *at += wire_tag_bytes(s->tags + *at)) {
		uint32_t word = wire_get32(s->tags + *at);
		const char *key = dict_get(d, word & WIRE_TAG_KEY_MASK, &n);

		if (n != sizeof KEY_RSS - 1 || memcmp(key, KEY_RSS, n) != 0)
			continue;
		*value = 0;
		if (word >> WIRE_TAG_KIND_SHIFT == WIRE_TAG_I32)
			*value = (int32_t)wire_get32(s->tags + *at + 4);
		else if (word >> WIRE_TAG_KIND_SHIFT == WIRE_TAG_F64)
			memcpy(value, s->tags + *at + 8, sizeof *value);
		return true;
	}
	return false;
}

/* The tags without the one at `at`. */
static void
copy_without(struct wire_tags *t, const struct wire_span *s, uint32_t at)
{
	uint32_t n = wire_tag_bytes(s->tags + at);

	memcpy(t->buf, s->tags, at);
	memcpy(t->buf + at, s->tags + at + n, s->tag_bytes - at - n);
	t->used = s->tag_bytes - n;
	t->count = s->tag_count - 1;
}

static void
put_rss(struct dict *d, const struct wire_span *s, uint64_t bytes, struct wire_tags *t)
{
	double said = 0;
	uint32_t at;
	bool has = find_rss(d, s, &at, &said);

	if (has && said < (double)bytes)
		copy_without(t, s, at);
	if (bytes > 0 && (!has || said < (double)bytes) && dict_own(d, ID_RSS, KEY_RSS) == E_OK)
		wire_tag_f64(t, ID_RSS, (double)bytes);
}

static void
put_gpu(struct dict *d, uint32_t gpu, uint64_t bytes, struct wire_tags *t)
{
	char key[KEY_MAX];

	snprintf(key, sizeof key, KEY_GPU, gpu);
	if (dict_own(d, ID_GPU_0 + gpu, key) == E_OK)
		wire_tag_f64(t, ID_GPU_0 + gpu, (double)bytes);
}

const uint8_t *
peak_add(const struct processor *p, struct probe *probe, const uint8_t *rec, struct wire_span *s,
    uint8_t *room)
{
	const struct memory_watch *w = p->o.memory;
	struct memory_peak peak;

	if (w == NULL || probe->pid == 0 || s->duration_ns > UINT64_MAX - s->start_ns ||
	    !w->peak(w->ctx, probe->pid, probe->start_ticks, s->start_ns,
		s->start_ns + s->duration_ns, &peak))
		return rec;

	uint8_t *payload = room + RECORD_HEADER_BYTES;
	struct wire_tags tags = { .buf = payload + WIRE_SPAN_FIXED_BYTES,
		.cap = FRAME_RECORD_MAX_BYTES - RECORD_HEADER_BYTES - WIRE_SPAN_FIXED_BYTES,
		.used = s->tag_bytes,
		.count = s->tag_count };

	memcpy(tags.buf, s->tags, s->tag_bytes);
	put_rss(&probe->dict, s, peak.rss_bytes, &tags);
	for (uint32_t i = 0; i < MEMORY_GPUS; i++)
		if (peak.gpu_bytes[i] > 0)
			put_gpu(&probe->dict, i, peak.gpu_bytes[i], &tags);
	s->tags = NULL; /* in place */
	s->tag_bytes = tags.used;
	s->tag_count = tags.count;
	wire_span_put(payload, s);
	s->tags = tags.buf;
	wire_record_seal(room, wire_get64(rec),
	    RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + tags.used, EVENT_SPAN, RECORD_PUBLISHED);
	return room;
}
