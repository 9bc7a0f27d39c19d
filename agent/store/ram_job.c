/*
 * ram_job.c - the journal of jobs in memory.  The owner's thread only.
 */
#include "agent/base/clock.h"
#include "agent/store/store_ram.h"

enum err
ram_job_put(struct store *st, struct job_row *j)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row = j->id != 0 ? ram_find(r, RAM_JOB, j->id) : NULL;
	bool own;
	enum err e;

	if ((unsigned)j->state >= JOB_STATES)
		return common_fail(&r->c, E_INVAL, "no such state of a job");
	if ((e = ram_own_begin(r, &own)) != E_OK)
		return e;
	if (row != NULL) {
		e = ram_change(r, row);
	} else {
		row = ram_insert(r, RAM_JOB, NULL, 0);
		e = row != NULL ? E_OK : E_NOMEM;
	}
	if (e == E_OK) {
		j->id = row->id;
		j->version = ++r->last_version;
		row->u.job = *j;
	}
	return ram_own_end(r, own, e);
}

enum err
ram_job_get(struct store *st, int64_t id, struct job_row *out)
{
	struct ram_row *row = ram_find(ram_of(st), RAM_JOB, id);

	if (row == NULL)
		return E_NOTFOUND;
	*out = row->u.job;
	return E_OK;
}

enum err
ram_jobs(struct store *st, const struct job_filter *f, job_fn fn, void *ctx)
{
	struct ram_row *end = &ram_of(st)->ends[RAM_JOB], *next;
	uint32_t told = 0;
	enum err e = E_OK;

	for (struct ram_row *row = f->oldest_first ? end->next : end->prev;
	     e == E_OK && row != end && (f->limit == 0 || told < f->limit); row = next) {
		next = f->oldest_first ? row->next : row->prev;
		if (!job_wanted(f, &row->u.job))
			continue;
		told++;
		e = fn(ctx, &row->u.job);
	}
	return e;
}

enum err
ram_jobs_changed(struct store *st, uint64_t after, uint32_t limit, job_fn fn, void *ctx)
{
	struct ram_row *end = &ram_of(st)->ends[RAM_JOB];
	enum err e = E_OK;

	for (uint32_t told = 0; e == E_OK && (limit == 0 || told < limit); told++) {
		struct ram_row *best = NULL;

		for (struct ram_row *row = end->next; row != end; row = row->next)
			if (row->u.job.version > after &&
			    (best == NULL || row->u.job.version < best->u.job.version))
				best = row;
		if (best == NULL)
			break;
		after = best->u.job.version;
		e = fn(ctx, &best->u.job);
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

static struct ram_row *
find_notice(struct ram_store *r, int64_t job, const enum job_state *state)
{
	struct ram_row *end = &r->ends[RAM_NOTICE];

	for (struct ram_row *row = end->next; row != end; row = row->next)
		if (row->u.notice.row.job == job &&
		    (state == NULL || row->u.notice.row.state == *state))
			return row;
	return NULL;
}

enum err
ram_notice_put(struct store *st, int64_t job, enum job_state state)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row;
	bool own;
	enum err e;

	if (find_notice(r, job, &state) != NULL)
		return E_OK;
	if ((e = ram_own_begin(r, &own)) != E_OK)
		return e;
	row = ram_insert(r, RAM_NOTICE, NULL, 0);
	if (row == NULL)
		return ram_own_end(r, own, E_NOMEM);
	row->u.notice.row = (struct notice_row){ .job = job, .state = state };
	return ram_own_end(r, own, E_OK);
}

/* Another state of its job is to be told before it. */
static bool
is_behind(struct ram_store *r, const struct ram_row *n)
{
	struct ram_row *end = &r->ends[RAM_NOTICE];

	for (struct ram_row *row = end->next; row != n && row != end; row = row->next)
		if (row->u.notice.row.job == n->u.notice.row.job)
			return true;
	return false;
}

enum err
ram_notice_next(
    struct store *st, uint64_t now_real_ns, struct notice_row *out, uint64_t *next_real_ns)
{
	struct ram_row *end = &ram_of(st)->ends[RAM_NOTICE], *best = NULL;

	*next_real_ns = 0;
	for (struct ram_row *row = end->next; row != end; row = row->next)
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
		const struct job_row *j = &row->u.job;
		bool old =
		    j->ended_real_ns < now_real_ns && now_real_ns - j->ended_real_ns > age_ns;

		next = row->next;
		if (!job_state_is_final(j->state) || j->version == r->last_version ||
		    (count <= r->c.limits.jobs_max && !old) || find_notice(r, j->id, NULL) != NULL)
			continue;
		e = ram_remove(r, row);
		count--;
	}
	return e;
}
