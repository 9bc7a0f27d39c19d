/*
 * payload.h - inside of the exporter: a chunk as Datadog's v0.4 msgpack, a
 * chunk as JSON lines, a chunk in two.  Pure; the caller's thread.
 */
#pragma once

#include "agent/core/outbuf.h"
#include "agent/core/spanview.h"

/* A body is array(traces) of array(spans) of map: begin, bundles, end with the number of traces. */
void payload_begin(struct outbuf *out);
void payload_end(struct outbuf *out, uint32_t traces);
/* The traces of one bundle; *traces says how many.  E_CORRUPT: it is broken, what was appended is
 * of no use. */
MUST_CHECK enum err payload_msgpack(struct spanview *v, const struct chunk_row *c,
    const struct span_identity *id, struct outbuf *out, uint32_t *traces);

/* One line a trace. */
MUST_CHECK enum err payload_lines(struct spanview *v, const struct chunk_row *c,
    const struct span_identity *id, struct outbuf *out);

/*
 * Half of the traces each; one trace: half of its spans each, as parts.  The
 * halves' blobs are the caller's to free.  E_STATE: it is one span alone.
 */
MUST_CHECK enum err payload_split(
    const struct chunk_row *c, struct chunk_row *a, struct chunk_row *b);
