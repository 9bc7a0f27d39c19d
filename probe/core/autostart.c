/*
 * autostart.c - start the agent without becoming its parent.  Any thread.
 *
 * A helper that shares our memory (as vfork's child does, so that no page is
 * copied and no fork handler runs) spawns the agent and ends at once.  It ends
 * without a signal, so a host that waits for "any child" never sees it.
 */
#include "probe/core/autostart.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/core/link.h"
#include "probe/core/rundir.h"

#define HELPER_STACK_BYTES (128u * 1024)

extern char **environ;

struct job {
	const char *binary;
	char *const *env;
	posix_spawnattr_t attr;
	posix_spawn_file_actions_t files;
	int error;
};

static bool
somebody_listens(const char *run_dir)
{
	struct link l = { .fd = OWN_NONE };

	if (link_open(&l, run_dir) != 0)
		return false;
	link_close(&l);
	return true;
}

/* Our environment with COMFYMON_RUN_DIR set; `entry` is kept by the result. */
static char **
environment(char *entry)
{
	size_t n = 0, k = 0;
	char **env;

	while (environ != NULL && environ[n] != NULL)
		n++;
	env = calloc(n + 2, sizeof *env);
	if (env == NULL)
		return NULL;
	env[k++] = entry;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "COMFYMON_RUN_DIR=", 17) != 0)
			env[k++] = environ[i];
	return env;
}

static int
prepare(struct job *job)
{
	sigset_t all, none;
	int error;

	sigfillset(&all);
	sigemptyset(&none);
	/* glibc's two initialisers only clear memory: they cannot fail. */
	posix_spawnattr_init(&job->attr);
	posix_spawn_file_actions_init(&job->files);
	error = posix_spawnattr_setflags(
	    &job->attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	if (error == 0)
		error = posix_spawnattr_setsigdefault(&job->attr, &all);
	if (error == 0)
		error = posix_spawnattr_setsigmask(&job->attr, &none);
	for (int fd = 0; fd < 3 && error == 0; fd++)
		error = posix_spawn_file_actions_addopen(
		    &job->files, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
	if (error == 0)
		error = posix_spawn_file_actions_addclosefrom_np(&job->files, 3);
	if (error == 0)
		error = posix_spawn_file_actions_addchdir_np(&job->files, "/");
	return error;
}

static int
helper(void *arg)
{
	struct job *job = arg;
	char agent[] = "agent", flag[] = "--autostarted";
	char *argv[] = { (char *)(uintptr_t)job->binary, agent, flag, NULL };
	pid_t pid;

	job->error = posix_spawn(&pid, job->binary, &job->files, &job->attr, argv, job->env);
	return 0;
}

/* Run the helper to its end; the caller sleeps meanwhile, as in vfork. */
static int
run_helper(struct job *job)
{
	uint8_t *stack = mmap(NULL, HELPER_STACK_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	sigset_t all, old;
	pid_t pid;
	int error = 0;

	if (stack == MAP_FAILED)
		return errno;
	/* No handler of the host may run in the helper, on this thread's memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = clone(helper, stack + HELPER_STACK_BYTES, CLONE_VM | CLONE_VFORK, job);
	if (pid < 0)
		error = errno;
	else
		while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	munmap(stack, HELPER_STACK_BYTES);
	return error != 0 ? error : job->error;
}

enum comfymon_autostart
comfymon_autostart(const char *binary, const char *run_dir, char *reason, size_t cap)
{
	char entry[sizeof "COMFYMON_RUN_DIR=" + RUNDIR_PATH_BYTES];
	struct job job = { .binary = binary };
	char **env;
	int error;

	if (somebody_listens(run_dir))
		return COMFYMON_AUTOSTART_PRESENT;
	if (access(binary, X_OK) != 0) {
		snprintf(reason, cap, "%s: %s", binary, strerrordesc_np(errno));
		return COMFYMON_AUTOSTART_FAILED;
	}
	if ((size_t)snprintf(entry, sizeof entry, "COMFYMON_RUN_DIR=%s", run_dir) >= sizeof entry ||
	    (env = environment(entry)) == NULL) {
		snprintf(reason, cap, "the run directory's name is too long");
		return COMFYMON_AUTOSTART_FAILED;
	}
	job.env = env;
	error = prepare(&job);
	if (error == 0)
		error = run_helper(&job);
	posix_spawn_file_actions_destroy(&job.files);
	posix_spawnattr_destroy(&job.attr);
	free(env);
	if (error == 0)
		return COMFYMON_AUTOSTART_STARTED;
	snprintf(reason, cap, "cannot start %s: %s", binary, strerrordesc_np(error));
	return COMFYMON_AUTOSTART_FAILED;
}
