/*
 * bodies.c - see bodies.h.
 *
 * No descriptor is kept: the host may close what it does not know.  Bytes are
 * counted by each process for itself and begin with what is there, left by
 * lives before this one; when that seems too much, it is counted again, as a
 * collector may have removed them.
 */
#include "probe/core/bodies.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "probe/core/rundir.h"

#define NAME_ID_MAX 64

/* Run directory, its folder, the longest id, serial, suffix. */
_Static_assert(
    COMFYMON_BODY_PATH_BYTES >= RUNDIR_PATH_BYTES + sizeof "/" RUN_BODIES_NAME + BODY_NAME_BYTES,
    "a path fits");
_Static_assert(BODY_NAME_BYTES > NAME_ID_MAX + 1 + 16 + sizeof ".json", "a name fits");

static _Atomic uint64_t used; /* bytes of all files, as far as we know */
static atomic_bool counted;

/* The directory, made when missing; -1 when it is not ours alone. */
static int
open_dir(const char *path)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 077) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static uint64_t
bytes_here(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return UINT64_MAX / 2;
	}
	while ((e = readdir(dir)) != NULL)
		if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	closedir(dir);
	return sum;
}

static bool
is_room(int dir_fd, uint64_t bytes)
{
	struct statvfs vfs;
	uint64_t most = BODY_ALL_MAX_BYTES, eighth;

	if (fstatvfs(dir_fd, &vfs) != 0)
		return false;
	eighth = (uint64_t)vfs.f_blocks * vfs.f_frsize / 8;
	most = eighth < most ? eighth : most;
	if (!atomic_exchange(&counted, true) || atomic_load(&used) + bytes > most)
		atomic_store(&used, bytes_here(dir_fd));
	return atomic_load(&used) + bytes <= most;
}

static bool
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		p += done;
		n -= (size_t)done;
	}
	return true;
}

static bool
write_file(int dir_fd, const char *temporary, const char *name, const char *line, size_t line_bytes,
    const struct comfymon_body_text *b)
{
	int fd =
	    openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool whole;

	if (fd < 0)
		return false;
	whole = write_all(fd, line, line_bytes) && write_all(fd, b->json, b->json_bytes);
	whole = close(fd) == 0 && whole;
	if (whole && renameat(dir_fd, temporary, dir_fd, name) == 0)
		return true;
	unlinkat(dir_fd, temporary, 0);
	return false;
}

enum comfymon_body
comfymon_body_write(const struct comfymon_body_text *b, char path[COMFYMON_BODY_PATH_BYTES],
    const char **name, uint64_t *bytes)
{
	char line[BODY_LINE_MAX_BYTES], temporary[32];
	char probe_id[2 * FRAME_PROBE_ID_BYTES + 1];
	struct comfymon_stats stats;
	unsigned long long serial = comfymon_random_id();
	enum comfymon_body result = COMFYMON_BODY_FAILED;
	size_t id_bytes = strnlen(b->prompt_id, NAME_ID_MAX + 1);
	int n, at, dir_fd;

	if (b->json_bytes > BODY_JSON_MAX_BYTES)
		return COMFYMON_BODY_TOO_LARGE;
	if (id_bytes == 0 || id_bytes > NAME_ID_MAX || strchr(b->prompt_id, '/') != NULL ||
	    *b->prompt_id == '.')
		return COMFYMON_BODY_FAILED;
	comfymon_stats(&stats);
	for (unsigned i = 0; i < FRAME_PROBE_ID_BYTES; i++)
		snprintf(probe_id + 2 * i, 3, "%02x", stats.probe_id[i]);
	n = snprintf(line, sizeof line,
	    BODY_MAGIC "number=%.17g workflow=%08x probe=%s secret=%d bytes=%zu\n", b->number,
	    (unsigned)(b->workflow >> 32), probe_id, b->secret, b->json_bytes);
	at = snprintf(path, COMFYMON_BODY_PATH_BYTES, "%s/" RUN_BODIES_NAME, comfymon_run_dir());
	dir_fd = at > (int)sizeof RUN_BODIES_NAME ? open_dir(path) : -1; /* "": the probe is off */
	if (dir_fd < 0)
		return COMFYMON_BODY_FAILED;
	*bytes = (uint64_t)n + b->json_bytes;
	*name = path + at + 1;
	snprintf(path + at, COMFYMON_BODY_PATH_BYTES - (size_t)at, "/%s-%016llx.json", b->prompt_id,
	    serial);
	snprintf(temporary, sizeof temporary, "%016llx.tmp", serial);
	if (!is_room(dir_fd, *bytes)) {
		result = COMFYMON_BODY_NO_ROOM;
	} else if (write_file(dir_fd, temporary, *name, line, (size_t)n, b)) {
		atomic_fetch_add(&used, *bytes);
		result = COMFYMON_BODY_WRITTEN;
	}
	close(dir_fd);
	return result;
}

void
comfymon_body_remove(const char *path, uint64_t bytes)
{
	/* Gone already: somebody else's business, and counted anew when it matters. */
	if (unlink(path) == 0)
		atomic_fetch_sub(&used, bytes);
}
