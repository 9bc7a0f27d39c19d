/*
 * picture_curve.c - numbers over time in eighths of a character.
 */
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/cli/members.h"
#include "agent/cli/picture.h"

#define ROWS    4
#define EIGHTHS 8
#define HOLDS_NS \
	(120 * (int64_t)NS_PER_S) /* twice the coarsest step: until then nothing has changed */
#define FAR 3                     /* a limit that many times the curve would flatten it */

/* As it was, up to the next look or the end, but not for ever. */
static void
hold(const struct picture *p, struct curve *c, int64_t from_ns, int64_t to_ns)
{
	int64_t step = (p->to_ns - p->from_ns) / p->bars + 1;

	if (from_ns == 0 || to_ns - from_ns > HOLDS_NS + step)
		return;
	for (int b = picture_bar(p, from_ns); b <= picture_bar(p, to_ns); b++)
		if (c->v[b] < 0)
			c->v[b] = c->last;
}

struct curve
curve_of(const struct picture *p, json_t *points, size_t column, int64_t until_ns)
{
	struct curve c = { .high = 0 };
	int64_t last_ns = 0;
	json_t *point;
	size_t i;

	for (int b = 0; b < p->bars; b++)
		c.v[b] = -1;
	json_array_foreach(points, i, point)
	{
		int64_t t = json_integer_value(json_array_get(point, 0));
		int64_t v = json_integer_value(json_array_get(point, column));
		int b = picture_bar(p, t);

		if (b > picture_bar(p, last_ns) + 1)
			hold(p, &c, last_ns, t - (p->to_ns - p->from_ns) / p->bars);
		c.v[b] = v > c.v[b] ? v : c.v[b];
		c.high = v > c.high ? v : c.high;
		c.last = v;
		last_ns = t;
	}
	hold(p, &c, last_ns, until_ns);
	return c;
}

static const char *
block(const struct picture *p, int64_t eighths)
{
	static const char *const utf8[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char *const ascii[] = { " ", "_", ".", ".", "-", "-", "=", "=", "#" };
	int64_t i = eighths < 0 ? 0 : eighths > EIGHTHS ? EIGHTHS : eighths;

	return term_glyph(p->t, utf8[i], ascii[i]);
}

/* Eighths of a line out of so many lines; what there is at all is seen. */
static int64_t
height(int64_t v, int64_t full, int lines)
{
	if (v <= 0 || full <= 0)
		return 0;
	return (int64_t)((double)v / (double)full * lines * EIGHTHS + 0.999999);
}

void
curve_line(const struct picture *p, const struct curve *c, int64_t full)
{
	fputs(term_style(p->t, "cyan"), p->t->f);
	for (int b = 0; b < p->bars; b++)
		fputs(block(p, height(c->v[b], full, 1)), p->t->f);
	fputs(term_style(p->t, "off"), p->t->f);
}

static void
chart_row(const struct picture *p, const struct curve *c, int64_t full, int row, bool limit)
{
	const char *line = term_glyph(p->t, "┄", "~");

	for (int b = 0; b < p->bars; b++) {
		int64_t over = height(c->v[b], full, ROWS) - (int64_t)row * EIGHTHS;

		if (over <= 0 && limit) {
			fprintf(p->t->f, "%s%s%s", term_style(p->t, "red"), line,
			    term_style(p->t, "off"));
			continue;
		}
		fputs(term_style(p->t, "cyan"), p->t->f);
		fputs(block(p, over), p->t->f);
		fputs(term_style(p->t, "off"), p->t->f);
	}
}

/* A scale at the right edge of the label. */
static void
scale(const struct picture *p, const char *text)
{
	int columns = term_columns(p->t, text);

	term_pad(p->t, p->label - columns);
	fputs(term_style(p->t, "dim"), p->t->f);
	term_put(p->t, text, p->label);
	fprintf(p->t->f, "%s ", term_style(p->t, "off"));
}

void
curve_chart(const struct picture *p, const struct curve *c, int64_t limit)
{
	bool drawn = limit > 0 && limit <= FAR * c->high;
	int64_t full = drawn && limit > c->high ? limit : c->high;
	int limit_row =
	    drawn && full > 0 ? (int)((double)limit / (double)full * ROWS - 0.000001) : -1;
	char size[32];

	for (int row = ROWS - 1; row >= 0; row--) {
		bool top = row == ROWS - 1;

		scale(p, row == limit_row ? picture_size(limit, size)
			 : top            ? picture_size(full, size)
			 : row == 0       ? "0"
					  : "");
		chart_row(p, c, full, row, row == limit_row);
		picture_figure(p, row == limit_row ? "limit" : "");
	}
}
