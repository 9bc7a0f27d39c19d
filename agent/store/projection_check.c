/*
 * projection_check.c - each job of the buffer against its row in jobs.db.  See
 * projection_check.h.
 */
#include "agent/store/projection_check.h"

#include <stdio.h>
#include <unistd.h>

#include "agent/store/common.h"
#include "agent/store/projection.h"
#include "agent/store/projection_row.h"

struct check {
	struct store_verify_projection *out;
	sqlite3_stmt *same;
	uint64_t upto;
};

static enum err
compare(void *ctx, const struct job_row *j)
{
	struct check *c = ctx;
	int rc;

	if (j->version > c->upto) {
		c->out->behind++;
		return E_OK;
	}
	projection_bind(c->same, j);
	rc = sqlite3_step(c->same);
	c->out->equal += rc == SQLITE_ROW;
	c->out->differ += rc == SQLITE_DONE;
	sqlite3_reset(c->same);
	sqlite3_clear_bindings(c->same);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? E_OK : E_IO;
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

static enum projection_is
look(sqlite3 *db, struct store *st, struct check *c)
{
	static const char same[] = "SELECT 1 FROM job WHERE id = ?1 AND (" PROJECTION_COLUMNS
				   ") IS (" PROJECTION_VALUES ")";
	int64_t buffer = 0, ours = 0;
	size_t n = 0;
	enum err e;

	if (!about(db, &buffer, &c->upto))
		return PROJECTION_UNREADABLE;
	e = st->ops->meta_get(st, STORE_META_JOBS_DB, &ours, sizeof ours, &n);
	if (e != E_OK || n != sizeof ours || buffer != ours)
		return PROJECTION_OF_ANOTHER;
	if (sqlite3_prepare_v2(db, same, -1, &c->same, NULL) != SQLITE_OK)
		return PROJECTION_UNREADABLE;
	e = st->ops->jobs_changed(st, 0, 0, compare, c);
	sqlite3_finalize(c->same);
	return e == E_OK ? PROJECTION_READ : PROJECTION_UNREADABLE;
}

void
projection_check(const char *dir, struct store *st, struct store_verify_projection *out)
{
	struct check c = { .out = out };
	sqlite3 *db = NULL;
	char path[600];

	*out = (struct store_verify_projection){ .is = PROJECTION_ABSENT };
	snprintf(path, sizeof path, "%s/" PROJECTION_FILE_NAME, dir);
	if (access(path, F_OK) != 0)
		return;
	/* Writable, so that what a killed collector left half done is taken back. */
	out->is = PROJECTION_UNREADABLE;
	if (sqlite3_open_v2(path, &db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
		NULL) == SQLITE_OK &&
	    sqlite3_exec(db, "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF", NULL, NULL,
		NULL) == SQLITE_OK)
		out->is = look(db, st, &c);
	sqlite3_close(db);
}
