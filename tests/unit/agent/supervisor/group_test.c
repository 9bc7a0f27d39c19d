/*
 * What a cgroup says, read from a folder that looks like one of version 2 or 1.
 */
#include "agent/supervisor/cgroup.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/t.h"

static char dir[] = "/tmp/group-test-XXXXXX";

static void
put_file(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void
get_file(const char *name, char *text, size_t cap)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	n = read(fd, text, cap - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
}

static struct cgroup
group(int version)
{
	struct cgroup g = { .version = version, .join_fd = -1 };

	snprintf(g.path, sizeof g.path, "%s", dir);
	return g;
}

TEST(reads_use_and_kills_of_version_2)
{
	struct cgroup g = group(2);
	struct cgroup_usage u;

	put_file("memory.current", "123456\n");
	put_file("memory.peak", "234567\n");
	put_file("memory.stat", "anon 100000\nfile 20000\nshmem 3000\n");
	put_file("memory.swap.current", "400\n");
	put_file("memory.events", "low 0\nhigh 3\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n");
	CHECK_EQ(cgroup_usage(&g, &u), E_OK);
	CHECK_EQ(u.current_bytes, 123456);
	CHECK_EQ(u.peak_bytes, 234567);
	CHECK_EQ(u.held_bytes, 103400);
	CHECK(cgroup_counts(&g).known);
	CHECK_EQ(cgroup_counts(&g).oom_kills, 1);
	CHECK_EQ(cgroup_counts(&g).limit_hits, 2);
}

TEST(reads_the_full_stall_and_not_some)
{
	struct cgroup g = group(2);
	uint64_t us = 0;

	put_file("memory.pressure", "some avg10=1.00 avg60=0.50 avg300=0.10 total=999999\n"
				    "full avg10=0.50 avg60=0.20 avg300=0.05 total=123456\n");
	CHECK_EQ(cgroup_full_stall(&g, &us), E_OK);
	CHECK_EQ(us, 123456);
	put_file("memory.pressure", "some avg10=1.00 avg60=0.50 avg300=0.10 total=999999\n");
	CHECK_EQ(cgroup_full_stall(&g, &us), E_STATE);
	put_file("memory.pressure", "full\n");
	CHECK_EQ(cgroup_full_stall(&g, &us), E_STATE);
	CHECK_EQ(us, 123456);
}

TEST(sets_and_lifts_memory_high)
{
	struct cgroup g = group(2), old = group(1);
	char text[64];

	put_file("memory.high", "");
	CHECK_EQ(cgroup_set_high(&g, 1 << 20), E_OK);
	get_file("memory.high", text, sizeof text);
	CHECK_STR(text, "1048576");
	put_file("memory.high", "");
	CHECK_EQ(cgroup_set_high(&g, 0), E_OK);
	get_file("memory.high", text, sizeof text);
	CHECK_STR(text, "max");
	CHECK_EQ(cgroup_set_high(&old, 1 << 20), E_STATE);
}

TEST(version_1_has_no_pressure_and_no_group_nothing)
{
	struct cgroup g = group(1);
	struct cgroup_usage u;
	char text[64];
	uint64_t us;

	put_file("memory.usage_in_bytes", "5\n");
	put_file("memory.stat", "rss 1\ntotal_rss 100\ntotal_shmem 20\ntotal_swap 3\n");
	put_file("memory.failcnt", "9\n");
	put_file("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
	CHECK_EQ(cgroup_usage(&g, &u), E_OK);
	CHECK_EQ(u.held_bytes, 123);
	CHECK_EQ(cgroup_counts(&g).oom_kills, 4);
	CHECK_EQ(cgroup_counts(&g).limit_hits, 9);
	put_file("memory.memsw.failcnt", "2\n");
	CHECK_EQ(cgroup_counts(&g).limit_hits, 11);
	put_file("memory.memsw.max_usage_in_bytes", "104857600\n");
	put_file("memory.memsw.limit_in_bytes", "104861696\n");
	CHECK_EQ(cgroup_counts(&g).limit_hits, 12);
	put_file("memory.memsw.max_usage_in_bytes", "100000000\n");
	CHECK_EQ(cgroup_counts(&g).limit_hits, 11);
	cgroup_begin(&g);
	get_file("memory.memsw.max_usage_in_bytes", text, sizeof text);
	CHECK_STR(text, "000000000\n"); /* the kernel's file is no file */
	CHECK_EQ(cgroup_full_stall(&g, &us), E_STATE);
	g.version = 0;
	CHECK_EQ(cgroup_usage(&g, &u), E_STATE);
	CHECK(!cgroup_counts(&g).known);
}

int
main(void)
{
	static const char *const files[] = { "memory.current", "memory.peak", "memory.events",
		"memory.pressure", "memory.high", "memory.usage_in_bytes", "memory.oom_control",
		"memory.stat", "memory.swap.current", "memory.failcnt", "memory.memsw.failcnt",
		"memory.memsw.max_usage_in_bytes", "memory.memsw.limit_in_bytes" };

	if (mkdtemp(dir) == NULL)
		return 1;
	RUN(reads_use_and_kills_of_version_2);
	RUN(reads_the_full_stall_and_not_some);
	RUN(sets_and_lifts_memory_high);
	RUN(version_1_has_no_pressure_and_no_group_nothing);
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		char path[128];

		snprintf(path, sizeof path, "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
	return t_done();
}
