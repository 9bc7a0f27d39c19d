/*
 * trace.c - `comfymon trace ID`: the spans as a tree with a time bar each.  A
 * large trace is drawn in outline: failed spans, the longest, the first and
 * the last of many siblings; the rest is summed up in a line.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/cli/cli.h"
#include "agent/cli/tree.h"

#define WHOLE_SPANS     200u /* up to so many every span has its line */
#define SIBLINGS        24u
#define SIBLINGS_HEAD   8u
#define SIBLINGS_TAIL   2u
#define SIBLINGS_FAILED 8u
#define SIBLINGS_LONG   6u
#define LINES           300
#define ERROR_LINES     3
#define DEPTH_MAX       400
#define PREFIX_BYTES    336 /* deeper than 64 levels no lines are drawn, however wide */
#define DURATION_CELLS  9
#define BAR_LEAST       18
#define LABEL_FAIR      50 /* from here on the label leaves four tenths to the bar */
#define BAR_MOST        100
#define PIPED_LABEL     96
#define PIPED_BAR       40

struct canvas {
	struct term t;
	const struct tree *tree;
	int label, bar; /* columns of the two */
	bool all, tags;
	long lines; /* still to be drawn before the rest is summed up */
	size_t left_out;
};

/* One piece of the label, in what room is left of it (negative: endless). */
static void
piece(const struct canvas *c, const char *style, const char *text, int *room)
{
	if (*room == 0 || text[0] == '\0')
		return;
	fputs(term_style(&c->t, style), c->t.f);

	int used = term_put(&c->t, text, *room);

	fputs(term_style(&c->t, "off"), c->t.f);
	if (*room > 0)
		*room -= used;
}

static void
draw_bar(const struct canvas *c, const struct tree_node *n)
{
	double whole = (double)(c->tree->end - c->tree->start);
	int from = 0, to = c->bar;
	bool sliver = false;

	if (whole > 0) {
		double a = (double)(n->start - c->tree->start) / whole * c->bar;
		double b = a + (double)n->duration / whole * c->bar;

		from = (int)a < c->bar ? (int)a : c->bar - 1;
		to = (int)(b + 0.5) > from ? (int)(b + 0.5) : from + 1;
		sliver = b - a < 0.5;
	}
	fprintf(c->t.f, "%s%s%s", term_style(&c->t, "dim"), term_glyph(&c->t, "│", "|"),
	    term_style(&c->t, "off"));
	term_pad(&c->t, from);
	fputs(term_style(&c->t, n->unfinished || n->open ? "yellow"
				: n->error               ? "red"
							 : "cyan"),
	    c->t.f);
	for (int i = from; i < to && i < c->bar; i++) {
		bool goes_on = (n->unfinished || n->open) && i == to - 1;

		fputs(goes_on  ? term_glyph(&c->t, "▶", ">")
		      : sliver ? term_glyph(&c->t, "▏", "'")
			       : term_glyph(&c->t, "█", "="),
		    c->t.f);
	}
	fputs(term_style(&c->t, "off"), c->t.f);
	fputc('\n', c->t.f);
}

/* The lines of the tree, or a number where they would take the room of names. */
static void
draw_lines(const struct canvas *c, const char *prefix, const char *branch, int depth, int *room)
{
	char deep[32];

	if (3 * depth > c->label / 2) {
		snprintf(deep, sizeof deep, "%s%d ", term_glyph(&c->t, "┄", "-"), depth);
		prefix = deep;
		branch = "";
	}
	piece(c, "dim", prefix, room);
	piece(c, "dim", branch, room);
}

/* Indented text below a span, in at most so many lines of a terminal. */
static void
draw_note(const struct canvas *c, const char *prefix, int depth, const char *style,
    const char *text, int lines)
{
	char part[1024];

	for (size_t n = 0;; text += n + strspn(text + n, " \n")) {
		int room = c->t.width > 0 ? c->t.width : -1;

		draw_lines(c, prefix, "     ", depth, &room);
		n = room > 0 && lines > 1 ? term_fit(&c->t, text, room) : 0;
		snprintf(part, sizeof part, "%.*s", (int)(n < sizeof part ? n : 0), text);
		piece(c, style, n > 0 ? part : text, &room);
		fputc('\n', c->t.f);
		if (lines-- == 1 || n == 0 || text[n] == '\0')
			return;
	}
}

