/*
 * Where rings may lie, and how large they may be.  Each test runs in a process
 * of its own, because a probe that turned itself off stays off.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/core/probe.h"
#include "tests/t.h"

static char dir[] = "/tmp/cm-rundir-XXXXXX";
static char reason[256];

/* A test whose body runs in a child: its checks count by the exit code. */
#define ISOLATED(name)                              \
	static void name##_body(void);              \
	TEST(name)                                  \
	{                                           \
		pid_t pid = fork();                 \
		int status = -1;                    \
		if (pid == 0) {                     \
			t_failed_checks = 0;        \
			name##_body();              \
			exit(t_failed_checks != 0); \
		}                                   \
		waitpid(pid, &status, 0);           \
		CHECK_EQ(status, 0);                \
		empty_dir();                        \
	}                                           \
	static void name##_body(void)

static int
rings(char *name)
{
	DIR *d = opendir(dir);
	int n = 0;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.') {
			n++;
			if (name != NULL)
				snprintf(name, 300, "%s/%s", dir, e->d_name);
		}
	closedir(d);
	return n;
}

static void
empty_dir(void)
{
	char name[300];

	while (rings(name) > 0 && unlink(name) == 0)
		;
}

static int
start_in(const char *where, uint64_t bytes)
{
	struct comfymon_options o = { .run_dir = where, .ring_bytes = bytes };

	reason[0] = '\0';
	return comfymon_start(&o, reason, sizeof reason);
}

static uint64_t
lost(enum wire_loss why)
{
	struct comfymon_stats f;

	comfymon_stats(&f);
	return f.losses[why];
}

static void
refuses(const char *where, const char *because)
{
	CHECK_EQ(start_in(where, 0), -1);
	CHECK(strstr(reason, because) != NULL);
	CHECK_STR(comfymon_off_reason(), reason);
	CHECK(!comfymon_is_on());
	CHECK(!comfymon_record(900, NULL, 0));
	CHECK_EQ(lost(WIRE_LOSS_OFF), 1);
	CHECK_EQ(start_in(dir, 1u << 20), -1); /* off for good */
}

static char inner[64];

ISOLATED(a_run_directory_behind_a_link_is_refused)
{
	snprintf(inner, sizeof inner, "%s/link", dir);
	REQUIRE(symlink("/tmp", inner) == 0);
	refuses(inner, "cannot open the run directory");
}

ISOLATED(a_run_directory_open_to_others_is_refused)
{
	snprintf(inner, sizeof inner, "%s-wide", dir);
	REQUIRE(mkdir(inner, 0700) == 0 && chmod(inner, 0750) == 0);
	refuses(inner, "open to other users");
	rmdir(inner);
}

ISOLATED(a_run_directory_of_another_user_is_refused)
{
	if (geteuid() != 0)
		return; /* only root can make one */
	snprintf(inner, sizeof inner, "%s-alien", dir);
	REQUIRE(mkdir(inner, 0700) == 0 && chown(inner, 12345, 12345) == 0);
	refuses(inner, "belongs to another user");
	rmdir(inner);
}

ISOLATED(a_run_directory_that_cannot_be_is_refused)
{
	refuses("/proc/comfymon-cannot-be", "cannot make");
}

ISOLATED(a_file_in_the_place_of_the_run_directory_is_refused)
{
	snprintf(inner, sizeof inner, "%s/file", dir);
	close(open(inner, O_CREAT | O_WRONLY, 0600));
	refuses(inner, "cannot open");
}

ISOLATED(a_small_filesystem_turns_the_probe_off_and_keeps_its_room)
{
	snprintf(inner, sizeof inner, "%s-small", dir);
	REQUIRE(mkdir(inner, 0700) == 0);
	if (mount("none", inner, "tmpfs", 0, "size=4m,mode=0700") != 0) {
		rmdir(inner);
		return; /* not allowed here */
	}
	refuses(inner, "too little room");
	CHECK_EQ(umount(inner), 0);
	REQUIRE(mount("none", inner, "tmpfs", 0, "size=64m,mode=0700") == 0);
	pid_t pid = fork();
	if (pid == 0) {
		/* A fresh process: the one above is off. */
		execl("/proc/self/exe", "probe_test", "--start-in", inner, NULL);
		_exit(2);
	}
	int status;

	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	CHECK_EQ(umount(inner), 0);
	CHECK_EQ(rmdir(inner), 0);
}

/* The other half of the test above: an eighth of what is free. */
static int
start_and_measure(const char *where)
{
	struct comfymon_stats f;

	if (start_in(where, 0) != 0)
		return 1;
	comfymon_stats(&f);
	return f.area_bytes < 6u << 20 || f.area_bytes > 8u << 20;
}

int
main(int argc, char **argv)
{
	if (argc == 3)
		return start_and_measure(argv[2]);
	if (mkdtemp(dir) == NULL)
		return 2;
	RUN(a_run_directory_behind_a_link_is_refused);
	RUN(a_run_directory_open_to_others_is_refused);
	RUN(a_run_directory_of_another_user_is_refused);
	RUN(a_run_directory_that_cannot_be_is_refused);
	RUN(a_file_in_the_place_of_the_run_directory_is_refused);
	RUN(a_small_filesystem_turns_the_probe_off_and_keeps_its_room);
	rmdir(dir);
	return t_done();
}
