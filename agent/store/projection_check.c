/*
 * projection_check.c - each job of the buffer against its row in jobs.db.  See
 * projection_check.h.
 */
#include "agent/store/projection_check.h"

#include <stdio.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/store/common.h"
#include "agent/store/projection.h"
#include "agent/store/projection_row.h"

struct check {
	struct store_check *at;
	sqlite3_stmt *same;
	uint64_t upto, until_mono_ns;
};

static enum err
compare(void *ctx, const struct job_row *j)
{
	struct check *c = ctx;
	struct store_check_projection *found = &c->at->jobs_db;
	int rc;

	c->at->after = (int64_t)j->version;
	if (j->version > c->upto) {
		found->behind++;
	} else {
		projection_bind(c->same, j);
		rc = sqlite3_step(c->same);
		found->equal += rc == SQLITE_ROW;
		found->differ += rc == SQLITE_DONE;
		sqlite3_reset(c->same);
		sqlite3_clear_bindings(c->same);
		if (rc != SQLITE_ROW && rc != SQLITE_DONE)
			return E_IO;
	}
	return c->until_mono_ns != 0 && clock_mono_ns() >= c->until_mono_ns ? E_TIMEOUT : E_OK;
}

/* Which buffer it is of, and how far it came. */
static bool
about(sqlite3 *db, int64_t *buffer, uint64_t *upto)
{
	sqlite3_stmt *q;
	bool ok =
	    sqlite3_prepare_v2(db, "SELECT buffer, upto FROM about", -1, &q, NULL) == SQLITE_OK &&
	    sqlite3_step(q) == SQLITE_ROW;

	if (ok) {
		*buffer = sqlite3_column_int64(q, 0);
		*upto = (uint64_t)sqlite3_column_int64(q, 1);
	}
	sqlite3_finalize(q);
	return ok;
}

static enum err
look(sqlite3 *db, struct store *st, struct check *c)
{
	static const char same[] = "SELECT 1 FROM job WHERE id = ?1 AND (" PROJECTION_COLUMNS
				   ") IS (" PROJECTION_VALUES ")";
	enum projection_is *is = &c->at->jobs_db.is;
	int64_t buffer = 0, ours = 0;
	size_t n = 0;
	enum err e;

	if (!about(db, &buffer, &c->upto))
		return E_OK;
	e = st->ops->meta_get(st, STORE_META_JOBS_DB, &ours, sizeof ours, &n);
	if (e != E_OK || n != sizeof ours || buffer != ours) {
		*is = PROJECTION_OF_ANOTHER;
		return E_OK;
	}
	if (sqlite3_prepare_v2(db, same, -1, &c->same, NULL) != SQLITE_OK)
		return E_OK;
	e = st->ops->jobs_changed(st, (uint64_t)c->at->after, 0, compare, c);
	sqlite3_finalize(c->same);
	if (e == E_OK || e == E_TIMEOUT)
		*is = PROJECTION_READ;
	return e == E_TIMEOUT ? e : E_OK;
}

enum err
projection_check(const char *dir, struct store *st, struct store_check *at, uint64_t until_mono_ns)
{
	struct check c = { .at = at, .until_mono_ns = until_mono_ns };
	sqlite3 *db = NULL;
	char path[600];
	enum err e = E_OK;

	at->jobs_db.is = PROJECTION_ABSENT;
	snprintf(path, sizeof path, "%s/" PROJECTION_FILE_NAME, dir);
	if (access(path, F_OK) != 0)
		return E_OK;
	/* Writable, so that what a killed collector left half done is taken back. */
	at->jobs_db.is = PROJECTION_UNREADABLE;
	if (sqlite3_open_v2(path, &db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
		NULL) == SQLITE_OK &&
	    sqlite3_exec(db, "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF", NULL, NULL,
		NULL) == SQLITE_OK)
		e = look(db, st, &c);
	if (at->jobs_db.is == PROJECTION_UNREADABLE && (sqlite3_errcode(db) & 0xff) == SQLITE_BUSY)
		at->jobs_db.is = PROJECTION_HELD;
	sqlite3_close(db);
	return e;
}
