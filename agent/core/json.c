/*
 * json.c - JSON text.  Pure; the caller's buffer.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/json.h"

void
put_raw(struct outbuf *b, const char *text)
{
	outbuf_str(b, text);
}

/* Bytes of the valid UTF-8 sequence at s, 0 for none. */
static size_t
utf8_bytes(const unsigned char *s, size_t n)
{
	size_t want = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (s[0] >= 0x80 && (s[0] < 0xc2 || s[0] > 0xf4))
		return 0;
	if (want > n)
		return 0;
	for (size_t i = 1; i < want; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return want;
}

static void
escape(struct outbuf *b, unsigned char c)
{
	static const char letters[] = "btn\0fr";
	char text[8];

	if (c == '"' || c == '\\')
		snprintf(text, sizeof text, "\\%c", c);
	else if (c >= 8 && c <= 13 && c != 11)
		snprintf(text, sizeof text, "\\%c", letters[c - 8]);
	else
		snprintf(text, sizeof text, "\\u%04x", c);
	outbuf_str(b, text);
}

void
put_text_n(struct outbuf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t start = 0, i = 0;

	outbuf_put(b, "\"", 1);
	while (i < n) {
		size_t k = utf8_bytes(p + i, n - i);

		if (k > 0 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\') {
			i += k;
			continue;
		}
		outbuf_put(b, s + start, i - start);
		if (k == 0)
			outbuf_str(b, "\\ufffd");
		else
			escape(b, p[i]);
		start = ++i;
	}
	outbuf_put(b, s + start, i - start);
	outbuf_put(b, "\"", 1);
}

void
put_key(struct outbuf *b, const char *key)
{
	if (b->n > 0 && b->p[b->n - 1] != '{' && b->p[b->n - 1] != '[')
		outbuf_put(b, ",", 1);
	outbuf_put(b, "\"", 1);
	outbuf_str(b, key);
	outbuf_put(b, "\":", 2);
}

void
put_open(struct outbuf *b, const char *key, const char *bracket)
{
	put_key(b, key);
	outbuf_str(b, bracket);
}

void
put_item(struct outbuf *b)
{
	outbuf_str(b, b->n > 0 && b->p[b->n - 1] != '[' ? ",{" : "{");
}

void
put_str(struct outbuf *b, const char *key, const char *value)
{
	put_key(b, key);
	put_text_n(b, value, strlen(value));
}

void
put_u64(struct outbuf *b, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, value);
	put_key(b, key);
	outbuf_str(b, text);
}

void
put_i64(struct outbuf *b, const char *key, int64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRId64, value);
	put_key(b, key);
	outbuf_str(b, text);
}

void
put_bool(struct outbuf *b, const char *key, bool value)
{
	put_key(b, key);
	outbuf_str(b, value ? "true" : "false");
}

void
put_f64(struct outbuf *b, double value)
{
	char text[40];
	double back;

	if (!isfinite(value)) {
		outbuf_str(b, "null");
		return;
	}
	snprintf(text, sizeof text, "%.15g", value);
	if (sscanf(text, "%lf", &back) != 1 || back < value || back > value)
		snprintf(text, sizeof text, "%.17g", value);
	outbuf_str(b, text);
}

void
put_hex(struct outbuf *b, const char *key, uint64_t hi, uint64_t lo, bool wide)
{
	char text[40];

	if (wide)
		snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, hi, lo);
	else
		snprintf(text, sizeof text, "%016" PRIx64, lo);
	put_str(b, key, text);
}
