/*
 * shape.c - hash of a graph's shape.  See shape.h
 */
#include "probe/python/shape.h"

#include <stdlib.h>
#include <string.h>

struct edge {
	uint32_t from, next; /* next edge of the same node + 1, 0 none */
	uint64_t name, slot;
};

struct vertex {
	uint64_t class, hash;
	uint32_t edges, at; /* first edge + 1; the one that is being followed + 1 */
	uint32_t above;     /* who asked for it + 1 */
	uint32_t uses;      /* inputs that it feeds */
	enum { VERTEX_NEW, VERTEX_ASKED, VERTEX_DONE } state;
};

struct shape {
	uint32_t node_count, edge_count, edge_cap;
	struct vertex *nodes;
	struct edge *edges;
};

/* Finaliser of splitmix64: every bit of the input reaches every bit of the output. */
static uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

uint64_t
shape_text(const char *s, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
	return mix(h);
}

struct shape *
shape_new(uint32_t nodes, uint32_t links)
{
	struct shape *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->nodes = calloc(nodes > 0 ? nodes : 1, sizeof *s->nodes);
	s->edges = calloc(links > 0 ? links : 1, sizeof *s->edges);
	s->node_count = nodes;
	s->edge_cap = links;
	if (s->nodes == NULL || s->edges == NULL) {
		shape_free(s);
		return NULL;
	}
	return s;
}

void
shape_free(struct shape *s)
{
	if (s == NULL)
		return;
	free(s->nodes);
	free(s->edges);
	free(s);
}

void
shape_node(struct shape *s, uint32_t node, const char *class, size_t n)
{
	if (node < s->node_count)
		s->nodes[node].class = shape_text(class, n);
}

void
shape_link(struct shape *s, uint32_t to, const char *name, size_t n, uint32_t from, uint64_t slot)
{
	if (to >= s->node_count || from >= s->node_count || s->edge_count == s->edge_cap)
		return;
	s->edges[s->edge_count] =
	    (struct edge){ from, s->nodes[to].edges, shape_text(name, n), slot };
	s->nodes[to].edges = ++s->edge_count;
	s->nodes[from].uses++;
}

/* All its sources have a hash, or are on the way to it themselves. */
static void
settle(struct shape *s, struct vertex *v)
{
	uint64_t sum = v->class;

	for (uint32_t e = v->edges; e != 0; e = s->edges[e - 1].next) {
		const struct edge *edge = &s->edges[e - 1];
		const struct vertex *from = &s->nodes[edge->from];
		uint64_t source = from->state == VERTEX_DONE ? from->hash : from->class;

		sum += mix(edge->name ^ mix(source + mix(edge->slot)));
	}
	v->hash = mix(sum);
	v->state = VERTEX_DONE;
}

/* Depth first, without recursion: a chain may be long. */
static void
visit(struct shape *s, uint32_t start)
{
	uint32_t at = start + 1, depth = 1;

	s->nodes[start].state = VERTEX_ASKED;
	s->nodes[start].at = s->nodes[start].edges;
	s->nodes[start].above = 0;
	while (at != 0) {
		struct vertex *v = &s->nodes[at - 1];

		if (v->at == 0) {
			settle(s, v);
			at = v->above;
			depth--;
			continue;
		}

		const struct edge *edge = &s->edges[v->at - 1];
		struct vertex *from = &s->nodes[edge->from];

		v->at = edge->next;
		if (from->state != VERTEX_NEW || depth >= SHAPE_DEPTH_MAX)
			continue;
		from->state = VERTEX_ASKED;
		from->at = from->edges;
		from->above = at;
		at = edge->from + 1;
		depth++;
	}
}

uint64_t
shape_hash(struct shape *s)
{
	uint64_t sum = s->node_count;

	for (uint32_t i = 0; i < s->node_count; i++) {
		if (s->nodes[i].state == VERTEX_NEW)
			visit(s, i);
		sum += mix(s->nodes[i].hash + s->nodes[i].uses);
	}
	return mix(sum);
}

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool
shape_is_uuid(const char *s, size_t n)
{
	if (n != 36)
		return false;
	for (size_t i = 0; i < n; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? s[i] != '-' : !is_hex(s[i]))
			return false;
	return true;
}

bool
shape_is_identifier(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z');

		if (!letter && !(s[i] >= '0' && s[i] <= '9') && strchr("-_.", s[i]) == NULL)
			return false;
	}
	return n > 0 && n <= 64;
}