static void
draw_error(const struct canvas *c, const struct tree_node *n, const char *prefix)
{
	char text[1024];

	snprintf(text, sizeof text, "%s: %s%s%s", n->unfinished ? "unfinished" : "error",
	    n->error_type[0] != '\0' ? n->error_type : "unknown",
	    n->error_message[0] != '\0' ? ": " : "", n->error_message);
	draw_note(c, prefix, n->depth, n->unfinished ? "yellow" : "red", text, ERROR_LINES);
}

/* A stack has many lines. */
static void
draw_tag(const struct canvas *c, const struct tree_node *n, const char *prefix, const char *key,
    const char *value)
{
	char text[1024];
	size_t line = strcspn(value, "\n");

	snprintf(text, sizeof text, "%s: %.*s", key, (int)(line < sizeof text ? line : 0), value);
	draw_note(c, prefix, n->depth, "dim", text, 1);
	for (value += line; *value == '\n'; value += line) {
		line = strcspn(++value, "\n");
		snprintf(text, sizeof text, "  %.*s", (int)(line < sizeof text ? line : 0), value);
		if (line > 0)
			draw_note(c, prefix, n->depth, "dim", text, 1);
	}
}

static void
draw_tags(const struct canvas *c, const struct tree_node *n, const char *prefix)
{
	const char *key, *s;
	char number[32];
	json_t *v;

	json_object_foreach(json_object_get(n->span, "meta"), key, v)
	{
		s = json_string_value(v);
		draw_tag(c, n, prefix, key, s != NULL ? s : "");
	}
	json_object_foreach(json_object_get(n->span, "metrics"), key, v)
	{
		snprintf(number, sizeof number, "%.15g", json_number_value(v));
		draw_tag(c, n, prefix, key, number);
	}
}

static const char *
mark_of(const struct canvas *c, const struct tree_node *n)
{
	if (n->unfinished)
		return term_glyph(&c->t, "◌ ", "? ");
	if (n->open)
		return term_glyph(&c->t, "▷ ", "> ");
	return n->error ? term_glyph(&c->t, "✗ ", "! ") : n->cut ? "(ring) " : "";
}

static void
draw_node(
    struct canvas *c, const struct tree_node *n, const char *prefix, const char *branch, bool more)
{
	const char *style = n->unfinished || n->open ? "yellow" : n->error ? "red" : "off";
	char duration[32], below[PREFIX_BYTES + 16];
	int room = c->label;

	c->lines--;
	draw_lines(c, prefix, branch, n->depth, &room);
	piece(c, style, mark_of(c, n), &room);
	piece(c, style, n->name, &room);
	if (strcmp(n->name, n->resource) != 0) {
		piece(c, "off", " ", &room);
		piece(c, n->error ? style : "bold", n->resource, &room);
	}
	term_pad(&c->t, room);
	term_duration(&c->t, (double)n->duration, duration, sizeof duration);
	term_pad(&c->t, DURATION_CELLS + 1 - term_columns(&c->t, duration));
	fputs(duration, c->t.f);
	fputc(' ', c->t.f);
	draw_bar(c, n);
	snprintf(below, sizeof below, "%s%s%s", prefix,
	    n->depth == 0 ? ""
	    : more        ? term_glyph(&c->t, "│  ", "|  ")
			  : "   ",
	    n->child != NULL ? term_glyph(&c->t, "│", "|") : "");
	if (n->error)
		draw_error(c, n, below);
	if (c->tags)
		draw_tags(c, n, below);
}

