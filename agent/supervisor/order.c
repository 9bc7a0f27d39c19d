/*
 * order.c - give and take.  See order.h.
 */
#include "agent/supervisor/order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/supervisor/exits.h"

#define ORDER_MAX 511

static const struct {
	const char *name;
	enum cause cause;
} whys[ORDER_WHYS] = {
	[ORDER_ZOMBIE] = { "zombie", CAUSE_ZOMBIE },
	[ORDER_HTTP_SILENT] = { "http_silent", CAUSE_HANG },
	[ORDER_NO_PROGRESS] = { "no_progress", CAUSE_HANG },
	[ORDER_CUDA_POISONED] = { "cuda_poisoned", CAUSE_CUDA_POISONED },
	[ORDER_SOFT_LIMIT] = { "soft_limit", CAUSE_LIMIT_SOFT },
};

const char *
order_why_name(enum order_why w)
{
	return (unsigned)w < ORDER_WHYS ? whys[w].name : "unknown";
}

enum cause
order_cause(enum order_why w)
{
	return (unsigned)w < ORDER_WHYS ? whys[w].cause : CAUSE_HANG;
}

static enum err
path_of(char *path, size_t cap, const char *run_dir, const char *life)
{
	char name[LIFE_BYTES + 8];

	if (!life_is_valid(life))
		return E_INVAL;
	snprintf(name, sizeof name, "order-%s", life);
	return path_join(path, cap, run_dir, name);
}

/* One line of printable ASCII out of n bytes of anything. */
static void
clean(char *out, size_t cap, const char *s, size_t n)
{
	size_t k = 0;

	for (; k < n && k + 1 < cap && s[k] != '\0'; k++)
		out[k] = s[k] >= ' ' && s[k] < 127 ? s[k] : '?';
	out[k] = '\0';
}

enum err
order_give(const char *run_dir, const char *life, enum order_why why, const char *detail)
{
	char path[600], text[ORDER_MAX + 1], words[sizeof((struct order *)0)->detail];
	enum err e = path_of(path, sizeof path, run_dir, life);
	int n;

	if (e != E_OK || (unsigned)why >= ORDER_WHYS)
		return e != E_OK ? e : E_INVAL;
	clean(words, sizeof words, detail, strlen(detail));
	n = snprintf(text, sizeof text, "why=%s detail=%s\n", whys[why].name, words);
	return file_write_atomic(path, text, (size_t)n);
}

static bool
parse(const char *text, size_t n, struct order *out)
{
	static const char first[] = "why=", second[] = " detail=";
	const char *end = memchr(text, '\n', n), *blank;
	struct order o;

	if (end == NULL || strncmp(text, first, sizeof first - 1) != 0)
		return false;
	text += sizeof first - 1;
	blank = memchr(text, ' ', (size_t)(end - text));
	if (blank == NULL || strncmp(blank, second, sizeof second - 1) != 0)
		return false;
	for (unsigned i = 0; i < ORDER_WHYS; i++) {
		size_t length = strlen(whys[i].name);

		if ((size_t)(blank - text) != length || memcmp(text, whys[i].name, length) != 0)
			continue;
		o.why = (enum order_why)i;
		blank += sizeof second - 1;
		clean(o.detail, sizeof o.detail, blank, (size_t)(end - blank));
		*out = o;
		return true;
	}
	return false;
}

enum err
order_take(const char *run_dir, const char *life, struct order *out)
{
	char path[600], *text = NULL;
	enum err e = path_of(path, sizeof path, run_dir, life);
	size_t n;

	if (e != E_OK)
		return e;
	e = file_read_all(path, ORDER_MAX, &text, &n);
	if (e == E_NOTFOUND)
		return e;
	if (e == E_OK && !parse(text, n, out))
		e = E_INVAL;
	free(text);
	if (unlink(path) != 0 && e == E_OK)
		e = E_IO; /* it would be obeyed for ever */
	return e == E_FULL ? E_INVAL : e;
}
