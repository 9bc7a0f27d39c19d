/*
 * walk.c - visit every trace.  Damaged bundles are passed over: the store
 * counts them when it meets them.
 */
#include "agent/control/walk.h"

#include "agent/base/clock.h"

struct walk {
	struct store *store;
	const struct span_defaults *defaults;
	const struct walk_id *only;
	walk_fn fn;
	void *ctx;
	struct spanview *view;
	struct span_identity *identity; /* of the probe seen last */
	enum err end;                   /* why the walk ends, E_OK while it goes on */
};

const char *
trace_state_name(enum trace_state s)
{
	static const char *const names[] = { "open", "queued", "sent", "sampled_out", "rejected" };

	return names[s];
}

int64_t
walk_duration_ns(const struct span_model *s, int64_t now_ns)
{
	if (!s->open)
		return s->duration_ns;
	return now_ns > s->start_ns ? now_ns - s->start_ns : 0;
}

static bool
wanted(const struct walk *w, const struct wire_trace *t)
{
	return w->only == NULL ||
	       (t->trace_lo == w->only->lo && (t->trace_hi == w->only->hi || w->only->hi == 0));
}

static enum err
know(struct walk *w, const struct probe_row *probe)
{
	if (w->identity != NULL && span_identity_is(w->identity, probe))
		return E_OK;
	span_identity_free(w->identity);
	w->identity = NULL;
	return span_identity_new(probe, w->defaults, &w->identity);
}

/* Headers only: does this bundle hold the trace that is asked for? */
static bool
holds(const struct walk *w, const struct chunk_row *c)
{
	struct wire_bundle b;
	struct wire_error err;

	if (w->only == NULL)
		return true;
	if (wire_bundle_get(c->blob, c->blob_bytes, &b, &err) != 0)
		return false;
	for (size_t at = 0; b.traces_bytes - at >= BUNDLE_TRACE_BYTES;) {
		struct wire_trace t = { .trace_hi = wire_get64(b.traces + at),
			.trace_lo = wire_get64(b.traces + at + 8) };
		uint32_t n = wire_get32(b.traces + at + 24);

		if (wanted(w, &t))
			return true;
		if (n > b.traces_bytes - at - BUNDLE_TRACE_BYTES)
			return false;
		at += BUNDLE_TRACE_BYTES + (size_t)n;
	}
	return false;
}

static enum trace_state
state_of(const struct chunk_row *c, enum delivery_state state, bool queued)
{
	if (queued)
		return TRACE_QUEUED;
	if (c->class == CHUNK_SAMPLED_OUT)
		return TRACE_SAMPLED_OUT;
	return state == DELIVERY_SENT ? TRACE_SENT : TRACE_REJECTED;
}

static enum err
visit_chunk(void *ctx, const struct chunk_row *c, const struct probe_row *probe,
    enum delivery_state state, bool queued)
{
	struct walk *w = ctx;
	struct wire_error err;
	struct wire_trace t;

	if (c->signal != SIGNAL_TRACE || !holds(w, c))
		return E_OK;
	w->end = know(w, probe);
	if (w->end != E_OK)
		return w->end;
	if (spanview_open(w->view, c->blob, c->blob_bytes, w->identity, &err) != E_OK)
		return E_OK;
	while (w->end == E_OK && spanview_trace(w->view, &t, &err) == 1) {
		struct walked one = { &t, state_of(c, state, queued), c->id,
			(int64_t)c->created_real_ns, w->view };

		if (wanted(w, &t))
			w->end = w->fn(w->ctx, &one);
	}
	return w->end;
}

static void
visit_open(
    void *ctx, const struct wire_trace *t, const uint8_t *dict, size_t dict_bytes, int64_t probe_id)
{
	struct walk *w = ctx;
	struct probe_row probe;
	struct wire_error err;
	struct walked one = { t, TRACE_OPEN, 0, (int64_t)clock_real_ns(), w->view };

	if (w->end != E_OK || !wanted(w, t))
		return;
	if (w->store->ops->probe_by_row(w->store, probe_id, &probe) != E_OK ||
	    know(w, &probe) != E_OK)
		return;
	if (spanview_open_trace(w->view, t, dict, dict_bytes, w->identity, &err) == E_OK)
		w->end = w->fn(w->ctx, &one);
}

enum err
walk_traces(struct store *st, struct processor *p, const struct span_defaults *d,
    const struct walk_id *only, int64_t before, walk_fn fn, void *ctx)
{
	struct walk w = { st, d, only, fn, ctx, NULL, NULL, E_OK };
	enum err rv = spanview_new(&w.view);

	if (rv != E_OK)
		return rv;
	if (p != NULL && before == 0)
		processor_open_traces(p, visit_open, &w);
	if (w.end == E_OK)
		rv = st->ops->chunks(st, before, visit_chunk, &w);
	if (w.end != E_OK)
		rv = w.end;
	span_identity_free(w.identity);
	spanview_free(w.view);
	return rv;
}
