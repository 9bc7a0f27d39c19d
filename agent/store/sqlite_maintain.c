/*
 * sqlite_maintain.c - what a store does when nobody asks: ages and caps, the
 * file's size, checkpoints, the ballast.  The owner's thread only; each call is
 * bounded to a few slices, so that the pipeline is never held up for long.
 */
#include "agent/base/clock.h"
#include "agent/store/sqlite.h"

#define SLICE_ROWS   64
#define SLICES       8
#define VACUUM_PAGES 128
#define PROBE_KEEP_S (7 * 86400ull)

/* Is a thing of that time older than age? A time in the future is young. */
static bool
too_old(uint64_t now_ns, uint64_t then_ns, uint64_t age_s)
{
	return then_ns < now_ns && (now_ns - then_ns) / NS_PER_S > age_s;
}

/* The disk is below its floor or was full: what we keep for the views only must go. */
static bool
disk_wants_history(const struct sqlite_store *s)
{
	return s->disk_low || s->ballast.released;
}

/* One loser by history's cap or by age; E_NOTFOUND: nobody has to go. */
static enum err
evict_aged(struct sqlite_store *s, uint64_t now_ns)
{
	sqlite3_stmt *q = sq(s, STMT_HISTORY_OLDEST);
	enum err e = sq_row(s, q);

	if (e == E_OK) {
		int64_t chunk = sqlite3_column_int64(q, 0);
		bool goes = s->c.now.total[TOTAL_HISTORY_BYTES] > s->c.limits.history_bytes ||
			    disk_wants_history(s) ||
			    too_old(now_ns, sq_u64(q, 2), s->c.limits.history_age_s);

		sq_reset(q);
		if (goes)
			return chunk_evict(s, chunk, DROP_TOO_OLD);
	} else if (e != E_NOTFOUND) {
		return e;
	}
	for (int class = 0; class <= CHUNK_ERROR; class ++) {
		q = sq(s, STMT_QUEUE_NEXT);
		sqlite3_bind_int(q, 1, class);
		sqlite3_bind_int64(q, 2, 0);
		e = sq_row(s, q);
		if (e == E_NOTFOUND)
			continue;
		if (e != E_OK)
			return e;

		int64_t chunk = sqlite3_column_int64(q, 0);
		bool goes = too_old(now_ns, sq_u64(q, 1), s->c.limits.cap_age_s) &&
			    lease_count(&s->c.leases, chunk) == 0;

		sq_reset(q);
		if (goes)
			return chunk_evict(s, chunk, DROP_TOO_OLD);
	}
	return E_NOTFOUND;
}

/* One loser by size: intake shall find room before it asks. */
static enum err
evict_full(struct sqlite_store *s)
{
	uint64_t used, limit = s->c.limits.cap_bytes - s->c.limits.reserve_bytes;
	enum err e = space_used(s, &used);

	if (e != E_OK)
		return e;
	return used > limit - limit / 32 ? space_evict_one(s) : E_NOTFOUND;
}

static enum err
evict_slices(struct sqlite_store *s, uint64_t now_ns)
{
	for (int i = 0; i < SLICES; i++) {
		enum err e = sqlite_begin(&s->c.base), found = E_OK;

		if (e != E_OK)
			return e;
		for (int k = 0; k < SLICE_ROWS && found == E_OK; k++) {
			found = evict_aged(s, now_ns);
			if (found == E_NOTFOUND)
				found = evict_full(s);
		}
		if (found != E_OK && found != E_NOTFOUND) {
			sqlite_rollback(&s->c.base);
			return found;
		}
		e = sqlite_commit(&s->c.base);
		if (e != E_OK) {
			sqlite_rollback(&s->c.base);
			return e;
		}
		if (found == E_NOTFOUND)
			break;
	}
	return E_OK;
}

/* Closed probes whose rows must all have gone by age. */
static enum err
forget_probes(struct sqlite_store *s, uint64_t now_ns)
{
	uint64_t keep_s = s->c.limits.cap_age_s + s->c.limits.history_age_s + PROBE_KEEP_S;
	sqlite3_stmt *q;
	bool own;
	enum err e;

	if (now_ns / NS_PER_S <= keep_s)
		return E_OK;
	e = own_begin(s, &own);
	if (e != E_OK)
		return e;
	q = sq(s, STMT_PROBE_OLD);
	sqlite3_bind_int64(q, 1, (int64_t)(now_ns - keep_s * NS_PER_S));
	return own_end(s, own, sq_done(s, q));
}

static enum err
shrink(struct sqlite_store *s, bool idle)
{
	int64_t unused = 0;
	enum err e = sq_number(s, STMT_FREELIST_COUNT, &unused);
	int rc = SQLITE_OK, frames = 0;

	if (e == E_OK && unused > VACUUM_PAGES && (idle || disk_wants_history(s)))
		rc = sqlite3_exec(s->db, "PRAGMA incremental_vacuum(128)", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return sq_fail(s, rc);
	if (e == E_OK && s->wal_pages > 0 && (idle || disk_wants_history(s))) {
		rc = sqlite3_wal_checkpoint_v2(
		    s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, &frames, NULL);
		s->wal_pages = 0;
	} else if (e == E_OK && s->wal_pages > log_pages(s)) {
		rc = sqlite3_wal_checkpoint_v2(
		    s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, NULL);
		s->wal_pages = 0;
	}
	return rc == SQLITE_OK ? e : sq_fail(s, rc);
}

enum err
sqlite_maintain(struct store *st, uint64_t now_real_ns, bool idle)
{
	struct sqlite_store *s = sqlite_of(st);
	uint64_t now_ns;
	enum err e;

	if (s->c.in_txn)
		return common_fail(&s->c, E_STATE, "a transaction is running");
	now_ns = common_age_clock(&s->c, now_real_ns);
	(void)space_disk_ok(s); /* ask the kernel once more if it is time */
	e = evict_slices(s, now_ns);
	if (e == E_OK)
		e = jobs_forget(s, now_ns);
	if (e == E_OK && idle)
		e = forget_probes(s, now_ns);
	if (e == E_OK)
		e = shrink(s, idle);
	ballast_restore(s);
	return e;
}
