/*
 * process.c - see process.h.
 */
#include "agent/memory/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/base/cgroup.h"
#include "agent/base/file.h"

#define ENVIRON_BYTES    (128u << 10)
#define TEXT_BYTES       8192u
#define MOUNTS_MAX       (1024u * 1024)
#define NO_LIMIT         (UINT64_C(1) << 60) /* version 1 writes "none" as about 2^63 */
#define DESCRIPTORS_MOST 100000u             /* counted one by one at most */

bool
text_read(int fd, char *text, uint32_t cap)
{
	ssize_t n = fd >= 0 ? pread(fd, text, cap - 1, 0) : -1;

	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

static int
open_in(int dir_fd, const char *name)
{
	return openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
}

/* ---- its cgroup ----------------------------------------------------------- */

static int
open_group_file(const struct process *p, const char *name)
{
	char path[600];

	return path_join(path, sizeof path, p->group, name) == E_OK
		   ? open(path, O_RDONLY | O_CLOEXEC)
		   : -1;
}

/* Where it is accounted; nothing when that cannot be seen from here. */
static void
find_group(struct process *p)
{
	char groups[TEXT_BYTES], *mounts = NULL;
	int fd = open_in(p->dir_fd, "cgroup");
	bool readable = text_read(fd, groups, sizeof groups);
	size_t n;

	if (fd >= 0)
		close(fd);
	if (!readable || file_read_all("/proc/self/mountinfo", MOUNTS_MAX, &mounts, &n) != E_OK)
		return;
	for (int version = 2; version >= 1 && p->group_fd < 0; version--) {
		if (cgroup_find(mounts, groups, version, p->group, sizeof p->group) != E_OK)
			continue;
		p->group_version = version;
		p->group_fd =
		    open_group_file(p, version == 2 ? "memory.current" : "memory.usage_in_bytes");
	}
	if (p->group_fd >= 0 && p->group_version == 2)
		p->group_pressure_fd = open_group_file(p, "memory.pressure");
	free(mounts);
}

/* The least of its group and those above it; 0 when there is none. */
static uint64_t
group_limit(const struct process *p)
{
	const char *name = p->group_version == 2 ? "memory.max" : "memory.limit_in_bytes";
	uint64_t least = NO_LIMIT, limit;
	char dir[sizeof p->group], path[600], text[64], *slash;

	if (p->group_fd < 0)
		return 0;
	memcpy(dir, p->group, sizeof dir);
	do {
		int fd = path_join(path, sizeof path, dir, name) == E_OK
			     ? open(path, O_RDONLY | O_CLOEXEC)
			     : -1;

		if (text_read(fd, text, sizeof text) && text_value(text, &limit) && limit < least)
			least = limit;
		if (fd >= 0)
			close(fd);
		slash = strrchr(dir, '/');
		if (slash != NULL)
			*slash = '\0';
	} while (slash != NULL && slash != dir);
	return least < NO_LIMIT ? least : 0;
}

/* ---- the process ---------------------------------------------------------- */

enum err
process_open(struct process *p, const char *proc_dir, uint64_t pid, uint64_t start_ticks)
{
	char path[300], text[TEXT_BYTES];
	struct stat_text stat;

	*p = (struct process){ .pid = pid,
		.dir_fd = -1,
		.status_fd = -1,
		.stat_fd = -1,
		.group_fd = -1,
		.group_pressure_fd = -1 };
	snprintf(path, sizeof path, "%s/%" PRIu64, proc_dir, pid);
	p->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir_fd < 0)
		return E_NOTFOUND;
	p->status_fd = open_in(p->dir_fd, "status");
	p->stat_fd = open_in(p->dir_fd, "stat");
	if (!text_read(p->stat_fd, text, sizeof text) || !text_stat(text, &stat) ||
	    stat.start_ticks != start_ticks || p->status_fd < 0) {
		process_close(p);
		return E_NOTFOUND;
	}
	find_group(p);
	return E_OK;
}

/* As it was started with; what it has set since is not there. */
void
process_visible(struct process *p, struct gpu_order *o)
{
	char *text = malloc(ENVIRON_BYTES);
	int fd = openat(p->dir_fd, "environ", O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t got = -1;

	while (text != NULL && fd >= 0 && n < ENVIRON_BYTES &&
	       (got = read(fd, text + n, ENVIRON_BYTES - n)) > 0)
		n += (size_t)got;
	order_environ(o, text, text != NULL ? n : 0);
	if (fd >= 0)
		close(fd);
	free(text);
}

void
process_close(struct process *p)
{
	int *fds[] = { &p->dir_fd, &p->status_fd, &p->stat_fd, &p->group_fd,
		&p->group_pressure_fd };

	for (unsigned i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

bool
process_sample(struct process *p, struct process_sample *s)
{
	char text[TEXT_BYTES];

	if (!text_read(p->status_fd, text, sizeof text) || !text_status(text, &s->status))
		return false;
	if (text_read(p->group_fd, text, sizeof text))
		(void)text_value(text, &s->group_bytes);
	return true;
}

void
process_sample_more(struct process *p, struct process_sample *s)
{
	char text[TEXT_BYTES];
	struct stat_text stat;

	if (text_read(p->stat_fd, text, sizeof text) && text_stat(text, &stat))
		s->major_faults = stat.major_faults;
	if (text_read(p->group_pressure_fd, text, sizeof text))
		(void)text_pressure(text, &s->group_pressure);
}

/* Linux 6.2 and later say it as the size of the directory; else one by one. */
static uint64_t
count_descriptors(const struct process *p)
{
	int fd = openat(p->dir_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;
	struct stat st;
	uint64_t n = 0;
	DIR *dir;

	if (fd < 0)
		return 0; /* of another user */
	if (fstat(fd, &st) == 0 && st.st_size > 0 && fstatfs(fd, &fs) == 0 &&
	    fs.f_type == PROC_SUPER_MAGIC) {
		close(fd);
		return (uint64_t)st.st_size;
	}
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return 0;
	}
	while (n < DESCRIPTORS_MOST + 2 && readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n >= 2 ? n - 2 : 0; /* "." and ".." */
}

void
process_sample_rest(struct process *p, struct process_sample *s)
{
	s->descriptors = count_descriptors(p);
	s->group_limit_bytes = group_limit(p);
}

enum err
process_pss(const char *proc_dir, uint64_t pid, uint64_t *bytes)
{
	char path[300], text[TEXT_BYTES];
	enum err e = E_NOTFOUND;
	int fd;

	snprintf(path, sizeof path, "%s/%" PRIu64 "/smaps_rollup", proc_dir, pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_from_errno(errno);
	if (text_read(fd, text, sizeof text) && text_pss(text, bytes))
		e = E_OK;
	close(fd);
	return e;
}
