/*
 * left.c - see left.h.  Source: proc(5), /proc/PID/environ.
 */
#include "agent/supervisor/left.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/file.h"

#define ENVIRON_MAX (4u * 1024 * 1024)
#define ROUNDS      3 /* who was about to fork has forked by the next one */

static bool
carries(const char *pid, const char *wanted, size_t n)
{
	char path[300], *text;
	bool found = false;
	size_t bytes;

	snprintf(path, sizeof path, "/proc/%s/environ", pid);
	if (file_read_all(path, ENVIRON_MAX, &text, &bytes) != E_OK)
		return false; /* gone, or somebody else's */
	for (const char *at = text; !found && at < text + bytes; at += strlen(at) + 1)
		found = strncmp(at, wanted, n) == 0;
	free(text);
	return found;
}

static bool
one_round(const char *wanted, size_t n)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	bool found = false;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		int pid = atoi(entry->d_name);

		if (pid > 0 && pid != getpid() && carries(entry->d_name, wanted, n) &&
		    kill(pid, SIGKILL) == 0)
			found = true;
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

void
left_kill(const char *life)
{
	char wanted[128];
	int n = snprintf(wanted, sizeof wanted, "COMFYMON_LIFE=%s", life);

	for (int i = 0; i < ROUNDS && one_round(wanted, (size_t)n + 1); i++)
		;
}
