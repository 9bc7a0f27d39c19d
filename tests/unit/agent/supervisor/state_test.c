/*
 * What a supervisor says of itself: seen while it lives, and lost when it ended
 * without a word.  Supervisors are forked, for a lock tells of another process alone.
 */
#include "agent/supervisor/state.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/supervisor/exits.h"
#include "agent/supervisor/memory.h"
#include "tests/t.h"

static char dir[] = "/tmp/state-test-XXXXXX";
static char data[64], run[64];

static struct supervised
example(const char *life)
{
	struct supervised s = { .state = "running",
		.command_pid = 4711,
		.command_ticks = 5,
		.starts = 3,
		.method = "watch",
		.why = "no memory controller is mounted",
		.limit_bytes = UINT64_C(68719476736),
		.soft_bytes = 7,
		.soft_state = "calm",
		.verdict = "oom_cgroup",
		.certainty = "certain",
		.death = "20261125T080000.123-4711",
		.ended_real_ns = UINT64_MAX };

	snprintf(s.life, sizeof s.life, "%s", life);
	return s;
}

/* A supervisor that lives until it is told to die; its pid. */
static pid_t
supervisor(const struct supervised *s)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) != 0)
		abort();
	pid = fork();
	if (pid == 0) {
		struct supervised mine = *s;
		int fd;

		byte = state_open(run, &mine, &fd) == E_OK ? 'y' : 'n';
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	CHECK(read(ready[0], &byte, 1) == 1 && byte == 'y');
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void
end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void
name_of(pid_t pid, char *path, size_t cap)
{
	snprintf(path, cap, "%s/supervisor-%d", run, (int)pid);
}

TEST(is_seen_with_every_value_while_it_lives_and_no_longer)
{
	struct supervised s = example("1-1-aa"), got[2];
	pid_t pid = supervisor(&s);

	CHECK_EQ(state_list(run, got, 2), 1);
	CHECK_EQ(got[0].pid, pid);
	CHECK_STR(got[0].state, s.state);
	CHECK_STR(got[0].life, s.life);
	CHECK_EQ(got[0].command_pid, 4711);
	CHECK_EQ(got[0].starts, 3);
	CHECK_STR(got[0].why, s.why);
	CHECK_EQ(got[0].limit_bytes, s.limit_bytes);
	CHECK_EQ(got[0].soft_bytes, 7);
	CHECK_STR(got[0].death, s.death);
	CHECK(got[0].ended_real_ns == UINT64_MAX);
	CHECK(!got[0].survive);
	end(pid);
	CHECK_EQ(state_list(run, got, 2), 0);
	(void)state_sweep(run, data);
}

TEST(a_life_is_known_by_the_pid_that_it_begins_with)
{
	struct supervised s = example("1-1-aa");
	pid_t pid = supervisor(&s);
	char life[64];

	snprintf(life, sizeof life, "%d-9-0a", (int)pid);
	CHECK_EQ(state_of(run, life), STATE_LIVES);
	CHECK_EQ(state_of(run, "1-1-aa"), STATE_NONE);
	CHECK_EQ(state_of(run, "../x"), STATE_NONE);
	end(pid);
	CHECK_EQ(state_of(run, life), STATE_GONE);
	(void)state_sweep(run, data);
	CHECK_EQ(state_of(run, life), STATE_NONE);
}

TEST(who_ended_without_a_word_has_its_life_written_down_as_lost_once)
{
	struct supervised s = example("2-1-bb");
	struct exit_record r;
	char path[256];
	pid_t pid = supervisor(&s);

	CHECK_EQ(state_sweep(run, data), 0);
	CHECK_EQ(exits_find(data, "2-1-bb", &r), E_NOTFOUND);
	end(pid);
	CHECK_EQ(state_sweep(run, data), 1);
	CHECK_EQ(state_sweep(run, data), 0);
	CHECK_EQ(exits_find(data, "2-1-bb", &r), E_OK);
	CHECK_EQ(r.cause, CAUSE_LOST);
	CHECK_EQ(r.certainty, UNSURE);
	CHECK_EQ(r.pid, 4711);
	CHECK(!r.restarted);
	snprintf(path, sizeof path, "%s/deaths/%s.json", data, r.death);
	CHECK(access(path, F_OK) == 0);
	unlink(path);
	name_of(pid, path, sizeof path);
	CHECK(access(path, F_OK) != 0);
}

TEST(what_its_parent_has_seen_or_never_started_is_not_lost)
{
	struct supervised seen = example("3-1-cc"), never = example("");
	struct exit_record r = { .cause = CAUSE_OOM_CGROUP, .signal = 9, .exit_code = -1 };
	pid_t a = supervisor(&seen), b;

	never.command_pid = 0;
	b = supervisor(&never);
	snprintf(r.life, sizeof r.life, "3-1-cc");
	CHECK_EQ(exits_append(data, &r), E_OK);
	end(a);
	end(b);
	CHECK_EQ(state_sweep(run, data), 0);
	CHECK_EQ(exits_find(data, "3-1-cc", &r), E_OK);
	CHECK_EQ(r.cause, CAUSE_OOM_CGROUP);
}

/* As a service manager does it to an agent that was at it. */
TEST(a_sweeper_that_was_killed_between_line_and_box_leaves_the_box_to_the_next)
{
	struct supervised s = example("9-1-ab");
	struct exit_record r = { .cause = CAUSE_LOST,
		.certainty = UNSURE,
		.signal = -1,
		.exit_code = -1,
		.time_real_ns = UINT64_C(1790000000123456789) };
	char path[256];
	pid_t pid = supervisor(&s);

	snprintf(r.life, sizeof r.life, "9-1-ab");
	snprintf(r.death, sizeof r.death, "20260921T141320.123-%d", (int)s.command_pid);
	CHECK_EQ(exits_append(data, &r), E_OK);
	end(pid);
	CHECK_EQ(state_sweep(run, data), 0);
	snprintf(path, sizeof path, "%s/deaths/%s.json", data, r.death);
	CHECK(access(path, R_OK) == 0);
}

TEST(who_survives_its_parent_is_lost_only_when_it_has_ended_itself)
{
	struct supervised s = example("4-1-dd");
	struct exit_record r;
	pid_t pid, child = fork();

	if (child == 0)
		for (;;)
			pause();
	s.survive = true;
	s.command_pid = (uint64_t)child;
	s.command_ticks = process_start_ticks(child);
	pid = supervisor(&s);
	end(pid);
	CHECK_EQ(state_sweep(run, data), 0);
	CHECK_EQ(exits_find(data, "4-1-dd", &r), E_NOTFOUND);
	end(child);
	CHECK_EQ(state_sweep(run, data), 1);
	CHECK_EQ(exits_find(data, "4-1-dd", &r), E_OK);
}

TEST(a_file_that_is_none_is_passed_over)
{
	static const char *const texts[] = { "", "turn=1\nlife=1-1-aa\ncommand_pid=9\nend=2\n",
		"turn=0\nlife=1-1-aa\ncommand_pid=9\nend=0\n",
		"turn=7\nlife=../x\ncommand_pid=9\nend=7\n", "\0\0\0\n", "=\n=\n" };
	char path[128];

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct supervised got;
		int fd;

		snprintf(path, sizeof path, "%s/supervisor-%zu", run, i + 1000000);
		fd = open(path, O_WRONLY | O_CREAT, 0600);
		CHECK(write(fd, texts[i], strlen(texts[i])) == (ssize_t)strlen(texts[i]));
		close(fd);
		CHECK_EQ(state_list(run, &got, 1), 0);
		CHECK_EQ(state_sweep(run, data), 0);
		CHECK(access(path, F_OK) != 0); /* nobody owns it */
	}
	snprintf(path, sizeof path, "%s/supervisor-77", run);
	CHECK(symlink("/etc/passwd", path) == 0);
	CHECK_EQ(state_sweep(run, data), 0);
	unlink(path);
	CHECK(mkfifo(path, 0600) == 0);
	CHECK_EQ(state_sweep(run, data), 0);
	unlink(path);
}

