/*
 * beside.c - the agent that runs beside the command.  See run_internal.h.  It is
 * started as an auto-started one: when we are killed it ends by itself some
 * minutes after the last probe, and when another agent runs already it
 * makes room.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/supervisor/run_internal.h"

#define AGAIN_NS   NS_PER_S        /* an agent that ran and ended */
#define LATER_NS   (30 * NS_PER_S) /* one that ended at once: another runs, or it cannot */
#define QUICK_NS   (5 * NS_PER_S)
#define GOODBYE_MS 10000

static int
spawn(const struct run *r, pid_t *pid)
{
	char *const argv[] = { (char *)(uintptr_t)r->o->program, (char[]){ "agent" },
		(char[]){ "--autostarted" }, (char[]){ "--run-dir" },
		(char *)(uintptr_t)r->o->run_dir, (char[]){ "--data-dir" },
		(char *)(uintptr_t)r->o->data_dir, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t all, none;
	int error;

	sigfillset(&all);
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_init(&files);
	error = posix_spawnattr_setflags(
	    &attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	if (error == 0)
		error = posix_spawnattr_setsigdefault(&attr, &all);
	if (error == 0)
		error = posix_spawnattr_setsigmask(&attr, &none);
	if (error == 0)
		error = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	if (error == 0)
		error = posix_spawn_file_actions_adddup2(&files, 2, 1);
	if (error == 0)
		error = posix_spawn_file_actions_addclosefrom_np(&files, 3);
	if (error == 0)
		error = posix_spawn(pid, r->o->program, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return error;
}

void
beside_start(struct run *r, uint64_t now_ns)
{
	int error;

	r->agent_ns = 0;
	if (r->o->program == NULL || r->stopping)
		return;
	error = spawn(r, &r->agent);
	if (error == 0) {
		r->agent_started_ns = now_ns;
		return;
	}
	r->agent = 0;
	r->agent_ns = now_ns + LATER_NS;
	log_error("agent_not_started path=%s error=%d", r->o->program, error);
}

void
beside_ended(struct run *r, uint64_t now_ns)
{
	bool quick = now_ns - r->agent_started_ns < QUICK_NS;

	r->agent = 0;
	r->agent_ns = now_ns + (quick ? LATER_NS : AGAIN_NS);
}

/* It hands over what it can, and ends. */
void
beside_stop(struct run *r)
{
	uint64_t end = clock_mono_ns() + GOODBYE_MS * NS_PER_MS;
	struct timespec nap = { .tv_nsec = 10 * (long)NS_PER_MS };

	if (r->agent <= 0)
		return;
	kill(r->agent, SIGTERM);
	while (waitpid(r->agent, NULL, WNOHANG) == 0) {
		if (clock_mono_ns() > end) {
			kill(r->agent, SIGKILL);
			waitpid(r->agent, NULL, 0);
			break;
		}
		nanosleep(&nap, NULL);
	}
	r->agent = 0;
}
