/*
 * spanview.h - what a span finally says.  A bundle holds spans as the probe
 * recorded them; Datadog, a file and the views want them with strings resolved,
 * the clock offset added, the process's identity on them and the sampling
 * decision on the first one.  That is decided here once; encoders only write
 * down what they are given.
 *
 * Plain objects without threads or locks: one owner each.  A view may be used
 * again for the next bundle and then allocates little or nothing.
 */
#pragma once

#include "agent/core/store.h"

/*
 * A text, not terminated, valid UTF-8.  The `lead` bytes in front of s hold its
 * msgpack header, so that an encoder copies both at once; 0: it has none.
 */
struct span_text {
	const char *s;
	uint32_t n, lead;
};

struct span_tag {
	struct span_text key, value; /* value: meta only */
	double number;               /* metrics only */
	bool metric;
};

struct span_model {
	uint64_t trace_hi, trace_lo, span_id, parent_id;
	int64_t start_ns; /* realtime */
	int64_t duration_ns;
	struct span_text service, name, resource, type; /* type may be empty */
	bool error, open;                               /* open: has not finished yet */
	uint16_t flags;                                 /* WIRE_SPAN_* */
	const struct span_tag *tags;                    /* meta and metrics, each key once */
	uint32_t meta_count, metric_count;
};

/* What is used where a probe said nothing; NULL is empty. */
struct span_defaults {
	const char *service, *env, *version, *hostname, *tags, *service_mapping;
};

/* The identity of one probe, digested. Immutable. */
struct span_identity;
MUST_CHECK enum err span_identity_new(
    const struct probe_row *probe, const struct span_defaults *d, struct span_identity **out);
void span_identity_free(struct span_identity *id);
/* Was it made from this very probe row (id, pid and attrs equal)? */
bool span_identity_is(const struct span_identity *id, const struct probe_row *probe);

struct spanview;
MUST_CHECK enum err spanview_new(struct spanview **out);
void spanview_free(struct spanview *v);

/*
 * Begin with a CMC1 bundle; blob and identity are borrowed until the next open.
 * E_CORRUPT with *err: it is none.
 */
MUST_CHECK enum err spanview_open(struct spanview *v, const uint8_t *blob, size_t n,
    const struct span_identity *id, struct wire_error *err);
/* The same for one trace that is still being assembled: OPEN records are shown too. */
MUST_CHECK enum err spanview_open_trace(struct spanview *v, const struct wire_trace *t,
    const uint8_t *dict, size_t dict_bytes, const struct span_identity *id, struct wire_error *err);

/* Step to the next trace (of a bundle): 1, 0 at the end, -1 broken. Fills *out. */
MUST_CHECK int spanview_trace(struct spanview *v, struct wire_trace *out, struct wire_error *err);
/* Spans that spanview_span will give for the current trace. */
uint32_t spanview_span_count(const struct spanview *v);
/*
 * Step to the next span of the current trace, its local root first: 1, 0 at the
 * end, -1 no memory.  Everything in *out lives until the next step (tags) or
 * the next open (texts).
 */
MUST_CHECK int spanview_span(struct spanview *v, struct span_model *out);
