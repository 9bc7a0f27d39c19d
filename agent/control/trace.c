/*
 * trace.c - one trace, or all of them, span by span as JSON.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/control/walk.h"
#include "agent/core/json.h"

bool
view_parse_trace_id(const char *text, uint64_t *hi, uint64_t *lo)
{
	char part[17] = "";
	size_t n = strlen(text);

	if (n != 16 && n != 32)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isxdigit((unsigned char)text[i]))
			return false;
	*hi = 0;
	if (n == 32) {
		memcpy(part, text, 16);
		*hi = strtoull(part, NULL, 16);
		text += 16;
	}
	*lo = strtoull(text, NULL, 16);
	return *lo != 0;
}

static void
put_text(struct outbuf *b, const char *key, struct span_text t)
{
	put_key(b, key);
	put_text_n(b, t.s, t.n);
}

static void
put_tags(struct outbuf *b, const struct span_model *s, bool metric)
{
	uint32_t count = s->meta_count + s->metric_count;

	put_key(b, metric ? "metrics" : "meta");
	put_raw(b, "{");
	for (uint32_t i = 0; i < count; i++) {
		const struct span_tag *t = &s->tags[i];

		if (t->metric != metric)
			continue;
		if (b->n > 0 && b->p[b->n - 1] != '{')
			put_raw(b, ",");
		put_text_n(b, t->key.s, t->key.n);
		put_raw(b, ":");
		if (metric)
			put_f64(b, t->number);
		else
			put_text_n(b, t->value.s, t->value.n);
	}
	put_raw(b, "}");
}

static void
put_span(struct outbuf *b, const struct span_model *s, int64_t now_ns, bool with_trace)
{
	put_raw(b, "{");
	if (with_trace)
		put_hex(b, "trace_id", s->trace_hi, s->trace_lo, true);
	put_hex(b, "span_id", 0, s->span_id, false);
	put_hex(b, "parent_id", 0, s->parent_id, false);
	put_text(b, "service", s->service);
	put_text(b, "name", s->name);
	put_text(b, "resource", s->resource);
	put_text(b, "type", s->type);
	put_i64(b, "start_ns", s->start_ns);
	put_i64(b, "duration_ns", walk_duration_ns(s, now_ns));
	put_u64(b, "error", s->error);
	if (s->open)
		put_bool(b, "open", true);
	put_tags(b, s, false);
	put_tags(b, s, true);
	put_raw(b, "}");
}

struct one {
	struct outbuf *out;
	uint64_t found;
};

static enum err
take_one(void *ctx, const struct walked *w)
{
	struct one *one = ctx;
	struct span_model s;

	while (spanview_span(w->view, &s) == 1) {
		if (one->found++ == 0) {
			put_raw(one->out, "{");
			put_hex(one->out, "trace_id", s.trace_hi, s.trace_lo, true);
			put_str(one->out, "state", trace_state_name(w->state));
			put_key(one->out, "spans");
			put_raw(one->out, "[");
		} else {
			put_raw(one->out, ",");
		}
		put_span(one->out, &s, w->written_ns, false);
		if (one->out->failed)
			return E_NOMEM;
	}
	return E_OK;
}

enum err
view_trace(struct store *st, struct processor *p, const struct span_defaults *d, uint64_t hi,
    uint64_t lo, struct outbuf *out)
{
	struct walk_id id = { hi, lo };
	struct one one = { out, 0 };
	enum err rv = walk_traces(st, p, d, &id, 0, take_one, &one);

	if (rv != E_OK)
		return rv;
	if (one.found == 0)
		return E_NOTFOUND;
	put_raw(out, "]}");
	return out->failed ? E_NOMEM : E_OK;
}

#define EXPORT_BYTES (1u << 20) /* of text, a slice */

struct all {
	struct view_export *at;
	struct outbuf *out;
};

/* A chunk is written whole or not at all. */
static enum err
take_all(void *ctx, const struct walked *w)
{
	struct all *all = ctx;
	struct view_export *at = all->at;
	struct span_model s;

	if (w->chunk != 0 && w->chunk != at->chunk) {
		if (all->out->n >= EXPORT_BYTES ||
		    (at->until_mono_ns != 0 && clock_mono_ns() >= at->until_mono_ns)) {
			at->before = w->chunk + 1;
			return E_FULL;
		}
		at->chunk = w->chunk;
	}
	while (spanview_span(w->view, &s) == 1) {
		put_span(all->out, &s, w->written_ns, true);
		put_raw(all->out, "\n");
		if (all->out->failed)
			return E_NOMEM;
		at->count++;
	}
	return E_OK;
}

enum err
view_export(struct store *st, struct processor *p, const struct span_defaults *d,
    struct view_export *at, struct outbuf *out)
{
	struct all all = { at, out };
	enum err rv;

	at->chunk = 0;
	rv = walk_traces(st, p, d, NULL, at->before, take_all, &all);
	at->done = rv == E_OK;
	return rv == E_FULL ? E_OK : rv;
}
