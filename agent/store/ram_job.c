/*
 * ram_job.c - the journal of jobs in memory.  The owner's thread only.
 */
#include "agent/base/clock.h"
#include "agent/store/store_ram.h"

/* Whole again from its blob and what stands beside it. */
static enum err
job_of(const struct ram_row *row, struct job_row *out)
{
	enum err e = job_decode(row->blob, row->u.job.bytes, out);

	out->id = row->id;
	out->version = row->u.job.version;
	out->probe = row->u.job.probe;
	out->state = row->u.job.state;
	return e;
}

static bool
may_go(struct ram_store *r, const struct ram_row *row)
{
	return job_state_is_final(row->u.job.state) && row->next != &r->ends[RAM_JOB] &&
	       row->u.job.newer != &r->versions && ram_notice_of(r, row->id, NULL) == NULL;
}

/* Beyond its share the journal forgets, the oldest first; what still runs, or is to be told, stays,
 * and takes room from the rest. */
static enum err
keep_share(struct ram_store *r)
{
	struct ram_row *end = &r->ends[RAM_JOB], *next;
	enum err e = E_OK;

	for (struct ram_row *row = end->next;
	     e == E_OK && row != end &&
	     r->journal_bytes > r->c.limits.cap_bytes / RAM_JOURNAL_SHARE;
	     row = next) {
		next = row->next;
		if (may_go(r, row))
			e = ram_remove(r, row);
	}
	return e;
}

static enum err
put(struct ram_store *r, struct job_row *j)
{
	struct ram_row *row = j->id != 0 ? ram_find(r, RAM_JOB, j->id) : NULL;
	uint8_t blob[JOB_BLOB_MAX];
	size_t bytes = job_encode(blob, j);
	enum err e;

	if (row != NULL) {
		e = ram_change_blob(r, row, blob, bytes);
		if (e == E_OK)
			ram_newest(r, row);
	} else if ((row = ram_new(r, RAM_JOB, blob, bytes)) != NULL) {
		row->id = j->id; /* of one that was forgotten: it comes back as that */
		e = ram_link(r, row);
	} else {
		e = E_NOMEM;
	}
	if (e != E_OK)
		return e;
	j->id = row->id;
	j->version = ++r->last_version;
	row->u.job.version = j->version;
	row->u.job.ended_real_ns = j->ended_real_ns;
	row->u.job.probe = j->probe;
	row->u.job.state = j->state;
	row->u.job.bytes = bytes;
	return keep_share(r);
}

enum err
ram_job_put(struct store *st, struct job_row *j)
{
	struct ram_store *r = ram_of(st);
	bool own;
	enum err e;

	if ((unsigned)j->state >= JOB_STATES)
		return common_fail(&r->c, E_INVAL, "no such state of a job");
	if ((e = ram_own_begin(r, &own)) != E_OK)
		return e;
	return ram_own_end(r, own, put(r, j));
}

enum err
ram_job_get(struct store *st, int64_t id, struct job_row *out)
{
	struct ram_row *row = ram_find(ram_of(st), RAM_JOB, id);

	return row != NULL ? job_of(row, out) : E_NOTFOUND;
}

enum err
ram_jobs(struct store *st, const struct job_filter *f, job_fn fn, void *ctx)
{
	struct ram_row *end = &ram_of(st)->ends[RAM_JOB], *next;
	struct job_row j;
	uint32_t told = 0;
	enum err e = E_OK;

	for (struct ram_row *row = f->oldest_first ? end->next : end->prev;
	     e == E_OK && row != end && (f->limit == 0 || told < f->limit); row = next) {
		next = f->oldest_first ? row->next : row->prev;
		if ((f->states != 0 && (f->states & 1u << row->u.job.state) == 0) ||
		    (f->probe != 0 && f->probe != row->u.job.probe))
			continue; /* not worth its decoding */
		e = job_of(row, &j);
		if (e != E_OK || !job_wanted(f, &j))
			continue;
		told++;
		e = fn(ctx, &j);
	}
	return e;
}

enum err
ram_jobs_changed(struct store *st, uint64_t after, uint32_t limit, job_fn fn, void *ctx)
{
	struct ram_row *end = &ram_of(st)->versions, *row = end;
	struct job_row j;
	enum err e = E_OK;

	while (row->u.job.older != end && row->u.job.older->u.job.version > after)
		row = row->u.job.older;
	for (uint32_t told = 0; e == E_OK && row != end && (limit == 0 || told < limit); told++) {
		e = job_of(row, &j);
		if (e == E_OK)
			e = fn(ctx, &j);
		row = row->u.job.newer;
	}
	return e;
}

