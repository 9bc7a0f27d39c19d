/*
 * The hash of a graph's shape: what must change it, and what must not.
 */
#include "probe/python/shape.h"

#include "probe/python/resident.h"
#include "tests/t.h"

struct edge {
	uint32_t to;
	const char *name;
	uint32_t from;
	uint64_t slot;
};

static uint64_t
hash_of(const char *const *classes, uint32_t nodes, const struct edge *edges, uint32_t links)
{
	struct shape *s = shape_new(nodes, links);
	uint64_t h;

	for (uint32_t i = 0; i < nodes; i++)
		shape_node(s, i, classes[i], strlen(classes[i]));
	for (uint32_t i = 0; i < links; i++)
		shape_link(s, edges[i].to, edges[i].name, strlen(edges[i].name), edges[i].from,
		    edges[i].slot);
	h = shape_hash(s);
	shape_free(s);
	return h;
}

static const char *const classes[] = { "Load", "Text", "Text", "Sample", "Save" };
static const struct edge edges[] = { { 1, "clip", 0, 1 }, { 2, "clip", 0, 1 },
	{ 3, "positive", 1, 0 }, { 3, "negative", 2, 0 }, { 3, "model", 0, 0 },
	{ 4, "images", 3, 0 } };

TEST(is_the_same_whatever_order_nodes_and_links_have)
{
	static const char *const other[] = { "Save", "Sample", "Text", "Load", "Text" };
	static const struct edge turned[] = { { 0, "images", 1, 0 }, { 1, "model", 3, 0 },
		{ 1, "negative", 4, 0 }, { 4, "clip", 3, 1 }, { 1, "positive", 2, 0 },
		{ 2, "clip", 3, 1 } };

	CHECK(hash_of(classes, 5, edges, 6) == hash_of(other, 5, turned, 6));
}

TEST(changes_with_a_class_a_link_its_input_its_output_and_a_node)
{
	uint64_t h = hash_of(classes, 5, edges, 6);
	const char *class[5];
	struct edge e[6];

	memcpy(class, classes, sizeof class);
	class[3] = "SampleCustom";
	CHECK(hash_of(class, 5, edges, 6) != h);
	CHECK(hash_of(classes, 5, edges, 5) != h);
	memcpy(e, edges, sizeof e);
	e[4].slot = 2;
	CHECK(hash_of(classes, 5, e, 6) != h);
	memcpy(e, edges, sizeof e);
	e[4].name = "unet";
	CHECK(hash_of(classes, 5, e, 6) != h);
	memcpy(e, edges, sizeof e);
	e[3].from = 1; /* both prompts from one text */
	CHECK(hash_of(classes, 5, e, 6) != h);
	CHECK(hash_of(classes, 4, edges, 5) != h);
}

TEST(tells_two_equal_branches_from_one)
{
	static const char *const twice[] = { "A", "A" };

	CHECK(hash_of(twice, 1, NULL, 0) != hash_of(twice, 2, NULL, 0));
}

TEST(ends_on_cycles_and_on_long_chains)
{
	static const char *const ring[] = { "A", "B" };
	static const struct edge round[] = { { 0, "x", 1, 0 }, { 1, "x", 0, 0 }, { 0, "y", 0, 0 } };
	enum { LONG = 3 * SHAPE_DEPTH_MAX };
	struct shape *s = shape_new(LONG, LONG);

	CHECK(hash_of(ring, 2, round, 3) != 0);
	for (uint32_t i = 0; i < LONG; i++) {
		shape_node(s, i, "N", 1);
		if (i > 0)
			shape_link(s, i - 1, "in", 2, i, 0);
	}
	CHECK(shape_hash(s) != 0);
	shape_free(s);
}

TEST(ignores_numbers_beyond_the_graph)
{
	struct shape *s = shape_new(1, 1);

	shape_node(s, 7, "X", 1);
	shape_link(s, 0, "a", 1, 9, 0);
	shape_link(s, 9, "a", 1, 0, 0);
	shape_link(s, 0, "a", 1, 0, 0);
	shape_link(s, 0, "b", 1, 0, 0); /* one more than it was made for */
	CHECK(shape_hash(s) != 0);
	shape_free(s);
	shape_free(NULL);
}

TEST(knows_uuids_and_identifiers)
{
	CHECK(shape_is_uuid("387d03ca-0bf0-459a-8454-40cd3899ad55", 36));
	CHECK(!shape_is_uuid("387d03ca-0bf0-459a-8454-40cd3899ad5", 35));
	CHECK(!shape_is_uuid("387d03ca-0bf0-459a-8454x40cd3899ad55", 36));
	CHECK(!shape_is_uuid("387d03cg-0bf0-459a-8454-40cd3899ad55", 36));
	CHECK(shape_is_identifier("job_12.a-B", 10));
	CHECK(!shape_is_identifier("", 0));
	CHECK(!shape_is_identifier("two words", 9));
	CHECK(!shape_is_identifier("../x", 4));
	CHECK(!shape_is_identifier(
	    "0123456789012345678901234567890123456789012345678901234567890123x", 65));
}

TEST(reads_what_is_resident)
{
	size_t n = 32u << 20;
	uint64_t before = resident_bytes();
	char *p = malloc(n);

	REQUIRE(p != NULL);
	memset(p, 1, n);
	CHECK(before > 0);
	CHECK(resident_bytes() >= before + n / 2 + (size_t)p[n / 2] - 1);
	free(p);
}

int
main(void)
{
	RUN(is_the_same_whatever_order_nodes_and_links_have);
	RUN(changes_with_a_class_a_link_its_input_its_output_and_a_node);
	RUN(tells_two_equal_branches_from_one);
	RUN(ends_on_cycles_and_on_long_chains);
	RUN(ignores_numbers_beyond_the_graph);
	RUN(knows_uuids_and_identifiers);
	RUN(reads_what_is_resident);
	return t_done();
}
