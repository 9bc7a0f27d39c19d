/*
 * db.c - the database file: who may own it, how it is opened, which schema it
 * has.  The owner's thread only; logs nothing.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/store/migrations.h"
#include "agent/store/sqlite.h"

#define HEAP_LIMIT_BYTES   (32ll << 20)
#define VACUUM_INCREMENTAL 2 /* what PRAGMA auto_vacuum answers */

static enum err say(char error[STORE_ERROR_BYTES], enum err e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum err
say(char error[STORE_ERROR_BYTES], enum err e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, STORE_ERROR_BYTES, fmt, ap);
	va_end(ap);
	return e;
}

enum err
db_check_file(const char *dir, const char *path, int64_t *size, char error[STORE_ERROR_BYTES])
{
	struct stat st;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return say(error, err_from_errno(errno), "%s: %s", dir, strerror(errno));
	if (lstat(dir, &st) != 0)
		return say(error, err_from_errno(errno), "%s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return say(error, E_PERM, "%s is no directory", dir);
	if (st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		return say(error, E_PERM, "%s: others own it or may write to it", dir);
	*size = -1;

	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT)
		return E_OK;
	if (fd < 0)
		return say(error, errno == ELOOP ? E_PERM : err_from_errno(errno),
		    errno == ELOOP ? "%s is a symbolic link%s" : "%s: %s", path,
		    errno == ELOOP ? "" : strerror(errno));

	int rv = fstat(fd, &st);

	close(fd);
	if (rv != 0 || !S_ISREG(st.st_mode))
		return say(error, E_PERM, "%s is no regular file", path);
	if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		return say(error, E_PERM, "%s: others own it or may open it", path);
	*size = st.st_size;
	return E_OK;
}

static enum err
run(sqlite3 *db, const char *sql, char error[STORE_ERROR_BYTES])
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	if (rc == SQLITE_OK)
		return E_OK;
	return say(error, db_error(rc), "%s (%d)", sqlite3_errmsg(db), rc);
}

static enum err
number(sqlite3 *db, const char *sql, int64_t *out, char error[STORE_ERROR_BYTES])
{
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(q);
		if (rc == SQLITE_ROW)
			*out = sqlite3_column_int64(q, 0);
		else if (rc == SQLITE_DONE)
			*out = 0;
		sqlite3_finalize(q);
	}
	if (db_error(rc) == E_OK)
		return E_OK;
	return say(error, db_error(rc), "%s (%d)", sqlite3_errmsg(db), rc);
}

/* A database with an application id that is not ours: damaged if the tables are ours, else foreign.
 */
static enum err
check_owner(sqlite3 *db, int64_t app, char error[STORE_ERROR_BYTES])
{
	int64_t tables = 0, ours = 0;
	enum err e;

	if (app == STORE_APPLICATION_ID)
		return E_OK;
	e = number(db, "SELECT count(*) FROM sqlite_schema", &tables, error);
	if (e == E_OK)
		e = number(db,
		    "SELECT count(*) FROM sqlite_schema WHERE name IN"
		    " ('raw','segment','chunk','delivery','probe','counter')",
		    &ours, error);
	if (e != E_OK)
		return e;
	if (tables == 0 && app == 0)
		return E_OK; /* new */
	if (ours == 6)
		return say(error, E_CORRUPT, "application id 0x%08llx is not ours, the tables are",
		    (unsigned long long)app);
	return say(error, E_INVAL, "another program's database (application id 0x%08llx)",
	    (unsigned long long)app);
}

enum err
db_migrate(sqlite3 *db, int *from, char error[STORE_ERROR_BYTES])
{
	int64_t app = 0, version = 0;
	char text[96];
	enum err e = number(db, "PRAGMA application_id", &app, error);

	if (e == E_OK)
		e = number(db, "PRAGMA user_version", &version, error);
	if (e == E_OK)
		e = check_owner(db, app, error);
	if (e != E_OK)
		return e;
	if (version > (int64_t)store_migration_count)
		return say(error, E_STATE,
		    "written by a newer comfymon (version %lld, this is %zu)", (long long)version,
		    store_migration_count);
	if (from != NULL)
		*from =
		    version == 0 || version == (int64_t)store_migration_count ? -1 : (int)version;
	if (version == (int64_t)store_migration_count)
		return E_OK;
	e = run(db, "BEGIN IMMEDIATE", error);
	for (size_t i = (size_t)version; e == E_OK && i < store_migration_count; i++)
		e = run(db, store_migrations[i], error);
	snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %zu",
	    STORE_APPLICATION_ID, store_migration_count);
	if (e == E_OK)
		e = run(db, text, error);
	if (e == E_OK)
		e = run(db, "COMMIT", error);
	if (e != E_OK && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return e;
}

