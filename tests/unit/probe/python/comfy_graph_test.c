/* The hash of a workflow's shape. */
#include "probe/python/comfy_graph.h"

#include <string.h>

#include "tests/t.h"

struct node_of {
	const char *id, *class_type;
};
struct link_of {
	const char *to, *input, *from;
	int64_t slot;
};

static uint64_t
hashed(const struct node_of *nodes, size_t n, const struct link_of *links, size_t m)
{
	struct graph *g = graph_new(n);
	for (size_t i = 0; i < n; i++)
		graph_node(g, nodes[i].id, strlen(nodes[i].id), nodes[i].class_type,
		    strlen(nodes[i].class_type));
	for (size_t k = 0; k < m; k++)
		for (size_t i = 0; i < n; i++)
			if (strcmp(nodes[i].id, links[k].to) == 0)
				graph_link(g, i, links[k].input, strlen(links[k].input),
				    links[k].from, strlen(links[k].from), links[k].slot);
	uint64_t h = graph_hash(g);
	graph_free(g);
	return h;
}

#define HASH(nodes, links) \
	hashed(nodes, sizeof(nodes) / sizeof *(nodes), links, sizeof(links) / sizeof *(links))

static const struct node_of chain[] = { { "1", "Load" }, { "2", "Blur" }, { "3", "Save" } };
static const struct link_of chain_links[] = { { "2", "image", "1", 0 }, { "3", "image", "2", 0 } };

TEST(is_the_same_for_other_ids_and_another_order)
{
	static const struct node_of other[] = { { "c", "Save" }, { "a", "Load" }, { "b", "Blur" } };
	static const struct link_of links[] = { { "c", "image", "b", 0 },
		{ "b", "image", "a", 0 } };
	CHECK(HASH(chain, chain_links) != 0);
	CHECK_EQ(HASH(chain, chain_links), HASH(other, links));
}

TEST(is_this_number_on_every_machine)
{
	CHECK_EQ(HASH(chain, chain_links), 13885303121290201140ull);
}

TEST(differs_by_class_slot_and_input)
{
	static const struct node_of class[] = { { "1", "Load" }, { "2", "Edge" }, { "3", "Save" } };
	static const struct link_of slot[] = { { "2", "image", "1", 1 }, { "3", "image", "2", 0 } };
	static const struct link_of input[] = { { "2", "mask", "1", 0 }, { "3", "image", "2", 0 } };
	uint64_t h = HASH(chain, chain_links);
	CHECK(h != HASH(class, chain_links));
	CHECK(h != HASH(chain, slot));
	CHECK(h != HASH(chain, input));
}

TEST(tells_one_source_of_two_from_two_sources)
{
	static const struct node_of nodes[] = { { "1", "Load" }, { "2", "Load" }, { "3", "Blur" },
		{ "4", "Edge" } };
	static const struct link_of one[] = { { "3", "image", "1", 0 }, { "4", "image", "1", 0 } };
	static const struct link_of two[] = { { "3", "image", "1", 0 }, { "4", "image", "2", 0 } };
	CHECK(HASH(nodes, one) != HASH(nodes, two));
}

TEST(survives_cycles_dangling_links_and_repeated_ids)
{
	static const struct node_of nodes[] = { { "1", "A" }, { "2", "B" }, { "2", "C" } };
	static const struct link_of cycle[] = { { "1", "x", "2", 0 }, { "2", "x", "1", 0 } };
	static const struct link_of self[] = { { "1", "x", "1", 0 } };
	static const struct link_of nowhere[] = { { "1", "x", "9", 0 } };
	CHECK(HASH(nodes, cycle) != 0);
	CHECK(HASH(nodes, self) != 0);
	CHECK(HASH(nodes, nowhere) != 0);
	CHECK(HASH(nodes, nowhere) != HASH(nodes, self));
	CHECK(hashed(nodes, 0, NULL, 0) != 0);
}

TEST(refuses_what_is_too_large)
{
	struct graph *g = graph_new(1);
	CHECK(graph_new(GRAPH_NODES_MAX + 1) == NULL);
	graph_node(g, "1", 1, "A", 1);
	graph_node(g, "2", 1, "A", 1);
	CHECK_EQ(graph_hash(g), 0);
	graph_free(g);
	g = graph_new(1);
	graph_node(g, "1", 1, "A", 1);
	for (size_t i = 0; i <= GRAPH_LINKS_MAX; i++)
		graph_link(g, 0, "x", 1, "1", 1, 0);
	CHECK_EQ(graph_hash(g), 0);
	graph_free(g);
}

int
main(void)
{
	RUN(is_the_same_for_other_ids_and_another_order);
	RUN(is_this_number_on_every_machine);
	RUN(differs_by_class_slot_and_input);
	RUN(tells_one_source_of_two_from_two_sources);
	RUN(survives_cycles_dangling_links_and_repeated_ids);
	RUN(refuses_what_is_too_large);
	return t_done();
}
