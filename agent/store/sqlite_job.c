/*
 * sqlite_job.c - the journal of jobs, and what a webhook is still to be told.
 * The owner's thread only.
 */
#include "agent/base/clock.h"
#include "agent/store/sqlite.h"

#define FORGET_SLICE 64
#define FORGET_EACH  64u /* puts between two counts of all jobs */

static uint32_t
job_crc(const struct job_row *j, const uint8_t *blob, size_t bytes)
{
	uint64_t head[] = { (uint64_t)j->id, j->version, (uint64_t)j->probe, (uint64_t)j->state,
		j->queued_real_ns, j->ended_real_ns };

	return wire_crc32c(wire_crc32c(0, head, sizeof head), blob, bytes);
}

enum err
job_read(sqlite3_stmt *q, struct job_row *out)
{
	const uint8_t *blob = sqlite3_column_blob(q, 8);
	size_t bytes = (size_t)sqlite3_column_bytes(q, 8);
	int64_t state = sqlite3_column_int64(q, 3);
	enum err e;

	if (blob == NULL)
		return sqlite3_errcode(sqlite3_db_handle(q)) == SQLITE_NOMEM ? E_NOMEM : E_CORRUPT;
	if (state < 0 || state >= JOB_STATES || (e = job_decode(blob, bytes, out)) != E_OK)
		return E_CORRUPT;
	out->id = sqlite3_column_int64(q, 0);
	out->version = sq_u64(q, 1);
	out->probe = sqlite3_column_int64(q, 2);
	out->state = (enum job_state)state;
	return job_crc(out, blob, bytes) == (uint32_t)sqlite3_column_int64(q, 7) ? E_OK : E_CORRUPT;
}

enum err
sqlite_job_put(struct store *st, struct job_row *j)
{
	struct sqlite_store *s = sqlite_of(st);
	struct job_row row = *j;
	uint8_t blob[JOB_BLOB_MAX];
	sqlite3_stmt *q;
	size_t bytes;
	bool own;
	enum err e;

	if ((unsigned)row.state >= JOB_STATES)
		return common_fail(&s->c, E_INVAL, "no such state of a job");
	if ((e = own_begin(s, &own)) != E_OK)
		return e;
	if (row.id == 0)
		row.id = ++s->last_job;
	else if (row.id > s->last_job)
		s->last_job = row.id;
	row.version = (uint64_t)++s->last_version;
	s->job_puts++;
	bytes = job_encode(blob, &row);
	q = sq(s, STMT_JOB_PUT);
	sqlite3_bind_int64(q, 1, row.id);
	sqlite3_bind_int64(q, 2, (int64_t)row.version);
	sqlite3_bind_int64(q, 3, row.probe);
	sqlite3_bind_int(q, 4, (int)row.state);
	sqlite3_bind_int64(q, 5, (int64_t)row.queued_real_ns);
	sqlite3_bind_int64(q, 6, (int64_t)row.ended_real_ns);
	sqlite3_bind_text(q, 7, row.prompt_id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 8, job_crc(&row, blob, bytes));
	sqlite3_bind_blob64(q, 9, blob, bytes, SQLITE_STATIC);
	e = own_end(s, own, sq_done(s, q));
	if (e == E_OK)
		*j = row;
	return e;
}

enum err
sqlite_job_get(struct store *st, int64_t id, struct job_row *out)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = s->no_jobs ? NULL : sq(s, STMT_JOB_GET);
	enum err e;

	if (s->no_jobs)
		return E_NOTFOUND;
	sqlite3_bind_int64(q, 1, id);
	if ((e = sq_row(s, q)) != E_OK)
		return e;
	e = job_read(q, out);
	sq_reset(q);
	return e == E_CORRUPT ? E_NOTFOUND : e; /* as if it were not there */
}

