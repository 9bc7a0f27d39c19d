/*
 * propagation.h - reads and writes trace context in HTTP headers: W3C
 * traceparent and tracestate, and Datadog's x-datadog-*.
 *
 * libc only, no allocation, no state: any thread.  Header values are a
 * stranger's: whatever is malformed is as if it were absent.
 * Formats: W3C Trace Context level 1; Datadog's documented headers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROPAGATION_DATADOG      0x1u
#define PROPAGATION_TRACECONTEXT 0x2u
#define PROPAGATION_DEFAULT      (PROPAGATION_DATADOG | PROPAGATION_TRACECONTEXT)

#define PROPAGATION_NONE        127 /* no priority, no mechanism */
#define PROPAGATION_TAGS_BYTES  512
#define PROPAGATION_STATE_BYTES 600

/* Terminated values, NULL where the request has no such header. */
struct propagation_headers {
	const char *traceparent, *tracestate;
	const char *trace_id, *parent_id, *priority, *origin, *tags; /* x-datadog-* */
};

struct propagation {
	uint64_t trace_hi, trace_lo, parent_id;
	int8_t priority, mechanism;
	char origin[64];
	char tags[PROPAGATION_TAGS_BYTES + 1]; /* _dd.p.*=value, by comma, without tid and dm */
	char last_parent[17];                  /* tracestate's p, 16 hex digits, "" for none */
};

/*
 * The styles of DD_TRACE_PROPAGATION_STYLE* ("datadog,tracecontext"); names not
 * built here (b3, baggage) are passed over, "none" gives 0.  *bad is set when a
 * name is unknown.
 */
unsigned propagation_styles(const char *list, bool *bad);

/* True when a context was found; *out is complete then, and untouched otherwise. */
bool propagation_extract(
    const struct propagation_headers *h, unsigned styles, struct propagation *out);

/* "00-<32 hex>-<16 hex>-<flags>" and the dd member of tracestate. Returns its length. */
void propagation_traceparent(const struct propagation *p, char out[56]);
size_t propagation_tracestate(const struct propagation *p, char out[PROPAGATION_STATE_BYTES]);
