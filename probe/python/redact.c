/* redact.c - see redact.h */
#include "probe/python/redact.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS       1024u
#define NONE          UINT16_MAX
#define COMPARES_MAX  2000000u
#define TOTAL_BYTES   (1024u * 1024)
#define ESCAPED_BYTES (2 * REDACT_STRING_BYTES + 2)

struct entry {
	char *bytes;
	uint32_t length;
	uint16_t next; /* in the bucket of the first four bytes */
};

struct redact {
	uint16_t bucket[BUCKETS];
	struct entry entries[REDACT_STRINGS_MAX];
	uint32_t count;
	size_t total;
	bool full;
};

static uint32_t
bucket_of(const char *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return (v * 2654435761u) >> 22;
}

struct redact *
redact_new(void)
{
	struct redact *r = calloc(1, sizeof *r);
	if (r != NULL)
		memset(r->bucket, 0xff, sizeof r->bucket);
	return r;
}

void
redact_free(struct redact *r)
{
	if (r == NULL)
		return;
	for (uint32_t i = 0; i < r->count; i++)
		free(r->entries[i].bytes);
	free(r);
}

static bool
known(const struct redact *r, const char *s, size_t n)
{
	for (uint16_t i = r->bucket[bucket_of(s)]; i != NONE; i = r->entries[i].next)
		if (r->entries[i].length == n && memcmp(r->entries[i].bytes, s, n) == 0)
			return true;
	return false;
}

static void
add(struct redact *r, const char *s, size_t n)
{
	if (n < REDACT_LEAST_BYTES || r->full || known(r, s, n))
		return;
	char *copy =
	    r->count < REDACT_STRINGS_MAX && r->total + n <= TOTAL_BYTES ? malloc(n) : NULL;
	if (copy == NULL) {
		r->full = true;
		return;
	}
	memcpy(copy, s, n);
	uint32_t b = bucket_of(s);
	r->entries[r->count] = (struct entry){ copy, (uint32_t)n, r->bucket[b] };
	r->bucket[b] = (uint16_t)r->count++;
	r->total += n;
}

/* As repr() and JSON write it; the length, or 0 when nothing needs an escape. */
static size_t
escape(const char *s, size_t n, char *out)
{
	static const char plain[] = "\n\r\t\\\"", letters[] = "nrt\\\"";
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		const char *p = memchr(plain, s[i], sizeof plain - 1);
		if (p != NULL)
			out[at++] = '\\';
		out[at++] = p != NULL ? letters[p - plain] : s[i];
	}
	return at != n ? at : 0;
}

void
redact_add(struct redact *r, const char *s, size_t n)
{
	char escaped[ESCAPED_BYTES];
	if (n > REDACT_STRING_BYTES)
		n = REDACT_STRING_BYTES;
	add(r, s, n);
	size_t m = escape(s, n, escaped);
	if (m > 0)
		add(r, escaped, m);
}

/* Length of the longest string that starts at p, 0 for none; *budget counts down to 0. */
static size_t
match(const struct redact *r, const char *p, size_t n, uint32_t *budget)
{
	size_t best = 0;
	if (n < REDACT_LEAST_BYTES)
		return 0;
	for (uint16_t i = r->bucket[bucket_of(p)]; i != NONE && *budget > 0;
	     i = r->entries[i].next, (*budget)--) {
		const struct entry *e = &r->entries[i];
		/* The text may have been clipped in the middle of a string before it came here. */
		size_t length = e->length < n ? e->length : n;
		if (length > best && memcmp(e->bytes, p, length) == 0)
			best = length == REDACT_STRING_BYTES ? n : length;
	}
	return best;
}

static size_t
put(char *out, size_t at, size_t cap, const char *s, size_t n)
{
	if (n > cap - at)
		n = cap - at;
	memcpy(out + at, s, n);
	return at + n;
}

size_t
redact_apply(const struct redact *r, const char *text, size_t n, char *out, size_t cap)
{
	static const char mark[] = REDACT_MARK;
	uint32_t budget = COMPARES_MAX;
	size_t at = 0, from = 0, covered = 0;
	if (n > REDACT_TEXT_BYTES)
		n = REDACT_TEXT_BYTES;
	if (r->full)
		return put(out, 0, cap, mark, sizeof mark - 1);
	/* Matches may overlap: what [from, covered) covers becomes one mark. */
	for (size_t i = 0; i < n && at < cap; i++) {
		size_t length = match(r, text + i, n - i, &budget);
		if (budget == 0)
			return put(out, 0, cap, mark, sizeof mark - 1);
		if (length > 0 && i >= covered) {
			at = put(out, at, cap, text + from, i - from);
			at = put(out, at, cap, mark, sizeof mark - 1);
		}
		if (length > 0 && i + length > covered)
			from = covered = i + length;
	}
	return from < n ? put(out, at, cap, text + from, n - from) : at;
}
