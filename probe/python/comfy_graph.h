/*
 * comfy_graph.h - a hash over the shape of a workflow: which classes of nodes,
 * linked how.  Not over values, node ids, or the order that nodes come in, so
 * the same workflow has the same hash on every machine.
 *
 * libc only; one thread at a time per graph.
 *
 * Defined as: up(n) mixes n's class with all (input name, output slot,
 * up(source)) of its links, as a multiset; down(n) mixes up(n) with all (input
 * name, output slot, down(consumer)) of the links that leave it; the hash mixes
 * the number of nodes with the multiset of all down(n).  What lies on a cycle,
 * or behind one, has up(n) and down(n) of its class alone.  A link to a node
 * that is not there is one to a node of the class "".
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GRAPH_NODES_MAX 65536u
#define GRAPH_LINKS_MAX 262144u

struct graph;

struct graph *graph_new(size_t nodes); /* NULL: too many, or out of memory */
void graph_free(struct graph *g);      /* NULL is fine */

/* The next node; `id` is borrowed until graph_free. Repeated ids: the first one counts. */
void graph_node(
    struct graph *g, const char *id, size_t id_bytes, const char *class_type, size_t class_bytes);
/* After all nodes: an input of the node number `to` takes output `slot` of the node `from`. */
void graph_link(struct graph *g, size_t to, const char *input, size_t input_bytes, const char *from,
    size_t from_bytes, int64_t slot);

/* 0 when the graph was too large. */
uint64_t graph_hash(struct graph *g);
