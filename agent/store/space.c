/*
 * space.c - who loses when the store is full, the disk's floor, the ballast.
 * The owner's thread only.  History goes first, then chunks by class, within a
 * class the oldest; what is leased now is passed over.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/store/sqlite.h"

#define BALLAST_NAME  "ballast"
#define BALLAST_SPARE (4ull << 20) /* beside the log */
#define EVICT_SLICE   64

enum err
space_used(struct sqlite_store *s, uint64_t *out)
{
	int64_t pages = 0, unused = 0;
	enum err e = sq_number(s, STMT_PAGE_COUNT, &pages);

	if (e == E_OK)
		e = sq_number(s, STMT_FREELIST_COUNT, &unused);
	if (e == E_OK)
		*out = (uint64_t)(pages - unused) * STORE_PAGE_BYTES;
	return e;
}

/* The oldest chunk of a class that nobody has leased. */
static enum err
oldest_of_class(struct sqlite_store *s, int class, int64_t *chunk)
{
	int64_t after;
	enum err e;

	*chunk = 0;
	do {
		sqlite3_stmt *q = sq(s, STMT_QUEUE_NEXT);

		after = *chunk;
		sqlite3_bind_int(q, 1, class);
		sqlite3_bind_int64(q, 2, *chunk);
		e = sq_row(s, q);
		if (e != E_OK)
			return e;
		*chunk = sqlite3_column_int64(q, 0);
		sq_reset(q);
		if (*chunk <= after)
			return sq_fail(s, SQLITE_CORRUPT);
	} while (lease_count(&s->c.leases, *chunk) > 0);
	return E_OK;
}

enum err
space_evict_one(struct sqlite_store *s)
{
	int64_t chunk = 0;
	enum err e = sq_number(s, STMT_HISTORY_OLDEST, &chunk);

	for (int class = 0; e == E_NOTFOUND && class <= CHUNK_ERROR; class ++)
		e = oldest_of_class(s, class, &chunk);
	return e == E_OK ? chunk_evict(s, chunk, DROP_STORE_FULL) : e;
}

enum err
space_make(struct sqlite_store *s, uint64_t bytes, uint64_t limit)
{
	uint64_t used;

	for (int i = 0; i < EVICT_SLICE; i++) {
		enum err e = space_used(s, &used);

		if (e == E_OK && used + bytes <= limit)
			return E_OK;
		if (e == E_OK)
			e = space_evict_one(s);
		if (e == E_NOTFOUND)
			return common_fail(&s->c, E_FULL, "full, and nothing may be evicted");
		if (e != E_OK)
			return e;
	}
	return common_fail(&s->c, E_FULL, "full: eviction goes on");
}

static bool
disk_free(const struct sqlite_store *s, uint64_t *out)
{
	struct statvfs v;

	if (statvfs(s->dir, &v) != 0)
		return false;
	*out = (uint64_t)v.f_bavail * v.f_frsize;
	return true;
}

bool
space_disk_ok(struct sqlite_store *s)
{
	uint64_t now = clock_mono_ns(), avail;

	if (s->reader || s->c.limits.free_floor_bytes == 0)
		return true;
	if (s->free_checked_ns == 0 || now - s->free_checked_ns > NS_PER_S) {
		s->free_checked_ns = now;
		s->disk_low = disk_free(s, &avail) && avail < s->c.limits.free_floor_bytes;
	}
	return !s->disk_low;
}

void
ballast_release(struct sqlite_store *s)
{
	char path[600];
	uint64_t avail;

	/* only a full disk asks for it; the cap's own limit does not */
	if (s->reader || !s->ballast.held || !disk_free(s, &avail) || avail > s->ballast.bytes / 2)
		return;
	if (path_join(path, sizeof path, s->dir, BALLAST_NAME) == E_OK)
		unlink(path);
	s->ballast.held = false;
	s->ballast.released = true;
}

void
ballast_restore(struct sqlite_store *s)
{
	char path[600];
	uint64_t avail;
	int fd;

	if (s->reader || s->ballast.held ||
	    path_join(path, sizeof path, s->dir, BALLAST_NAME) != E_OK)
		return;
	/* the log at its longest must go into the database, and deletes must be logged */
	s->ballast.bytes = 2ull * log_pages(s) * STORE_PAGE_BYTES + BALLAST_SPARE;
	if (!disk_free(s, &avail) || avail < 2 * s->ballast.bytes + s->c.limits.free_floor_bytes)
		return;
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	s->ballast.held = posix_fallocate(fd, 0, (off_t)s->ballast.bytes) == 0;
	if (s->ballast.held)
		s->ballast.released = false;
	else
		unlink(path);
	close(fd);
}
