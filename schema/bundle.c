/*
 * bundle.c - traces of one probe as the database keeps them.  Pure functions;
 * any thread.  Layout: frame.h.
 */
#include "schema/tables.h"
#include "schema/wire.h"

#define CRC_AT 24u

static int
fail(struct wire_error *err, const char *what, size_t at)
{
	err->what = what;
	err->at = at;
	return -1;
}

static uint32_t
crc_of(const uint8_t *p, size_t n)
{
	static const uint8_t zero[4];
	uint32_t crc = wire_crc32c(0, p, CRC_AT);

	crc = wire_crc32c(crc, zero, sizeof zero);
	return wire_crc32c(crc, p + CRC_AT + 4, n - CRC_AT - 4);
}

void
wire_bundle_seal(uint8_t *p, const struct wire_bundle *b)
{
	memcpy(p, BUNDLE_MAGIC, 4);
	wire_put16(p + 4, 1);
	wire_put16(p + 6, 0);
	wire_put32(p + 8, b->trace_count);
	wire_put32(p + 12, b->span_count);
	wire_put32(p + 16, b->traces_bytes);
	wire_put32(p + 20, b->dict_bytes);
	wire_put32(p + 28, 0);
	wire_put32(
	    p + CRC_AT, crc_of(p, BUNDLE_FIXED_BYTES + (size_t)b->traces_bytes + b->dict_bytes));
}

int
wire_bundle_get(const uint8_t *p, size_t n, struct wire_bundle *out, struct wire_error *err)
{
	if (n < BUNDLE_FIXED_BYTES)
		return fail(err, "bundle cut short", n);
	if (memcmp(p, BUNDLE_MAGIC, 4) != 0)
		return fail(err, "wrong magic", 0);
	if (wire_get16(p + 4) != 1)
		return fail(err, "unknown version", 4);
	out->trace_count = wire_get32(p + 8);
	out->span_count = wire_get32(p + 12);
	out->traces_bytes = wire_get32(p + 16);
	out->dict_bytes = wire_get32(p + 20);
	if ((uint64_t)out->traces_bytes + out->dict_bytes != n - BUNDLE_FIXED_BYTES)
		return fail(err, "bundle's parts do not fill it", 16);
	if (wire_get32(p + CRC_AT) != crc_of(p, n))
		return fail(err, "bundle's crc32c differs", CRC_AT);
	out->traces = p + BUNDLE_FIXED_BYTES;
	out->dict = out->traces + out->traces_bytes;
	return 0;
}

static void
put_f64(uint8_t *p, double v)
{
	memcpy(p, &v, sizeof v);
}

static double
get_f64(const uint8_t *p)
{
	double v;

	memcpy(&v, p, sizeof v);
	return v;
}

void
wire_trace_put(uint8_t p[BUNDLE_TRACE_BYTES], const struct wire_trace *t)
{
	wire_put64(p, t->trace_hi);
	wire_put64(p + 8, t->trace_lo);
	wire_put64(p + 16, (uint64_t)t->offset_ns);
	wire_put32(p + 24, t->records_bytes);
	wire_put32(p + 28, t->record_count);
	wire_put16(p + 32, t->flags);
	p[34] = (uint8_t)t->priority;
	p[35] = (uint8_t)t->mechanism;
	wire_put32(p + 36, t->has);
	put_f64(p + 40, t->rule_psr);
	put_f64(p + 48, t->limit_psr);
	put_f64(p + 56, t->agent_psr);
}

/* Every record of a trace is one that wire_record_get accepts, spans included. */
static int
records_check(const struct wire_trace *t, size_t at, struct wire_error *err)
{
	uint32_t count = 0;
	struct wire_record r;
	struct wire_span s;

	for (uint32_t i = 0; i < t->records_bytes; i += r.length, count++) {
		if (wire_record_get(t->records + i, t->records_bytes - i, &r, err) < 0)
			return fail(err, err->what, at + i + err->at);
		if ((r.type == EVENT_SPAN || r.type == EVENT_OPEN) &&
		    wire_span_get(r.payload, r.payload_bytes, &s, err) != 0)
			return fail(err, err->what, at + i + RECORD_HEADER_BYTES + err->at);
	}
	return count == t->record_count ? 0 : fail(err, "trace's record count differs", at);
}

int
wire_trace_next(
    const struct wire_bundle *b, size_t *at, struct wire_trace *out, struct wire_error *err)
{
	if (*at >= b->traces_bytes)
		return 0;
	if (b->traces_bytes - *at < BUNDLE_TRACE_BYTES)
		return fail(err, "trace cut short", *at);

	const uint8_t *p = b->traces + *at;

	out->trace_hi = wire_get64(p);
	out->trace_lo = wire_get64(p + 8);
	out->offset_ns = (int64_t)wire_get64(p + 16);
	out->records_bytes = wire_get32(p + 24);
	out->record_count = wire_get32(p + 28);
	out->flags = wire_get16(p + 32);
	out->priority = (int8_t)p[34];
	out->mechanism = (int8_t)p[35];
	out->has = wire_get32(p + 36);
	out->rule_psr = get_f64(p + 40);
	out->limit_psr = get_f64(p + 48);
	out->agent_psr = get_f64(p + 56);
	out->records = p + BUNDLE_TRACE_BYTES;
	if (out->records_bytes > b->traces_bytes - *at - BUNDLE_TRACE_BYTES)
		return fail(err, "trace's records exceed the bundle", *at + 24);
	if (records_check(out, *at + BUNDLE_TRACE_BYTES, err) != 0)
		return -1;
	*at += BUNDLE_TRACE_BYTES + (size_t)out->records_bytes;
	return 1;
}
