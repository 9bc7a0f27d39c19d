/*
 * rows.c - the rows at hand, and how a record finds its own.
 *
 * A row that is not at hand is read from the store; one that is there counts,
 * whatever the store says.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/journal/internal.h"

#define LOOK_BACK 64u /* rows of one prompt id that are looked at */

void
rows_fail(struct journal *j, enum err e)
{
	if (j->failed == E_OK)
		j->failed = e;
}

struct row *
rows_add(struct journal *j)
{
	struct row *r;

	if (j->count == j->cap) {
		size_t cap = j->cap > 0 ? 2 * j->cap : 16;
		struct row **rows = realloc(j->rows, cap * sizeof(struct row *));

		if (rows == NULL) {
			rows_fail(j, E_NOMEM);
			return NULL;
		}
		j->rows = rows;
		j->cap = cap;
	}
	r = calloc(1, sizeof *r);
	if (r == NULL) {
		rows_fail(j, E_NOMEM);
		return NULL;
	}
	r->job.item = -1;
	r->used = ++j->clock;
	j->rows[j->count++] = r;
	return r;
}

static struct row *
used(struct journal *j, struct row *r)
{
	if (r != NULL)
		r->used = ++j->clock;
	return r;
}

static struct row *
at_hand(const struct journal *j, int64_t id)
{
	for (size_t i = 0; i < j->count; i++)
		if (j->rows[i]->job.id == id)
			return j->rows[i];
	return NULL;
}

bool
rows_has(const struct journal *j, int64_t id)
{
	return at_hand(j, id) != NULL;
}

/* One of the store's that is not at hand. */
static struct row *
put_down(struct journal *j, const struct job_row *job)
{
	struct row *r = rows_add(j);

	if (r == NULL)
		return NULL;
	r->job = *job;
	r->final_on_disk = job_state_is_final(job->state);
	return r;
}

struct row *
rows_by_id(struct journal *j, int64_t id)
{
	struct row *r = at_hand(j, id);
	struct job_row job;
	enum err e;

	if (r != NULL)
		return used(j, r);
	e = j->o.store->ops->job_get(j->o.store, id, &job);
	if (e == E_OK)
		return put_down(j, &job);
	if (e != E_NOTFOUND)
		rows_fail(j, e);
	return NULL;
}

/*
 * A question to rows at hand and to those of the store: does this one fit?  What
 * has a span's id is among the newest of its prompt id; who waits for a thread has
 * waited for longest, behind however many of that prompt id.
 */
struct question {
	const struct span_seen *s;
	const char *prompt_id;
	bool (*fits)(const struct question *q, const struct job_row *job);
	bool oldest_queued;
};

static bool
same_trace(const struct question *q, const struct job_row *job)
{
	return job->probe == q->s->probe && job->trace_lo == q->s->span->trace_lo &&
	       job->trace_hi == q->s->span->trace_hi &&
	       (q->prompt_id[0] == '\0' || strcmp(job->prompt_id, q->prompt_id) == 0);
}

/* Rows lie as they came to hand, mostly the oldest first. */
static struct row *
search_hand(const struct journal *j, const struct question *q)
{
	for (size_t i = 0; i < j->count; i++) {
		struct row *r = j->rows[q->oldest_queued ? i : j->count - 1 - i];

		if (q->fits(q, &r->job))
			return r;
	}
	return NULL;
}

struct search {
	struct journal *j;
	const struct question *q;
	struct row *found;
};

static enum err
look(void *ctx, const struct job_row *job)
{
	struct search *s = ctx;

	/* What is at hand was asked already, and is newer than this. */
	if (at_hand(s->j, job->id) != NULL || !s->q->fits(s->q, job))
		return E_OK;
	s->found = put_down(s->j, job);
	return E_EXISTS; /* seen enough */
}

static struct row *
search(struct journal *j, const struct question *q)
{
	struct search s = { .j = j, .q = q, .found = search_hand(j, q) };
	struct job_filter queued = {
		.probe = q->s->probe, .states = 1u << JOB_QUEUED, .oldest_first = true
	};
	struct job_filter newest = {
		.probe = q->s->probe, .prompt_id = q->prompt_id, .limit = LOOK_BACK
	};
	enum err e;

	if (s.found != NULL || q->prompt_id[0] == '\0')
		return used(j, s.found);
	e = j->o.store->ops->jobs(j->o.store, q->oldest_queued ? &queued : &newest, look, &s);
	if (e != E_OK && e != E_EXISTS)
		rows_fail(j, e);
	return used(j, s.found);
}

static bool
is_wait(const struct question *q, const struct job_row *job)
{
	return same_trace(q, job) && job->wait_span == q->s->span->span_id;
}

static bool
is_run(const struct question *q, const struct job_row *job)
{
	return same_trace(q, job) && job->run_span == q->s->span->span_id;
}

/* One that waits for its run. */
static bool
lacks_run(const struct question *q, const struct job_row *job)
{
	return same_trace(q, job) && job->run_span == 0 && job->state == JOB_QUEUED;
}

/* A run that has seen nothing of its wait. */
static bool
lacks_wait(const struct question *q, const struct job_row *job)
{
	return same_trace(q, job) && job->wait_span == 0;
}

static bool
may_hold_node(const struct question *q, const struct job_row *job)
{
	return same_trace(q, job) && (job->state == JOB_RUNNING || job->state == JOB_FAILED);
}

struct row *
rows_of_wait(struct journal *j, const struct span_seen *s, const struct facts *f)
{
	struct question q = { s, f->prompt_id, is_wait, false };
	struct row *r = search(j, &q);

	q.fits = lacks_wait;
	return r != NULL ? r : used(j, search_hand(j, &q));
}

struct row *
rows_of_run(struct journal *j, const struct span_seen *s, const struct facts *f)
{
	struct question q = { s, f->prompt_id, is_run, false };
	struct row *r = search(j, &q);

	q.fits = lacks_run;
	q.oldest_queued = true;
	return r != NULL ? r : search(j, &q);
}

struct row *
rows_of_node(struct journal *j, const struct span_seen *s, const struct facts *f)
{
	struct question q = { s, f->prompt_id, may_hold_node, false };

	return search(j, &q);
}

struct gather {
	struct journal *j;
	size_t known; /* rows that were at hand before; those behind them are all others */
};

static enum err
gather(void *ctx, const struct job_row *job)
{
	struct gather *g = ctx;

	for (size_t i = 0; i < g->known; i++)
		if (g->j->rows[i]->job.id == job->id)
			return E_OK;
	return put_down(g->j, job) != NULL ? E_OK : E_NOMEM;
}

void
rows_gather(struct journal *j, int64_t probe, uint32_t states)
{
	struct job_filter f = { .probe = probe, .states = states, .oldest_first = true };
	struct gather g = { j, j->count };
	enum err e = j->o.store->ops->jobs(j->o.store, &f, gather, &g);

	if (e != E_OK)
		rows_fail(j, e);
}
