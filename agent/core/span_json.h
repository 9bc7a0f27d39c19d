/*
 * span_json.h - spans as JSON, the shape of `comfymon trace ID --json`.  Pure
 * writers into an outbuf (look at its `failed` at the end).
 */
#pragma once

#include "agent/core/outbuf.h"
#include "agent/core/spanview.h"

/* {"span_id","parent_id","service","name","resource","type","start_ns","duration_ns","error",
 * "meta":{},"metrics":{}}; ids are 16 hex digits. */
void span_json(struct outbuf *b, const struct span_model *s);
/* A JSON string with its quotes; s is valid UTF-8. */
void span_json_text(struct outbuf *b, const char *s, size_t n);
void span_json_number(struct outbuf *b, double v);
/*
 * The current trace of a view and all its spans, one line without its newline:
 * {"trace_id":"<32 hex>","spans":[...]}.  E_NOMEM.
 */
MUST_CHECK enum err trace_json(
    struct outbuf *b, struct spanview *v, uint64_t trace_hi, uint64_t trace_lo);
