/*
 * normalise_test.c - Datadog's normalisation and truncation, as tables.
 */
#include "agent/core/normalise.h"

#include "tests/t.h"

static char scratch[NORM_SCRATCH_BYTES];

static void
check(const char *what, struct norm_text got, const char *wanted)
{
	if (got.n == strlen(wanted) && memcmp(got.s, wanted, got.n) == 0)
		return;
	fprintf(stderr, "%s: \"%.*s\", not \"%s\"\n", what, (int)got.n, got.s, wanted);
	t_failed_checks++;
}

TEST(services_become_legal_tag_values)
{
	static const struct {
		const char *in, *out;
	} table[] = { { "", "unnamed-python-service" }, { "good-service", "good-service" },
		{ "Bad$Service", "bad_service" }, { "@@@", "unnamed-python-service" },
		{ "a__b", "a_b" }, { "a_", "a" }, { "$a", "_a" }, { "9lives", "9lives" },
		{ "with space  twice", "with_space_twice" }, { "ÄÖü", "äöü" },
		{ "привЕТ", "привет" },
		{ "a\xff"
		  "b",
		    "a_b" },
		{ "x\xf0\x9f\x8d\xa3y", "x_y" }, { "a:b/c.d-e", "a:b/c.d-e" } };

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		check(table[i].in,
		    norm_service(table[i].in, strlen(table[i].in), "python", scratch),
		    table[i].out);
	check("no language", norm_service("", 0, NULL, scratch), "unnamed-service");
}

TEST(a_long_service_is_cut_at_100_bytes_on_a_character)
{
	char in[200];

	memset(in, 'a', sizeof in);
	CHECK_EQ(norm_service(in, sizeof in, NULL, scratch).n, 100);
	memcpy(in + 99, "\xc3\xa4", 2);
	CHECK_EQ(norm_service(in, sizeof in, NULL, scratch).n, 99);
}

TEST(a_tag_value_ends_at_200_characters)
{
	char in[500];

	memset(in, 'a', sizeof in);
	CHECK_EQ(norm_tag_value(in, sizeof in, scratch).n, 200);
	CHECK_EQ(norm_tag_value(in, 200, scratch).n, 200);
	CHECK(norm_tag_value(in, 200, scratch).s == in);
	check("env", norm_tag_value("Prod Env!", 9, scratch), "prod_env");
}

TEST(names_are_letters_digits_dots_and_single_underscores)
{
	static const struct {
		const char *in, *out;
	} table[] = { { "", "unnamed_operation" }, { "123", "unnamed_operation" },
		{ "comfyui.node.execute", "comfyui.node.execute" }, { "1.a", "a" },
		{ "a  b", "a_b" }, { "a_.b", "a.b" }, { "a._b", "a.b" }, { "a-", "a" },
		{ "Caps Stay", "Caps_Stay" }, { "äpfel", "pfel" } };

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		check(table[i].in, norm_name(table[i].in, strlen(table[i].in), scratch),
		    table[i].out);
}

TEST(long_texts_are_cut_and_say_so_where_the_agent_says_so)
{
	static char in[30000];
	struct norm_text t;

	memset(in, 'x', sizeof in);
	CHECK_EQ(norm_resource(in, 6000, scratch).n, 5000);
	CHECK_EQ(norm_type(in, 101, scratch).n, 100);
	t = norm_meta_key(in, 201, scratch);
	CHECK_EQ(t.n, 203);
	CHECK(memcmp(t.s + 200, "...", 3) == 0);
	CHECK_EQ(norm_meta_key(in, 200, scratch).n, 200);
	CHECK_EQ(norm_meta_value("k", 1, in, 25001, scratch).n, 25003);
	CHECK_EQ(norm_meta_value("k", 1, in, 25000, scratch).n, 25000);
	CHECK_EQ(norm_meta_value("_dd.stack.json", 14, in, 30000, scratch).n, 30000);
}

TEST(broken_utf8_is_repaired)
{
	static const struct {
		const char *in, *out;
	} table[] = { { "ok", "ok" }, { "\xc3", "\xef\xbf\xbd" },
		{ "\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xf5\x80\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xe2\x82\xac", "\xe2\x82\xac" }, { "\xf0\x9f\x8d\xa3", "\xf0\x9f\x8d\xa3" } };

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		check("utf8", norm_utf8(table[i].in, strlen(table[i].in), 100, scratch),
		    table[i].out);
	check("cut", norm_utf8("\xe2\x82\xac\xe2\x82\xac", 6, 5, scratch), "\xe2\x82\xac");
}

TEST(a_text_that_is_right_is_not_copied)
{
	const char *s = "comfyui-inference";

	CHECK(norm_service(s, strlen(s), NULL, scratch).s == s);
	CHECK(norm_meta_value("k", 1, s, strlen(s), scratch).s == s);
}

TEST(status_codes_are_100_to_599)
{
	CHECK(norm_status_code_ok("200", 3));
	CHECK(norm_status_code_ok("599", 3));
	CHECK(!norm_status_code_ok("600", 3));
	CHECK(!norm_status_code_ok("099", 3));
	CHECK(!norm_status_code_ok("20", 2));
	CHECK(!norm_status_code_ok("2000", 4));
	CHECK(!norm_status_code_ok("2x0", 3));
	CHECK(!norm_status_code_ok("", 0));
}

TEST(impossible_times_are_put_right)
{
	int64_t start = 1700000000000000000, duration = -1;

	norm_times(&start, &duration, 1800000000000000000u);
	CHECK_EQ(start, 1700000000000000000);
	CHECK_EQ(duration, 0);
	duration = INT64_MAX;
	norm_times(&start, &duration, 1800000000000000000u);
	CHECK_EQ(duration, 0);
	start = 5;
	duration = 100;
	norm_times(&start, &duration, 1800000000000000000u);
	CHECK_EQ(start, 1799999999999999900);
	CHECK_EQ(duration, 100);
}

TEST(a_span_is_not_its_own_parent)
{
	CHECK_EQ(norm_parent(5, 5, 5), 0);
	CHECK_EQ(norm_parent(5, 6, 5), 5);
	CHECK_EQ(norm_parent(4, 5, 5), 5);
}

int
main(void)
{
	RUN(services_become_legal_tag_values);
	RUN(a_long_service_is_cut_at_100_bytes_on_a_character);
	RUN(a_tag_value_ends_at_200_characters);
	RUN(names_are_letters_digits_dots_and_single_underscores);
	RUN(long_texts_are_cut_and_say_so_where_the_agent_says_so);
	RUN(broken_utf8_is_repaired);
	RUN(a_text_that_is_right_is_not_copied);
	RUN(status_codes_are_100_to_599);
	RUN(impossible_times_are_put_right);
	RUN(a_span_is_not_its_own_parent);
	return t_done();
}
