/* The redaction of a prompt's own strings. */
#include "probe/python/redact.h"

#include "tests/t.h"

static const char *
applied(struct redact *r, const char *text)
{
	static char out[4096];
	size_t n = redact_apply(r, text, strlen(text), out, sizeof out - 1);
	out[n] = '\0';
	return out;
}

static struct redact *
set_of(const char *const *strings)
{
	struct redact *r = redact_new();
	for (; r != NULL && *strings != NULL; strings++)
		redact_add(r, *strings, strlen(*strings));
	return r;
}

TEST(replaces_every_occurrence_and_keeps_the_rest)
{
	struct redact *r = set_of((const char *const[]){ "secret prompt", NULL });
	CHECK_STR(applied(r, "bad 'secret prompt' and secret prompt!"),
	    "bad '<redacted>' and <redacted>!");
	CHECK_STR(applied(r, "nothing here"), "nothing here");
	redact_free(r);
}

TEST(leaves_short_strings_alone)
{
	struct redact *r = set_of((const char *const[]){ "cat", NULL });
	CHECK_STR(applied(r, "a cat"), "a cat");
	redact_free(r);
}

TEST(takes_the_longest_and_joins_what_overlaps)
{
	struct redact *r = set_of((const char *const[]){ "abcd", "abcdef", "efgh", NULL });
	CHECK_STR(applied(r, "x abcdefgh y"), "x <redacted> y");
	redact_free(r);
}

TEST(finds_what_repr_escaped)
{
	struct redact *r = set_of((const char *const[]){ "a tall\nwoman", NULL });
	CHECK_STR(applied(r, "got 'a tall\\nwoman'"), "got '<redacted>'");
	redact_free(r);
}

TEST(hides_a_string_that_the_text_ends_within)
{
	struct redact *r = set_of((const char *const[]){ "secret prompt", NULL });
	CHECK_STR(applied(r, "cut: secret p"), "cut: <redacted>");
	redact_free(r);
}

TEST(hides_the_rest_of_the_text_behind_a_very_long_string)
{
	static char s[REDACT_STRING_BYTES + 100];
	struct redact *r = redact_new();
	for (size_t i = 0; i < sizeof s - 1; i++)
		s[i] = (char)('a' + i % 23);
	redact_add(r, s, strlen(s));
	CHECK_STR(applied(r, s), REDACT_MARK);
	redact_free(r);
}

TEST(hides_everything_when_the_set_is_full)
{
	struct redact *r = redact_new();
	char s[32];
	for (unsigned i = 0; i <= REDACT_STRINGS_MAX; i++) {
		snprintf(s, sizeof s, "string number %u", i);
		redact_add(r, s, strlen(s));
	}
	CHECK_STR(applied(r, "harmless"), REDACT_MARK);
	redact_free(r);
}

TEST(hides_everything_when_it_would_take_too_long)
{
	struct redact *r = redact_new();
	char s[64], text[8192];
	for (unsigned i = 0; i < REDACT_STRINGS_MAX; i++) {
		snprintf(s, sizeof s, "aaaa%u", i);
		redact_add(r, s, strlen(s));
	}
	memset(text, 'a', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	CHECK_STR(applied(r, text), REDACT_MARK);
	redact_free(r);
}

TEST(clips_at_the_callers_buffer)
{
	struct redact *r = set_of((const char *const[]){ "secret", NULL });
	char out[8];
	CHECK_EQ(redact_apply(r, "xx secret", 9, out, sizeof out), 8);
	CHECK(memcmp(out, "xx <reda", 8) == 0);
	redact_free(r);
}

int
main(void)
{
	RUN(replaces_every_occurrence_and_keeps_the_rest);
	RUN(leaves_short_strings_alone);
	RUN(takes_the_longest_and_joins_what_overlaps);
	RUN(finds_what_repr_escaped);
	RUN(hides_a_string_that_the_text_ends_within);
	RUN(hides_the_rest_of_the_text_behind_a_very_long_string);
	RUN(hides_everything_when_the_set_is_full);
	RUN(hides_everything_when_it_would_take_too_long);
	RUN(clips_at_the_callers_buffer);
	return t_done();
}
