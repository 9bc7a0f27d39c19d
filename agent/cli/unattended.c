/* unattended.c - see unattended.h */
#include "agent/cli/unattended.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#define LOG_MAX_BYTES (256 * 1024)
#define TRY_MS        2000

extern char **environ;

static void
trim(const char *path)
{
	struct stat st;

	/* The log appends, so that it goes on at the start. */
	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_MAX_BYTES &&
	    truncate(path, 0) != 0)
		log_warn("log_not_trimmed path=%s error=\"%m\"", path);
}

void
unattended_log(const char *run_dir)
{
	char path[256];

	if (path_join(path, sizeof path, run_dir, UNATTENDED_LOG_NAME) != E_OK)
		return;
	trim(path);
	(void)!log_open(path);
}

/* Does `PROGRAM --version` end well, and soon?  An upgrade may be under way. */
static bool
runs(const char *program)
{
	char name[] = "comfymon", version[] = "--version";
	char *const argv[] = { name, version, NULL };
	uint64_t until = clock_mono_ns() + TRY_MS * NS_PER_MS;
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int status = -1, error;
	sigset_t none;
	pid_t pid;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_init(&files);
	error = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	if (error == 0)
		error = posix_spawnattr_setsigmask(&attr, &none);
	if (error == 0)
		error = posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	if (error == 0)
		error = posix_spawn(&pid, program, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	if (error != 0)
		return false;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (clock_mono_ns() > until)
			kill(pid, SIGKILL);
		nanosleep(&(struct timespec){ .tv_nsec = 5 * 1000000 }, NULL);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool
unattended_check(const struct cli *c, const char *run_dir)
{
	const char *program = c->argv[0];
	struct stat ours, there;
	char path[256];

	if (config_string(c->config, OPT_LOG_FILE)[0] == '\0' &&
	    path_join(path, sizeof path, run_dir, UNATTENDED_LOG_NAME) == E_OK) {
		trim(path);
		if (access(path, F_OK) != 0 && errno == ENOENT) /* cleaned away */
			(void)!log_open(path);
	}
	/* The link leads to our own file even when that has no name any more. */
	if (program[0] != '/' || stat("/proc/self/exe", &ours) != 0 || stat(program, &there) != 0 ||
	    (ours.st_dev == there.st_dev && ours.st_ino == there.st_ino))
		return false;
	if (!runs(program)) {
		log_warn("replacement_does_not_run path=%s", program);
		return false;
	}
	log_info("stopping reason=replaced path=%s", program);
	return true;
}

void
unattended_succeed(const struct cli *c)
{
	/* Ours are closed on exec already; a library's might not be. */
	(void)!close_range(3, ~0u, 0);
	execv(c->argv[0], c->argv);
	fprintf(stderr, "comfymon: %s: %s\n", c->argv[0], strerror(errno));
}