enum err
ram_jobs_count(struct store *st, uint64_t count[JOB_STATES])
{
	struct ram_row *end = &ram_of(st)->ends[RAM_JOB];

	memset(count, 0, JOB_STATES * sizeof count[0]);
	for (struct ram_row *row = end->next; row != end; row = row->next)
		count[row->u.job.state]++;
	return E_OK;
}

/* ---- notices ------------------------------------------------------------ */

enum err
ram_notice_put(struct store *st, int64_t job, enum job_state state)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row = NULL;
	bool own;
	enum err e;

	while ((row = ram_notice_of(r, job, row)) != NULL)
		if (row->u.notice.row.state == state)
			return E_OK;
	if ((e = ram_own_begin(r, &own)) != E_OK)
		return e;
	if ((row = ram_new(r, RAM_NOTICE, NULL, 0)) == NULL)
		return ram_own_end(r, own, E_NOMEM);
	row->u.notice.row = (struct notice_row){ .job = job, .state = state };
	return ram_own_end(r, own, ram_link(r, row));
}

/* Another state of its job is to be told before it. */
static bool
is_behind(struct ram_store *r, const struct ram_row *n)
{
	for (struct ram_row *row = NULL;
	     (row = ram_notice_of(r, n->u.notice.row.job, row)) != NULL;)
		if (row->id < n->id)
			return true;
	return false;
}

enum err
ram_notice_next(
    struct store *st, uint64_t now_real_ns, struct notice_row *out, uint64_t *next_real_ns)
{
	struct ram_row *end = &ram_of(st)->ends[RAM_NOTICE], *best = NULL;

	*next_real_ns = 0;
	for (struct ram_row *row = end->next;
	     row != end && (best == NULL || best->u.notice.next_try > 0); row = row->next)
		if ((best == NULL || row->u.notice.next_try < best->u.notice.next_try) &&
		    !is_behind(ram_of(st), row))
			best = row;
	if (best == NULL)
		return E_NOTFOUND;
	if (!store_due(best->u.notice.next_try, now_real_ns)) {
		*next_real_ns = best->u.notice.next_try;
		return E_NOTFOUND;
	}
	*out = best->u.notice.row;
	out->id = best->id;
	return E_OK;
}

enum err
ram_notice_settle(struct store *st, int64_t notice, enum notice_end end, uint64_t next_try_real_ns)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row = ram_find(r, RAM_NOTICE, notice);
	bool own;
	enum err e;

	if (row == NULL)
		return E_NOTFOUND;
	if ((e = ram_own_begin(r, &own)) != E_OK)
		return e;
	if (end == NOTICE_DONE)
		return ram_own_end(r, own, ram_remove(r, row));
	e = ram_change(r, row);
	if (e == E_OK) {
		row->u.notice.row.attempts++;
		row->u.notice.row.refusals += end == NOTICE_REFUSED;
		row->u.notice.next_try = next_try_real_ns;
	}
	return ram_own_end(r, own, e);
}

enum err
ram_notice_count(struct store *st, uint64_t *out)
{
	struct ram_row *end = &ram_of(st)->ends[RAM_NOTICE];

	*out = 0;
	for (struct ram_row *row = end->next; row != end; row = row->next)
		++*out;
	return E_OK;
}

/* ---- retention ---------------------------------------------------------- */

enum err
ram_jobs_forget(struct ram_store *r, uint64_t now_real_ns)
{
	struct ram_row *end = &r->ends[RAM_JOB], *next;
	uint64_t count = 0, age_ns = r->c.limits.jobs_age_s * NS_PER_S;
	enum err e = E_OK;

	for (struct ram_row *row = end->next; row != end; row = row->next)
		count++;
	for (struct ram_row *row = end->next; e == E_OK && row != end; row = next) {
		uint64_t ended = row->u.job.ended_real_ns;
		bool old = ended < now_real_ns && now_real_ns - ended > age_ns;

		next = row->next;
		if ((count <= r->c.limits.jobs_max && !old) || !may_go(r, row))
			continue;
		e = ram_remove(r, row);
		count--;
	}
	return e;
}
