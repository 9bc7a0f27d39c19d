/*
 * keep_file.c - see keep_file.h.
 */
#include "agent/memory/keep_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/log.h"
#include "schema/wire.h"

struct keep_file {
	char path[512], older[512];
	uint32_t magic, record_bytes;
	pthread_mutex_t lock;
	int fd; /* -1: not begun, or it failed and nothing is kept any more */
	uint64_t bytes;
};

static void
read_one(const struct keep_file *k, const char *path, keep_record_fn fn, void *ctx)
{
	size_t bytes;
	char *text;
	enum err e = file_read_all(path, 2 * KEEP_FILE_BYTES, &text, &bytes);

	if (e == E_NOTFOUND)
		return;
	if (e != E_OK) {
		log_warn("memory_not_restored path=%s error=\"%s\"", path, err_text(e));
		return;
	}
	for (size_t at = 0; at + k->record_bytes <= bytes; at += k->record_bytes) {
		const uint8_t *p = (const uint8_t *)text + at;

		if (wire_get32(p) == k->magic &&
		    wire_get32(p + 4) ==
			wire_crc32c(0, p + KEEP_RECORD_HEAD, k->record_bytes - KEEP_RECORD_HEAD))
			fn(ctx, p);
	}
	free(text);
}

enum err
keep_file_open(const char *data_dir, const char *name, uint32_t magic, uint32_t record_bytes,
    keep_record_fn fn, void *ctx, struct keep_file **out)
{
	struct keep_file *k = calloc(1, sizeof *k);
	enum err e;

	if (k == NULL)
		return E_NOMEM;
	k->fd = -1;
	k->magic = magic;
	k->record_bytes = record_bytes;
	e = path_join(k->path, sizeof k->path, data_dir, name);
	if (e == E_OK &&
	    (size_t)snprintf(k->older, sizeof k->older, "%s.1", k->path) >= sizeof k->older)
		e = E_INVAL;
	if (e != E_OK) {
		free(k);
		return e;
	}
	read_one(k, k->older, fn, ctx);
	read_one(k, k->path, fn, ctx);
	pthread_mutex_init(&k->lock, NULL);
	*out = k;
	return E_OK;
}

/* For appending; what is no whole record at its end is cut off. */
static enum err
open_file(struct keep_file *k)
{
	struct stat st;

	k->fd = open(k->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->fd < 0)
		return err_from_errno(errno);
	if (fstat(k->fd, &st) != 0 || !S_ISREG(st.st_mode))
		return E_IO;
	k->bytes = (uint64_t)st.st_size - (uint64_t)st.st_size % k->record_bytes;
	if (k->bytes != (uint64_t)st.st_size && ftruncate(k->fd, (off_t)k->bytes) != 0)
		return err_from_errno(errno);
	return E_OK;
}

static void
give_up(struct keep_file *k, enum err e)
{
	log_warn("memory_not_kept path=%s error=\"%s\"", k->path, err_text(e));
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

static enum err
turn_over(struct keep_file *k)
{
	close(k->fd);
	k->fd = -1;
	return rename(k->path, k->older) != 0 ? err_from_errno(errno) : open_file(k);
}

enum err
keep_file_start(struct keep_file *k)
{
	enum err e = open_file(k);

	if (e != E_OK)
		give_up(k, e);
	return e;
}

void
keep_file_close(struct keep_file *k)
{
	if (k == NULL)
		return;
	if (k->fd >= 0)
		close(k->fd);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void
keep_file_put(struct keep_file *k, uint8_t *record)
{
	ssize_t n;

	wire_put32(record, k->magic);
	wire_put32(record + 4,
	    wire_crc32c(0, record + KEEP_RECORD_HEAD, k->record_bytes - KEEP_RECORD_HEAD));
	pthread_mutex_lock(&k->lock);
	if (k->fd >= 0 && k->bytes + k->record_bytes > KEEP_FILE_BYTES) {
		enum err e = turn_over(k);

		if (e != E_OK)
			give_up(k, e);
	}
	if (k->fd >= 0) {
		n = write(k->fd, record, k->record_bytes);
		if (n != (ssize_t)k->record_bytes)
			give_up(k, n < 0 ? err_from_errno(errno) : E_FULL);
		else
			k->bytes += k->record_bytes;
	}
	pthread_mutex_unlock(&k->lock);
}
