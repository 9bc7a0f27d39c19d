/*
 * file.c - chunks to a file as JSON lines, one a trace: appended, synced, and
 * taken back when the disk refuses half of it.  Exporter's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/exporter/line.h"

#define ROTATE_BYTES (256ll * 1024 * 1024)

/* A line that a crash cut short: end it, so that the next one stands alone. */
static void
repair_end(int fd, off_t size)
{
	char last = '\n';

	if (size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n')
		(void)!write(fd, "\n", 1);
}

static enum err
open_file(struct line *l)
{
	char old[sizeof l->options.url + 8];
	struct stat st;

	if (l->fd >= 0 && fstat(l->fd, &st) == 0 && st.st_size >= ROTATE_BYTES) {
		snprintf(old, sizeof old, "%s.1", l->options.url);
		close(l->fd);
		l->fd = -1;
		if (rename(l->options.url, old) != 0)
			return err_from_errno(errno);
	}
	if (l->fd >= 0)
		return E_OK;
	l->fd = open(l->options.url,
	    O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (l->fd < 0)
		return err_from_errno(errno);
	if (fstat(l->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		file_fini(l);
		return E_INVAL;
	}
	if (st.st_uid != geteuid()) { /* laid there by somebody who wants to read along */
		file_fini(l);
		return E_PERM;
	}
	repair_end(l->fd, st.st_size);
	return E_OK;
}

static enum err
append(struct line *l)
{
	struct stat before;
	size_t at = 0;

	if (fstat(l->fd, &before) != 0)
		return err_from_errno(errno);
	while (at < l->body.n) {
		ssize_t n = write(l->fd, l->body.p + at, l->body.n - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			enum err rv = err_from_errno(errno);

			(void)!ftruncate(l->fd, before.st_size);
			return rv;
		}
		at += (size_t)n;
	}
	return fdatasync(l->fd) == 0 ? E_OK : err_from_errno(errno);
}

void
file_write(struct line *l, struct outcome *out)
{
	enum err rv = open_file(l);

	if (rv == E_OK)
		rv = append(l);
	memset(out, 0, sizeof *out);
	out->status = rv == E_OK ? 200 : -1;
	out->error = rv == E_OK ? "" : err_text(rv);
	out->retry_after = "";
}

void
file_fini(struct line *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}
