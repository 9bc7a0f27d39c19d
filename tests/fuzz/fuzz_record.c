/*
 * fuzz_record.c - any bytes as batches for the processor.  rooms: processor core base schema
 *
 * The first byte says what comes: one batch (its crc32c put right, records
 * sealed anew), sampling rules, or an agent's rates.  Whatever a check lets
 * through must come out as bundles that can be read back, and every span must
 * be sent, sampled out, held, or counted as a repeat.
 */
#include <stdlib.h>

#include "agent/core/process.h"
#include "agent/processor/rules.h"
#include "schema/tables.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Make the checksums right, so that the fuzzer reaches what lies behind them. */
static void
mend(uint8_t *p, size_t n)
{
	struct wire_batch b;
	uint32_t records, count = 0, spans = 0;

	memcpy(p, BATCH_MAGIC, 4);
	records = wire_get32(p + 136) % (uint32_t)(n - BATCH_FIXED_BYTES + 1);
	memset(&b, 0, sizeof b);
	b.end = UINT64_MAX;
	b.mono_ns = wire_get64(p + 56);
	b.real_ns = wire_get64(p + 64);
	for (uint32_t at = 0; at + RECORD_HEADER_BYTES <= records; count++) {
		uint8_t *rec = p + BATCH_FIXED_BYTES + at;
		uint32_t length = wire_get32(rec + 8);

		if (length < RECORD_HEADER_BYTES || length % 8 != 0 || length > records - at)
			break;
		spans += wire_get16(rec + 12) == EVENT_SPAN;
		wire_record_seal(rec, at, length, wire_get16(rec + 12), RECORD_PUBLISHED);
		at += length;
	}
	b.records_bytes = records;
	b.dict_bytes = (uint32_t)(n - BATCH_FIXED_BYTES) - records;
	b.record_count = count;
	b.span_count = spans;
	wire_batch_seal(p, &b);
}

static uint64_t
bundle_spans(const uint8_t *blob, size_t n)
{
	struct wire_bundle b;
	struct wire_trace t;
	struct wire_error err;
	size_t at = 0;
	int rv;

	if (wire_bundle_get(blob, n, &b, &err) != 0)
		abort();
	while ((rv = wire_trace_next(&b, &at, &t, &err)) == 1)
		;
	if (rv != 0)
		abort();
	return b.span_count;
}

static uint64_t
apply(struct processor *p, uint64_t now)
{
	const struct step *s;
	uint64_t spans = 0;

	if (processor_step(p, now, now, &s) != E_OK)
		return 0;
	for (size_t i = 0; i < s->chunk_count; i++)
		spans += bundle_spans(s->chunks[i].blob, s->chunks[i].blob_bytes);
	for (size_t i = 0; i < s->segment_count; i++) {
		s->segments[i].id = (int64_t)now + (int64_t)i;
		bundle_spans(s->segments[i].blob, s->segments[i].blob_bytes);
	}
	spans += s->sampled_out + s->repeats;
	spans -= s->received;
	processor_commit(p);
	return spans;
}

static void
batch(const uint8_t *data, size_t n, bool reject)
{
	struct processor_options o = { .service = "fuzz",
		.partial_spans = 3,
		.sample_rate = reject ? "0" : "",
		.rate_limit = 1 };
	uint8_t *p = malloc(n);
	struct processor *proc;
	struct wire_batch b;
	struct wire_error err;
	uint64_t out;

	if (p == NULL || processor_new(&o, &proc) != E_OK)
		abort();
	memcpy(p, data, n);
	mend(p, n);

	bool good = wire_batch_check(p, n, &b, &err) == 0;
	struct raw_row raw = { .probe = 1, .blob = p, .blob_bytes = n };
	enum err e = processor_feed(proc, &raw);

	if (e == E_OK && !good)
		abort();
	out = apply(proc, 1);
	if (e == E_OK && processor_feed(proc, &raw) != E_OK)
		abort();
	out += apply(proc, 2);
	if (processor_probe_gone(proc, 1) != E_OK && e == E_OK)
		abort();
	out += apply(proc, 3);
	if (e == E_OK && (out != 2 * (uint64_t)b.span_count || processor_open_spans(proc) != 0))
		abort();
	processor_free(proc);
	free(p);
}

static void
texts(const uint8_t *data, size_t n)
{
	struct rules *r = NULL;
	struct sampler_rates *rates;
	const char *problem;
	size_t at;
	double rate;

	if (rules_parse((const char *)data, n, &r, &at, &problem) == E_OK)
		rules_match(r, &(struct sample_subject){ .service = { "svc", 3 } }, &rate);
	else if (at > n)
		abort();
	else
		r = NULL;
	rules_free(r);
	if (rates_new(&rates) != E_OK)
		abort();
	if (rates_parse(rates, (const char *)data, n) == E_OK)
		rates_find(
		    rates, (struct norm_text){ "svc", 3 }, (struct norm_text){ "", 0 }, &rate);
	rates_free(rates);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0)
		return 0;
	if (data[0] < 64)
		texts(data + 1, n - 1);
	else if (n - 1 >= BATCH_FIXED_BYTES)
		batch(data + 1, n - 1, data[0] & 1);
	return 0;
}
