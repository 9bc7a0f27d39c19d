/*
 * payload.c - bundles to the bytes of a request.  The span itself, with all
 * that goes on it, comes from agent/core/spanview; here it is only written down.
 * Source of the format: Datadog agent, /v0.4/traces.
 */
#include <string.h>

#include "agent/core/span_json.h"
#include "agent/exporter/payload.h"

/* Longest fixed part of a span: 12 keys, their headers and numbers. */
#define SPAN_FIXED_BYTES 256u

static uint8_t *
put_be(uint8_t *p, uint8_t head, uint64_t v, unsigned bytes)
{
	*p++ = head;
	for (unsigned i = 0; i < bytes; i++)
		*p++ = (uint8_t)(v >> (8 * (bytes - 1 - i)));
	return p;
}

static uint8_t *
put_uint(uint8_t *p, uint64_t v)
{
	if (v < 0x80) {
		*p++ = (uint8_t)v;
		return p;
	}
	return v <= UINT32_MAX ? put_be(p, 0xce, v, 4) : put_be(p, 0xcf, v, 8);
}

static uint8_t *
put_map(uint8_t *p, uint32_t n)
{
	if (n < 16) {
		*p++ = (uint8_t)(0x80 | n);
		return p;
	}
	return put_be(p, 0xde, n, 2);
}

static uint8_t *
put_array(uint8_t *p, uint32_t n)
{
	return put_be(p, 0xdd, n, 4);
}

/* A constant key of fewer than 32 bytes. */
#define PUT_KEY(p, text)                                                                       \
	(*(p) = (uint8_t)(0xa0 | (sizeof(text) - 1)), memcpy((p) + 1, text, sizeof(text) - 1), \
	    (p) + sizeof(text))

/* Room and text in one; a text without a header of its own gets one here. */
static void
put_text(struct outbuf *b, struct span_text t)
{
	uint8_t *p;

	if (t.lead > 0) {
		outbuf_put(b, t.s - t.lead, t.n + t.lead);
		return;
	}
	p = outbuf_room(b, 5);
	if (p == NULL)
		return;
	if (t.n < 32)
		*p++ = (uint8_t)(0xa0 | t.n);
	else if (t.n < 256)
		p = put_be(p, 0xd9, t.n, 1);
	else if (t.n < 65536)
		p = put_be(p, 0xda, t.n, 2);
	else
		p = put_be(p, 0xdb, t.n, 4);
	b->n = (size_t)(p - b->p);
	outbuf_put(b, t.s, t.n);
}

static void
put_named(struct outbuf *b, const char *key, struct span_text t)
{
	size_t n = strlen(key);
	uint8_t head = (uint8_t)(0xa0 | n);

	outbuf_put(b, &head, 1);
	outbuf_put(b, key, n);
	put_text(b, t);
}

static void
put_number(struct outbuf *b, double v)
{
	uint64_t bits;
	uint8_t *p = outbuf_room(b, 9);

	if (p == NULL)
		return;
	memcpy(&bits, &v, sizeof bits);
	(void)put_be(p, 0xcb, bits, 8);
	b->n += 9;
}

static void
put_tags(struct outbuf *b, const struct span_model *s, bool metric)
{
	uint32_t all = s->meta_count + s->metric_count;
	uint8_t *p = outbuf_room(b, 16);

	if (p == NULL)
		return;
	p = metric ? PUT_KEY(p, "metrics") : PUT_KEY(p, "meta");
	p = put_map(p, metric ? s->metric_count : s->meta_count);
	b->n = (size_t)(p - b->p);
	for (uint32_t i = 0; i < all; i++) {
		const struct span_tag *t = &s->tags[i];

		if (t->metric != metric)
			continue;
		put_text(b, t->key);
		if (metric)
			put_number(b, t->number);
		else
			put_text(b, t->value);
	}
}

static void
put_span(struct outbuf *b, const struct span_model *s)
{
	uint32_t keys = 7 + (s->parent_id != 0) + s->error + (s->type.n > 0) + (s->meta_count > 0) +
			(s->metric_count > 0);
	uint8_t *p = outbuf_room(b, SPAN_FIXED_BYTES);

	if (p == NULL)
		return;
	p = put_map(p, keys);
	p = put_uint(PUT_KEY(p, "trace_id"), s->trace_lo);
	p = put_uint(PUT_KEY(p, "span_id"), s->span_id);
	if (s->parent_id != 0)
		p = put_uint(PUT_KEY(p, "parent_id"), s->parent_id);
	p = put_uint(PUT_KEY(p, "start"), (uint64_t)s->start_ns);
	p = put_uint(PUT_KEY(p, "duration"), (uint64_t)s->duration_ns);
	if (s->error)
		p = put_uint(PUT_KEY(p, "error"), 1);
	b->n = (size_t)(p - b->p);
	put_named(b, "service", s->service);
	put_named(b, "name", s->name);
	put_named(b, "resource", s->resource);
	if (s->type.n > 0)
		put_named(b, "type", s->type);
	if (s->meta_count > 0)
		put_tags(b, s, false);
	if (s->metric_count > 0)
		put_tags(b, s, true);
}

/* Patch an array header that was left open. */
static void
close_array(struct outbuf *b, size_t at, uint32_t n)
{
	if (!b->failed)
		(void)put_array(b->p + at, n);
}

static size_t
open_array(struct outbuf *b)
{
	size_t at = b->n;

	if (outbuf_room(b, 5) != NULL)
		b->n += 5;
	return at;
}

void
payload_begin(struct outbuf *out)
{
	(void)open_array(out);
}

void
payload_end(struct outbuf *out, uint32_t traces)
{
	close_array(out, 0, traces);
}

enum err
payload_msgpack(struct spanview *v, const struct chunk_row *c, const struct span_identity *id,
    struct outbuf *out, uint32_t *traces)
{
	struct wire_error why;
	struct wire_trace t;
	struct span_model s;
	enum err e = spanview_open(v, c->blob, c->blob_bytes, id, &why);
	int rv;

	if (e != E_OK)
		return e;

	*traces = 0;
	while ((rv = spanview_trace(v, &t, &why)) == 1) {
		size_t at = open_array(out);
		uint32_t spans = 0;

		while ((rv = spanview_span(v, &s)) == 1) {
			put_span(out, &s);
			spans++;
		}
		if (rv < 0)
			return E_NOMEM;
		close_array(out, at, spans);
		(*traces)++;
	}
	if (rv < 0)
		return E_CORRUPT;
	return out->failed ? E_NOMEM : E_OK;
}

enum err
payload_lines(struct spanview *v, const struct chunk_row *c, const struct span_identity *id,
    struct outbuf *out)
{
	struct wire_error why;
	struct wire_trace t;
	enum err e = spanview_open(v, c->blob, c->blob_bytes, id, &why);
	int rv;

	if (e != E_OK)
		return e;
	while ((rv = spanview_trace(v, &t, &why)) == 1) {
		e = trace_json(out, v, t.trace_hi, t.trace_lo);
		if (e != E_OK)
			return e;
		outbuf_str(out, "\n");
	}
	if (rv < 0)
		return E_CORRUPT;
	return out->failed ? E_NOMEM : E_OK;
}