/* The rows of a bound statement that the filter wants, at most `limit` (0: all). */
static enum err
walk(struct sqlite_store *s, sqlite3_stmt *q, const struct job_filter *f, uint32_t limit, job_fn fn,
    void *ctx)
{
	struct job_row j;
	uint32_t told = 0;
	enum err e = E_OK;
	int rc = SQLITE_ROW;

	if (q == NULL)
		return E_NOMEM;
	while (e == E_OK && (limit == 0 || told < limit) && (rc = sqlite3_step(q)) == SQLITE_ROW) {
		e = job_read(q, &j);
		if (e == E_CORRUPT)
			e = E_OK;
		else if (e == E_OK && (f == NULL || job_wanted(f, &j))) {
			told++;
			e = fn(ctx, &j);
		}
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		e = sq_fail(s, rc);
	sq_reset(q);
	return e;
}

/* The one that a filter wants, -1 when there are several. */
static int
only_state(uint32_t states)
{
	return states != 0 && (states & (states - 1)) == 0 ? __builtin_ctz(states) : -1;
}

enum err
sqlite_jobs(struct store *st, const struct job_filter *f, job_fn fn, void *ctx)
{
	struct sqlite_store *s = sqlite_of(st);
	const uint32_t open = 1u << JOB_QUEUED | 1u << JOB_RUNNING;
	sqlite3_stmt *q;
	int state;

	if (s->no_jobs)
		return E_OK;
	if (f->prompt_id != NULL && f->prompt_begins) {
		q = sq(s, STMT_JOB_BEGINS);
		sqlite3_bind_text(q, 1, f->prompt_id, -1, SQLITE_STATIC);
	} else if (f->prompt_id != NULL) {
		q = sq(s, f->oldest_first ? STMT_JOB_PROMPT_UP : STMT_JOB_PROMPT_DOWN);
		sqlite3_bind_text(q, 1, f->prompt_id, -1, SQLITE_STATIC);
	} else if (f->states == 1u << JOB_QUEUED && f->oldest_first && f->probe != 0) {
		q = sq(s, STMT_JOB_OPEN_UP); /* others may have many that wait, too */
		sqlite3_bind_int64(q, 1, f->probe);
	} else if ((state = only_state(f->states)) >= 0) {
		q = sq(s, f->oldest_first ? STMT_JOB_STATE_UP : STMT_JOB_STATE_DOWN);
		sqlite3_bind_int(q, 1, state);
	} else if (f->states != 0 && (f->states & ~open) == 0) {
		q = sq(s, !f->oldest_first ? STMT_JOB_OPEN_DOWN
			  : f->probe != 0  ? STMT_JOB_OPEN_UP
					   : STMT_JOB_OPEN_ALL);
		if (f->oldest_first && f->probe != 0)
			sqlite3_bind_int64(q, 1, f->probe);
	} else {
		q = sq(s, f->oldest_first ? STMT_JOB_UP : STMT_JOB_DOWN);
	}
	return walk(s, q, f, f->limit, fn, ctx);
}

enum err
sqlite_jobs_changed(struct store *st, uint64_t after, uint32_t limit, job_fn fn, void *ctx)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = s->no_jobs ? NULL : sq(s, STMT_JOB_CHANGED);

	if (s->no_jobs)
		return E_OK;
	sqlite3_bind_int64(q, 1, (int64_t)after);
	return walk(s, q, NULL, limit, fn, ctx);
}

enum err
sqlite_jobs_count(struct store *st, uint64_t count[JOB_STATES])
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = s->no_jobs ? NULL : sq(s, STMT_JOB_COUNTS);
	int rc;

	memset(count, 0, JOB_STATES * sizeof count[0]);
	if (s->no_jobs)
		return E_OK;
	if (q == NULL)
		return E_NOMEM;
	while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
		int64_t state = sqlite3_column_int64(q, 0);

		if (state >= 0 && state < JOB_STATES)
			count[state] = sq_u64(q, 1);
	}
	sq_reset(q);
	return rc == SQLITE_DONE ? E_OK : sq_fail(s, rc);
}

/* ---- notices ------------------------------------------------------------ */

