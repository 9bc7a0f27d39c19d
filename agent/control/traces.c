/*
 * traces.c - the list of traces.  A trace may lie in several bundles (parts), so
 * its summary is gathered over them; the walk ends when enough traces are known
 * and no older chunk can hold a part of them.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/control/walk.h"
#include "agent/core/json.h"

#define NAME_BYTES     160
#define CLOCK_SLACK_NS INT64_C(60000000000)

struct summary {
	uint64_t hi, lo;
	int64_t start_ns, end_ns;
	uint64_t spans;
	enum trace_state state;
	bool error, unfinished, has_root, partial, text;
	char root[NAME_BYTES], resource[NAME_BYTES], workflow[NAME_BYTES];
};

struct list {
	const struct trace_filter *filter;
	struct summary *rows;
	uint32_t *slots; /* index + 1 by hash; power of two */
	uint32_t count, cap, slot_count;
	bool cut;
};

static struct summary *
row_of(struct list *l, const struct wire_trace *t)
{
	uint32_t i = (uint32_t)(t->trace_lo ^ (t->trace_lo >> 32)) & (l->slot_count - 1);

	for (; l->slots[i] != 0; i = (i + 1) & (l->slot_count - 1)) {
		struct summary *s = &l->rows[l->slots[i] - 1];

		if (s->lo == t->trace_lo && s->hi == t->trace_hi)
			return s;
	}
	if (l->count == l->cap)
		return NULL;
	l->slots[i] = ++l->count;
	memset(&l->rows[l->count - 1], 0, sizeof l->rows[0]);
	l->rows[l->count - 1].hi = t->trace_hi;
	l->rows[l->count - 1].lo = t->trace_lo;
	l->rows[l->count - 1].start_ns = INT64_MAX;
	return &l->rows[l->count - 1];
}

static void
copy_text(char out[NAME_BYTES], struct span_text t)
{
	size_t n = t.n < NAME_BYTES - 1 ? t.n : NAME_BYTES - 1;

	memcpy(out, t.s, n);
	out[n] = '\0';
}

static bool
contains(struct span_text t, const char *part)
{
	return memmem(t.s, t.n, part, strlen(part)) != NULL;
}

static bool
span_has_text(const struct span_model *s, const char *part)
{
	if (contains(s->name, part) || contains(s->resource, part))
		return true;
	for (uint32_t i = 0; i < s->meta_count + s->metric_count; i++)
		if (!s->tags[i].metric && s->tags[i].key.n >= 6 &&
		    memcmp(s->tags[i].key.s, "error.", 6) == 0 && contains(s->tags[i].value, part))
			return true;
	return false;
}

static bool
is_job(struct span_text name)
{
	static const char job[] = "comfyui.workflow.execute";

	return name.n == sizeof job - 1 && memcmp(name.s, job, name.n) == 0;
}

static void
add_span(struct summary *row, const struct span_model *s, int64_t now, const char *text)
{
	int64_t end = s->start_ns + walk_duration_ns(s, now);

	if (s->start_ns < row->start_ns)
		row->start_ns = s->start_ns;
	if (end > row->end_ns)
		row->end_ns = end;
	row->spans++;
	row->error |= s->error;
	row->unfinished |= (s->flags & WIRE_SPAN_UNFINISHED) != 0;
	if (is_job(s->name))
		copy_text(row->workflow, s->resource);
	if (text[0] != '\0' && !row->text)
		row->text = span_has_text(s, text);
	if ((s->flags & WIRE_SPAN_LOCAL_ROOT) != 0 || (row->root[0] == '\0' && !row->has_root)) {
		row->has_root |= (s->flags & WIRE_SPAN_LOCAL_ROOT) != 0;
		copy_text(row->root, s->name);
		copy_text(row->resource, s->resource);
	}
}

/* A part is written after its trace began: behind a chunk that is older than that, by more than
 * clocks may have been set meanwhile, come no more of them. */
static bool
all_whole(const struct list *l, int64_t written_ns)
{
	for (uint32_t i = 0; i < l->count; i++)
		if (l->rows[i].partial &&
		    (!l->rows[i].has_root || written_ns >= l->rows[i].start_ns - CLOCK_SLACK_NS))
			return false;
	return true;
}

