/* comfy_graph.c - see comfy_graph.h */
#include "probe/python/comfy_graph.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NO_NODE UINT32_MAX

struct node {
	const char *id;
	size_t id_bytes;
	uint64_t class_hash, up, down;
	uint64_t sum;     /* of what has been mixed in so far */
	uint32_t waiting; /* links not yet mixed in */
	bool done;
};

struct link {
	uint32_t from, to;
	uint64_t label; /* of input name and slot */
};

struct graph {
	struct node *nodes;
	struct link *links;
	uint32_t *table; /* of ids, open addressing */
	uint32_t *queue;
	uint32_t *first; /* of a node's links, in order[] */
	uint32_t *order;
	size_t node_cap, node_count, link_cap, link_count, table_size;
	bool too_large;
};

static uint64_t
mix(uint64_t h)
{
	h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdull;
	h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53ull;
	return h ^ (h >> 33);
}

static uint64_t
text_hash(const char *s, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ull;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
	return mix(h ^ n);
}

struct graph *
graph_new(size_t nodes)
{
	struct graph *g = nodes <= GRAPH_NODES_MAX ? calloc(1, sizeof *g) : NULL;
	if (g == NULL)
		return NULL;
	g->node_cap = nodes;
	g->table_size = 16;
	while (g->table_size < 2 * nodes)
		g->table_size *= 2;
	g->nodes = calloc(nodes + 1, sizeof *g->nodes);
	g->table = malloc(g->table_size * sizeof *g->table);
	g->queue = calloc(nodes + 1, sizeof *g->queue);
	g->first = calloc(nodes + 2, sizeof *g->first);
	if (g->nodes == NULL || g->table == NULL || g->queue == NULL || g->first == NULL) {
		graph_free(g);
		return NULL;
	}
	memset(g->table, 0xff, g->table_size * sizeof *g->table);
	return g;
}

void
graph_free(struct graph *g)
{
	if (g == NULL)
		return;
	free(g->nodes);
	free(g->links);
	free(g->table);
	free(g->queue);
	free(g->first);
	free(g->order);
	free(g);
}

/* The place of an id in the table: taken by it, or free. */
static uint32_t *
place_of(const struct graph *g, const char *id, size_t n)
{
	size_t at = text_hash(id, n) & (g->table_size - 1);
	for (; g->table[at] != NO_NODE; at = (at + 1) & (g->table_size - 1)) {
		const struct node *node = &g->nodes[g->table[at]];
		if (node->id_bytes == n && memcmp(node->id, id, n) == 0)
			break;
	}
	return &g->table[at];
}

void
graph_node(
    struct graph *g, const char *id, size_t id_bytes, const char *class_type, size_t class_bytes)
{
	if (g->node_count == g->node_cap) {
		g->too_large = true;
		return;
	}
	uint32_t *place = place_of(g, id, id_bytes);
	struct node *node = &g->nodes[g->node_count];
	node->id = id;
	node->id_bytes = id_bytes;
	node->class_hash = text_hash(class_type, class_bytes);
	if (*place == NO_NODE)
		*place = (uint32_t)g->node_count;
	g->node_count++;
}

static bool
grow_links(struct graph *g)
{
	size_t cap = g->link_cap == 0 ? 256 : g->link_cap * 2;
	struct link *links = cap <= GRAPH_LINKS_MAX ? realloc(g->links, cap * sizeof *links) : NULL;
	if (links == NULL)
		return false;
	g->links = links;
	g->link_cap = cap;
	return true;
}

void
graph_link(struct graph *g, size_t to, const char *input, size_t input_bytes, const char *from,
    size_t from_bytes, int64_t slot)
{
	if (to >= g->node_count)
		return;
	if (g->link_count == g->link_cap && !grow_links(g)) {
		g->too_large = true;
		return;
	}
	g->links[g->link_count++] = (struct link){ .from = *place_of(g, from, from_bytes),
		.to = (uint32_t)to,
		.label = mix(text_hash(input, input_bytes) + (uint64_t)slot) };
}

static uint32_t
end_of(const struct link *l, bool up)
{
	return up ? l->from : l->to;
}

/* Group the links by the node that they bring a value from (going up) or to (going down). */
static void
group(struct graph *g, bool up)
{
	memset(g->first, 0, (g->node_count + 2) * sizeof *g->first);
	for (size_t i = 0; i < g->link_count; i++)
		if (g->links[i].from != NO_NODE)
			g->first[end_of(&g->links[i], up) + 2]++;
	for (size_t n = 2; n < g->node_count + 2; n++)
		g->first[n] += g->first[n - 1];
	for (size_t i = 0; i < g->link_count; i++)
		if (g->links[i].from != NO_NODE)
			g->order[g->first[end_of(&g->links[i], up) + 1]++] = (uint32_t)i;
}

/* One pass in the order of the links, or against it. */
static void
pass(struct graph *g, bool up)
{
	size_t head = 0, tail = 0;
	group(g, up);
	for (size_t n = 0; n < g->node_count; n++) {
		g->nodes[n].sum = g->nodes[n].waiting = 0;
		g->nodes[n].done = false;
	}
	for (size_t i = 0; i < g->link_count; i++) {
		const struct link *l = &g->links[i];
		if (l->from == NO_NODE)
			g->nodes[l->to].sum += up ? mix(l->label ^ mix(text_hash("", 0))) : 0;
		else
			g->nodes[end_of(l, !up)].waiting++;
	}
	for (size_t n = 0; n < g->node_count; n++)
		if (g->nodes[n].waiting == 0)
			g->queue[tail++] = (uint32_t)n;
	while (head < tail) {
		uint32_t n = g->queue[head++];
		struct node *node = &g->nodes[n];
		uint64_t *value = up ? &node->up : &node->down;
		*value = mix((up ? node->class_hash : node->up) + 3 * node->sum);
		node->done = true;
		for (uint32_t i = g->first[n]; i < g->first[n + 1]; i++) {
			const struct link *l = &g->links[g->order[i]];
			struct node *next = &g->nodes[end_of(l, !up)];
			next->sum += mix(l->label ^ mix(*value));
			if (--next->waiting == 0)
				g->queue[tail++] = (uint32_t)(next - g->nodes);
		}
	}
	for (size_t n = 0; n < g->node_count; n++)
		if (!g->nodes[n].done)
			*(up ? &g->nodes[n].up : &g->nodes[n].down) = mix(~g->nodes[n].class_hash);
}

uint64_t
graph_hash(struct graph *g)
{
	uint64_t sum = 0;
	g->order = g->order != NULL ? g->order : calloc(g->link_count + 1, sizeof *g->order);
	if (g->too_large || g->order == NULL)
		return 0;
	pass(g, true);
	pass(g, false);
	for (size_t n = 0; n < g->node_count; n++)
		sum += mix(g->nodes[n].down);
	sum = mix(sum ^ g->node_count);
	return sum != 0 ? sum : 1;
}
