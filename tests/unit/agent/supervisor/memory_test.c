/*
 * memory_test.c - who is alive, and what cannot be known of it.
 */
#include "agent/supervisor/memory.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/t.h"

TEST(a_process_is_its_pid_and_its_birth)
{
	pid_t self = getpid();
	uint64_t born = process_start_ticks(self);

	CHECK(born > 0);
	CHECK(process_lives(self, born));
	CHECK(!process_lives(self, born - 1)); /* another one had this pid */
}

TEST(a_corpse_and_who_has_gone_do_not_live)
{
	pid_t child = fork();

	if (child == 0)
		pause();

	uint64_t born = process_start_ticks(child);

	CHECK(process_lives(child, born));
	kill(child, SIGKILL);

	siginfo_t info;

	CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	CHECK(!process_lives(child, born));
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK(!process_lives(child, born));
}

TEST(who_cannot_look_has_seen_nobody_go)
{
	struct rlimit was, none;
	uint64_t born = process_start_ticks(getpid());

	REQUIRE(getrlimit(RLIMIT_NOFILE, &was) == 0);
	none = was;
	none.rlim_cur = 0;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);

	bool lives = process_lives(getpid(), born);

	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &was), 0);
	CHECK(lives);
}

int
main(void)
{
	RUN(a_process_is_its_pid_and_its_birth);
	RUN(a_corpse_and_who_has_gone_do_not_live);
	RUN(who_cannot_look_has_seen_nobody_go);
	return t_done();
}
