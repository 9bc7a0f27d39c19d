/*
 * memory.c - numbers out of /proc.  See memory.h.
 */
#include "agent/supervisor/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/file.h"

#define LISTED_MAX (1024u * 1024)
#define STATUS_BYTES                                                                 \
	16384 /* somebody may be in hundreds of groups, which come before the memory \
	       */

/* A small file of /proc, terminated. */
static bool
slurp(const char *path, char *text, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, cap - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

/* "Key:   123 kB" */
static uint64_t
kilobytes(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at != NULL ? strtoull(at + strlen(key), NULL, 10) * 1024 : 0;
}

bool
memory_of(pid_t pid, struct memory_tree *out)
{
	char path[64], text[STATUS_BYTES];

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	if (!slurp(path, text, sizeof text))
		return false;
	*out = (struct memory_tree){ .rss_bytes = kilobytes(text, "\nVmRSS:"),
		.swap_bytes = kilobytes(text, "\nVmSwap:"),
		.file_bytes = kilobytes(text, "\nRssFile:"),
		.processes = 1 };
	return true;
}

/* State and start of a process; false when it has gone. */
static bool
stat_of(pid_t pid, char *state, uint64_t *ticks)
{
	char path[64], text[1024];
	const char *at;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (!slurp(path, text, sizeof text) || (at = strrchr(text, ')')) == NULL || at[1] == '\0')
		return false;
	*state = at[2];
	for (int field = 3; field <= 22 && at != NULL; field++)
		at = strchr(at + 1, ' ');
	*ticks = at != NULL ? strtoull(at + 1, NULL, 10) : 0;
	return at != NULL;
}

uint64_t
process_start_ticks(pid_t pid)
{
	uint64_t ticks;
	char state;

	return stat_of(pid, &state, &ticks) ? ticks : 0;
}

bool
process_lives(pid_t pid, uint64_t start_ticks)
{
	uint64_t ticks;
	char state;

	errno = 0;
	if (!stat_of(pid, &state, &ticks))
		return errno != 0 && errno != ENOENT && errno != ESRCH;
	return ticks == start_ticks && state != 'Z' && state != 'X';
}

struct link {
	pid_t pid, parent;
};

static void
swap(struct link *a, struct link *b)
{
	struct link was = *a;

	*a = *b;
	*b = was;
}

/* Parent of a process; false when it has gone. */
static bool
link_of(const char *pid, struct link *out)
{
	char path[300], text[1024];
	const char *name_end;
	int parent;

	snprintf(path, sizeof path, "/proc/%s/stat", pid);
	if (!slurp(path, text, sizeof text))
		return false;
	name_end = strrchr(text, ')'); /* a name may hold anything */
	if (name_end == NULL || sscanf(name_end + 1, " %*c %d", &parent) != 1)
		return false;
	*out = (struct link){ atoi(pid), parent };
	return true;
}

/* Every process of the host; heap. */
static struct link *
links_read(size_t *n)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	struct link *links = NULL;
	size_t room = 0;

	*n = 0;
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		if (*n == room) {
			struct link *more = realloc(links, (room + 1024) * sizeof *links);

			if (more == NULL)
				break;
			links = more;
			room += 1024;
		}
		*n += link_of(entry->d_name, &links[*n]);
	}
	if (dir != NULL)
		closedir(dir);
	return links;
}

/* Bring pid and its descendants to the front, without those by way of `except`; how many they are.
 */
static size_t
gather(struct link *links, size_t n, pid_t pid, pid_t except)
{
	size_t in = 0;

	for (size_t i = 0; i < n; i++) {
		if (links[i].pid == except)
			links[i] = (struct link){ 0, -1 };
		else if (links[i].pid == pid && in == 0)
			swap(&links[i], &links[in++]);
	}
	for (size_t i = 0; i < in; i++)
		for (size_t k = in; k < n; k++)
			if (links[k].parent == links[i].pid)
				swap(&links[k], &links[in++]);
	return in;
}

static void
add(struct memory_tree *sum, pid_t pid)
{
	struct memory_tree one;

	if (!memory_of(pid, &one))
		return;
	if (one.rss_bytes + one.swap_bytes > sum->largest_bytes) {
		sum->largest = pid;
		sum->largest_bytes = one.rss_bytes + one.swap_bytes;
	}
	sum->rss_bytes += one.rss_bytes;
	sum->swap_bytes += one.swap_bytes;
	sum->file_bytes += one.file_bytes;
	sum->processes++;
}

bool
memory_of_listed(const char *path, struct memory_tree *out)
{
	char *text, *end;
	size_t n;

	memset(out, 0, sizeof *out);
	if (file_read_all(path, LISTED_MAX, &text, &n) != E_OK)
		return false;
	for (const char *at = text; *at != '\0'; at = *end != '\0' ? end + 1 : end) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			break;
		if (pid > 0) /* 0: of another pid namespace */
			add(out, (pid_t)pid);
	}
	free(text);
	return out->processes > 0;
}

bool
memory_below(pid_t root, pid_t except, struct memory_tree *out)
{
	size_t n;
	struct link *links = links_read(&n);

	memset(out, 0, sizeof *out);
	n = gather(links, n, root, except);
	for (size_t i = 1; i < n; i++)
		add(out, links[i].pid);
	free(links);
	return out->processes > 0;
}

/* Pages that several processes have count in part for each of them. */
static uint64_t
share_of(pid_t pid)
{
	char path[64], text[4096];
	struct memory_tree one;

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	if (slurp(path, text, sizeof text))
		return kilobytes(text, "\nPss:") + kilobytes(text, "\nSwapPss:");
	return memory_of(pid, &one) ? one.rss_bytes + one.swap_bytes : 0;
}

uint64_t
memory_shares_below(pid_t root, pid_t except)
{
	size_t n;
	struct link *links = links_read(&n);
	uint64_t sum = 0;

	n = gather(links, n, root, except);
	for (size_t i = 1; i < n; i++)
		sum += share_of(links[i].pid);
	free(links);
	return sum;
}

bool
memory_of_host(uint64_t *total_bytes, uint64_t *available_bytes)
{
	char text[4096];

	if (!slurp("/proc/meminfo", text, sizeof text))
		return false;
	*total_bytes = kilobytes(text, "MemTotal:");
	*available_bytes = kilobytes(text, "MemAvailable:");
	return *total_bytes > 0;
}

uint64_t
memory_host_oom_kills(void)
{
	static char text[64 * 1024]; /* one caller, the main thread */
	const char *at;

	if (!slurp("/proc/vmstat", text, sizeof text) || (at = strstr(text, "\noom_kill ")) == NULL)
		return 0;
	return strtoull(at + 10, NULL, 10);
}
