/*
 * output_test.c - the tail of the output.
 */
#include "agent/supervisor/output.h"
#include "tests/t.h"

static struct tail tail;
static char text[OUTPUT_TAIL_BYTES];

TEST(keeps_all_of_a_short_output)
{
	memset(&tail, 0, sizeof tail);
	tail_add(&tail, "one\n", 4);
	tail_add(&tail, "two", 3);
	CHECK_EQ(tail_text(&tail, text, sizeof text), 7);
	CHECK(memcmp(text, "one\ntwo", 7) == 0);
}

TEST(keeps_the_newest_whole_lines_of_a_long_one)
{
	char line[64];
	size_t n;

	memset(&tail, 0, sizeof tail);
	for (int i = 0; i < 5000; i++)
		tail_add(&tail, line,
		    (size_t)snprintf(line, sizeof line, "this is line number %d\n", i));
	n = tail_text(&tail, text, sizeof text);
	CHECK(n <= OUTPUT_TAIL_BYTES && n > OUTPUT_TAIL_BYTES - 64);
	CHECK(memcmp(text, "this is line number ", 20) == 0);
	CHECK(memcmp(text + n - 5, "4999\n", 5) == 0);
}

TEST(keeps_the_end_of_one_line_without_an_end)
{
	static char big[3 * OUTPUT_TAIL_BYTES];

	memset(&tail, 0, sizeof tail);
	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '!';
	tail_add(&tail, "begin", 5);
	tail_add(&tail, big, sizeof big);
	CHECK_EQ(tail_text(&tail, text, sizeof text), OUTPUT_TAIL_BYTES);
	CHECK_EQ(text[OUTPUT_TAIL_BYTES - 1], '!');
}

int
main(void)
{
	RUN(keeps_all_of_a_short_output);
	RUN(keeps_the_newest_whole_lines_of_a_long_one);
	RUN(keeps_the_end_of_one_line_without_an_end);
	return t_done();
}