static void
draw_gap(struct canvas *c, const char *prefix, const struct tree_node *first,
    const struct tree_node *end)
{
	char count[32], duration[32], failed[48] = "", text[160];
	size_t spans = 0, errors = 0;
	double sum = 0;

	for (const struct tree_node *n = first; n != end; n = n->next) {
		spans += n->below + 1;
		errors += n->errors;
		sum += (double)n->duration;
	}
	if (errors > 0)
		snprintf(failed, sizeof failed, ", %zu failed", errors);
	snprintf(text, sizeof text, "%s %s more, %s in all%s", term_glyph(&c->t, "⋮", ":"),
	    term_count(spans, count, sizeof count),
	    term_duration(&c->t, sum, duration, sizeof duration), failed);
	c->lines--;
	c->left_out += spans;

	int room = c->t.width > 0 ? c->t.width : -1;

	draw_lines(c, prefix, "", first->depth, &room);
	piece(c, errors > 0 ? "red" : "dim", text, &room);
	fputc('\n', c->t.f);
}

static void
show_longest(struct tree_node *list)
{
	for (unsigned k = 0; k < SIBLINGS_LONG; k++) {
		struct tree_node *longest = NULL;

		for (struct tree_node *n = list; n != NULL; n = n->next)
			if (!n->shown && (longest == NULL || n->duration > longest->duration))
				longest = n;
		if (longest != NULL)
			longest->shown = true;
	}
}

/* Which of these siblings get a line. */
static void
choose(const struct canvas *c, struct tree_node *list, size_t count)
{
	bool whole = c->all || count <= SIBLINGS || c->tree->count <= WHOLE_SPANS;
	size_t i = 0, failed = 0;

	for (struct tree_node *n = list; n != NULL; n = n->next, i++) {
		n->shown = whole || i < SIBLINGS_HEAD || i >= count - SIBLINGS_TAIL ||
			   (n->errors > 0 && failed < SIBLINGS_FAILED);
		failed += n->errors > 0;
	}
	if (!whole)
		show_longest(list);
}

static void
draw_list(struct canvas *c, struct tree_node *list, size_t count, const char *prefix, int depth)
{
	char deeper[PREFIX_BYTES + 16];

	if (list == NULL)
		return;
	if (depth >= DEPTH_MAX || (c->lines <= 0 && !c->all && c->tree->count > WHOLE_SPANS)) {
		draw_gap(c, prefix, list, NULL);
		return;
	}
	choose(c, list, count);
	for (struct tree_node *n = list; n != NULL;) {
		struct tree_node *gap = n;

		while (n != NULL && !n->shown)
			n = n->next;
		if (gap != n)
			draw_gap(c, prefix, gap, n);
		if (n == NULL)
			return;

		bool more = n->next != NULL;
		const char *branch = depth == 0 ? ""
				     : more     ? term_glyph(&c->t, "├─ ", "|- ")
						: term_glyph(&c->t, "└─ ", "`- ");

		draw_node(c, n, prefix, branch, more);
		snprintf(deeper, sizeof deeper, "%s%s", prefix,
		    depth == 0 ? ""
		    : more     ? term_glyph(&c->t, "│  ", "|  ")
			       : "   ");
		draw_list(c, n->child, n->children, deeper, depth + 1);
		n = n->next;
	}
}

/* The label takes what the longest needs, the bar the rest. */
static void
lay_out(struct canvas *c)
{
	int longest = 24;

	for (size_t i = 0; i < c->tree->count; i++) {
		const struct tree_node *n = &c->tree->nodes[i];
		int need = 3 * n->depth + term_columns(&c->t, n->name) + 1 +
			   term_columns(&c->t, n->resource) + term_columns(&c->t, mark_of(c, n));

		if (need > longest)
			longest = need;
	}

	int fixed = DURATION_CELLS + 3; /* a space on each side, the bar's edge */
	int most = c->t.width > 0 ? c->t.width - fixed - BAR_LEAST : PIPED_LABEL;

	if (c->t.width > 0 && most > c->t.width * 6 / 10 && most > LABEL_FAIR)
		most = c->t.width * 6 / 10 > LABEL_FAIR ? c->t.width * 6 / 10 : LABEL_FAIR;
	c->label = longest < most ? longest : most;
	if (c->label < 12)
		c->label = 12;
	c->bar = c->t.width > 0 ? c->t.width - fixed - c->label : PIPED_BAR;
	if (c->bar > BAR_MOST)
		c->bar = BAR_MOST;
	if (c->bar < 1)
		c->bar = 1;
}

