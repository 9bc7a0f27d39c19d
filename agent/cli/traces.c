/*
 * traces.c - `comfymon traces`: a line each, newest first.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/cli/cli.h"
#include "agent/cli/offline.h"

static void
print_line(const struct term *t, json_t *o)
{
	const char *state = json_string_value(json_object_get(o, "state"));
	const char *root = json_string_value(json_object_get(o, "root"));
	const char *resource = json_string_value(json_object_get(o, "resource"));
	const char *id = json_string_value(json_object_get(o, "trace_id"));
	bool error = json_integer_value(json_object_get(o, "error")) != 0;
	bool unfinished = json_is_true(json_object_get(o, "unfinished"));
	json_int_t start = json_integer_value(json_object_get(o, "start_ns"));
	char when[32] = "", duration[32];
	time_t seconds = (time_t)(start / 1000000000);
	struct tm tm;

	if (state == NULL || root == NULL || resource == NULL || id == NULL)
		return;
	if (localtime_r(&seconds, &tm) != NULL)
		strftime(when, sizeof when, "%m-%d %H:%M:%S", &tm);
	term_duration((double)json_integer_value(json_object_get(o, "duration_ns")), duration,
	    sizeof duration);
	printf("%s%s%s  %s  %9s %5" JSON_INTEGER_FORMAT "  %-11s %s%s%s%s  %s %s\n",
	    term_style(t, "dim"), id, term_style(t, "off"), when, duration,
	    json_integer_value(json_object_get(o, "spans")), state,
	    term_style(t, error ? "red" : "green"), error ? "error" : "ok   ", term_style(t, "off"),
	    unfinished ? " unfinished" : "", root, resource);
}

static int
print_lines(const struct term *t, char *body)
{
	char *save = NULL;
	json_error_t e;
	int lines = 0;

	for (char *line = strtok_r(body, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		json_t *o = json_loads(line, 0, &e);

		if (o == NULL) {
			fprintf(stderr, "comfymon: a line of the answer is no JSON: %s\n", e.text);
			return CLI_FAILED;
		}
		if (lines++ == 0)
			printf("%s%-32s  %-14s  %9s %5s  %-11s %-5s  %s%s\n", term_style(t, "bold"),
			    "trace", "started", "duration", "spans", "state", "", "root",
			    term_style(t, "off"));
		print_line(t, o);
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
