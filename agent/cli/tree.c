/*
 * tree.c - `comfymon trace ID`: the tree of spans with a time bar each.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"

#define DEPTH_MAX 64
#define BAR_CELLS 24

struct node {
	const char *id, *parent, *name, *resource, *error_type, *error_message;
	json_int_t start, duration;
	bool error, unfinished, open, printed;
};

struct tree {
	struct node *nodes;
	size_t count;
	json_int_t start, end;
	struct term term;
};

static const char *
text_of(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static int
by_start(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static int
fill(struct tree *t, json_t *spans)
{
	size_t i;
	json_t *s;

	t->nodes = calloc(json_array_size(spans) + 1, sizeof t->nodes[0]);
	if (t->nodes == NULL)
		return CLI_FAILED;
	json_array_foreach(spans, i, s)
	{
		json_t *meta = json_object_get(s, "meta");
		struct node *n = &t->nodes[t->count++];

		n->id = text_of(s, "span_id");
		n->parent = text_of(s, "parent_id");
		n->name = text_of(s, "name");
		n->resource = text_of(s, "resource");
		n->start = json_integer_value(json_object_get(s, "start_ns"));
		n->duration = json_integer_value(json_object_get(s, "duration_ns"));
		n->error = json_integer_value(json_object_get(s, "error")) != 0;
		n->open = json_is_true(json_object_get(s, "open"));
		n->error_type = text_of(meta, "error.type");
		n->error_message = text_of(meta, "error.message");
		n->unfinished = text_of(meta, "comfymon.unfinished")[0] != '\0';
		if (t->count == 1 || n->start < t->start)
			t->start = n->start;
		if (t->count == 1 || n->start + n->duration > t->end)
			t->end = n->start + n->duration;
	}
	qsort(t->nodes, t->count, sizeof t->nodes[0], by_start);
	return CLI_OK;
}

static void
print_bar(const struct tree *t, const struct node *n)
{
	double whole = (double)(t->end - t->start);
	int from = 0, to = BAR_CELLS;

	if (whole > 0) {
		from = (int)((double)(n->start - t->start) / whole * BAR_CELLS);
		to = (int)((double)(n->start + n->duration - t->start) / whole * BAR_CELLS + 0.999);
	}
	if (from >= BAR_CELLS)
		from = BAR_CELLS - 1;
	if (to <= from)
		to = from + 1;
	putchar('|');
	fputs(term_style(&t->term, n->error ? "red" : "cyan"), stdout);
	for (int i = 0; i < BAR_CELLS; i++)
		fputs(i >= from && i < to ? "█" : " ", stdout);
	fputs(term_style(&t->term, "off"), stdout);
	putchar('|');
}

/* Columns of a UTF-8 text, near enough: its characters. */
static int
columns(const char *s)
{
	int n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void
print_node(const struct tree *t, const struct node *n, const char *prefix, const char *branch)
{
	char duration[32], left[400];
	int width = t->term.width > 0 ? t->term.width - BAR_CELLS - 16 : 84;

	snprintf(left, sizeof left, "%s%s%s %s", prefix, branch, n->name,
	    strcmp(n->name, n->resource) == 0 ? "" : n->resource);
	term_duration((double)n->duration, duration, sizeof duration);
	printf("%s", left);
	for (int i = columns(left); i < width; i++)
		putchar(' ');
	print_bar(t, n);
	printf(" %9s%s\n", duration, n->open ? " open" : "");
	if (n->error)
		printf("%s%s    %s%s%s%s%s%s\n", prefix, branch[0] != '\0' ? "   " : "",
		    term_style(&t->term, "red"), n->unfinished ? "unfinished: " : "error: ",
		    n->error_type[0] != '\0' ? n->error_type : "unknown",
		    n->error_message[0] != '\0' ? ": " : "", n->error_message,
		    term_style(&t->term, "off"));
}

static bool
is_child(const struct node *n, const char *parent)
{
	return !n->printed && strcmp(n->parent, parent) == 0;
}

static void
print_children(struct tree *t, const char *parent, const char *prefix, int depth)
{
	size_t last = t->count;

	for (size_t i = 0; i < t->count; i++)
		if (is_child(&t->nodes[i], parent))
			last = i;
	for (size_t i = 0; i < t->count && last < t->count; i++) {
		char deeper[4 * DEPTH_MAX * 3 + 8];

		if (!is_child(&t->nodes[i], parent))
			continue;
		t->nodes[i].printed = true;
		print_node(t, &t->nodes[i], prefix, i == last ? "└─ " : "├─ ");
		snprintf(deeper, sizeof deeper, "%s%s", prefix, i == last ? "   " : "│  ");
		if (depth < DEPTH_MAX)
			print_children(t, t->nodes[i].id, deeper, depth + 1);
		if (i == last)
			break;
	}
}

static bool
has_parent_here(const struct tree *t, const struct node *n)
{
	for (size_t i = 0; i < t->count; i++)
		if (&t->nodes[i] != n && strcmp(t->nodes[i].id, n->parent) == 0)
			return true;
	return false;
}

static void
print_tree(struct tree *t, json_t *root)
{
	printf("trace %s  %s  %zu spans\n", text_of(root, "trace_id"), text_of(root, "state"),
	    t->count);
	for (size_t i = 0; i < t->count; i++) {
		if (t->nodes[i].printed || has_parent_here(t, &t->nodes[i]))
			continue;
		t->nodes[i].printed = true;
		print_node(t, &t->nodes[i], "", "");
		print_children(t, t->nodes[i].id, "", 0);
	}
	/* A cycle of parents has no root: show its spans all the same. */
	for (size_t i = 0; i < t->count; i++)
		if (!t->nodes[i].printed)
			print_node(t, &t->nodes[i], "", "? ");
}

int
verb_trace(struct cli *c)
{
	struct tree t = { .term = term_of(c, stdout) };
	char target[80], *body = NULL;
	json_error_t e;

	if (strlen(c->argument) > 32) {
		fputs("comfymon: expected a trace id of 16 or 32 hex digits\n", stderr);
		return CLI_USAGE;
	}
	snprintf(target, sizeof target, "/trace/%s", c->argument);

	int rv = view_get(c, target, &body);

	if (rv != CLI_OK)
		return rv;

	json_t *root = json_loads(body, 0, &e);

	if (root == NULL) {
		fprintf(stderr, "comfymon: the agent's answer is no JSON: %s\n", e.text);
		rv = CLI_FAILED;
	} else if (c->json) {
		puts(body);
	} else if ((rv = fill(&t, json_object_get(root, "spans"))) == CLI_OK) {
		print_tree(&t, root);
	}
	free(t.nodes);
	json_decref(root);
	free(body);
	return rv;
}
