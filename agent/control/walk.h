/*
 * walk.h - inside of the control room: one way through every trace that the
 * agent holds, open ones first, then chunks newest first.
 */
#pragma once

#include "agent/control/views.h"

enum trace_state { TRACE_OPEN, TRACE_QUEUED, TRACE_SENT, TRACE_SAMPLED_OUT, TRACE_REJECTED };
const char *trace_state_name(enum trace_state s);

struct walked {
	const struct wire_trace *trace;
	enum trace_state state;
	int64_t chunk;         /* its row, 0 for what is open */
	int64_t written_ns;    /* when the spans became a chunk; now for those that are open */
	struct spanview *view; /* positioned on the trace: step its spans */
};

/* Of a span that is still open: so far. */
int64_t walk_duration_ns(const struct span_model *s, int64_t now_ns);

/* E_OK goes on, anything else ends the walk. */
typedef enum err (*walk_fn)(void *ctx, const struct walked *w);

/* `only` not NULL: visit just this trace id; others are not decoded. `before` not 0: only chunks
 * below that row, and nothing that is open. */
struct walk_id {
	uint64_t hi, lo;
};
MUST_CHECK enum err walk_traces(struct store *st, struct processor *p,
    const struct span_defaults *d, const struct walk_id *only, int64_t before, walk_fn fn,
    void *ctx);
