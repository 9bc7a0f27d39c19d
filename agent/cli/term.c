/*
 * term.c - colour, width, characters and units for people.  See term.h.
 */
#include "agent/cli/term.h"

#include <inttypes.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

#include "agent/cli/cli.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

struct term
term_of(const struct cli *c, FILE *f)
{
	const char *no_color = getenv("NO_COLOR"), *kind = getenv("TERM");
	struct term t = { .f = f };
	struct winsize ws;
	bool terminal = isatty(fileno(f)) == 1;
	bool plain = (no_color != NULL && no_color[0] != '\0') ||
		     (kind != NULL && strcmp(kind, "dumb") == 0);

	(void)setlocale(LC_CTYPE, ""); /* an unknown one leaves "C": ASCII */
	t.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	if (terminal && ioctl(fileno(f), TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
		t.width = ws.ws_col;
	if (terminal && t.width == 0)
		t.width = 80;
	t.color = strcmp(c->color, "always") == 0 ||
		  (terminal && !plain && strcmp(c->color, "auto") == 0);
	return t;
}

const char *
term_style(const struct term *t, const char *name)
{
	static const struct {
		const char *name, *code;
	} styles[] = {
		{ "off", "\033[0m" },
		{ "bold", "\033[1m" },
		{ "dim", "\033[2m" },
		{ "red", "\033[31m" },
		{ "green", "\033[32m" },
		{ "yellow", "\033[33m" },
		{ "cyan", "\033[36m" },
	};

	for (size_t i = 0; t->color && i < sizeof styles / sizeof styles[0]; i++)
		if (strcmp(styles[i].name, name) == 0)
			return styles[i].code;
	return "";
}

const char *
term_glyph(const struct term *t, const char *utf8, const char *ascii)
{
	return t->utf8 ? utf8 : ascii;
}

struct glyph {
	const char *s;
	size_t bytes;
	int columns;
};

/* Invisible characters that turn the direction of text or join it. */
static bool
steers(wchar_t w)
{
	return (w >= 0x200b && w <= 0x200f) || (w >= 0x2028 && w <= 0x202e) ||
	       (w >= 0x2060 && w <= 0x2069) || w == 0xfeff;
}

/* The next character as it may be printed; advances *p beyond it. */
static struct glyph
next_glyph(const struct term *t, const char **p)
{
	const char *s = *p;
	unsigned char c = (unsigned char)*s;
	mbstate_t state = { 0 };
	wchar_t w = 0;

	if (c < 0x80) {
		(*p)++;
		if (c == '\t' || c == '\n')
			return (struct glyph){ " ", 1, 1 };
		return c < 0x20 || c == 0x7f ? (struct glyph){ "?", 1, 1 }
					     : (struct glyph){ s, 1, 1 };
	}

	size_t n = t->utf8 ? mbrtowc(&w, s, strlen(s), &state) : 0;
	int columns = n > 0 && n <= 4 && iswprint((wint_t)w) && !steers(w) ? wcwidth(w) : -1;

	if (n > 0 && n <= 4) {
		*p += n;
	} else {
		do
			(*p)++;
		while (((unsigned char)**p & 0xc0) == 0x80);
	}
	if (columns < 0)
		return t->utf8 ? (struct glyph){ REPLACEMENT, 3, 1 } : (struct glyph){ "?", 1, 1 };
	return (struct glyph){ s, n, columns };
}

int
term_columns(const struct term *t, const char *text)
{
	int n = 0;

	while (*text != '\0' && n < INT_MAX / 2)
		n += next_glyph(t, &text).columns;
	return n;
}

int
term_put(const struct term *t, const char *text, int limit)
{
	const char *dots = term_glyph(t, "…", "~");
	bool clip = limit >= 0 && term_columns(t, text) > limit;
	int used = 0;

	if (limit == 0)
		return 0;
	while (*text != '\0') {
		struct glyph g = next_glyph(t, &text);

		if (clip && used + g.columns > limit - 1)
			break;
		fwrite(g.s, 1, g.bytes, t->f);
		used += g.columns;
	}
	if (clip)
		fputs(dots, t->f);
	return used + clip;
}

size_t
term_fit(const struct term *t, const char *text, int columns)
{
	const char *p = text, *fits = text, *word = NULL;

	for (int used = 0; *p != '\0'; fits = p) {
		if (*p == ' ' || *p == '\n')
			word = p;
		used += next_glyph(t, &p).columns;
		if (used > columns)
			return (size_t)((word != NULL && word > text ? word : fits) - text);
	}
	return (size_t)(p - text);
}

/* Columns of the first word. */
static int
word_columns(const struct term *t, const char *text)
{
	int n = 0;

	while (*text != '\0' && *text != ' ')
		n += next_glyph(t, &text).columns;
	return n;
}

void
term_wrap(const struct term *t, const char *text, int indent)
{
	term_wrap_from(t, text, indent, indent);
}

void
term_wrap_from(const struct term *t, const char *text, int indent, int used)
{
	int room = t->width > indent + 20 ? t->width : INT_MAX;

	for (bool first = true; *text != '\0'; first = false) {
		int word = word_columns(t, text);

		if (!first && used + 1 + word > room) {
			fputc('\n', t->f);
			term_pad(t, indent);
			used = indent;
		} else if (!first) {
			fputc(' ', t->f);
			used++;
		}
		for (used += word; *text != '\0' && *text != ' ';) {
			struct glyph g = next_glyph(t, &text);

			fwrite(g.s, 1, g.bytes, t->f);
		}
		text += strspn(text, " ");
	}
	fputc('\n', t->f);
}

void
term_pad(const struct term *t, int columns)
{
	if (columns > 0)
		fprintf(t->f, "%*s", columns, "");
}

const char *
term_duration(const struct term *t, double ns, char *buf, size_t cap)
{
	const char *const units[] = { "ns", term_glyph(t, "µs", "us"), "ms", "s" };
	int u = 0;

	if (ns >= 7200e9) {
		snprintf(buf, cap, "%.0fh%02.0fm", floor(ns / 3600e9), floor(fmod(ns / 60e9, 60)));
		return buf;
	}
	if (ns >= 120e9) {
		snprintf(buf, cap, "%.0fm%02.0fs", floor(ns / 60e9), floor(fmod(ns / 1e9, 60)));
		return buf;
	}
	while (u < 3 && ns >= 999.5) {
		ns /= 1000;
		u++;
	}
	snprintf(buf, cap,
	    ns < 10 && u > 0    ? "%.2f %s"
	    : ns < 100 && u > 0 ? "%.1f %s"
				: "%.0f %s",
	    ns, units[u]);
	return buf;
}

const char *
term_ago(double s, char *buf, size_t cap)
{
	if (s < 60)
		snprintf(buf, cap, "%.0f s", s);
	else if (s < 3600)
		snprintf(buf, cap, "%.0f min", s / 60);
	else if (s < 48 * 3600)
		snprintf(buf, cap, "%.1f h", s / 3600);
	else
		snprintf(buf, cap, "%.1f days", s / 86400);
	return buf;
}

const char *
term_when(int64_t real_ns, bool whole, char *buf, size_t cap)
{
	time_t seconds = (time_t)(real_ns / 1000000000);
	bool today = time(NULL) - seconds < 20 * 3600;
	struct tm tm;

	buf[0] = '\0';
	if (real_ns > 0 && localtime_r(&seconds, &tm) != NULL)
		strftime(buf, cap,
		    whole   ? "%Y-%m-%d %H:%M:%S"
		    : today ? "%H:%M:%S"
			    : "%m-%d %H:%M",
		    &tm);
	return buf;
}

/* At most 26 characters. */
const char *
term_count(uint64_t n, char *buf, size_t cap)
{
	char digits[24];
	size_t count = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, n), at = 0;

	for (size_t i = 0; i < count && at + 2 < cap; i++) {
		if (i > 0 && (count - i) % 3 == 0)
			buf[at++] = ',';
		buf[at++] = digits[i];
	}
	buf[at] = '\0';
	return buf;
}
