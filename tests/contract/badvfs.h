/*
 * badvfs.h - a SQLite VFS that fails on command: the N-th call of the kinds
 * asked for is refused once or from then on; writes are cut short; a power cut
 * throws away what was not synced.  Single-threaded; becomes the default VFS.
 *
 * A power cut keeps, of each file, what its last sync left, and of the later
 * writes and truncations an arbitrary part, the last of them perhaps torn.
 * Syncs of the machine's own disk are skipped: the image here is the disk.
 */
#pragma once

#include <fcntl.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum bad_kind { BAD_OPEN, BAD_READ, BAD_WRITE, BAD_SYNC, BAD_TRUNCATE, BAD_LOCK, BAD_KINDS };

enum bad_how {
	BAD_EIO_ONCE,
	BAD_EIO_FOR_A_WHILE, /* this call and the next four */
	BAD_FULL,            /* no space, for this call and the next four; reads go on */
	BAD_SHORT,           /* half of a write arrives, then an error */
	BAD_BUSY,            /* a lock is taken by somebody else */
	BAD_POWER,           /* the power is cut: this call and all later ones fail */
	BAD_HOWS,
};

struct bad_change {
	int64_t at;
	size_t n; /* 0: truncation to `at` */
	uint8_t *bytes;
};

struct bad_image { /* of one path */
	char path[512];
	uint8_t *durable;
	size_t durable_bytes;
	struct bad_change changes[4096];
	size_t change_count;
};

struct bad_file {
	sqlite3_file base;
	struct bad_image *image;
	sqlite3_file *real; /* behind this struct */
};

#define BAD_FILES 8

static struct {
	sqlite3_vfs vfs, *real;
	struct bad_image images[BAD_FILES];
	enum bad_how how;
	unsigned at;              /* fail the at-th call, 0 never */
	unsigned calls, failed;   /* seen since bad_arm */
	unsigned hits[BAD_KINDS]; /* refused, by kind, since the program began */
	bool off;                 /* the power is gone */
} bad;

static void
bad_arm(enum bad_how how, unsigned at)
{
	bad.how = how;
	bad.at = at;
	bad.calls = bad.failed = 0;
	bad.off = false;
}

/* Is this call refused?  FULL touches what needs space, SHORT and BUSY what they can. */
static bool
bad_refuses(enum bad_kind kind)
{
	unsigned last = bad.at;

	if (bad.off)
		return true;
	if ((bad.how == BAD_FULL && kind != BAD_WRITE && kind != BAD_OPEN && kind != BAD_SYNC) ||
	    (bad.how == BAD_SHORT && kind != BAD_WRITE) ||
	    (bad.how == BAD_BUSY && kind != BAD_LOCK))
		return false;
	bad.calls++;
	if (bad.how == BAD_EIO_FOR_A_WHILE || bad.how == BAD_FULL)
		last = bad.at + 4;
	if (bad.at == 0 || bad.calls < bad.at || bad.calls > last)
		return false;
	bad.failed++;
	bad.hits[kind]++;
	bad.off = bad.how == BAD_POWER;
	return true;
}

static struct bad_file *
bad_of(sqlite3_file *f)
{
	return (struct bad_file *)(void *)f;
}

static void
bad_forget_changes(struct bad_image *m)
{
	for (size_t i = 0; i < m->change_count; i++)
		free(m->changes[i].bytes);
	m->change_count = 0;
}

static void
bad_remember(struct bad_image *m, int64_t at, const void *p, size_t n)
{
	struct bad_change *c = &m->changes[m->change_count];

	if (m->change_count == sizeof m->changes / sizeof m->changes[0])
		abort(); /* the workload outgrew the shim */
	*c = (struct bad_change){ .at = at, .n = n, .bytes = malloc(n > 0 ? n : 1) };
	if (n > 0)
		memcpy(c->bytes, p, n);
	m->change_count++;
}

/* What the file is now is what it will be. */
static void
bad_settle(struct bad_image *m)
{
	int fd = open(m->path, O_RDONLY | O_CLOEXEC);
	off_t n = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;

	bad_forget_changes(m);
	free(m->durable);
	m->durable_bytes = n > 0 ? (size_t)n : 0;
	m->durable = malloc(m->durable_bytes + 1);
	if (fd >= 0 && pread(fd, m->durable, m->durable_bytes, 0) != (ssize_t)m->durable_bytes)
		abort();
	if (fd >= 0)
		close(fd);
}

static struct bad_image *
bad_image(const char *path)
{
	struct bad_image *free_one = NULL;

	for (size_t i = 0; i < BAD_FILES; i++) {
		if (strcmp(bad.images[i].path, path) == 0)
			return &bad.images[i];
		if (free_one == NULL && bad.images[i].path[0] == '\0')
			free_one = &bad.images[i];
	}
	if (free_one == NULL || strlen(path) >= sizeof free_one->path)
		abort();
	memcpy(free_one->path, path, strlen(path) + 1);
	bad_settle(free_one);
	return free_one;
}

static uint32_t
bad_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* After a power cut, with every file closed: make the disk what it may have become. */
static void
bad_power_loss(uint32_t seed)
{
	for (size_t i = 0; i < BAD_FILES; i++) {
		struct bad_image *m = &bad.images[i];
		int fd = m->path[0] != '\0' ? open(m->path, O_RDWR | O_CLOEXEC) : -1;

		if (fd >= 0) {
			if (ftruncate(fd, 0) != 0 || pwrite(fd, m->durable, m->durable_bytes, 0) !=
							 (ssize_t)m->durable_bytes)
				abort();
			for (size_t k = 0; k < m->change_count; k++) {
				struct bad_change *c = &m->changes[k];
				size_t n = c->n;

				if (bad_random(&seed) % 2 == 0)
					continue;
				if (n > 512 && bad_random(&seed) % 8 == 0)
					n = bad_random(&seed) % (n / 512) * 512;
				if (c->n == 0 ? ftruncate(fd, c->at) != 0
					      : pwrite(fd, c->bytes, n, c->at) != (ssize_t)n)
					abort();
			}
			close(fd);
			bad_settle(m);
		}
	}
	bad.off = false;
	bad.at = 0;
}

