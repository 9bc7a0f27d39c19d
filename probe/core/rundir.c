/*
 * rundir.c - the run directory chosen and checked, ring sizes decided.  The
 * starter's thread only.
 */
#include "probe/core/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "schema/frame.h"

#define RING_MAX_BYTES  (UINT64_C(16) << 20)
#define RING_MIN_BYTES  (UINT64_C(1) << 20)
#define CHILDREN_MAX    8
#define CGROUP_ROOT     "/sys/fs/cgroup"
#define CGROUP_V1_LIMIT CGROUP_ROOT "/memory/memory.limit_in_bytes"

static int
open_checked(const char *path, char *reason, size_t cap)
{
	const char *wrong = NULL;
	struct stat st;
	int fd;

	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		snprintf(reason, cap, "cannot make the run directory %s: %s", path,
		    strerrordesc_np(errno));
		return -1;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		snprintf(reason, cap, "cannot open the run directory %s: %s", path,
		    strerrordesc_np(errno));
		return -1;
	}
	if (fstat(fd, &st) != 0)
		wrong = "cannot be examined";
	else if (st.st_uid != geteuid())
		wrong = "belongs to another user";
	else if ((st.st_mode & 066) != 0) /* 0711: the agent lets other users reach its socket */
		wrong = "is open to other users (its mode must be 0700 or 0711)";
	if (wrong == NULL)
		return fd;
	snprintf(reason, cap, "the run directory %s %s", path, wrong);
	close(fd);
	return -1;
}

int
rundir_open(const char *given, char path[RUNDIR_PATH_BYTES], char *reason, size_t cap)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n, fd;

	if (given == NULL || *given == '\0')
		given = getenv("COMFYMON_RUN_DIR");
	if (given != NULL && *given != '\0') {
		if (*given != '/') {
			snprintf(
			    reason, cap, "the run directory %s is not an absolute path", given);
			return -1;
		}
		n = snprintf(path, RUNDIR_PATH_BYTES, "%s", given);
		if (n >= RUNDIR_PATH_BYTES - (int)sizeof RUN_CONTROL_NAME) {
			snprintf(reason, cap, "the run directory's name is too long for a socket");
			return -1;
		}
		return open_checked(path, reason, cap);
	}
	snprintf(path, RUNDIR_PATH_BYTES, "/dev/shm/comfymon-%u", (unsigned)geteuid());
	fd = open_checked(path, reason, cap);
	if (fd >= 0 || xdg == NULL || *xdg != '/')
		return fd;
	n = snprintf(path, RUNDIR_PATH_BYTES, "%s/comfymon", xdg);
	if (n >= RUNDIR_PATH_BYTES - (int)sizeof RUN_CONTROL_NAME)
		return -1;
	return open_checked(path, reason, cap);
}

/* A number in a small file; UINT64_MAX for "max" or what cannot be read. */
static uint64_t
read_limit(const char *path)
{
	char text[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return UINT64_MAX;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0 || text[0] < '0' || text[0] > '9')
		return UINT64_MAX;
	text[n] = '\0';
	return strtoull(text, NULL, 10);
}

uint64_t
rundir_cgroup_limit(void)
{
	uint64_t least = read_limit(CGROUP_V1_LIMIT), one;
	char text[4096], file[4200], *p, *end;
	int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return least;
	text[n] = '\0';
	p = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
	if (p == NULL)
		return least;
	p = strchr(p, '/');
	if ((end = strchr(p, '\n')) != NULL)
		*end = '\0';
	/* From our own group up to the root that we see. */
	for (;;) {
		snprintf(file, sizeof file, CGROUP_ROOT "%s/memory.max", p);
		one = read_limit(file);
		least = one < least ? one : least;
		end = strrchr(p, '/');
		if (end == NULL)
			return least;
		*end = '\0';
	}
}

/* A ring, or one that is being made. */
static bool
is_ring(const char *name)
{
	return strncmp(name, RUN_RING_PREFIX, sizeof RUN_RING_PREFIX - 1) == 0 ||
	       strncmp(name, RUN_NEW_PREFIX, sizeof RUN_NEW_PREFIX - 1) == 0;
}

/* Bytes of all rings here, and how many of them are children's. */
static uint64_t
rings_here(int dir_fd, int *children)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;

	*children = 0;
	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((e = readdir(dir)) != NULL) {
		if (!is_ring(e->d_name) ||
		    fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		sum += (uint64_t)st.st_size;
		*children += (uint64_t)st.st_size < RING_MIN_BYTES;
	}
	closedir(dir);
	return sum;
}

static uint64_t
within_quarter(int dir_fd, uint64_t bytes, uint64_t others, char *reason, size_t cap)
{
	struct statvfs vfs;

	if (fstatvfs(dir_fd, &vfs) != 0) {
		snprintf(reason, cap, "cannot ask for the free space: %s", strerrordesc_np(errno));
		return 0;
	}
	if (others + bytes <= (uint64_t)vfs.f_blocks * vfs.f_frsize / 4)
		return bytes;
	snprintf(reason, cap, "rings would fill more than a quarter of the filesystem");
	return 0;
}

uint64_t
rundir_ring_bytes(int dir_fd, uint64_t wanted, char *reason, size_t cap)
{
	uint64_t bytes = RING_MAX_BYTES, limit = rundir_cgroup_limit(), free_bytes;
	struct statvfs vfs;
	int children;

	if (wanted != 0)
		return within_quarter(dir_fd, wanted, rings_here(dir_fd, &children), reason, cap);
	if (fstatvfs(dir_fd, &vfs) != 0) {
		snprintf(reason, cap, "cannot ask for the free space: %s", strerrordesc_np(errno));
		return 0;
	}
	free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	bytes = free_bytes / 8 < bytes ? free_bytes / 8 : bytes;
	bytes = limit / 64 < bytes ? limit / 64 : bytes;
	if (bytes < RING_MIN_BYTES) {
		snprintf(reason, cap, "too little room for a ring: %llu bytes",
		    (unsigned long long)bytes);
		return 0;
	}
	return within_quarter(dir_fd, bytes, rings_here(dir_fd, &children), reason, cap);
}

uint64_t
rundir_child_bytes(int dir_fd, uint64_t bytes, char *reason, size_t cap)
{
	uint64_t others;
	int children;

	others = rings_here(dir_fd, &children);
	if (children >= CHILDREN_MAX) {
		snprintf(reason, cap, "%d child processes have rings already", children);
		return 0;
	}
	if (bytes >= RING_MIN_BYTES) {
		snprintf(reason, cap, "too many strings to copy for a child's ring");
		return 0;
	}
	return within_quarter(dir_fd, bytes, others, reason, cap);
}
