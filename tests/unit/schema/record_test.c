/* Records and tags: what is written is read, what is broken is refused, what is new is passed over.
 */
#include <math.h>

#include "schema/tables.h"
#include "schema/wire.h"
#include "tests/t.h"

static uint8_t buf[FRAME_RECORD_MAX_BYTES];
static struct wire_error err;

static struct wire_span
a_span(struct wire_tags *t)
{
	return (struct wire_span){ .trace_hi = 1,
		.trace_lo = 2,
		.span_id = 3,
		.parent_id = 4,
		.start_ns = 5,
		.duration_ns = 6,
		.service = 7,
		.name = 8,
		.resource = 9,
		.type = 10,
		.flags = WIRE_SPAN_ERROR,
		.priority = -1,
		.mechanism = 4,
		.tag_count = t->count,
		.tag_bytes = t->used,
		.tags = t->buf };
}

static size_t
put(const struct wire_span *s)
{
	wire_span_put(buf, s);
	return WIRE_SPAN_FIXED_BYTES + s->tag_bytes;
}

/* The layout is kept for years: these bytes are what later versions must read. */
TEST(the_bytes_of_a_span_record_are_these)
{
	static const char want[] = "1000000000000000" /* position */
				   "7800000001000200" /* length, type, published */
				   "d50bbe2800000000" /* crc */
				   "01000000000000000200000000000000"
				   "03000000000000000400000000000000"
				   "05000000000000000600000000000000"
				   "0700000008000000090000000a000000"
				   "0100ff0402000300"  /* flags, priority, mechanism, tags, words */
				   "0b0000000c000000"  /* a string */
				   "0d00001002000000"  /* a text of 2 ... */
				   "6162000000000000"; /* "ab" */
	uint8_t room[64], rec[128];
	struct wire_tags t = { .buf = room, .cap = sizeof room };
	char got[2 * sizeof rec + 1] = "";
	uint32_t length;

	CHECK_EQ(wire_crc32c(0, "123456789", 9), 0xe3069283u); /* the published check value */
	wire_tag_str(&t, 11, 12);
	wire_tag_text(&t, 13, "ab", 2);

	struct wire_span s = a_span(&t);

	length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + s.tag_bytes;
	wire_span_put(rec + RECORD_HEADER_BYTES, &s);
	wire_record_seal(rec, 16, length, EVENT_SPAN, RECORD_PUBLISHED);
	for (uint32_t i = 0; i < length; i++)
		snprintf(got + 2 * i, 3, "%02x", rec[i]);
	CHECK_STR(got, want);
}

static uint64_t
field_value(const struct field_desc *f)
{
	switch (field_width(f->kind)) {
	case 1:
		return buf[f->offset];
	case 2:
		return wire_get16(buf + f->offset);
	case 4:
		return wire_get32(buf + f->offset);
	default:
		return wire_get64(buf + f->offset);
	}
}

/* The codec is written by hand: each field must lie where the table of events puts it. */
TEST(the_codec_agrees_with_the_table)
{
	static const struct {
		const char *name;
		uint64_t value;
	} want[] = { { "trace_hi", 1 }, { "trace_lo", 2 }, { "span_id", 3 }, { "parent_id", 4 },
		{ "start_ns", 5 }, { "duration_ns", 6 }, { "service", 7 }, { "name", 8 },
		{ "resource", 9 }, { "type", 10 }, { "flags", WIRE_SPAN_ERROR },
		{ "priority", 0xff }, { "mechanism", 4 }, { "tag_count", 1 }, { "tag_words", 1 } };
	static const uint16_t events[] = { EVENT_SPAN, EVENT_OPEN };
	uint8_t room[8];
	struct wire_tags t = { .buf = room, .cap = sizeof room };

	wire_tag_i32(&t, 1, 1);

	struct wire_span s = a_span(&t);

	put(&s);
	for (size_t e = 0; e < 2; e++) {
		const struct event_desc *event = event_find(events[e]);

		REQUIRE(event != NULL && event->field_count == sizeof want / sizeof want[0]);
		CHECK_EQ(event->fixed_bytes, WIRE_SPAN_FIXED_BYTES);
		for (size_t i = 0; i < event->field_count; i++) {
			CHECK_STR(event->fields[i].name, want[i].name);
			CHECK_EQ(field_value(&event->fields[i]), want[i].value);
		}
	}
}

