/*
 * file.c - see file.h.  System calls are retried on EINTR; errno is translated
 * where it stops.
 */
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum err
path_join(char *out, size_t cap, const char *dir, const char *name)
{
	size_t n = strlen(dir);
	const char *slash = n > 0 && dir[n - 1] == '/' ? "" : "/";
	int m = snprintf(out, cap, "%s%s%s", dir, slash, name);

	return m < 0 || (size_t)m >= cap ? E_FULL : E_OK;
}

static enum err
copy(char *out, size_t cap, const char *s)
{
	size_t n = strlen(s);

	if (n >= cap)
		return E_FULL;
	memcpy(out, s, n + 1);
	return E_OK;
}

enum err
path_run_dir(const char *given, char *out, size_t cap)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	char shm[64];

	if (given != NULL && given[0] != '\0')
		return copy(out, cap, given);
	if (access("/dev/shm", W_OK) == 0 || xdg == NULL || xdg[0] != '/') {
		snprintf(shm, sizeof shm, "/dev/shm/comfymon-%u", (unsigned)geteuid());
		return copy(out, cap, shm);
	}
	return path_join(out, cap, xdg, "comfymon");
}

enum err
path_data_dir(const char *given, char *out, size_t cap)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (given != NULL && given[0] != '\0')
		return copy(out, cap, given);
	if (state != NULL && state[0] == '/')
		return path_join(out, cap, state, "comfymon");
	if (geteuid() == 0)
		return copy(out, cap, "/var/lib/comfymon");
	if (home == NULL || home[0] != '/')
		return E_NOTFOUND;
	return path_join(out, cap, home, ".local/state/comfymon");
}

static enum err
make_parents(const char *path)
{
	char p[PATH_MAX];
	enum err e = copy(p, sizeof p, path);

	if (e != E_OK)
		return e;
	for (char *s = strchr(p + 1, '/'); s != NULL; s = strchr(s + 1, '/')) {
		*s = '\0';
		if (mkdir(p, 0700) != 0 && errno != EEXIST)
			return err_from_errno(errno);
		*s = '/';
	}
	return E_OK;
}

enum err
dir_prepare(const char *path)
{
	struct stat st;

	if (path[0] == '\0')
		return E_INVAL;
	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		enum err e = errno == ENOENT ? make_parents(path) : err_from_errno(errno);

		if (e != E_OK)
			return e;
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			return err_from_errno(errno);
	}
	if (lstat(path, &st) != 0)
		return err_from_errno(errno);
	if (!S_ISDIR(st.st_mode))
		return E_INVAL;
	if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & 022) != 0)
		return E_PERM;
	return E_OK;
}

enum err
file_open_read(const char *path, int *out)
{
	/* O_NONBLOCK: a fifo in place of the file must not hang us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return err_from_errno(errno);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return E_INVAL;
	}
	*out = fd;
	return E_OK;
}

enum err
file_pread(int fd, void *p, size_t n, uint64_t offset, size_t *got)
{
	size_t done = 0;

	while (done < n) {
		ssize_t m = pread(fd, (char *)p + done, n - done, (off_t)(offset + done));

		if (m < 0 && errno == EINTR)
			continue;
		if (m < 0)
			return err_from_errno(errno);
		if (m == 0)
			break;
		done += (size_t)m;
	}
	*got = done;
	return E_OK;
}

enum err
file_read_all(const char *path, size_t cap, char **out, size_t *bytes)
{
	size_t got = 0, room = 4096;
	char *p = NULL;
	enum err e;
	int fd;

	if ((e = file_open_read(path, &fd)) != E_OK)
		return e;
	for (;;) {
		char *more = realloc(p, room + 1);
		size_t n;

		if (more == NULL) {
			e = E_NOMEM;
			break;
		}
		p = more;
		if ((e = file_pread(fd, p + got, room - got, got, &n)) != E_OK)
			break;
		got += n;
		if (got < room)
			break;
		if (got > cap) {
			e = E_FULL;
			break;
		}
		room *= 2;
	}
	close(fd);
	if (e == E_OK && got > cap)
		e = E_FULL;
	if (e != E_OK) {
		free(p);
		return e;
	}
	p[got] = '\0';
	*out = p;
	*bytes = got;
	return E_OK;
}

int
file_terminal(int fd)
{
	char path[32];

	if (!isatty(fd))
		return -1;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static enum err
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t m = write(fd, p, n);

		if (m < 0 && errno == EINTR)
			continue;
		if (m < 0)
			return err_from_errno(errno);
		p += m;
		n -= (size_t)m;
	}
	return fsync(fd) == 0 ? E_OK : E_IO;
}

enum err
file_write_atomic(const char *path, const void *data, size_t n)
{
	char temporary[PATH_MAX], folder[PATH_MAX];
	int fd, m = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
	enum err e;

	if (m < 0 || (size_t)m >= sizeof temporary)
		return E_FULL;
	memcpy(folder, temporary, (size_t)m + 1);
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return err_from_errno(errno);
	e = write_all(fd, data, n);
	if (close(fd) != 0 && e == E_OK)
		e = E_IO;
	if (e == E_OK && rename(temporary, path) != 0)
		e = err_from_errno(errno);
	if (e != E_OK) {
		unlink(temporary);
		return e;
	}
	fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return E_IO;
	e = fsync(fd) == 0 ? E_OK : E_IO;
	close(fd);
	return e;
}
