/*
 * json.c - see json.h.  RFC 8259: no comments, no trailing commas, numbers and
 * escapes as written there.
 */
#include "agent/processor/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16u

void
text_init(struct json *j, const char *text, size_t n)
{
	*j = (struct json){ .text = text, .n = n };
}

bool
text_fail(struct json *j, const char *problem)
{
	if (j->problem == NULL) {
		j->problem = problem;
		j->problem_at = j->at;
	}
	return false;
}

char
text_peek(struct json *j)
{
	while (j->at < j->n && memchr(" \t\r\n", j->text[j->at], 4) != NULL)
		j->at++;
	return j->problem == NULL && j->at < j->n ? j->text[j->at] : '\0';
}

bool
text_enter(struct json *j, char bracket)
{
	if (text_peek(j) != bracket)
		return text_fail(
		    j, bracket == '[' ? "an array is expected" : "an object is expected");
	if (++j->depth > DEPTH_MAX)
		return text_fail(j, "nested too deep");
	j->at++;
	return true;
}

bool
text_more(struct json *j, char closing, bool *first)
{
	char c = text_peek(j);

	if (c == closing) {
		j->at++;
		j->depth--;
		return false;
	}
	if (!*first) {
		if (c != ',')
			return text_fail(j, "a comma or the end is expected");
		j->at++;
		if (text_peek(j) == closing)
			return text_fail(j, "nothing follows the comma");
	}
	*first = false;
	return j->problem == NULL && text_peek(j) != '\0' ? true : text_fail(j, "cut short");
}

static bool
hex4(struct json *j, uint32_t *out)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++, j->at++) {
		char c = j->at < j->n ? j->text[j->at] : 0;

		if (c >= '0' && c <= '9')
			v = v * 16 + (uint32_t)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v = v * 16 + (uint32_t)((c | 32) - 'a') + 10;
		else
			return text_fail(j, "four hex digits are expected");
	}
	*out = v;
	return true;
}

/* \uXXXX, behind the u; pairs of surrogates make one character. */
static bool
unicode(struct json *j, char *out, size_t *n)
{
	uint32_t c, low;

	if (!hex4(j, &c))
		return false;
	if (c >= 0xd800 && c <= 0xdbff) {
		if (j->n - j->at < 2 || memcmp(j->text + j->at, "\\u", 2) != 0)
			return text_fail(j, "half a surrogate pair");
		j->at += 2;
		if (!hex4(j, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return text_fail(j, "half a surrogate pair");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	} else if (c == 0 || (c >= 0xdc00 && c <= 0xdfff)) {
		return text_fail(j, "no character of a text");
	}
	if (c < 0x80) {
		out[(*n)++] = (char)c;
		return true;
	}

	unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;

	out[(*n)++] = (char)((0xf00u >> more & 0xff) | c >> (6 * more));
	while (more-- > 0)
		out[(*n)++] = (char)(0x80 | (c >> (6 * more) & 0x3f));
	return true;
}

bool
text_string(struct json *j, char *out, size_t cap)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	size_t n = 0;

	if (text_peek(j) != '"')
		return text_fail(j, "a string is expected");
	for (j->at++; j->at < j->n && j->text[j->at] != '"';) {
		char c = j->text[j->at++];
		const char *escape;

		if (n + 5 > cap)
			return text_fail(j, "a string is too long");
		if ((unsigned char)c < 0x20)
			return text_fail(j, "a control character in a string");
		if (c != '\\') {
			out[n++] = c;
			continue;
		}
		c = j->at < j->n ? j->text[j->at++] : '\0';
		escape = c != '\0' ? strchr(from, c) : NULL;
		if (escape != NULL)
			out[n++] = to[escape - from];
		else if (c != 'u')
			return text_fail(j, "an unknown escape");
		else if (!unicode(j, out, &n))
			return false;
	}
	if (j->at >= j->n)
		return text_fail(j, "a string is cut short");
	j->at++;
	out[n] = '\0';
	return true;
}

bool
text_key(struct json *j, char *out, size_t cap)
{
	if (!text_string(j, out, cap))
		return false;
	if (text_peek(j) != ':')
		return text_fail(j, "a colon is expected");
	j->at++;
	return true;
}

static size_t
digits(const struct json *j, size_t at)
{
	size_t n = 0;

	while (at + n < j->n && j->text[at + n] >= '0' && j->text[at + n] <= '9')
		n++;
	return n;
}

bool
text_number(struct json *j, double *out)
{
	char copy[64];
	size_t at, n;

	text_peek(j);
	at = j->at + (j->at < j->n && j->text[j->at] == '-');
	n = digits(j, at);
	if (n == 0 || (n > 1 && j->text[at] == '0'))
		return text_fail(j, "a number is expected");
	at += n;
	if (at < j->n && j->text[at] == '.') {
		if ((n = digits(j, at + 1)) == 0)
			return text_fail(j, "a number is expected");
		at += 1 + n;
	}
	if (at < j->n && (j->text[at] | 32) == 'e') {
		at++;
		at += at < j->n && (j->text[at] == '+' || j->text[at] == '-');
		if ((n = digits(j, at)) == 0)
			return text_fail(j, "a number is expected");
		at += n;
	}
	if (at - j->at >= sizeof copy)
		return text_fail(j, "a number is too long");
	memcpy(copy, j->text + j->at, at - j->at);
	copy[at - j->at] = '\0';
	*out = strtod(copy, NULL);
	j->at = at;
	return true;
}

static bool
word(struct json *j, const char *w)
{
	size_t n = strlen(w);

	if (j->n - j->at < n || memcmp(j->text + j->at, w, n) != 0)
		return text_fail(j, "a value is expected");
	j->at += n;
	return true;
}

bool
text_skip(struct json *j)
{
	char c = text_peek(j), text[4096];
	bool first = true;
	double number;

	switch (c) {
	case '{':
		if (!text_enter(j, c))
			return false;
		while (text_more(j, '}', &first))
			if (!text_key(j, text, sizeof text) || !text_skip(j))
				return false;
		return j->problem == NULL;
	case '[':
		if (!text_enter(j, c))
			return false;
		while (text_more(j, ']', &first))
			if (!text_skip(j))
				return false;
		return j->problem == NULL;
	case '"':
		return text_string(j, text, sizeof text);
	case 't':
		return word(j, "true");
	case 'f':
		return word(j, "false");
	case 'n':
		return word(j, "null");
	default:
		return text_number(j, &number);
	}
}

bool
text_end(struct json *j)
{
	return text_peek(j) == '\0' && j->at == j->n && j->problem == NULL
		   ? true
		   : text_fail(j, "something follows the end");
}