TEST(a_span_is_read_as_it_was_written)
{
	uint8_t room[256];
	struct wire_tags t = { .buf = room, .cap = sizeof room };
	struct wire_tag_view v;
	struct wire_span got;
	uint32_t at = 0;

	wire_tag_str(&t, 11, 12);
	wire_tag_text(&t, 13, "a text", 6);
	wire_tag_i32(&t, 14, -5);
	wire_tag_f64(&t, 15, 2.5);
	wire_tag_f64(&t, 16, 1e6);
	wire_tag_f64(&t, 17, -0.0);

	struct wire_span s = a_span(&t);

	REQUIRE(wire_span_get(buf, put(&s), &got, &err) == 0);
	CHECK(got.trace_hi == 1 && got.trace_lo == 2 && got.span_id == 3 && got.parent_id == 4);
	CHECK(got.start_ns == 5 && got.duration_ns == 6 && got.flags == WIRE_SPAN_ERROR);
	CHECK(got.service == 7 && got.name == 8 && got.resource == 9 && got.type == 10);
	CHECK(got.priority == -1 && got.mechanism == 4);
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.kind == WIRE_TAG_STR && v.key == 11 && v.str == 12);
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.kind == WIRE_TAG_TEXT && v.text_bytes == 6 && memcmp(v.text, "a text", 6) == 0);
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.kind == WIRE_TAG_I32 && v.i32 == -5);
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.kind == WIRE_TAG_F64 && v.f64 > 2.4 && v.f64 < 2.6);
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.kind == WIRE_TAG_I32 && v.i32 == 1000000); /* exact as an integer */
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.kind == WIRE_TAG_F64 && signbit(v.f64));
	CHECK(!wire_tag_next(&got, &at, &v));
}

/* Append a tag of any kind with n bytes behind it. */
static void
alien(struct wire_tags *t, uint32_t kind, uint32_t value, uint32_t n)
{
	wire_put32(t->buf + t->used, 20 | kind << WIRE_TAG_KIND_SHIFT);
	wire_put32(t->buf + t->used + 4, value);
	memset(t->buf + t->used + 8, 0xee, n);
	t->used += 8 + n;
	t->count++;
}

static uint32_t noted[8], noted_count;

static void
note(void *ctx, uint32_t id)
{
	(void)ctx;
	if (noted_count < 8)
		noted[noted_count++] = id;
}

TEST(tags_of_kinds_yet_to_come_are_stepped_over)
{
	uint8_t room[256];
	struct wire_tags t = { .buf = room, .cap = sizeof room };
	struct wire_record r = { .type = EVENT_SPAN, .payload = buf };
	struct wire_tag_view v;
	struct wire_span got;
	uint32_t at = 0;

	alien(&t, 4, 77, 8);
	wire_tag_i32(&t, 14, 1);
	alien(&t, 15, 9, 16);
	alien(&t, 8, 0, 0);
	wire_tag_i32(&t, 15, 2);
	alien(&t, 7, 0, 8);

	struct wire_span s = a_span(&t);

	r.payload_bytes = (uint32_t)put(&s);
	REQUIRE(wire_span_get(buf, r.payload_bytes, &got, &err) == 0);
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.key == 14 && v.i32 == 1);
	REQUIRE(wire_tag_next(&got, &at, &v));
	CHECK(v.key == 15 && v.i32 == 2);
	CHECK(!wire_tag_next(&got, &at, &v));
	s.service = s.name = s.resource = s.type = noted_count = 0;
	put(&s);
	wire_record_ids(&r, note, NULL);
	CHECK_EQ(noted_count, 6); /* the keys, and no value of theirs */
	CHECK(noted[0] == 20 && noted[1] == 14 && noted[2] == 20 && noted[4] == 15);
}

