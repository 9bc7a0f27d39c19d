/*
 * traces.c - `comfymon traces`: a line each, newest first.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/offline.h"

#define WIDE 120 /* columns from which the whole id and words are shown */

struct line {
	const char *id, *root, *resource, *workflow, *state;
	int64_t start, duration, spans;
	bool error, unfinished;
};

static bool
read_line(json_t *o, struct line *l)
{
	l->id = json_string_value(json_object_get(o, "trace_id"));
	l->root = json_string_value(json_object_get(o, "root"));
	l->resource = json_string_value(json_object_get(o, "resource"));
	l->workflow = json_string_value(json_object_get(o, "workflow"));
	l->state = json_string_value(json_object_get(o, "state"));
	l->start = json_integer_value(json_object_get(o, "start_ns"));
	l->duration = json_integer_value(json_object_get(o, "duration_ns"));
	l->spans = json_integer_value(json_object_get(o, "spans"));
	l->error = json_integer_value(json_object_get(o, "error")) != 0;
	l->unfinished = json_is_true(json_object_get(o, "unfinished"));
	return l->id != NULL && l->root != NULL && l->resource != NULL && l->state != NULL;
}

static bool
narrow(const struct term *t)
{
	return t->width > 0 && t->width < WIDE;
}

/* `trace` takes the low half of an id as well. */
static const char *
shown_id(const struct term *t, const char *id)
{
	return narrow(t) && strlen(id) == 32 ? id + 16 : id;
}

/* In a word, or where that takes too much room in a mark. */
static int
print_outcome(const struct term *t, const struct line *l)
{
	const char *word = l->unfinished                   ? "unfinished"
			   : l->error                      ? "error"
			   : strcmp(l->state, "open") == 0 ? "running"
							   : "ok";
	const char *mark = l->unfinished ? term_glyph(t, "◌ ", "? ")
			   : l->error    ? term_glyph(t, "✗ ", "! ")
					 : "";

	fputs(term_style(t, l->unfinished ? "yellow" : l->error ? "red" : "green"), t->f);
	if (narrow(t))
		fputs(mark, t->f);
	else
		fprintf(t->f, "%-11s", word);
	fputs(term_style(t, "off"), t->f);
	return narrow(t) ? term_columns(t, mark) : 11;
}

static void
print_line(const struct term *t, const struct line *l)
{
	const char *id = shown_id(t, l->id);
	char when[32], duration[32];
	int clock = narrow(t) ? 11 : 19;

	term_duration(t, (double)l->duration, duration, sizeof duration);
	fprintf(t->f, "%s%s%s %-*s ", term_style(t, "dim"), id, term_style(t, "off"), clock,
	    term_when(l->start, !narrow(t), when, sizeof when));
	term_pad(t, 7 - term_columns(t, duration));
	fprintf(t->f, "%s %5" PRId64 " %-7.7s ", duration, l->spans,
	    strcmp(l->state, "sampled_out") == 0 ? "sampled" : l->state);

	int room = t->width - (int)strlen(id) - clock - 24 - print_outcome(t, l);

	room = t->width == 0 ? -1 : room < 1 ? 1 : room;
	fputs(term_style(t, "bold"), t->f);

	bool job = l->workflow != NULL && l->workflow[0] != '\0';
	const char *what = job ? l->workflow : l->resource, *beside = job ? l->resource : l->root;
	int used = term_put(t, what, room);

	fputs(term_style(t, "off"), t->f);
	if (strcmp(what, beside) != 0 && (room < 0 || room - used > 12)) {
		fprintf(t->f, "  %s", term_style(t, "dim"));
		term_put(t, beside, room < 0 ? -1 : room - used - 2);
		fputs(term_style(t, "off"), t->f);
	}
	fputc('\n', t->f);
}

static void
print_head(const struct term *t)
{
	fprintf(t->f, "%s%-*s %-*s %7s %5s %-7s %-*s%s%s\n", term_style(t, "bold"),
	    narrow(t) ? 16 : 32, "trace", narrow(t) ? 11 : 19, "started", "took", "spans", "state",
	    narrow(t) ? 0 : 11, narrow(t) ? "" : "outcome",
	    narrow(t) ? "what" : "workflow, or request", term_style(t, "off"));
}

static int
print_lines(const struct term *t, char *body)
{
	char *save = NULL;
	int lines = 0;

	for (char *text = strtok_r(body, "\n", &save); text != NULL;
	     text = strtok_r(NULL, "\n", &save)) {
		json_t *o = cli_parse(text);
		struct line l;

		if (o == NULL)
			return CLI_FAILED;
		if (lines++ == 0)
			print_head(t);
		if (read_line(o, &l))
			print_line(t, &l);
		json_decref(o);
	}
	if (lines == 0)
		puts("no traces");
	return CLI_OK;
}

int
verb_traces(struct cli *c)
{
	struct term t = term_of(c, stdout);
	char query[640], target[680], *body = NULL;

	if (!filter_query(c, query, sizeof query))
		return CLI_USAGE;
	snprintf(target, sizeof target, "/traces%s", query);

	int rv = view_get(c, target, &body);

	if (rv != CLI_OK)
		return rv;
	if (c->json)
		fputs(body, stdout);
	else
		rv = print_lines(&t, body);
	free(body);
	return rv;
}