static enum err
take(void *ctx, const struct walked *w)
{
	struct list *l = ctx;
	struct summary *row;
	struct span_model s;

	/* What was written before that time had ended by then, and so had all that follows. */
	if (w->state != TRACE_OPEN &&
	    w->written_ns + CLOCK_SLACK_NS < (int64_t)l->filter->since_real_ns)
		return E_FULL;
	if (l->filter->until_mono_ns != 0 && clock_mono_ns() >= l->filter->until_mono_ns) {
		l->cut = true;
		return E_FULL;
	}
	row = row_of(l, w->trace);
	if (row == NULL)
		return all_whole(l, w->written_ns) ? E_FULL : E_OK;
	if (row->spans == 0)
		row->state = w->state;
	else if (w->state < row->state)
		row->state = w->state; /* an open part makes it open, a queued one queued */
	row->partial |= (w->trace->flags & BUNDLE_PARTIAL) != 0;
	while (spanview_span(w->view, &s) == 1)
		add_span(row, &s, w->written_ns, l->filter->text);
	return E_OK;
}

static bool
passes(const struct summary *s, const struct trace_filter *f)
{
	if (f->state[0] != '\0' && strcmp(f->state, trace_state_name(s->state)) != 0 &&
	    !(strcmp(f->state, "error") == 0 && s->error) &&
	    !(strcmp(f->state, "unfinished") == 0 && s->unfinished))
		return false;
	if (f->text[0] != '\0' && !s->text)
		return false;
	return s->end_ns >= (int64_t)f->since_real_ns &&
	       s->end_ns - s->start_ns >= (int64_t)f->min_duration_ns;
}

static int
newest_first(const void *a, const void *b)
{
	const struct summary *x = a, *y = b;

	return (x->start_ns < y->start_ns) - (x->start_ns > y->start_ns);
}

static void
put_row(struct outbuf *b, const struct summary *s)
{
	put_raw(b, "{");
	put_hex(b, "trace_id", s->hi, s->lo, true);
	put_str(b, "root", s->root);
	put_str(b, "resource", s->resource);
	put_str(b, "workflow", s->workflow);
	put_i64(b, "start_ns", s->start_ns);
	put_i64(b, "duration_ns", s->end_ns - s->start_ns);
	put_u64(b, "spans", s->spans);
	put_u64(b, "error", s->error);
	put_str(b, "state", trace_state_name(s->state));
	put_bool(b, "unfinished", s->unfinished);
	put_raw(b, "}\n");
}

static bool
filters(const struct trace_filter *f)
{
	return f->state[0] != '\0' || f->text[0] != '\0' || f->since_real_ns != 0 ||
	       f->min_duration_ns != 0;
}

enum err
view_traces(struct store *st, struct processor *p, const struct span_defaults *d,
    const struct trace_filter *f, struct outbuf *out, bool *cut)
{
	struct list l = { .filter = f, .cap = filters(f) ? VIEW_TRACES_MAX : f->limit };
	uint32_t given = 0;
	enum err rv = E_NOMEM;

	for (l.slot_count = 64; l.slot_count < 2 * l.cap;)
		l.slot_count *= 2;
	l.rows = malloc(l.cap * sizeof l.rows[0]);
	l.slots = calloc(l.slot_count, sizeof l.slots[0]);
	if (l.rows == NULL || l.slots == NULL)
		goto out;
	rv = walk_traces(st, p, d, NULL, 0, take, &l);
	*cut = l.cut;
	if (rv == E_FULL)
		rv = E_OK;
	if (rv != E_OK)
		goto out;
	qsort(l.rows, l.count, sizeof l.rows[0], newest_first);
	for (uint32_t i = 0; i < l.count && given < f->limit; i++) {
		if (l.rows[i].spans == 0 || !passes(&l.rows[i], f))
			continue;
		put_row(out, &l.rows[i]);
		given++;
	}
	rv = out->failed ? E_NOMEM : E_OK;
out:
	free(l.rows);
	free(l.slots);
	return rv;
}