TEST(a_tag_that_leaves_its_span_is_refused)
{
	static const struct {
		uint32_t kind, value, follows;
	} broken[] = { { WIRE_TAG_TEXT, 17, 16 }, { WIRE_TAG_TEXT, FRAME_TEXT_MAX_BYTES + 1, 16 },
		{ WIRE_TAG_F64, 0, 0 }, { 4, 0, 0 }, { 8, 9, 8 }, { 15, UINT32_MAX, 0 },
		{ 15, UINT32_MAX - 7, 0 } };

	for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
		uint8_t room[64];
		struct wire_tags t = { .buf = room, .cap = sizeof room };
		struct wire_span got;

		alien(&t, broken[i].kind, broken[i].value, broken[i].follows);

		struct wire_span s = a_span(&t);

		CHECK(wire_span_get(buf, put(&s), &got, &err) == -1);
		CHECK_STR(err.what, "broken tag");
	}
}

TEST(a_tag_that_does_not_fit_is_left_out_and_counted)
{
	uint8_t room[24];
	struct wire_tags t = { .buf = room, .cap = sizeof room };

	wire_tag_text(&t, 1, "123456789", 9);
	CHECK(t.used == 24 && t.count == 1 && t.refused == 0);
	wire_tag_i32(&t, 1, 1);
	wire_tag_f64(&t, 1, 0.5);
	CHECK(t.used == 24 && t.count == 1 && t.refused == 2);
}

TEST(a_long_text_is_cut_between_characters)
{
	static char text[FRAME_TEXT_MAX_BYTES + 8];
	static uint8_t room[FRAME_TEXT_MAX_BYTES + 64];

	for (unsigned before = 0; before < 3; before++) {
		struct wire_tags t = { .buf = room, .cap = sizeof room };

		memset(text, 'a', sizeof text);
		memcpy(text + FRAME_TEXT_MAX_BYTES - before, "\xe2\x82\xac", 3);
		wire_tag_text(&t, 1, text, sizeof text);
		CHECK_EQ(wire_get32(room + 4), FRAME_TEXT_MAX_BYTES - before);
	}
}

TEST(a_record_is_refused_for_each_thing_that_is_wrong_with_it)
{
	uint8_t good[RECORD_HEADER_BYTES + 8] = { 0 }, bad[sizeof good];
	struct wire_record r;

	wire_record_seal(good, 8, sizeof good, 900, RECORD_PUBLISHED);
	CHECK_EQ(wire_record_get(good, sizeof good, &r, &err), sizeof good);
	CHECK(r.position == 8 && r.type == 900 && r.payload_bytes == 8);
	for (size_t n = 0; n < sizeof good; n++)
		CHECK(wire_record_get(good, n, &r, &err) == -1);
	for (size_t bit = 0; bit < 8 * sizeof good; bit++) {
		memcpy(bad, good, sizeof good);
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		/* Two fields say nothing yet: what a newer writer puts there is its own affair. */
		if (bit / 8 != 15 && bit / 8 < 20)
			CHECK(wire_record_get(bad, sizeof bad, &r, &err) == -1);
	}
}

TEST(a_crc_is_the_same_in_one_piece_and_in_many)
{
	static const size_t sizes[] = { 6143, 6144, 6145, 12288, 20001 };
	static uint8_t many[20008];

	for (size_t i = 0; i < sizeof many; i++)
		many[i] = (uint8_t)(i * 2654435761u >> 13);
	for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
		uint32_t crc = 0;

		for (size_t at = 0; at < sizes[k]; at += 100)
			crc = wire_crc32c(
			    crc, many + 3 + at, sizes[k] - at < 100 ? sizes[k] - at : 100);
		CHECK_EQ(wire_crc32c(0, many + 3, sizes[k]), crc);
	}
}

int
main(void)
{
	RUN(the_bytes_of_a_span_record_are_these);
	RUN(the_codec_agrees_with_the_table);
	RUN(a_span_is_read_as_it_was_written);
	RUN(tags_of_kinds_yet_to_come_are_stepped_over);
	RUN(a_tag_that_leaves_its_span_is_refused);
	RUN(a_tag_that_does_not_fit_is_left_out_and_counted);
	RUN(a_long_text_is_cut_between_characters);
	RUN(a_record_is_refused_for_each_thing_that_is_wrong_with_it);
	RUN(a_crc_is_the_same_in_one_piece_and_in_many);
	return t_done();
}
