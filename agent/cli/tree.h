/*
 * tree.h - the spans of one trace as a forest, whatever their parents say: a
 * span without its parent is a root, a ring of parents is cut once.  Pure; the
 * JSON must outlive it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tree_node {
	json_t *span;
	const char *id, *parent, *name, *resource;
	const char *error_type, *error_message;
	int64_t start, duration;
	bool error, unfinished, open;
	bool cut; /* its parents form a ring */

	struct tree_node *up, *child, *next; /* children in order of start */
	size_t children;                     /* directly below */
	size_t below;                        /* all below */
	size_t errors;                       /* of itself and all below */
	int depth;
	bool shown; /* for who draws */
};

struct tree {
	struct tree_node *nodes; /* by start */
	size_t count, errors, unfinished, open;
	struct tree_node *roots;
	size_t root_count;
	int64_t start, end;
};

/* False when memory is short.  Free it in either case. */
bool tree_build(struct tree *t, json_t *spans);
void tree_free(struct tree *t);
