/*
 * Where our memory is accounted, from texts as kernels, engines and systemd
 * give them; the tail of the output.
 */
#include "agent/supervisor/cgroup.h"
#include "agent/supervisor/output.h"
#include "tests/t.h"

static const char hybrid[] =
    "24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "31 24 0:27 / /sys/fs/cgroup/cpuset rw shared:3 - cgroup cgroup rw,cpuset\n"
    "32 24 0:28 / /sys/fs/cgroup/memory rw,relatime shared:4 master:2 - cgroup cgroup rw,memory\n"
    "33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
static const char hybrid_groups[] = "4:memory:/svc/a\n3:cpuset:/\n0::/x\n";
static const char unified[] =
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
static const char container[] =
    "700 650 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

TEST(finds_the_memory_hierarchy_of_version_1_and_the_unified_one)
{
	char dir[200];

	CHECK_EQ(cgroup_find(hybrid, hybrid_groups, 1, dir, sizeof dir), E_OK);
	CHECK_STR(dir, "/sys/fs/cgroup/memory/svc/a");
	CHECK_EQ(cgroup_find(hybrid, hybrid_groups, 2, dir, sizeof dir), E_OK);
	CHECK_STR(dir, "/sys/fs/cgroup/unified/x");
	CHECK_EQ(cgroup_find(unified, "0::/user.slice/u.service\n", 2, dir, sizeof dir), E_OK);
	CHECK_STR(dir, "/sys/fs/cgroup/user.slice/u.service");
	CHECK_EQ(cgroup_find(unified, "0::/\n", 2, dir, sizeof dir), E_OK);
	CHECK_STR(dir, "/sys/fs/cgroup");
}

TEST(takes_off_the_part_of_the_path_that_a_container_does_not_see)
{
	char dir[200];

	CHECK_EQ(cgroup_find(container, "5:memory:/docker/abc/run\n", 1, dir, sizeof dir), E_OK);
	CHECK_STR(dir, "/sys/fs/cgroup/memory/run");
	CHECK_EQ(cgroup_find(container, "5:memory:/docker/abc\n", 1, dir, sizeof dir), E_OK);
	CHECK_STR(dir, "/sys/fs/cgroup/memory");
	CHECK_EQ(cgroup_find(container, "5:memory:/elsewhere\n", 1, dir, sizeof dir), E_OK);
	CHECK_STR(dir, "/sys/fs/cgroup/memory");
}

TEST(says_when_there_is_none_and_when_there_is_no_room)
{
	char dir[200], small[10];

	CHECK_EQ(cgroup_find(unified, "0::/\n", 1, dir, sizeof dir), E_NOTFOUND);
	CHECK_EQ(cgroup_find("", "", 2, dir, sizeof dir), E_NOTFOUND);
	CHECK_EQ(
	    cgroup_find("garbage - \n\n - cgroup", "x\n:\n::", 1, dir, sizeof dir), E_NOTFOUND);
	CHECK_EQ(cgroup_find(hybrid, hybrid_groups, 1, small, sizeof small), E_FULL);
}

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
	RUN(finds_the_memory_hierarchy_of_version_1_and_the_unified_one);
	RUN(takes_off_the_part_of_the_path_that_a_container_does_not_see);
	RUN(says_when_there_is_none_and_when_there_is_no_room);
	RUN(keeps_all_of_a_short_output);
	RUN(keeps_the_newest_whole_lines_of_a_long_one);
	RUN(keeps_the_end_of_one_line_without_an_end);
	return t_done();
}
