/* The frames of the socket: round trips, what is refused, and what an older reader lets a newer
 * writer say. */
#include "schema/tables.h"
#include "schema/wire.h"
#include "tests/t.h"

static uint8_t frame[4096];
static struct wire_error err;

/* Of the frames below, as the first version wrote them. */
#define HELLO_CRC  0xdbae706fu
#define BATCH_CRC  0xdfadeb60u
#define STORED_CRC 0xc3070759u

static void
reseal(size_t n, size_t field)
{
	wire_put32(frame + field, 0);
	wire_put32(frame + field, wire_crc32c(0, frame, n));
}

static size_t
a_hello(void)
{
	static uint8_t attrs[64];
	struct wire_attrs a = { .buf = attrs, .cap = sizeof attrs };

	wire_attr_put(&a, "service", "svc");
	wire_attr_put(&a, "env", "");
	wire_attr_put(&a, "tags", "a:b");

	struct wire_hello h = { .pid = 1,
		.start_ticks = 2,
		.acknowledged = 3,
		.head = 4,
		.mono_ns = 5,
		.real_ns = 6,
		.attrs = attrs,
		.attrs_bytes = a.used };

	memset(h.probe_id, 0xaa, sizeof h.probe_id);
	return wire_hello_put(frame, sizeof frame, &h);
}

TEST(a_hello_is_read_as_it_was_written)
{
	size_t n = a_hello();
	struct wire_hello h;
	char value[8];

	REQUIRE(n != 0 && wire_hello_get(frame, n, &h, &err) == 0);
	CHECK(h.pid == 1 && h.start_ticks == 2 && h.acknowledged == 3 && h.head == 4);
	CHECK(h.mono_ns == 5 && h.real_ns == 6 && h.probe_id[15] == 0xaa);
	CHECK(wire_attr_find(h.attrs, h.attrs_bytes, "tags", value, sizeof value));
	CHECK_STR(value, "a:b");
	CHECK(wire_attr_find(h.attrs, h.attrs_bytes, "service", value, 3));
	CHECK_STR(value, "sv");
	CHECK(!wire_attr_find(h.attrs, h.attrs_bytes, "env", value, sizeof value));
	for (size_t cut = 0; cut < n; cut++)
		CHECK(wire_hello_get(frame, cut, &h, &err) == -1);
	CHECK_EQ(wire_hello_put(frame, n - 1, &h), 0);
}

TEST(an_attribute_longer_than_its_block_is_refused)
{
	size_t n = a_hello();
	struct wire_hello h;

	wire_put16(frame + HELLO_FIXED_BYTES + 2, 60000);
	reseal(n, 92);
	CHECK(wire_hello_get(frame, n, &h, &err) == -1);
	CHECK_STR(err.what, "attribute longer than its block");
}

/* One span that names strings 1 and 2; dictionary of both. */
static size_t
a_batch(struct wire_batch *b)
{
	struct wire_span s = { .trace_lo = 1, .span_id = 2, .service = 1, .name = 2 };
	uint8_t *rec = frame + BATCH_FIXED_BYTES, *dict;
	uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES;

	wire_span_put(rec + RECORD_HEADER_BYTES, &s);
	wire_record_seal(rec, 64, length, EVENT_SPAN, RECORD_PUBLISHED);
	dict = rec + length;
	dict += wire_dict_put(dict, 1, "one", 3);
	dict += wire_dict_put(dict, 2, "two", 3);
	*b = (struct wire_batch){ .first = 64,
		.end = 64 + length,
		.record_count = 1,
		.span_count = 1,
		.records_bytes = length,
		.dict_bytes = (uint32_t)(dict - rec) - length };
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		b->losses[i] = 10 + i;
	wire_batch_seal(frame, b);
	return BATCH_FIXED_BYTES + (size_t)b->records_bytes + b->dict_bytes;
}

static bool
refused(size_t n, const char *why)
{
	struct wire_batch b;

	if (wire_batch_check(frame, n, &b, &err) == 0)
		return false;
	if (strcmp(err.what, why) != 0)
		fprintf(stderr, "refused as \"%s\", not \"%s\"\n", err.what, why);
	return strcmp(err.what, why) == 0;
}