/*
 * Settings in the one order that works: the page size before auto_vacuum.
 * That one is asked for only where it is not so: SQLite writes it to the file
 * each time, a transaction with three syncs at every start.
 */
static enum err
configure(sqlite3 *db, const struct store_limits *limits, char error[STORE_ERROR_BYTES])
{
	static const char *const settings[] = {
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = FULL",
		"PRAGMA secure_delete = FAST",
		"PRAGMA wal_autocheckpoint = 0",
		"PRAGMA journal_size_limit = 16777216",
		"PRAGMA cache_size = -2048",
		"PRAGMA mmap_size = 0",
		"PRAGMA temp_store = MEMORY",
		"PRAGMA trusted_schema = OFF",
		"PRAGMA cell_size_check = ON",
		"PRAGMA foreign_keys = OFF",
	};
	char text[64];
	int64_t page = 0, vacuum = 0;
	enum err e = run(db, "PRAGMA page_size = 16384", error);

	if (e == E_OK)
		e = number(db, "PRAGMA auto_vacuum", &vacuum, error);
	if (e == E_OK && vacuum != VACUUM_INCREMENTAL)
		e = run(db, "PRAGMA auto_vacuum = INCREMENTAL", error);
	for (size_t i = 0; e == E_OK && i < sizeof settings / sizeof settings[0]; i++)
		e = run(db, settings[i], error);
	if (e == E_OK)
		e = number(db, "PRAGMA page_size", &page, error);
	if (e == E_OK)
		e = number(db, "PRAGMA auto_vacuum", &vacuum, error);
	if (e == E_OK && (page != STORE_PAGE_BYTES || vacuum != VACUUM_INCREMENTAL)) {
		/* another program's file is named as such first */
		e = check_owner(db, 0, error);
		return e != E_OK ? e
				 : say(error, E_CORRUPT, "page size %lld, auto_vacuum %lld",
				       (long long)page, (long long)vacuum);
	}
	snprintf(text, sizeof text, "PRAGMA max_page_count = %llu",
	    (unsigned long long)(limits->cap_bytes / STORE_PAGE_BYTES + 64));
	return e != E_OK ? e : run(db, text, error);
}

/*
 * Is this our file with a header that no SQLite can follow?  Then SQLite speaks
 * of an error, a read-only file or an unknown format, and not of damage.
 */
static bool
header_is_damaged(const char *path)
{
	uint8_t h[100];
	size_t got = 0;
	int fd;

	if (file_open_read(path, &fd) != E_OK)
		return false;
	if (file_pread(fd, h, sizeof h, 0, &got) != E_OK)
		got = 0;
	close(fd);
	return got == sizeof h && memcmp(h, "SQLite format 3", 16) == 0 &&
	       wire_get32(h + 68) == htobe32(STORE_APPLICATION_ID) &&
	       (h[18] < 1 || h[18] > 2 || h[19] < 1 || h[19] > 2 ||
		   be32toh(wire_get32(h + 44)) > 4);
}

enum err
db_open(const char *path, const struct store_limits *limits, sqlite3 **out, int *from,
    char error[STORE_ERROR_BYTES])
{
	sqlite3 *db = NULL;
	int64_t version = 0;
	mode_t mask = umask(077);
	int rc = sqlite3_open_v2(path, &db,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
		SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
	    NULL);
	enum err e = db_error(rc);

	if (e != E_OK) {
		say(error, e, "%s: %s", path, db != NULL ? sqlite3_errmsg(db) : "out of memory");
		umask(mask);
		sqlite3_close(db);
		return e;
	}
	sqlite3_hard_heap_limit64(HEAP_LIMIT_BYTES);
	sqlite3_busy_timeout(db, 0);
	sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 32 << 20);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	/* the lock mode before the first access; then, before anything writes, whose file it is */
	e = run(db, "PRAGMA locking_mode = EXCLUSIVE", error);
	if (e == E_OK)
		e = number(db, "PRAGMA user_version", &version, error);
	if (e == E_OK && version > (int64_t)store_migration_count)
		e = db_migrate(db, NULL, error);
	if (e == E_OK)
		e = number(db, "PRAGMA application_id", &version, error);
	if (e == E_OK)
		e = check_owner(db, version, error);
	if (e == E_OK)
		e = configure(db, limits, error);
	if (e == E_OK)
		e = db_migrate(db, from, error);
	umask(mask);
	if (e != E_OK) {
		db_close(db, true);
		return e != E_CORRUPT && header_is_damaged(path) ? E_CORRUPT : e;
	}
	*out = db;
	return E_OK;
}

void
db_close(sqlite3 *db, bool keep_wal)
{
	if (db == NULL)
		return;
	if (keep_wal)
		sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
	sqlite3_close(db);
}
