/*
 * cgroup_test.c - where memory is accounted, from texts as kernels, engines and
 * systemd give them.
 */
#include "agent/base/cgroup.h"
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

int
main(void)
{
	RUN(finds_the_memory_hierarchy_of_version_1_and_the_unified_one);
	RUN(takes_off_the_part_of_the_path_that_a_container_does_not_see);
	RUN(says_when_there_is_none_and_when_there_is_no_room);
	return t_done();
}
