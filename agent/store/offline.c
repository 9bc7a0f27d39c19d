/*
 * offline.c - a data directory without a collector: snapshot, verify, export,
 * repair.  The caller holds the directory's lock; any one thread.  Nothing here
 * changes the buffer, except repair.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/store/sqlite.h"

static enum err
open_source(const char *dir, sqlite3 **out, char error[STORE_ERROR_BYTES])
{
	char path[600];
	int64_t size = -1;
	int rc;
	enum err e;

	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, dir);
	e = db_check_file(dir, path, &size, error);
	if (e != E_OK)
		return e;
	if (size < 0) {
		snprintf(error, STORE_ERROR_BYTES, "no buffer in %s", dir);
		return E_NOTFOUND;
	}
	rc = sqlite3_open_v2(
	    path, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(*out,
		    "PRAGMA locking_mode = EXCLUSIVE; SELECT 1 FROM chunk LIMIT 1", NULL, NULL,
		    NULL);
	if (rc == SQLITE_OK)
		return E_OK;
	snprintf(error, STORE_ERROR_BYTES, "%s", sqlite3_errmsg(*out));
	db_close(*out, true);
	return db_error(rc);
}

static enum err
snapshot(
    const char *dir, struct store **out, struct copy_result *copied, char error[STORE_ERROR_BYTES])
{
	struct sqlite_store *s = NULL;
	sqlite3 *src;
	enum err e = open_source(dir, &src, error);

	if (e != E_OK)
		return e;
	s = calloc(1, sizeof *s);
	if (s == NULL) {
		db_close(src, true);
		return E_NOMEM;
	}
	s->c.base.ops = &sqlite_ops;
	s->memory = true;
	limits_settle(&s->c.limits, NULL, INT64_MAX);
	sqlite3_hard_heap_limit64(0); /* a short-lived program, the whole buffer in memory */
	e = db_error(sqlite3_open(":memory:", &s->db));
	if (e == E_OK)
		e = db_migrate(s->db, NULL, error);
	if (e == E_OK)
		e = copy_rows(src, s->db, copied);
	db_close(src, true);
	if (e == E_OK)
		e = sqlite_load(s);
	if (e != E_OK) {
		snprintf(error, STORE_ERROR_BYTES, "%s", sqlite3_errmsg(s->db));
		s->c.base.ops->close(&s->c.base);
		return e;
	}
	*out = &s->c.base;
	return E_OK;
}

enum err
store_snapshot(const char *dir, struct store **out, char error[STORE_ERROR_BYTES])
{
	struct copy_result copied;

	return snapshot(dir, out, &copied, error);
}

enum err
store_verify(const char *dir, struct store_verify_report *out, char error[STORE_ERROR_BYTES])
{
	struct copy_result copied;
	struct store_stats stats;
	struct store *st;
	enum err e = snapshot(dir, &st, &copied, error);

	memset(out, 0, sizeof *out);
	if (e != E_OK)
		return e;
	out->rows = copied.rows;
	out->bad = copied.lost;
	e = st->ops->stats(st, &stats);
	if (e == E_OK)
		e = store_recount(st, &out->recount);
	out->identity = true;
	for (int i = 0; i < SIGNAL_COUNT; i++)
		out->identity = out->identity && stats.identity[i];
	st->ops->close(st);
	return e;
}

enum err
store_export(const char *dir, store_chunk_fn fn, void *ctx, char error[STORE_ERROR_BYTES])
{
	struct store *st;
	enum err e = store_snapshot(dir, &st, error);

	if (e != E_OK)
		return e;
	e = st->ops->chunks(st, fn, ctx);
	st->ops->close(st);
	return e;
}

enum err
store_repair(const char *dir, const struct store_limits *limits, struct store_open_report *report)
{
	struct store *st;
	enum err e = store_sqlite_open(dir, limits, &st, report);

	if (e != E_OK)
		return e;
	if (!report->quarantined)
		e = quarantine(sqlite_of(st), report);
	st->ops->close(st);
	return e;
}
