/*
 * fault.c - only in builds for the fault tests.  Any thread; one write(2) a line.
 */
#include "agent/base/fault.h"

#ifdef COMFYMON_FAULT
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic unsigned long entries;

static void
note(const char *what, const char *phase)
{
	const char *path = getenv("COMFYMON_FAULT_LOG");
	char line[96];
	int n, fd;

	if (path == NULL)
		return;
	n = snprintf(line, sizeof line, "phase-%s %s\n", what, phase);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (write(fd, line, (size_t)n) != n)
		fputs("comfymon: the fault log cannot be written\n", stderr);
	close(fd);
}

void
fault_enter(const char *phase)
{
	const char *at = getenv("COMFYMON_KILL_AT");
	size_t n = strlen(phase);

	note("enter", phase);
	if (at != NULL && strncmp(at, phase, n) == 0 && at[n] == ':' &&
	    atomic_fetch_add(&entries, 1) + 1 == strtoul(at + n + 1, NULL, 10))
		raise(SIGKILL);
}

void
fault_leave(const char *phase)
{
	note("leave", phase);
}
#else
typedef int fault_is_empty; /* a translation unit needs a declaration */
#endif
