/*
 * JSON text.
 */
#include "agent/core/json.h"
#include "tests/t.h"

static const char *
quoted(struct outbuf *b, const char *s, size_t n)
{
	outbuf_reset(b, SIZE_MAX);
	put_text_n(b, s, n);
	outbuf_put(b, "", 1);
	return (const char *)b->p;
}

TEST(escapes_what_json_forbids)
{
	struct outbuf b = { 0 };

	CHECK_STR(quoted(&b, "a\"b\\c", 5), "\"a\\\"b\\\\c\"");
	CHECK_STR(quoted(&b, "\b\t\n\v\f\r\x01", 7), "\"\\b\\t\\n\\u000b\\f\\r\\u0001\"");
	CHECK_STR(quoted(&b, "", 0), "\"\"");
	outbuf_free(&b);
}

TEST(keeps_utf8_and_replaces_what_is_none)
{
	struct outbuf b = { 0 };

	CHECK_STR(quoted(&b, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9),
	    "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
	CHECK_STR(quoted(&b, "\xff", 1), "\"\\ufffd\"");
	CHECK_STR(quoted(&b, "x\xc3", 2), "\"x\\ufffd\"");
	CHECK_STR(quoted(&b, "\xc0\x80", 2), "\"\\ufffd\\ufffd\"");
	CHECK_STR(quoted(&b, "\xed\xa0\x80", 3), "\"\\ufffd\\ufffd\\ufffd\"");
	outbuf_free(&b);
}

static const char *
number(struct outbuf *b, double v)
{
	outbuf_reset(b, SIZE_MAX);
	put_f64(b, v);
	outbuf_put(b, "", 1);
	return (const char *)b->p;
}

TEST(writes_numbers_that_read_back)
{
	struct outbuf b = { 0 };

	CHECK_STR(number(&b, 0.1), "0.1");
	CHECK_STR(number(&b, 1.0 / 3), "0.33333333333333331");
	CHECK_STR(number(&b, 1e300), "1e+300");
	CHECK_STR(number(&b, 1.0 / 0.0), "null");
	outbuf_free(&b);
}

TEST(puts_commas_between_members_only)
{
	struct outbuf b = { 0 };

	put_raw(&b, "{");
	put_u64(&b, "a", 18446744073709551615u);
	put_bool(&b, "b", true);
	put_hex(&b, "c", 1, 2, true);
	put_raw(&b, "}");
	outbuf_put(&b, "", 1);
	CHECK_STR((const char *)b.p,
	    "{\"a\":18446744073709551615,\"b\":true,\"c\":\"00000000000000010000000000000002\"}");
	outbuf_free(&b);
}

int
main(void)
{
	RUN(escapes_what_json_forbids);
	RUN(keeps_utf8_and_replaces_what_is_none);
	RUN(writes_numbers_that_read_back);
	RUN(puts_commas_between_members_only);
	return t_done();
}
