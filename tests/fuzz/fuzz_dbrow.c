/*
 * fuzz_dbrow.c - any bytes as a row of the buffer: a bundle of traces and the
 * attributes of its probe.  rooms: exporter processor core base schema
 *
 * The checksums are put right first, half of the time.  What passes the checks
 * must be encoded, split and restored without harm, and halves must add up.
 */
#include <stdlib.h>

#include "agent/core/process.h"
#include "agent/exporter/payload.h"
#include "schema/tables.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
mend(uint8_t *p, size_t n)
{
	struct wire_bundle b = { .trace_count = wire_get32(p + 8),
		.span_count = wire_get32(p + 12) };

	b.traces_bytes = wire_get32(p + 16) % (uint32_t)(n - BUNDLE_FIXED_BYTES + 1);
	b.dict_bytes = (uint32_t)(n - BUNDLE_FIXED_BYTES) - b.traces_bytes;
	for (uint32_t at = 0; at + BUNDLE_TRACE_BYTES <= b.traces_bytes;) {
		uint8_t *rec = p + BUNDLE_FIXED_BYTES + at + BUNDLE_TRACE_BYTES;
		uint32_t left = b.traces_bytes - at - BUNDLE_TRACE_BYTES;
		uint32_t records = wire_get32(rec - BUNDLE_TRACE_BYTES + 24);

		if (records > left)
			break;
		for (uint32_t i = 0, length; i + RECORD_HEADER_BYTES <= records; i += length) {
			length = wire_get32(rec + i + 8);
			if (length < RECORD_HEADER_BYTES || length % 8 != 0 || length > records - i)
				break;
			wire_record_seal(rec + i, wire_get64(rec + i), length,
			    wire_get16(rec + i + 12), RECORD_PUBLISHED);
		}
		at += BUNDLE_TRACE_BYTES + records;
	}
	wire_bundle_seal(p, &b);
}

static void
encode(const struct chunk_row *c, const struct probe_row *probe)
{
	static const struct span_defaults d = { "service", "env", "1", "host", "a:b", "x:y" };
	struct span_identity *id = NULL;
	struct outbuf out = { 0 };
	struct spanview *v = NULL;
	uint32_t traces = 0;

	if (span_identity_new(probe, &d, &id) != E_OK || spanview_new(&v) != E_OK)
		abort();
	payload_begin(&out);
	if (payload_msgpack(v, c, id, &out, &traces) == E_OK) {
		payload_end(&out, traces);
		if (out.failed || out.n < 5)
			abort();
	}
	outbuf_reset(&out, 1 << 20);
	if (payload_lines(v, c, id, &out) == E_OK && memchr(out.p, 0, out.n) != NULL)
		abort();
	outbuf_free(&out);
	spanview_free(v);
	span_identity_free(id);
}

static void
split(const struct chunk_row *c)
{
	struct chunk_row a = { 0 }, b = { 0 };
	struct wire_bundle w;
	struct wire_error err;

	if (payload_split(c, &a, &b) != E_OK)
		return;
	if (wire_bundle_get(a.blob, a.blob_bytes, &w, &err) != 0 || w.span_count != a.spans ||
	    wire_bundle_get(b.blob, b.blob_bytes, &w, &err) != 0 || w.span_count != b.spans)
		abort();
	free(a.blob);
	free(b.blob);
}

static void
restore(const struct chunk_row *c, const struct probe_row *probe)
{
	struct segment_row g = { .id = 1,
		.probe = probe->id,
		.spans = c->spans,
		.blob = c->blob,
		.blob_bytes = c->blob_bytes };
	struct processor *p;
	const struct step *s;

	if (processor_new(&(struct processor_options){ .service = "s", .rate_limit = 1 }, &p) !=
	    E_OK)
		abort();
	if (processor_probe(p, probe) == E_OK) {
		enum err e = processor_restore(p, &g);

		if (e == E_CORRUPT && processor_open_spans(p) != 0)
			abort(); /* refused whole */
		if (e == E_OK && processor_restore(p, &g) == E_OK &&
		    processor_probe_gone(p, probe->id) == E_OK &&
		    processor_step(p, 1, 1, &s) == E_OK)
			processor_commit(p);
	}
	processor_free(p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct probe_row probe;
	struct chunk_row c = { .probe = 1 };
	size_t attrs;

	if (n < 3 + BUNDLE_FIXED_BYTES)
		return 0;
	attrs = wire_get16(data + 1) % (FRAME_ATTRS_MAX_BYTES + 1);
	if (attrs > n - 3 - BUNDLE_FIXED_BYTES)
		attrs = n - 3 - BUNDLE_FIXED_BYTES;
	probe.id = 1;
	probe.attrs_bytes = (uint32_t)attrs;
	memcpy(probe.attrs, data + 3, attrs);
	c.blob_bytes = n - 3 - attrs;
	c.blob = malloc(c.blob_bytes);
	memcpy(c.blob, data + 3 + attrs, c.blob_bytes);
	c.traces = wire_get32(c.blob + 8);
	c.spans = wire_get32(c.blob + 12);
	if (data[0] & 1)
		mend(c.blob, c.blob_bytes);
	encode(&c, &probe);
	split(&c);
	restore(&c, &probe);
	free(c.blob);
	return 0;
}
