/*
 * shape.h - the hash of a graph's shape, and ids that may be sent.
 *
 * libc only; no state.  The shape is what nodes are (class) and which input of
 * which is fed by which output of which: no ids, no order, no values.  So the
 * same workflow has the same hash on every machine, whatever numbers its nodes
 * were given, and a changed seed or prompt text changes nothing.
 *
 * The hash of a node is made of its class and of (input name, hash of the
 * source, output number) of its links, added up, so their order is of no
 * account; the hash of the graph is the sum over its nodes, each with the
 * number of inputs that it feeds.  A node in a cycle,
 * or more than SHAPE_DEPTH_MAX links below the first that asks, counts by
 * its class alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHAPE_DEPTH_MAX 10000u

struct shape; /* one graph being described */

struct shape *shape_new(uint32_t nodes, uint32_t links); /* NULL: no memory */
void shape_free(struct shape *s);                        /* NULL is fine */
/* Node `node` (0 to nodes - 1) is of this class. */
void shape_node(struct shape *s, uint32_t node, const char *class, size_t n);
/* Input `name` of node `to` comes from output `slot` of node `from`. Beyond `links`: ignored. */
void shape_link(
    struct shape *s, uint32_t to, const char *name, size_t n, uint32_t from, uint64_t slot);
uint64_t shape_hash(struct shape *s);

/* FNV-1a over the bytes, mixed. */
uint64_t shape_text(const char *s, size_t n);

/* 8-4-4-4-12 hex digits. */
bool shape_is_uuid(const char *s, size_t n);
/* Letters, digits, '-', '_', '.', at most 64: an id that a program made, nothing that was typed. */
bool shape_is_identifier(const char *s, size_t n);
