/*
 * lost.c - a probe is gone for good: its spans that are still open end as
 * `lost`, at its last sign of life.  Pipeline thread.  The strings that this
 * needs get ids of our own, above any that a probe may use.
 */
#include "agent/processor/internal.h"

enum { ID_UNFINISHED = DICT_OWN, ID_TRUE, ID_ERROR_TYPE, ID_LOST };

static enum err
close_one(struct processor *p, struct trace *t, uint32_t at, uint64_t end_ns)
{
	uint8_t rec[FRAME_RECORD_MAX_BYTES];
	uint32_t length = wire_get32(t->buf + at + 8);
	uint8_t *payload = rec + RECORD_HEADER_BYTES;
	struct wire_error err;
	struct wire_span s;

	if (wire_span_get(
		t->buf + at + RECORD_HEADER_BYTES, length - RECORD_HEADER_BYTES, &s, &err) != 0)
		return E_INVAL;

	struct wire_tags tags = { .buf = payload + WIRE_SPAN_FIXED_BYTES,
		.cap = sizeof rec - RECORD_HEADER_BYTES - WIRE_SPAN_FIXED_BYTES,
		.used = s.tag_bytes,
		.count = s.tag_count };

	memcpy(tags.buf, s.tags, s.tag_bytes);
	wire_tag_str(&tags, ID_UNFINISHED, ID_TRUE);
	wire_tag_str(&tags, ID_ERROR_TYPE, ID_LOST);
	s.tags = NULL; /* in place */
	s.tag_bytes = tags.used;
	s.tag_count = tags.count;
	s.duration_ns = end_ns > s.start_ns ? end_ns - s.start_ns : 0;
	s.flags |= WIRE_SPAN_UNFINISHED | WIRE_SPAN_ERROR | WIRE_SPAN_OPENED;
	wire_span_put(payload, &s);
	length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + tags.used;
	wire_record_seal(rec, wire_get64(t->buf + at), length, EVENT_SPAN, RECORD_PUBLISHED);
	return trace_add(p, t, rec, &s);
}

enum err
lost_close(struct processor *p, struct probe *probe)
{
	struct dict *d = &probe->dict;
	enum err e = E_OK;

	if (dict_own(d, ID_UNFINISHED, "comfymon.unfinished") != E_OK ||
	    dict_own(d, ID_TRUE, "true") != E_OK ||
	    dict_own(d, ID_ERROR_TYPE, "error.type") != E_OK ||
	    dict_own(d, ID_LOST, "lost") != E_OK)
		return E_NOMEM;
	for (struct link *l = probe->traces.next; l != &probe->traces; l = l->next) {
		struct trace *t = trace_of_mine(l);
		uint32_t end = t->used; /* what is appended here is closed already */

		t->flags |= TRACE_ROOT_DONE; /* nobody is left to finish it */
		trace_touch(p, t);
		for (uint32_t at = 0; at < end && e == E_OK; at += wire_get32(t->buf + at + 8)) {
			if (!trace_open_at(t, at))
				continue;
			e = close_one(p, t, at, probe->end_mono_ns);
			p->step.received += e == E_OK;
			p->stats.lost_spans += e == E_OK;
		}
		if (e != E_OK)
			return e;
	}
	return E_OK;
}
