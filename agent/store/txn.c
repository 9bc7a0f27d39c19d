/*
 * txn.c - begin, commit, rollback.  The owner's thread only.  Counters are part
 * of the transaction: written just before the commit, restored by a rollback.
 */
#include "agent/store/sqlite.h"

#define QUARANTINES_MAX 8 /* in a row, without a commit between */

/*
 * After a failed write.  The log may hold a whole transaction whose commit was
 * reported as failed; opening the file anew would replay it, and the caller would
 * do the same work twice.  So the connection stays, and what it knows to be
 * committed goes into the database before the log is cut to nothing.
 */
static enum err
cut_log(struct sqlite_store *s)
{
	int rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

	if (rc != SQLITE_OK)
		return sq_fail(s, rc);
	s->suspect = false;
	s->wal_pages = 0;
	return E_OK;
}

/* After damage or a failed write: make the file one that can be trusted again. */
static enum err
recover(struct sqlite_store *s)
{
	struct store_open_report report;
	enum err e;

	if (!s->damaged && !s->suspect && s->db != NULL)
		return E_OK;
	if (s->reader)
		return common_fail(&s->c, E_IO, "the file cannot be read any more");
	if (s->db != NULL && !s->damaged) {
		e = cut_log(s);
		if (!s->damaged)
			return e;
	}
	if (s->quarantines >= QUARANTINES_MAX)
		return common_fail(&s->c, E_CORRUPT, "the buffer is damaged again and again");
	if (s->db == NULL && !s->damaged) {
		e = sqlite_attach(s, NULL);
		if (e != E_CORRUPT)
			return e;
	}
	s->quarantines++;
	return quarantine(s, &report);
}

enum err
sqlite_begin(struct store *st)
{
	struct sqlite_store *s = sqlite_of(st);
	enum err e;

	if (s->c.in_txn)
		return common_fail(&s->c, E_STATE, "a transaction is running");
	e = recover(s);
	if (e == E_OK)
		e = sq_done(s, sq(s, STMT_BEGIN));
	if (e == E_OK)
		common_begin(&s->c);
	return e;
}

enum err
sqlite_commit(struct store *st)
{
	struct sqlite_store *s = sqlite_of(st);
	enum err e;

	if (!s->c.in_txn)
		return common_fail(&s->c, E_STATE, "no transaction is running");
	if (sqlite3_get_autocommit(s->db)) /* an error ended it already */
		return s->suspect ? E_IO : s->damaged ? E_CORRUPT : E_FULL;
	e = sqlite_counters_write(s);
	if (e == E_OK)
		e = sq_done(s, sq(s, STMT_COMMIT));
	if (e != E_OK)
		return e;
	common_commit(&s->c);
	s->quarantines = 0;
	if (s->wal_pages > 2 * log_pages(s)) /* maintain has not come: bound the file */
		sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	return E_OK;
}

void
sqlite_rollback(struct store *st)
{
	struct sqlite_store *s = sqlite_of(st);

	if (!s->c.in_txn)
		return;
	if (s->db != NULL && !sqlite3_get_autocommit(s->db)) {
		enum err e = sq_done(s, sq(s, STMT_ROLLBACK));

		if (e != E_OK)
			s->suspect = true;
	}
	common_rollback(&s->c);
}

enum err
own_begin(struct sqlite_store *s, bool *own)
{
	*own = !s->c.in_txn;
	if (*own)
		return sqlite_begin(&s->c.base);
	if (sqlite3_get_autocommit(s->db))
		return common_fail(&s->c, E_STATE, "the transaction has failed: roll it back");
	return E_OK;
}

enum err
own_end(struct sqlite_store *s, bool own, enum err e)
{
	if (!own)
		return e;
	if (e == E_OK)
		e = sqlite_commit(&s->c.base);
	if (e != E_OK)
		sqlite_rollback(&s->c.base);
	return e;
}
