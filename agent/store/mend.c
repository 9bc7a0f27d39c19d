/*
 * mend.c - the file was taken away under the open store: removed, or another
 * put in its place.  The owner's thread only.
 *
 * As long as it is open the file lives, and all of it can be read: it is copied
 * page by page to where it was, and opened there.  A new, empty one would lose
 * what waits; to go on with the old one would lose it at the agent's end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/store/sqlite.h"

#define COPY_NAME STORE_FILE_NAME ".copy"

static bool
is_moved(struct sqlite_store *s)
{
	int moved = 0;

	return sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
	       moved != 0;
}

static enum err
sync_path(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	enum err e;

	if (fd < 0)
		return err_from_errno(errno);
	e = fsync(fd) == 0 ? E_OK : E_IO;
	close(fd);
	return e;
}

/* All pages, as committed, into a new file. */
static enum err
write_copy(struct sqlite_store *s, const char *path)
{
	sqlite3 *to = NULL;
	sqlite3_backup *b = NULL;
	mode_t mask = umask(077);
	int rc;

	(void)unlink(path); /* of a copy that was not finished */
	rc = sqlite3_open_v2(path, &to,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
	    NULL);
	umask(mask);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(to, "PRAGMA journal_mode = OFF", NULL, NULL, NULL);
	if (rc == SQLITE_OK) {
		b = sqlite3_backup_init(to, "main", s->db, "main");
		rc = b != NULL ? sqlite3_backup_step(b, -1) : sqlite3_errcode(to);
	}
	if (b != NULL && sqlite3_backup_finish(b) != SQLITE_OK && rc == SQLITE_DONE)
		rc = SQLITE_IOERR;
	if (rc == SQLITE_DONE)
		rc = SQLITE_OK;
	sqlite3_close(to);
	return rc == SQLITE_OK ? sync_path(path, O_RDONLY)
			       : common_fail(&s->c, db_error(rc), "%s", sqlite3_errstr(rc));
}

/* What lies there now goes aside; a log that lies there alone would be replayed into the copy. */
static enum err
make_way(struct sqlite_store *s, bool replaced)
{
	char path[600], aside[512];

	if (replaced)
		return move_aside(s->dir, aside);
	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME "-wal", s->dir);
	return unlink(path) == 0 || errno == ENOENT ? E_OK : err_from_errno(errno);
}

enum err
sqlite_mend(struct store *st, bool *mended)
{
	struct sqlite_store *s = sqlite_of(st);
	char path[600], copy[608];
	int64_t size = -1;
	enum err e;

	*mended = false;
	if (s->c.in_txn)
		return common_fail(&s->c, E_STATE, "a transaction is running");
	if (s->db == NULL || !is_moved(s))
		return E_OK;
	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, s->dir);
	snprintf(copy, sizeof copy, "%s/" COPY_NAME, s->dir);
	e = db_check_file(s->dir, path, &size, s->c.error);
	if (e == E_OK)
		e = write_copy(s, copy);
	if (e == E_OK)
		e = make_way(s, size >= 0);
	if (e == E_OK && rename(copy, path) != 0)
		e = err_from_errno(errno);
	if (e == E_OK)
		e = sync_path(s->dir, O_RDONLY | O_DIRECTORY);
	if (e != E_OK) {
		(void)unlink(copy);
		return e;
	}
	s->ballast.held = false; /* it may have gone as well; made anew by maintain */
	sqlite_detach(s, true);
	e = sqlite_attach(s, NULL);
	*mended = e == E_OK;
	return e;
}
