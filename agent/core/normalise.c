/*
 * normalise.c - legal services, names, tags, lengths and times, as Datadog's
 * agent makes them.  Pure functions; any thread.  Outside ASCII a character
 * counts as a letter unless it lies in one of the blocks of punctuation,
 * symbols and pictures listed below, and capitals are lowered in Latin, Greek
 * and Cyrillic only: the agent or intake behind us judges the rest itself.
 */
#include <string.h>

#include "agent/core/normalise.h"

/* One character at s[0..n); *width bytes. Broken: 0xfffd, width 1, *bad set. */
static uint32_t
decode(const char *s, size_t n, size_t *width, bool *bad)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = (const unsigned char *)s;
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);

	*bad = false;
	*width = len;
	if (len == 1)
		return c;
	if (len == 0 || p[0] > 0xf4 || len > n)
		goto broken;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			goto broken;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c >= least[len] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff))
		return c;
broken:
	*bad = true;
	*width = 1;
	return 0xfffd;
}

static size_t
encode(uint32_t c, char *out)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

static bool
plain_ascii(const char *s, size_t n)
{
	unsigned char all = 0;

	for (size_t i = 0; i < n; i++)
		all |= (unsigned char)s[i];
	return all < 0x80;
}

/* Repair into scratch up to `limit` bytes; *cut says whether something was left out. */
static size_t
repair(const char *s, size_t n, size_t limit, char *scratch, bool *cut)
{
	size_t used = 0, width;
	bool bad;

	*cut = false;
	for (size_t i = 0; i < n; i += width) {
		uint32_t c = decode(s + i, n - i, &width, &bad);
		size_t out = bad ? 3 : width;

		if (used + out > limit) {
			*cut = true;
			break;
		}
		used += encode(c, scratch + used);
	}
	return used;
}

struct norm_text
norm_utf8(const char *s, size_t n, size_t limit, char *scratch)
{
	bool cut;

	if (plain_ascii(s, n < limit ? n : limit))
		return (struct norm_text){ s, n < limit ? n : limit };
	n = repair(s, n, limit, scratch, &cut);
	return (struct norm_text){ scratch, n };
}

static struct norm_text
clip_with_dots(const char *s, size_t n, size_t limit, char *scratch)
{
	bool cut = n > limit;

	if (!cut && plain_ascii(s, n))
		return (struct norm_text){ s, n };
	n = repair(s, n, limit, scratch, &cut);
	if (cut) {
		memcpy(scratch + n, "...", 3);
		n += 3;
	}
	return (struct norm_text){ scratch, n };
}

static uint32_t
lower(uint32_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c + 32;
	if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9) ||
	    (c >= 0x410 && c <= 0x42f))
		return c + 32;
	if (c >= 0x400 && c <= 0x40f)
		return c + 80;
	/* Latin Extended-A: pairs, the capital even up to U+0137 and from U+014A, odd between. */
	if ((c >= 0x100 && c <= 0x12e) || (c >= 0x132 && c <= 0x136) || (c >= 0x14a && c <= 0x176))
		return c | 1;
	if ((c >= 0x139 && c <= 0x147) || (c >= 0x179 && c <= 0x17d))
		return (c & 1) != 0 ? c + 1 : c;
	return c;
}

static bool
is_letter(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} others[] = { { 0x80, 0xa9 }, { 0xab, 0xb4 }, { 0xb6, 0xb9 }, { 0xbb, 0xbf },
		{ 0xd7, 0xd7 }, { 0xf7, 0xf7 }, { 0x2000, 0x206f }, { 0x20a0, 0x20ff },
		{ 0x2190, 0x2bff }, { 0x2e00, 0x3004 }, { 0x3007, 0x3030 }, { 0xe000, 0xf8ff },
		{ 0xfe00, 0xfe6f }, { 0xff00, 0xff20 }, { 0xff3b, 0xff40 }, { 0xff5b, 0xff65 },
		{ 0xffe0, 0xffff }, { 0x1f000, 0x1faff }, { 0xe0000, 0x10ffff } };

	if (c < 0x80)
		return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (c >= others[i].first && c <= others[i].last)
			return false;
	return true;
}

static bool
tag_char(uint32_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == ':' || c == '.' ||
	       c == '/' || c == '-';
}

