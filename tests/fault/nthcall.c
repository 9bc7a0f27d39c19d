/*
 * nthcall.c - run a program and kill it at its N-th system call.
 *
 *   nthcall [--kill N] [--after TEXT] [--report FILE] -- CMD ARGS...
 *
 * Counts the entries of system calls of all threads together, from the first
 * open of a path that contains TEXT on (else from exec).  The whole process is
 * killed by SIGKILL before call N does anything; nthcall then dies the same way,
 * so that whoever waits sees what a killed program looks like.  FILE gets one
 * line `calls C killed NR`, NR being the number of the call, -1 when the program
 * ended by itself.  A SIGTERM for nthcall goes on to the program.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC)
#define SYSCALL_STOP (SIGTRAP | 0x80)

static struct {
	unsigned long kill_at;
	const char *after, *report;
} o;

static pid_t child;
static unsigned long calls;
static long last = -1;

static void
pass_on(int number)
{
	kill(child, number);
}

static bool
opens(pid_t pid, const struct __ptrace_syscall_info *s, const char *text)
{
	char path[256] = "";
	struct iovec here = { path, sizeof path - 1 };
	struct iovec there = { (void *)(uintptr_t)s->entry.args[1], sizeof path - 1 };

	if (s->entry.nr != SYS_openat)
		return false;
	/* The path may end near the end of a page: a short read is an answer too. */
	if (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0) {
		here.iov_len = there.iov_len = 64;
		if (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0)
			return false;
	}
	return strstr(path, text) != NULL;
}

/* At a stop for a system call.  True when this is the one to die at. */
static bool
count(pid_t pid)
{
	struct __ptrace_syscall_info s;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof s, &s) < 0 ||
	    s.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	if (o.after != NULL && opens(pid, &s, o.after))
		o.after = NULL;
	if (o.after != NULL)
		return false;
	last = (long)s.entry.nr;
	return ++calls == o.kill_at;
}

static void
report(long nr)
{
	FILE *f;

	if (o.report == NULL)
		return;
	f = fopen(o.report, "a");
	if (f == NULL || fprintf(f, "calls %lu killed %ld\n", calls, nr) < 0 || fclose(f) != 0)
		perror(o.report);
}

/* Until the program has ended; its wait status. */
static int
follow(void)
{
	int status, number;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid < 0)
			continue;
		if (pid == child && (WIFEXITED(status) || WIFSIGNALED(status)))
			return status;
		if (!WIFSTOPPED(status))
			continue;
		number = WSTOPSIG(status);
		if (number == SYSCALL_STOP) {
			if (count(pid)) {
				report(last);
				kill(child, SIGKILL);
			}
			number = 0;
		} else if (number == SIGTRAP || (number == SIGSTOP && pid != child)) {
			number = 0; /* ptrace's own: exec, clone, a new thread */
		}
		ptrace(PTRACE_SYSCALL, pid, 0, (void *)(uintptr_t)number);
	}
	return -1;
}

static int
options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "kill", required_argument, NULL, 'k' },
		{ "after", required_argument, NULL, 'a' },
		{ "report", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		if (c == 'k')
			o.kill_at = strtoul(optarg, NULL, 10);
		else if (c == 'a')
			o.after = optarg;
		else if (c == 'r')
			o.report = optarg;
		else
			return -1;
	}
	return optind < argc ? 0 : -1;
}

int
main(int argc, char **argv)
{
	int status;

	if (options(argc, argv) != 0) {
		fprintf(stderr, "nthcall: bad arguments, see the head of nthcall.c\n");
		return 2;
	}
	child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execvp(argv[optind], argv + optind);
		perror(argv[optind]);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0 ||
	    ptrace(PTRACE_SETOPTIONS, child, 0, OPTIONS) < 0 ||
	    ptrace(PTRACE_SYSCALL, child, 0, 0) < 0) {
		perror("nthcall");
		return 2;
	}
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	status = follow();
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
		return 2;
	}
	report(-1);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}
