/*
 * fuzz_frame.c - any bytes as a frame of the socket.  rooms: schema
 *
 * The crc is put right first, half of the time, so that what lies behind it is
 * reached.  What a check lets through must be walkable without checks.
 */
#include <stdlib.h>

#include "schema/tables.h"
#include "schema/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
walk(const struct wire_batch *b)
{
	uint32_t spans = 0, records = 0;
	struct wire_record r;
	struct wire_error err;

	for (size_t at = 0; at < b->records_bytes; at += r.length, records++) {
		struct wire_tag_view tag;
		struct wire_span s;
		uint32_t t = 0, tags = 0;

		if (wire_record_get(b->records + at, b->records_bytes - at, &r, &err) < 0)
			abort();
		spans += r.type == EVENT_SPAN;
		if (r.type != EVENT_SPAN && r.type != EVENT_OPEN)
			continue;
		if (wire_span_get(r.payload, r.payload_bytes, &s, &err) != 0)
			abort();
		while (wire_tag_next(&s, &t, &tag))
			tags++;
		if (tags != s.tag_count)
			abort();
	}
	if (spans != b->span_count || records != b->record_count)
		abort();
}

static void
put_crc(uint8_t *p, size_t n)
{
	struct wire_batch b;
	struct wire_error err;

	if (n < BATCH_FIXED_BYTES || memcmp(p, BATCH_MAGIC, 4) != 0)
		return;
	b.records_bytes = wire_get32(p + 136);
	b.dict_bytes = wire_get32(p + 140);
	if ((uint64_t)b.records_bytes + b.dict_bytes != n - BATCH_FIXED_BYTES)
		return;
	for (size_t at = 0; b.records_bytes - at >= RECORD_HEADER_BYTES;) {
		uint8_t *rec = p + BATCH_FIXED_BYTES + at;
		uint32_t length = wire_get32(rec + 8);

		if (length < RECORD_HEADER_BYTES || length % 8 != 0 ||
		    length > b.records_bytes - at)
			break;
		wire_put32(rec + 16, wire_record_crc(rec, length));
		at += length;
	}
	if (wire_batch_peek(p, n, &b, &err) == 0 || err.at != 152)
		return;

	/* Sealing writes the same header again with a right crc. */
	b.records_bytes = wire_get32(p + 136);
	b.dict_bytes = wire_get32(p + 140);
	wire_batch_seal(p, &b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wire_stored stored;
	struct wire_hello hello;
	struct wire_batch batch;
	struct wire_error err;
	uint8_t *p;

	if (n > FRAME_MAX_BYTES || n == 0)
		return 0;
	p = malloc(n); /* exactly as long as it is, for the sanitizer */
	if (p == NULL)
		return 0;
	memcpy(p, data, n);
	if (n % 2 == 0)
		put_crc(p, n);
	if (wire_batch_check(p, n, &batch, &err) == 0)
		walk(&batch);
	(void)!wire_hello_get(p, n, &hello, &err);
	(void)!wire_stored_get(p, n, &stored, &err);
	free(p);
	return 0;
}