enum err
sqlite_notice_put(struct store *st, int64_t job, enum job_state state)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q;
	bool own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return e;
	q = sq(s, STMT_NOTICE_PUT);
	sqlite3_bind_int64(q, 1, job);
	sqlite3_bind_int(q, 2, (int)state);
	return own_end(s, own, sq_done(s, q));
}

enum err
sqlite_notice_next(
    struct store *st, uint64_t now_real_ns, struct notice_row *out, uint64_t *next_real_ns)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = sq(s, STMT_NOTICE_NEXT);
	uint64_t next;
	enum err e = sq_row(s, q);

	*next_real_ns = 0;
	if (e != E_OK)
		return e;
	*out = (struct notice_row){ .id = sqlite3_column_int64(q, 0),
		.job = sqlite3_column_int64(q, 1),
		.state = (enum job_state)sqlite3_column_int64(q, 2),
		.attempts = (uint32_t)sqlite3_column_int64(q, 3),
		.refusals = (uint32_t)sqlite3_column_int64(q, 4) };
	next = sq_u64(q, 5);
	sq_reset(q);
	if (store_due(next, now_real_ns))
		return E_OK;
	*next_real_ns = next;
	return E_NOTFOUND;
}

enum err
sqlite_notice_settle(
    struct store *st, int64_t notice, enum notice_end end, uint64_t next_try_real_ns)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q;
	bool own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return e;
	q = sq(s, end == NOTICE_DONE ? STMT_NOTICE_DELETE : STMT_NOTICE_LATER);
	sqlite3_bind_int64(q, 1, notice);
	if (end != NOTICE_DONE) {
		sqlite3_bind_int64(q, 2, (int64_t)next_try_real_ns);
		sqlite3_bind_int(q, 3, end == NOTICE_REFUSED);
	}
	e = sq_done(s, q);
	if (e == E_OK && sqlite3_changes(s->db) == 0)
		e = E_NOTFOUND;
	return own_end(s, own, e);
}

enum err
sqlite_notice_count(struct store *st, uint64_t *out)
{
	struct sqlite_store *s = sqlite_of(st);
	int64_t n = 0;
	enum err e = s->no_jobs ? E_OK : sq_number(s, STMT_NOTICE_COUNT, &n);

	if (e == E_OK)
		*out = (uint64_t)n;
	return e;
}

/* ---- retention ---------------------------------------------------------- */

static enum err
forget(struct sqlite_store *s, uint64_t before_real_ns, int64_t most)
{
	sqlite3_stmt *q = sq(s, STMT_JOB_FORGET);

	sqlite3_bind_int64(q, 1, (int64_t)before_real_ns);
	sqlite3_bind_int64(q, 2, most);
	return sq_done(s, q);
}

enum err
jobs_forget(struct sqlite_store *s, uint64_t now_real_ns)
{
	uint64_t age_ns = s->c.limits.jobs_age_s * NS_PER_S;
	int64_t count = 0, most = (int64_t)s->c.limits.jobs_max;
	bool own;
	enum err e;

	if (s->job_puts < FORGET_EACH && s->last_job > 0 && s->jobs_looked_ns != 0 &&
	    now_real_ns - s->jobs_looked_ns < 60 * NS_PER_S)
		return E_OK;
	if (s->last_job == 0)
		return E_OK;
	if ((e = own_begin(s, &own)) != E_OK)
		return e;
	e = sq_number(s, STMT_JOB_COUNT, &count);
	if (e == E_OK && count > most)
		e = forget(s, INT64_MAX, count - most < FORGET_SLICE ? count - most : FORGET_SLICE);
	if (e == E_OK && now_real_ns > age_ns)
		e = forget(s, now_real_ns - age_ns, FORGET_SLICE);
	e = own_end(s, own, e);
	if (e == E_OK && count <= most + FORGET_SLICE) {
		s->job_puts = 0;
		s->jobs_looked_ns = now_real_ns;
	}
	return e;
}
