/*
 * lock.c - see lock.h.  The text in the file is for people and never decides:
 * the lock does.
 */
#include "agent/service/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"

/* "PID SOCKET\n" as the holder wrote it. */
static void
read_holder(int fd, const char *path, struct service_holder *h)
{
	char text[320];
	unsigned long long pid = 0;
	size_t n;

	memset(h, 0, sizeof *h);
	snprintf(h->path, sizeof h->path, "%s", path);
	if (file_pread(fd, text, sizeof text - 1, 0, &n) != E_OK)
		return;
	text[n] = '\0';
	if (sscanf(text, "%llu %255[^\n]", &pid, h->socket) >= 1)
		h->pid = pid;
}

static enum err
write_holder(int fd, const char *run_dir)
{
	char text[320], socket[256];
	int n;

	if (path_join(socket, sizeof socket, run_dir, RUN_SOCKET_NAME) != E_OK)
		return E_INVAL;
	n = snprintf(text, sizeof text, "%d %s\n", (int)getpid(), socket);
	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return err_from_errno(errno);
	return E_OK;
}

enum err
lock_directory(
    const char *dir, const char *run_dir, uint64_t wait_ms, struct service_holder *holder, int *out)
{
	uint64_t until = clock_mono_ns() + wait_ms * NS_PER_MS;
	char path[256];
	enum err e = path_join(path, sizeof path, dir, LOCK_NAME);
	int fd;

	if (e != E_OK)
		return e;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
	if (fd < 0)
		return err_from_errno(errno);
	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK || clock_mono_ns() >= until) {
			e = errno == EWOULDBLOCK ? E_BUSY : err_from_errno(errno);
			read_holder(fd, path, holder);
			close(fd);
			return e;
		}
		usleep(20000);
	}
	/* A full disk must not keep the agent from starting: the lock is what counts. */
	e = write_holder(fd, run_dir);
	if (e != E_OK && e != E_FULL) {
		close(fd);
		return e;
	}
	*out = fd;
	return E_OK;
}

enum err
service_lock_data(const char *data_dir, uint64_t wait_ms, struct service_holder *holder, int *fd)
{
	return lock_directory(data_dir, data_dir, wait_ms, holder, fd);
}