static void
draw_head(const struct canvas *c, json_t *root)
{
	const struct tree *t = c->tree;
	const char *id = json_string_value(json_object_get(root, "trace_id"));
	const char *state = json_string_value(json_object_get(root, "state"));
	char when[40] = "", whole[32], count[32];
	time_t seconds = (time_t)(t->start / 1000000000);
	struct tm tm;

	if (localtime_r(&seconds, &tm) != NULL)
		strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
	term_duration(&c->t, (double)(t->end - t->start), whole, sizeof whole);
	fprintf(c->t.f, "%strace %s%s  %s\n", term_style(&c->t, "bold"), id != NULL ? id : "?",
	    term_style(&c->t, "off"), state != NULL ? state : "?");
	fprintf(c->t.f, "%s, %s, %s span%s", when, whole, term_count(t->count, count, sizeof count),
	    t->count == 1 ? "" : "s");
	if (t->errors > 0)
		fprintf(c->t.f, ", %s%zu failed%s", term_style(&c->t, "red"), t->errors,
		    term_style(&c->t, "off"));
	if (t->unfinished > 0)
		fprintf(c->t.f, ", %s%zu unfinished%s", term_style(&c->t, "yellow"), t->unfinished,
		    term_style(&c->t, "off"));
	if (t->open > 0)
		fprintf(c->t.f, ", %s%zu open%s", term_style(&c->t, "yellow"), t->open,
		    term_style(&c->t, "off"));
	fputs("\n\n", c->t.f);
	term_pad(&c->t, c->label + DURATION_CELLS + 2);
	fprintf(c->t.f, "%s0", term_style(&c->t, "dim"));
	term_pad(&c->t, c->bar - term_columns(&c->t, whole));
	fprintf(c->t.f, "%s%s\n", whole, term_style(&c->t, "off"));
}

static void
draw(const struct cli *cli, const struct tree *tree, json_t *root)
{
	struct canvas c = { .t = term_of(cli, stdout),
		.tree = tree,
		.all = cli->all,
		.tags = cli->tags,
		.lines = LINES };
	char count[32], note[128];

	lay_out(&c);
	draw_head(&c, root);
	draw_list(&c, tree->roots, tree->root_count, "", 0);
	if (c.left_out == 0)
		return;
	snprintf(note, sizeof note, "%s spans are not drawn; %s",
	    term_count(c.left_out, count, sizeof count),
	    cli->all ? "they are too deep, --json has them" : "--all draws every one");
	fputc('\n', c.t.f);
	term_wrap(&c.t, note, 0);
}

/* The newest trace's id into id[33]. */
static int
newest(const struct cli *c, char id[33])
{
	char *body = NULL;
	int rv =
	    view_get(c, "/traces?limit=50", &body); /* what `traces` shows, whose first it is */

	if (rv != CLI_OK)
		return rv;
	body[strcspn(body, "\n")] = '\0';

	json_t *o = body[0] != '\0' ? cli_parse(body) : NULL;
	const char *text = json_string_value(json_object_get(o, "trace_id"));

	if (text != NULL)
		snprintf(id, 33, "%s", text);
	else
		fputs("comfymon: no traces\n", stderr);
	json_decref(o);
	free(body);
	return text != NULL ? CLI_OK : CLI_PROBLEM;
}

int
verb_trace(struct cli *c)
{
	struct tree tree = { 0 };
	char target[80], id[33], *body = NULL;
	int rv = CLI_OK;

	if (strlen(c->argument) >= sizeof id) {
		fputs("comfymon: expected a trace id of 16 or 32 hex digits, or last\n", stderr);
		return CLI_USAGE;
	}
	snprintf(id, sizeof id, "%s", c->argument);
	if (strcmp(id, "last") == 0)
		rv = newest(c, id);
	if (rv != CLI_OK)
		return rv;
	snprintf(target, sizeof target, "/trace/%s", id);
	rv = view_get(c, target, &body);
	if (rv != CLI_OK)
		return rv;

	json_t *root = c->json ? NULL : cli_parse(body);

	if (c->json)
		puts(body);
	else if (root == NULL || !tree_build(&tree, json_object_get(root, "spans")))
		rv = CLI_FAILED;
	else
		draw(c, &tree, root);
	tree_free(&tree);
	json_decref(root);
	free(body);
	return rv;
}