TEST(two_at_once_are_two)
{
	struct supervised s = example("5-1-ee"), t = example("6-1-ff"), got[4];
	pid_t a = supervisor(&s), b = supervisor(&t);

	CHECK_EQ(state_list(run, got, 4), 2);
	CHECK_EQ(state_list(run, got, 1), 1);
	end(a);
	end(b);
	CHECK_EQ(state_sweep(run, data), 2);
}

TEST(a_good_end_leaves_nothing)
{
	struct supervised s = example("7-1-aa");
	char path[128];
	int fd;

	CHECK_EQ(state_open(run, &s, &fd), E_OK);
	memset(s.why, 'w', sizeof s.why - 1); /* longer, then shorter */
	CHECK_EQ(state_write(fd, &s), E_OK);
	s.why[1] = '\0';
	CHECK_EQ(state_write(fd, &s), E_OK);
	name_of(getpid(), path, sizeof path);
	CHECK(access(path, F_OK) == 0);
	state_close(run, fd);
	CHECK(access(path, F_OK) != 0);
}

int
main(void)
{
	char command[128];

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(data, sizeof data, "%s/data", dir);
	snprintf(run, sizeof run, "%s/run", dir);
	if (mkdir(data, 0700) != 0 || mkdir(run, 0700) != 0)
		return 1;
	RUN(is_seen_with_every_value_while_it_lives_and_no_longer);
	RUN(a_life_is_known_by_the_pid_that_it_begins_with);
	RUN(who_ended_without_a_word_has_its_life_written_down_as_lost_once);
	RUN(what_its_parent_has_seen_or_never_started_is_not_lost);
	RUN(a_sweeper_that_was_killed_between_line_and_box_leaves_the_box_to_the_next);
	RUN(who_survives_its_parent_is_lost_only_when_it_has_ended_itself);
	RUN(a_file_that_is_none_is_passed_over);
	RUN(two_at_once_are_two);
	RUN(a_good_end_leaves_nothing);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return t_done() | (system(command) != 0);
}
