/*
 * span_json.c - spans as JSON, written directly: the texts are valid UTF-8
 * already, and a tree of objects in memory would cost more than the file.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "agent/core/span_json.h"

void
span_json_text(struct outbuf *b, const char *s, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	/* At worst each byte becomes \u00xx. */
	uint8_t *p = outbuf_room(b, 6 * n + 2);
	size_t used = 0;

	if (p == NULL)
		return;
	p[used++] = '"';
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\') {
			p[used++] = '\\';
			p[used++] = c;
		} else if (c < 0x20 || c == 0x7f) {
			memcpy(p + used, "\\u00", 4);
			p[used + 4] = (uint8_t)hex[c >> 4];
			p[used + 5] = (uint8_t)hex[c & 15];
			used += 6;
		} else {
			p[used++] = c;
		}
	}
	p[used++] = '"';
	b->n += used;
}

void
span_json_number(struct outbuf *b, double v)
{
	char text[40];

	if (!isfinite(v))
		snprintf(text, sizeof text, "null");
	else if (fabs(v) < 9007199254740992.0 && v == floor(v))
		snprintf(text, sizeof text, "%" PRId64, (int64_t)v);
	else
		snprintf(text, sizeof text, "%.17g", v);
	outbuf_str(b, text);
}

static void
member_text(struct outbuf *b, const char *name, struct span_text t)
{
	outbuf_str(b, name);
	span_json_text(b, t.s, t.n);
}

static void
tags(struct outbuf *b, const struct span_model *s, bool metrics)
{
	bool first = true;

	for (uint32_t i = 0; i < s->meta_count + s->metric_count; i++) {
		const struct span_tag *t = &s->tags[i];

		if (t->metric != metrics)
			continue;
		if (!first)
			outbuf_put(b, ",", 1);
		first = false;
		span_json_text(b, t->key.s, t->key.n);
		outbuf_put(b, ":", 1);
		if (metrics)
			span_json_number(b, t->number);
		else
			span_json_text(b, t->value.s, t->value.n);
	}
}

void
span_json(struct outbuf *b, const struct span_model *s)
{
	char text[160];

	snprintf(text, sizeof text,
	    "{\"span_id\":\"%016" PRIx64 "\",\"parent_id\":\"%016" PRIx64 "\"", s->span_id,
	    s->parent_id);
	outbuf_str(b, text);
	member_text(b, ",\"service\":", s->service);
	member_text(b, ",\"name\":", s->name);
	member_text(b, ",\"resource\":", s->resource);
	member_text(b, ",\"type\":", s->type);
	snprintf(text, sizeof text,
	    ",\"start_ns\":%" PRId64 ",\"duration_ns\":%" PRId64 ",\"error\":%d", s->start_ns,
	    s->duration_ns, s->error);
	outbuf_str(b, text);
	outbuf_str(b, ",\"meta\":{");
	tags(b, s, false);
	outbuf_str(b, "},\"metrics\":{");
	tags(b, s, true);
	outbuf_str(b, "}}");
}

enum err
trace_json(struct outbuf *b, struct spanview *v, uint64_t trace_hi, uint64_t trace_lo)
{
	struct span_model s;
	char text[64];
	bool first = true;
	int more;

	snprintf(text, sizeof text, "{\"trace_id\":\"%016" PRIx64 "%016" PRIx64 "\",\"spans\":[",
	    trace_hi, trace_lo);
	outbuf_str(b, text);
	while ((more = spanview_span(v, &s)) == 1) {
		if (!first)
			outbuf_put(b, ",", 1);
		first = false;
		span_json(b, &s);
	}
	outbuf_str(b, "]}");
	return more < 0 || b->failed ? E_NOMEM : E_OK;
}
