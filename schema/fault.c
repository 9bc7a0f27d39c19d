/*
 * fault.c - only in builds for the fault tests.  Any thread; one write(2) a line.
 */
#include "schema/fault.h"

#ifdef COMFYMON_FAULT
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *kill_phase, *breaks;
	size_t kill_phase_bytes;
	unsigned long kill_at, pause_ms;
	int log;
} o = { .log = -1 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic unsigned long marks;

static void
read_environment(void)
{
	const char *at = getenv("COMFYMON_KILL_AT"), *pause = getenv("COMFYMON_KILL_PAUSE_MS");
	const char *log = getenv("COMFYMON_FAULT_LOG"), *n = at != NULL ? strchr(at, ':') : NULL;

	if (n != NULL) {
		o.kill_phase = at;
		o.kill_phase_bytes = (size_t)(n - at);
		o.kill_at = strtoul(n + 1, NULL, 10);
	}
	if (pause != NULL)
		o.pause_ms = strtoul(pause, NULL, 10);
	o.breaks = getenv("COMFYMON_BREAK");
	if (log != NULL && (o.log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
		perror("comfymon: the fault log");
}

static void
note(const char *what, const char *phase)
{
	char line[96];
	int n = snprintf(line, sizeof line, "%d %s %s\n", getpid(), what, phase);

	if (o.log >= 0 && write(o.log, line, (size_t)n) != n)
		fputs("comfymon: the fault log cannot be written\n", stderr);
}

static void
mark(const char *what, const char *phase)
{
	struct timespec pause;

	pthread_once(&once, read_environment);
	note(what, phase);
	if (o.kill_phase == NULL || strlen(phase) != o.kill_phase_bytes ||
	    memcmp(phase, o.kill_phase, o.kill_phase_bytes) != 0 ||
	    atomic_fetch_add(&marks, 1) + 1 != o.kill_at)
		return;
	pause.tv_sec = (time_t)(o.pause_ms / 1000);
	pause.tv_nsec = (long)(o.pause_ms % 1000) * 1000000;
	nanosleep(&pause, NULL);
	note("kill", phase);
	raise(SIGKILL);
}

void
fault_enter(const char *phase)
{
	mark("enter", phase);
}

void
fault_inside(const char *phase)
{
	mark("inside", phase);
}

void
fault_leave(const char *phase)
{
	mark("leave", phase);
}

bool
fault_breaks(const char *name)
{
	pthread_once(&once, read_environment);

	size_t n = strlen(name);

	for (const char *at = o.breaks; at != NULL; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == '\0'))
			return true;
	}
	return false;
}
#else
typedef int fault_is_empty; /* a translation unit needs a declaration */
#endif