struct norm_text
norm_tag_value(const char *s, size_t n, char *scratch)
{
	size_t i = 0, used = 0, chars = 0, width;
	bool gap = false, bad;

	while (i < n && i < NORM_TAG_MAX && tag_char((unsigned char)s[i]))
		i++;
	if (i == n)
		return (struct norm_text){ s, n };
	/* Twice the limit in bytes ends it too: a text full of symbols is no tag. */
	for (i = 0; i < n && i < 2 * NORM_TAG_MAX && chars < NORM_TAG_MAX; i += width, chars++) {
		uint32_t c = lower(decode(s + i, n - i, &width, &bad));

		if (bad || (!tag_char(c) && !is_letter(c))) {
			gap = true;
			continue;
		}
		if (gap)
			scratch[used++] = '_';
		gap = false;
		used += encode(c, scratch + used);
	}
	return (struct norm_text){ scratch, used };
}

struct norm_text
norm_service(const char *s, size_t n, const char *lang, char *scratch)
{
	char clipped[NORM_SERVICE_MAX];
	struct norm_text t;

	if (n > NORM_SERVICE_MAX) {
		bool cut;

		n = repair(s, n, NORM_SERVICE_MAX, clipped, &cut);
		t = norm_tag_value(clipped, n, scratch);
		if (t.s == clipped) {
			memcpy(scratch, clipped, t.n);
			t.s = scratch;
		}
	} else {
		t = norm_tag_value(s, n, scratch);
	}
	if (t.n > 0)
		return t;
	if (lang == NULL || lang[0] == '\0')
		return (struct norm_text){ "unnamed-service", 15 };

	size_t k = strnlen(lang, 64);

	memcpy(scratch, "unnamed-", 8);
	memcpy(scratch + 8, lang, k);
	memcpy(scratch + 8 + k, "-service", 8);
	return (struct norm_text){ scratch, 16 + k };
}

struct norm_text
norm_name(const char *s, size_t n, char *scratch)
{
	size_t i = 0, used = 0;

	if (n > NORM_NAME_MAX)
		n = NORM_NAME_MAX;
	while (i < n && (((unsigned char)s[i] | 32) < 'a' || ((unsigned char)s[i] | 32) > 'z'))
		i++;
	if (i == n)
		return (struct norm_text){ "unnamed_operation", 17 };
	for (; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');

		if (alnum)
			scratch[used++] = (char)c;
		else if (c == '.' && scratch[used - 1] == '_')
			scratch[used - 1] = '.';
		else if (c == '.')
			scratch[used++] = '.';
		else if (scratch[used - 1] != '.' && scratch[used - 1] != '_')
			scratch[used++] = '_';
	}
	if (scratch[used - 1] == '_')
		used--;
	return (struct norm_text){ scratch, used };
}

struct norm_text
norm_resource(const char *s, size_t n, char *scratch)
{
	return norm_utf8(s, n, NORM_RESOURCE_MAX, scratch);
}

struct norm_text
norm_type(const char *s, size_t n, char *scratch)
{
	return norm_utf8(s, n, NORM_TYPE_MAX, scratch);
}

struct norm_text
norm_meta_key(const char *s, size_t n, char *scratch)
{
	return clip_with_dots(s, n, NORM_META_KEY_MAX, scratch);
}

static bool
ends_with(const char *s, size_t n, const char *end)
{
	size_t k = strlen(end);

	return n >= k && memcmp(s + n - k, end, k) == 0;
}

struct norm_text
norm_meta_value(const char *key, size_t key_bytes, const char *s, size_t n, char *scratch)
{
	if (n > NORM_META_VALUE_MAX && key_bytes > 4 && memcmp(key, "_dd.", 4) == 0 &&
	    (ends_with(key, key_bytes, ".json") || ends_with(key, key_bytes, ".msgpack") ||
		ends_with(key, key_bytes, ".protobuf")))
		return (struct norm_text){ s, n };
	return clip_with_dots(s, n, NORM_META_VALUE_MAX, scratch);
}

bool
norm_status_code_ok(const char *s, size_t n)
{
	return n == 3 && s[0] >= '1' && s[0] <= '5' && s[1] >= '0' && s[1] <= '9' && s[2] >= '0' &&
	       s[2] <= '9';
}

void
norm_times(int64_t *start_ns, int64_t *duration_ns, uint64_t now_real_ns)
{
	const int64_t year_2000 = 946684800000000000;

	if (*duration_ns < 0 || (*start_ns > 0 && *duration_ns > INT64_MAX - *start_ns))
		*duration_ns = 0;
	if (*start_ns < year_2000) {
		*start_ns = (int64_t)now_real_ns - *duration_ns;
		if (*start_ns < 0)
			*start_ns = (int64_t)now_real_ns;
	}
}

uint64_t
norm_parent(uint64_t trace_lo, uint64_t span_id, uint64_t parent_id)
{
	return parent_id == span_id && parent_id == trace_lo ? 0 : parent_id;
}
