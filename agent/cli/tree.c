/*
 * tree.c - a forest out of spans, in O(n log n): sort by start, find parents in
 * a sorted index, cut rings, link children, add up from the leaves.
 */
#include "agent/cli/tree.h"
#include "agent/cli/members.h"

#include <stdlib.h>
#include <string.h>

static void
read_span(struct tree_node *n, json_t *s)
{
	json_t *meta = json_object_get(s, "meta");

	n->span = s;
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
}

/* At the same start the longer one first: it is more likely the parent. */
static int
by_start(const void *a, const void *b)
{
	const struct tree_node *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->duration < y->duration) - (x->duration > y->duration);
}

static int
by_id(const void *a, const void *b)
{
	return strcmp((*(struct tree_node *const *)a)->id, (*(struct tree_node *const *)b)->id);
}

static int
id_against(const void *id, const void *node)
{
	return strcmp(id, (*(struct tree_node *const *)node)->id);
}

static bool
find_parents(struct tree *t)
{
	struct tree_node **index = malloc((t->count + 1) * sizeof index[0]);

	if (index == NULL)
		return false;
	for (size_t i = 0; i < t->count; i++)
		index[i] = &t->nodes[i];
	qsort(index, t->count, sizeof index[0], by_id);
	for (size_t i = 0; i < t->count; i++) {
		struct tree_node *n = &t->nodes[i], **up = bsearch(n->parent, index, t->count,
							sizeof index[0], id_against);

		if (up != NULL && *up != n)
			n->up = *up;
	}
	free(index);
	return true;
}

/* Walk up from each; who meets its own trail closes a ring. */
static bool
cut_rings(struct tree *t)
{
	uint32_t *trail = calloc(t->count + 1, sizeof trail[0]); /* who passed, 0 nobody */

	if (trail == NULL)
		return false;
	for (size_t i = 0; i < t->count; i++) {
		uint32_t me = (uint32_t)i + 1;
		struct tree_node *n = &t->nodes[i];

		while (n != NULL && trail[n - t->nodes] == 0) {
			trail[n - t->nodes] = me;
			if (n->up != NULL && trail[n->up - t->nodes] == me) {
				n->up = NULL;
				n->cut = true;
			}
			n = n->up;
		}
	}
	free(trail);
	return true;
}

/* From the last to the first, so that each list is in order of start. */
static void
link_children(struct tree *t)
{
	for (size_t i = t->count; i-- > 0;) {
		struct tree_node *n = &t->nodes[i];
		struct tree_node **list = n->up != NULL ? &n->up->child : &t->roots;

		n->next = *list;
		*list = n;
		if (n->up != NULL)
			n->up->children++;
		else
			t->root_count++;
	}
}

/* Parents before children, then the sums backwards. */
static bool
add_up(struct tree *t)
{
	struct tree_node **order = malloc((t->count + 1) * sizeof order[0]);
	size_t n = 0;

	if (order == NULL)
		return false;
	for (struct tree_node *r = t->roots; r != NULL; r = r->next)
		order[n++] = r;
	for (size_t i = 0; i < n; i++) {
		for (struct tree_node *c = order[i]->child; c != NULL; c = c->next) {
			c->depth = order[i]->depth + 1;
			order[n++] = c;
		}
	}
	for (size_t i = n; i-- > 0;) {
		struct tree_node *up = order[i]->up;

		order[i]->errors += order[i]->error;
		if (up != NULL) {
			up->below += order[i]->below + 1;
			up->errors += order[i]->errors;
		}
	}
	free(order);
	return true;
}

bool
tree_build(struct tree *t, json_t *spans)
{
	size_t i;
	json_t *s;

	memset(t, 0, sizeof *t);
	t->nodes = calloc(json_array_size(spans) + 1, sizeof t->nodes[0]);
	if (t->nodes == NULL || json_array_size(spans) >= UINT32_MAX)
		return false;
	json_array_foreach(spans, i, s)
	{
		struct tree_node *n = &t->nodes[t->count++];

		read_span(n, s);
		t->errors += n->error;
		t->unfinished += n->unfinished;
		t->open += n->open;
		if (t->count == 1 || n->start < t->start)
			t->start = n->start;
		if (t->count == 1 || n->start + n->duration > t->end)
			t->end = n->start + n->duration;
	}
	qsort(t->nodes, t->count, sizeof t->nodes[0], by_start);
	if (!find_parents(t) || !cut_rings(t))
		return false;
	link_children(t);
	return add_up(t);
}

void
tree_free(struct tree *t)
{
	free(t->nodes);
	memset(t, 0, sizeof *t);
}