TEST(a_batch_is_read_as_it_was_written)
{
	struct wire_batch b, got;
	size_t n = a_batch(&b);

	REQUIRE(wire_batch_check(frame, n, &got, &err) == 0);
	CHECK(got.first == 64 && got.end == 160 && got.span_count == 1 && got.losses[7] == 17);
	CHECK(got.dict == frame + n - 32 && got.dict_bytes == 32);
	for (size_t cut = 0; cut < n; cut++)
		CHECK(wire_batch_check(frame, cut, &got, &err) == -1);
}

TEST(a_batch_is_refused_for_each_thing_that_is_wrong_with_it)
{
	struct wire_batch b;
	size_t n = a_batch(&b), rec = BATCH_FIXED_BYTES, dict = n - 32;

	frame[n - 1] ^= 1;
	CHECK(refused(n, "batch's crc32c differs"));
	n = a_batch(&b);
	b.end = 64;
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "record's position out of order"));
	b.end = 63;
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "batch ends before it begins"));
	n = a_batch(&b);
	b.span_count = 2;
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "batch's counts differ"));
	n = a_batch(&b);
	wire_put32(frame + dict, 2); /* 2, 2 */
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "dictionary ids not ascending"));
	wire_put32(frame + dict + 16, 3); /* 2, 3: string 1 is missing */
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "string id not in the dictionary"));
	n = a_batch(&b);
	wire_put32(frame + dict + 20, 1000);
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "dictionary string too long"));
	n = a_batch(&b);
	frame[rec + 14] = RECORD_BUSY;
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "record not published"));
	n = a_batch(&b);
	wire_put64(frame + rec + RECORD_HEADER_BYTES + 16, 0);
	wire_record_seal(frame + rec, 64, b.records_bytes, EVENT_SPAN, RECORD_PUBLISHED);
	wire_batch_seal(frame, &b);
	CHECK(refused(n, "span without span id"));
}

TEST(a_record_of_an_unknown_event_is_let_through)
{
	struct wire_batch b, got;
	size_t n = a_batch(&b);

	wire_record_seal(frame + BATCH_FIXED_BYTES, 64, b.records_bytes, 999, RECORD_PUBLISHED);
	b.span_count = 0;
	wire_batch_seal(frame, &b);
	CHECK(wire_batch_check(frame, n, &got, &err) == 0);
}

TEST(a_stored_frame_may_say_more_than_we_know)
{
	struct wire_stored s = { .end = 4096, .status = STORED_WANTED }, got;

	memset(s.probe_id, 0xbb, sizeof s.probe_id);
	wire_stored_put(frame, &s);
	REQUIRE(wire_stored_get(frame, STORED_BYTES, &got, &err) == 0);
	CHECK(got.end == 4096 && got.status == STORED_WANTED && got.probe_id[15] == 0xbb);
	CHECK(wire_stored_get(frame, STORED_BYTES - 1, &got, &err) == -1);
	memset(frame + STORED_BYTES, 5, 24);
	CHECK(wire_stored_get(frame, STORED_BYTES + 24, &got, &err) == -1);
	reseal(STORED_BYTES + 24, 32);
	CHECK(wire_stored_get(frame, STORED_BYTES + 24, &got, &err) == 0);
	CHECK_EQ(got.end, 4096);
}

/* The layouts are kept for years: these are what later versions must read. */
TEST(the_bytes_of_the_frames_are_these)
{
	struct wire_stored s = { .end = 0x0102030405060708, .status = STORED_OK };
	struct wire_batch b;

	CHECK_EQ(wire_crc32c(0, frame, a_hello()), HELLO_CRC);
	CHECK_EQ(wire_crc32c(0, frame, a_batch(&b)), BATCH_CRC);
	wire_stored_put(frame, &s);
	CHECK_EQ(wire_crc32c(0, frame, STORED_BYTES), STORED_CRC);
}

int
main(void)
{
	RUN(a_hello_is_read_as_it_was_written);
	RUN(an_attribute_longer_than_its_block_is_refused);
	RUN(a_batch_is_read_as_it_was_written);
	RUN(a_batch_is_refused_for_each_thing_that_is_wrong_with_it);
	RUN(a_record_of_an_unknown_event_is_let_through);
	RUN(a_stored_frame_may_say_more_than_we_know);
	RUN(the_bytes_of_the_frames_are_these);
	return t_done();
}
