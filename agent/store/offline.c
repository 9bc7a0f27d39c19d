/*
 * offline.c - a data directory without a collector: snapshot, verify, repair.
 * The caller holds the directory's lock; any one thread.  Nothing here changes
 * the buffer, except repair.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/store/projection_check.h"
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
	/* writable, so that the log of a killed collector can be read; query_only writes nothing */
	rc = sqlite3_open_v2(
	    path, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(*out,
		    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON;"
		    " PRAGMA trusted_schema = OFF; SELECT 1 FROM chunk LIMIT 1",
		    NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		return E_OK;
	snprintf(error, STORE_ERROR_BYTES, "%s", sqlite3_errmsg(*out));
	db_close(*out, true);
	return db_error(rc);
}

static enum err
reader_open(const char *dir, struct sqlite_store **out, char error[STORE_ERROR_BYTES])
{
	struct sqlite_store *s = calloc(1, sizeof *s);
	enum err e;

	if (s == NULL)
		return E_NOMEM;
	s->c.base.ops = &sqlite_ops;
	s->reader = true;
	limits_settle(&s->c.limits, NULL, INT64_MAX);
	e = open_source(dir, &s->db, error);
	if (e != E_OK)
		free(s);
	else
		*out = s;
	return e;
}

enum err
store_snapshot(const char *dir, struct store **out, char error[STORE_ERROR_BYTES])
{
	struct sqlite_store *s;
	enum err e = reader_open(dir, &s, error);

	if (e != E_OK)
		return e;
	e = sqlite_load(s);
	if (e != E_OK) {
		snprintf(error, STORE_ERROR_BYTES, "%s", s->c.error);
		sqlite_ops.close(&s->c.base);
		return e;
	}
	*out = &s->c.base;
	return E_OK;
}

enum err
store_verify(const char *dir, struct store_verify_report *out, char error[STORE_ERROR_BYTES])
{
	struct store_check c = { 0 };
	struct sqlite_store *s;
	enum err e = reader_open(dir, &s, error);

	memset(out, 0, sizeof *out);
	if (e != E_OK)
		return e;
	e = check_rows(s->db, &c, 0);
	if (e != E_OK)
		snprintf(error, STORE_ERROR_BYTES, "%s", sqlite3_errmsg(s->db));
	/* where a table or index is damaged the rows cannot be counted: that is the answer */
	c.jobs_db.is = PROJECTION_ABSENT;
	if (sqlite_load(s) == E_OK) {
		check_counters(s, &c);
		c.after = 0;
		if (e == E_OK && !s->no_jobs)
			e = projection_check(dir, &s->c.base, &c, 0);
	}
	out->rows = c.rows;
	out->bad = c.bad;
	out->identity = c.identity;
	out->recount = c.recount;
	out->jobs = c.jobs;
	out->notices = c.notices;
	out->orphans = c.orphans;
	out->jobs_db = c.jobs_db;
	sqlite_ops.close(&s->c.base);
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
