/* Ids that a client chose. */
#include "probe/python/comfy_ids.h"

#include <string.h>

#include "tests/t.h"

static const char *
prompt_id(const char *s)
{
	static char out[COMFY_ID_BYTES];
	CHECK_EQ(comfy_prompt_id(s, strlen(s), out), strlen(out));
	return out;
}

static const char *
node_id(const char *s)
{
	static char out[COMFY_ID_BYTES];
	CHECK_EQ(comfy_node_id(s, strlen(s), out), strlen(out));
	return out;
}

TEST(a_uuid_goes_as_it_is)
{
	CHECK_STR(prompt_id("0f8fad5b-d9cb-469f-a165-70867728950e"),
	    "0f8fad5b-d9cb-469f-a165-70867728950e");
	CHECK_STR(prompt_id("0F8FAD5B-D9CB-469F-A165-70867728950E"),
	    "0F8FAD5B-D9CB-469F-A165-70867728950E");
}

TEST(anything_else_goes_as_its_hash)
{
	static const char *const others[] = { "", "mine", "0f8fad5b-d9cb-469f-a165-70867728950",
		"0f8fad5b-d9cb-469f-a165-70867728950g", "0f8fad5bxd9cb-469f-a165-70867728950e",
		"0f8fad5b-d9cb-469f-a165-70867728950e0" };
	char first[COMFY_ID_BYTES];
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		CHECK_EQ(strlen(prompt_id(others[i])), 16);
		CHECK(strcmp(prompt_id(others[i]), others[i]) != 0);
	}
	strcpy(first, prompt_id("mine"));
	CHECK_STR(prompt_id("mine"), first);
	CHECK(strcmp(prompt_id("yours"), first) != 0);
}

TEST(a_node_id_that_looks_like_one_goes_as_it_is)
{
	CHECK_STR(node_id("12"), "12");
	CHECK_STR(node_id("2.0.0.1"), "2.0.0.1");
	CHECK_STR(node_id("57:12"), "57:12");
	CHECK_EQ(strlen(node_id("a tall woman")), 16);
	CHECK_EQ(strlen(node_id("")), 16);
	CHECK_EQ(strlen(node_id("caf\xc3\xa9")), 16);
	CHECK_EQ(
	    strlen(node_id("0123456789012345678901234567890123456789012345678901234567890123")),
	    64);
	CHECK_EQ(
	    strlen(node_id("01234567890123456789012345678901234567890123456789012345678901234")),
	    16);
}

int
main(void)
{
	RUN(a_uuid_goes_as_it_is);
	RUN(anything_else_goes_as_its_hash);
	RUN(a_node_id_that_looks_like_one_goes_as_it_is);
	return t_done();
}
