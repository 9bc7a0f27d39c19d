/*
 * Status to verdict, attempt to delay, Retry-After, and chunks in two.
 */
#include "agent/exporter/payload.h"
#include "agent/exporter/verdict.h"
#include "schema/tables.h"
#include "tests/t.h"

TEST(judges_every_kind_of_status)
{
	static const struct {
		int status;
		enum verdict want;
	} rows[] = {
		{ 200, VERDICT_SENT },
		{ 202, VERDICT_SENT },
		{ 301, VERDICT_RETRY },
		{ 400, VERDICT_REJECT },
		{ 401, VERDICT_HOLD },
		{ 403, VERDICT_HOLD },
		{ 402, VERDICT_REJECT },
		{ 404, VERDICT_HOLD },
		{ 405, VERDICT_HOLD },
		{ 407, VERDICT_HOLD },
		{ 408, VERDICT_RETRY },
		{ 413, VERDICT_SPLIT },
		{ 415, VERDICT_HOLD },
		{ 422, VERDICT_REJECT },
		{ 425, VERDICT_RETRY },
		{ 429, VERDICT_RETRY },
		{ 500, VERDICT_RETRY },
		{ 503, VERDICT_RETRY },
		{ 599, VERDICT_RETRY },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		CHECK_EQ(verdict_of(rows[i].status, "", 0), rows[i].want);
}

TEST(says_what_a_person_should_look_at)
{
	static const int wordy[] = { 301, 401, 403, 404, 405, 407, 415 };

	for (size_t i = 0; i < sizeof wordy / sizeof wordy[0]; i++)
		CHECK(strlen(verdict_hint(wordy[i])) > 20);
	CHECK_STR(verdict_hint(503), "");
	CHECK_STR(verdict_hint(400), "");
}

TEST(does_not_trust_a_portals_page)
{
	CHECK_EQ(verdict_of(200, "<html>", 6), VERDICT_RETRY);
	CHECK_EQ(verdict_of(200, " {\"rate_by_service\":{}}", 23), VERDICT_SENT);
	CHECK_EQ(verdict_of(200, "OK\n", 3), VERDICT_SENT);
}

TEST(doubles_the_delay_up_to_a_minute_and_never_below_50_ms)
{
	uint64_t most[8] = { 0 };

	for (uint32_t attempt = 0; attempt < 8; attempt++)
		for (uint64_t r = 0; r < 200000; r += 7) {
			uint64_t ms = backoff_ms(attempt, r);

			CHECK(ms >= 50 && ms <= BACKOFF_MAX_MS);
			if (ms > most[attempt])
				most[attempt] = ms;
		}
	CHECK_EQ(most[0], most[1]);
	CHECK(most[1] > 990 && most[1] <= 1000);
	CHECK(most[2] > 1990 && most[2] <= 2000);
	CHECK(most[7] > 59900);
}

TEST(reads_retry_after_as_seconds_or_date)
{
	uint64_t ms = 0;

	CHECK(retry_after_ms(" 7", 0, &ms) && ms == 7000);
	CHECK(retry_after_ms("0", 0, &ms) && ms == 0);
	CHECK(retry_after_ms("99999999999999999999999", 0, &ms) && ms == RETRY_AFTER_MAX_MS);
	CHECK(retry_after_ms("Wed, 21 Oct 2015 07:28:00 GMT", 1445412470, &ms) && ms == 10000);
	CHECK(retry_after_ms("Wed, 21 Oct 2015 07:28:00 GMT", 1545412470, &ms) && ms == 0);
	CHECK(!retry_after_ms("soon", 0, &ms));
	CHECK(!retry_after_ms("7 s", 0, &ms));
	CHECK(!retry_after_ms("-1", 0, &ms));
	CHECK(!retry_after_ms("", 0, &ms));
}

/* A bundle of `traces` traces with `spans` spans each, without strings. */
static struct chunk_row
make_chunk(uint32_t traces, uint32_t spans)
{
	const uint32_t record = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES;
	size_t one = BUNDLE_TRACE_BYTES + (size_t)spans * record;
	struct wire_bundle b = { .trace_count = traces,
		.span_count = traces * spans,
		.traces_bytes = (uint32_t)(traces * one) };
	struct chunk_row c = { .traces = traces, .spans = traces * spans };

	c.blob_bytes = BUNDLE_FIXED_BYTES + b.traces_bytes;
	c.blob = calloc(1, c.blob_bytes);
	for (uint32_t t = 0; t < traces; t++) {
		uint8_t *p = c.blob + BUNDLE_FIXED_BYTES + t * one;
		struct wire_trace head = { .trace_lo = t + 1,
			.records_bytes = spans * record,
			.record_count = spans,
			.flags = BUNDLE_LAST };

		wire_trace_put(p, &head);
		p += BUNDLE_TRACE_BYTES;
		for (uint32_t s = 0; s < spans; s++, p += record) {
			struct wire_span span = { .trace_lo = t + 1, .span_id = s + 1 };

			wire_span_put(p + RECORD_HEADER_BYTES, &span);
			wire_record_seal(p, 0, record, EVENT_SPAN, RECORD_PUBLISHED);
		}
	}
	wire_bundle_seal(c.blob, &b);
	return c;
}

/* Spans in a chunk as its own bytes say; 0 when broken. */
static uint32_t
count_spans(const struct chunk_row *c, uint16_t flags_set)
{
	struct wire_error why;
	struct wire_bundle b;
	struct wire_trace t;
	size_t at = 0;
	uint32_t n = 0;

	if (wire_bundle_get(c->blob, c->blob_bytes, &b, &why) != 0)
		return 0;
	while (wire_trace_next(&b, &at, &t, &why) == 1) {
		n += t.record_count;
		CHECK((t.flags & flags_set) == flags_set);
	}
	return n == b.span_count ? n : 0;
}

TEST(splits_by_traces_then_by_spans_and_not_a_single_span)
{
	struct chunk_row a = { 0 }, b = { 0 }, c = make_chunk(5, 2);

	REQUIRE(payload_split(&c, &a, &b) == E_OK);
	CHECK_EQ(a.traces, 3);
	CHECK_EQ(b.traces, 2);
	CHECK_EQ(count_spans(&a, 0), 6);
	CHECK_EQ(count_spans(&b, 0), 4);
	free(a.blob);
	free(b.blob);
	free(c.blob);
	c = make_chunk(1, 5);
	REQUIRE(payload_split(&c, &a, &b) == E_OK);
	CHECK_EQ(count_spans(&a, BUNDLE_PARTIAL), 2);
	CHECK_EQ(count_spans(&b, BUNDLE_PARTIAL | BUNDLE_LAST), 3);
	CHECK_EQ(a.spans + b.spans, 5);
	free(a.blob);
	free(b.blob);
	free(c.blob);
	c = make_chunk(1, 1);
	CHECK_EQ(payload_split(&c, &a, &b), E_STATE);
	c.blob[40] ^= 1;
	CHECK_EQ(payload_split(&c, &a, &b), E_CORRUPT);
	free(c.blob);
}

int
main(void)
{
	RUN(judges_every_kind_of_status);
	RUN(says_what_a_person_should_look_at);
	RUN(does_not_trust_a_portals_page);
	RUN(doubles_the_delay_up_to_a_minute_and_never_below_50_ms);
	RUN(reads_retry_after_as_seconds_or_date);
	RUN(splits_by_traces_then_by_spans_and_not_a_single_span);
	return t_done();
}