/* Forget every file: the directory has gone. */
static void
bad_reset(void)
{
	for (size_t i = 0; i < BAD_FILES; i++) {
		bad_forget_changes(&bad.images[i]);
		free(bad.images[i].durable);
		memset(&bad.images[i], 0, sizeof bad.images[i]);
	}
}

static int
bad_close(sqlite3_file *f)
{
	return bad_of(f)->real->pMethods->xClose(bad_of(f)->real);
}

static int
bad_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	if (bad_refuses(BAD_READ))
		return SQLITE_IOERR_READ;
	return bad_of(f)->real->pMethods->xRead(bad_of(f)->real, p, n, at);
}

static int
bad_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct bad_file *b = bad_of(f);
	bool refused = bad_refuses(BAD_WRITE);
	int rc, bytes = !refused ? n : bad.how == BAD_SHORT || bad.how == BAD_POWER ? n / 2 : 0;

	if (bytes > 0 && !(refused && bad.off && bad.failed > 1)) {
		rc = b->real->pMethods->xWrite(b->real, p, bytes, at);
		if (rc != SQLITE_OK)
			return rc;
		bad_remember(b->image, at, p, (size_t)bytes);
	}
	if (refused)
		return bad.how == BAD_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
	return SQLITE_OK;
}

static int
bad_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	struct bad_file *b = bad_of(f);

	if (bad_refuses(BAD_TRUNCATE))
		return SQLITE_IOERR_TRUNCATE;
	bad_remember(b->image, size, NULL, 0);
	return b->real->pMethods->xTruncate(b->real, size);
}

static int
bad_sync(sqlite3_file *f, int flags)
{
	(void)flags;
	if (bad_refuses(BAD_SYNC)) /* some file systems notice a full disk only here */
		return SQLITE_IOERR_FSYNC;
	bad_settle(bad_of(f)->image);
	return SQLITE_OK;
}

static int
bad_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return bad_of(f)->real->pMethods->xFileSize(bad_of(f)->real, size);
}

static int
bad_lock(sqlite3_file *f, int level)
{
	if (bad_refuses(BAD_LOCK))
		return bad.how == BAD_BUSY ? SQLITE_BUSY : SQLITE_IOERR_LOCK;
	return bad_of(f)->real->pMethods->xLock(bad_of(f)->real, level);
}

static int
bad_unlock(sqlite3_file *f, int level)
{
	return bad_of(f)->real->pMethods->xUnlock(bad_of(f)->real, level);
}

static int
bad_reserved(sqlite3_file *f, int *out)
{
	return bad_of(f)->real->pMethods->xCheckReservedLock(bad_of(f)->real, out);
}

static int
bad_control(sqlite3_file *f, int op, void *arg)
{
	return bad_of(f)->real->pMethods->xFileControl(bad_of(f)->real, op, arg);
}

static int
bad_sector(sqlite3_file *f)
{
	return bad_of(f)->real->pMethods->xSectorSize(bad_of(f)->real);
}

static int
bad_traits(sqlite3_file *f)
{
	(void)f;
	return 0; /* nothing is promised: no atomic writes, no safe append */
}

static int
bad_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	static const sqlite3_io_methods methods = {
		.iVersion = 1, /* no shared memory: exclusive locking needs none */
		.xClose = bad_close,
		.xRead = bad_read,
		.xWrite = bad_write,
		.xTruncate = bad_truncate,
		.xSync = bad_sync,
		.xFileSize = bad_size,
		.xLock = bad_lock,
		.xUnlock = bad_unlock,
		.xCheckReservedLock = bad_reserved,
		.xFileControl = bad_control,
		.xSectorSize = bad_sector,
		.xDeviceCharacteristics = bad_traits,
	};
	struct bad_file *b = bad_of(f);
	int rc;

	(void)v;
	f->pMethods = NULL;
	if (bad_refuses(BAD_OPEN))
		return bad.how == BAD_FULL ? SQLITE_FULL : SQLITE_CANTOPEN;
	b->real = (sqlite3_file *)(void *)(b + 1);
	rc = bad.real->xOpen(bad.real, name, b->real, flags, out);
	if (rc == SQLITE_OK) {
		f->pMethods = &methods;
		b->image = bad_image(name != NULL ? name : "temporary");
	}
	return rc;
}

static int
bad_delete(sqlite3_vfs *v, const char *name, int sync)
{
	(void)v;
	if (bad.off)
		return SQLITE_IOERR_DELETE;
	for (size_t i = 0; i < BAD_FILES; i++)
		if (strcmp(bad.images[i].path, name) == 0) {
			bad_forget_changes(&bad.images[i]);
			bad.images[i].durable_bytes = 0;
		}
	return bad.real->xDelete(bad.real, name, sync);
}

static void
bad_install(void)
{
	bad.real = sqlite3_vfs_find(NULL);
	bad.vfs = *bad.real;
	bad.vfs.zName = "bad";
	bad.vfs.szOsFile = (int)sizeof(struct bad_file) + bad.real->szOsFile;
	bad.vfs.xOpen = bad_open;
	bad.vfs.xDelete = bad_delete;
	if (sqlite3_vfs_register(&bad.vfs, 1) != SQLITE_OK)
		abort();
}
