/*
 * cycle_jobs.h - the journal's part of cycle.h, which includes it: a job goes
 * through its states in the transactions of its records, none is skipped or repeated, and
 * its end is told once.
 */
#pragma once

struct seen_jobs {
	unsigned ended, other;
	uint64_t version;
};

static inline enum err
see_job(void *ctx, const struct job_row *j)
{
	struct seen_jobs *seen = ctx;

	CHECK(j->version > seen->version);
	seen->version = j->version;
	seen->ended += j->state == JOB_SUCCEEDED;
	seen->other += j->state != JOB_SUCCEEDED;
	return E_OK;
}

static inline enum err
take_job(void *ctx, const struct job_row *j)
{
	*(struct job_row *)ctx = *j;
	return E_OK;
}

/* The job of a round comes to this state; it was in the one before. */
static inline enum err
move_job(struct cycle *c, uint64_t round, enum job_state state)
{
	struct job_row j = { .probe = 1, .item = (int64_t)round, .queued_real_ns = SECOND };
	struct job_filter f = { .prompt_id = j.prompt_id };
	enum err e;

	snprintf(j.prompt_id, sizeof j.prompt_id, "job-%u", (unsigned)round);
	e = c->st->ops->jobs(c->st, &f, take_job, &j);
	if (e != E_OK)
		return e;
	CHECK_EQ(j.id != 0, state != JOB_QUEUED);
	CHECK_EQ(j.state, state == JOB_QUEUED ? JOB_QUEUED : state - 1);
	CHECK_EQ(j.item, round);
	j.state = state;
	if (job_state_is_final(state))
		j.ended_real_ns = 2 * SECOND;
	e = c->st->ops->job_put(c->st, &j);
	if (e == E_OK) {
		CHECK(j.version > c->version);
		c->version_put = j.version;
	}
	if (e == E_OK && job_state_is_final(state))
		e = c->st->ops->notice_put(c->st, j.id, state);
	return e;
}

/* What batch n says of jobs: one comes, the one before begins, the one before that ends. */
static inline enum err
move_jobs(struct cycle *c, uint64_t n)
{
	enum err e = n < ROUNDS ? move_job(c, n, JOB_QUEUED) : E_OK;

	if (e == E_OK && n >= 1 && n - 1 < ROUNDS)
		e = move_job(c, n - 1, JOB_RUNNING);
	if (e == E_OK && n >= 2)
		e = move_job(c, n - 2, JOB_SUCCEEDED);
	return e;
}

/* One end told and recorded; E_NOTFOUND: none is to be told. */
static inline enum err
tell_one(struct cycle *c)
{
	const struct store_ops *ops = c->st->ops;
	enum err e = E_OK;
	uint64_t next;

	if (!c->telling) {
		struct job_row j;

		e = ops->notice_next(c->st, c->clock, &c->notice, &next);
		if (e != E_OK)
			return e;
		e = ops->job_get(c->st, c->notice.job, &j);
		if (e != E_OK)
			return e == E_NOTFOUND ? E_STATE : e;
		CHECK_EQ(j.state, JOB_SUCCEEDED);
		CHECK_EQ(c->notice.state, JOB_SUCCEEDED);
		c->told[(uint64_t)j.item % ROUNDS]++;
		c->telling = true;
	}
	e = ops->notice_settle(c->st, c->notice.id, NOTICE_DONE, 0);
	if (e == E_OK)
		c->telling = false;
	return e == E_NOTFOUND ? E_STATE : e; /* who goes on has not settled it yet */
}

/* Each job is there once and at its end, nobody waits to be told. */
static inline void
judge_jobs(struct cycle *c)
{
	struct seen_jobs seen = { 0 };
	uint64_t waiting;

	CHECK_EQ(c->st->ops->jobs_changed(c->st, 0, 0, see_job, &seen), E_OK);
	CHECK_EQ(seen.ended, ROUNDS);
	CHECK_EQ(seen.other, 0);
	CHECK_EQ(seen.version, c->version);
	CHECK_EQ(c->st->ops->notice_count(c->st, &waiting), E_OK);
	CHECK_EQ(waiting, 0);
}
