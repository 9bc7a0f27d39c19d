/*
 * statement.c - prepared statements and SQLite's codes in the words of the
 * contract.  The owner's thread only.  A statement is prepared at its first use
 * and lives as long as the connection.
 */
#include "agent/store/sqlite.h"

static const char *const statement_sql[STMT_COUNT] = {
#define STMT(name, sql) [STMT_##name] = sql,
#include "agent/store/statements.def"
#undef STMT
};

enum err
db_error(int rc)
{
	if (rc == SQLITE_IOERR_NOMEM)
		return E_NOMEM;
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return E_OK;
	case SQLITE_NOMEM:
		return E_NOMEM;
	case SQLITE_FULL:
		return E_FULL;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return E_BUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return E_CORRUPT;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return E_PERM;
	case SQLITE_CONSTRAINT:
	case SQLITE_TOOBIG:
	case SQLITE_RANGE:
		return E_INVAL;
	case SQLITE_MISUSE:
		return E_STATE;
	default:
		return E_IO;
	}
}

enum err
sq_fail(struct sqlite_store *s, int rc)
{
	enum err e = db_error(rc);

	if (e == E_CORRUPT)
		s->damaged = true;
	else if (e == E_IO)
		s->suspect = true;
	else if (e == E_FULL)
		ballast_release(s);
	return common_fail(&s->c, e, "%s (%d)", sqlite3_errmsg(s->db), rc);
}

sqlite3_stmt *
sq(struct sqlite_store *s, enum stmt_id id)
{
	if (s->stmt[id] == NULL && s->db != NULL) {
		int rc = sqlite3_prepare_v3(
		    s->db, statement_sql[id], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[id], NULL);

		if (rc != SQLITE_OK)
			sq_fail(s, rc);
	}
	return s->stmt[id];
}

void
sq_reset(sqlite3_stmt *q)
{
	sqlite3_reset(q);
	sqlite3_clear_bindings(q);
}

enum err
sq_row(struct sqlite_store *s, sqlite3_stmt *q)
{
	int rc;

	if (q == NULL)
		return s->damaged ? E_CORRUPT : E_IO;
	rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		return E_OK;
	sq_reset(q);
	return rc == SQLITE_DONE ? E_NOTFOUND : sq_fail(s, rc);
}

enum err
sq_done(struct sqlite_store *s, sqlite3_stmt *q)
{
	enum err e = sq_row(s, q);

	if (e == E_OK)
		sq_reset(q);
	return e == E_NOTFOUND ? E_OK : e;
}

void
sq_finalize(struct sqlite_store *s)
{
	for (int i = 0; i < STMT_COUNT; i++) {
		sqlite3_finalize(s->stmt[i]);
		s->stmt[i] = NULL;
	}
}

enum err
sq_number(struct sqlite_store *s, enum stmt_id id, int64_t *out)
{
	sqlite3_stmt *q = sq(s, id);
	enum err e = sq_row(s, q);

	if (e == E_OK) {
		*out = sqlite3_column_int64(q, 0);
		sq_reset(q);
	}
	return e;
}
