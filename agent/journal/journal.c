/*
 * journal.c - from records to states, and the rows into the transaction.  See
 * journal.h.
 */
#include "agent/journal/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/journal/internal.h"

#define LAST_JOBS 64u /* of a process, that are looked at for the one it ended with */

enum err
journal_new(const struct journal_options *o, struct journal **out)
{
	struct journal *j = calloc(1, sizeof *j);

	if (j == NULL)
		return E_NOMEM;
	j->o = *o;
	*out = j;
	return E_OK;
}

static void
forget_all(struct journal *j)
{
	for (size_t i = 0; i < j->count; i++)
		free(j->rows[i]);
	j->count = 0;
	j->failed = E_OK;
}

void
journal_free(struct journal *j)
{
	if (j == NULL)
		return;
	forget_all(j);
	free(j->rows);
	free(j);
}

void
journal_reset(struct journal *j)
{
	forget_all(j);
}

/* ---- ends --------------------------------------------------------------- */

static void
end_as(struct row *r, enum job_state state, const char *reason, uint64_t at_real_ns)
{
	r->job.state = state;
	if (reason != NULL)
		snprintf(r->job.reason, sizeof r->job.reason, "%s", reason);
	r->job.ended_real_ns = at_real_ns;
	r->dirty = true;
}

static void
ask_death(const struct journal *j, int64_t probe, struct journal_death *d)
{
	memset(d, 0, sizeof *d);
	if (j->o.death != NULL)
		j->o.death(j->o.death_ctx, probe, d);
}

/* What the reader of a dead ring could tell, in the journal's words. */
static const struct {
	const char *type, *reason;
} from_ring[] = {
	{ "lost", "lost" },
	{ "killed.oom", "oom_kernel" },
	{ "killed.signal", "killed" },
	{ "crashed.segv", "crash_segv" },
	{ "crashed.bus", "crash_segv" },
	{ "crashed.abort", "crash_abort" },
	{ "crashed", "crash_segv" },
	{ "exited", "exited" },
};
#define FROM_RING (sizeof from_ring / sizeof from_ring[0])

static const char *
reason_of_type(const char *error_type)
{
	for (size_t i = 0; i < FROM_RING; i++)
		if (strcmp(error_type, from_ring[i].type) == 0)
			return from_ring[i].reason;
	return "lost";
}

/* Was it running when its process ended? Only a verdict of a death has a certainty. */
static bool
ended_by_death(const struct job_row *job)
{
	if (job->state != JOB_FAILED || job->run_span == 0)
		return false;
	for (size_t i = 0; i < FROM_RING; i++)
		if (strcmp(job->reason, from_ring[i].reason) == 0)
			return true;
	return job->certainty[0] != '\0';
}

/* Its process did not live to end it. */
static void
end_by_death(struct row *r, const struct journal_death *d, enum job_state state,
    const char *error_type, uint64_t at_real_ns)
{
	uint64_t begun =
	    r->job.started_real_ns != 0 ? r->job.started_real_ns : r->job.queued_real_ns;

	/* Its own last sign may be long before: a node at work in native code says nothing. */
	if (d->known && d->at_real_ns > begun)
		at_real_ns = d->at_real_ns;
	end_as(r, state, d->known ? d->reason : reason_of_type(error_type), at_real_ns);
	if (!d->known)
		return;
	r->job.signal = d->signal;
	snprintf(r->job.certainty, sizeof r->job.certainty, "%s", d->certainty);
	snprintf(r->job.death, sizeof r->job.death, "%s", d->id);
	if (state == JOB_FAILED && d->peak_bytes > r->job.peak_rss_bytes)
		r->job.peak_rss_bytes = d->peak_bytes;
}

/* ---- the wait ----------------------------------------------------------- */

static bool
new_row(struct journal *j, const struct span_seen *s, const struct facts *f, struct row **out)
{
	struct probe_row probe;
	enum err e = j->o.store->ops->probe_by_row(j->o.store, s->probe, &probe);
	struct row *r;

	if (e != E_OK) {
		rows_fail(j, e);
		return false;
	}
	if ((r = rows_add(j)) == NULL)
		return false;
	r->job.probe = s->probe;
	memcpy(r->job.boot_id, probe.probe_id, sizeof r->job.boot_id);
	r->job.trace_hi = s->span->trace_hi;
	r->job.trace_lo = s->span->trace_lo;
	snprintf(r->job.prompt_id, sizeof r->job.prompt_id, "%s", f->prompt_id);
	r->dirty = true;
	*out = r;
	return true;
}

static uint64_t
real_of(const struct span_seen *s, uint64_t mono_ns)
{
	return mono_ns + (uint64_t)s->offset_ns;
}

static uint64_t
end_of(const struct span_seen *s)
{
	return real_of(s, s->span->start_ns + s->span->duration_ns);
}

static void
see_wait(struct journal *j, const struct span_seen *s, const struct facts *f)
{
	struct row *r = rows_of_wait(j, s, f);
	bool unfinished = s->span->flags & WIRE_SPAN_UNFINISHED;

	if (r == NULL && !new_row(j, s, f, &r))
		return;
	r->job.wait_span = s->span->span_id;
	r->job.queued_real_ns = real_of(s, s->span->start_ns);
	if (f->body[0] != '\0')
		snprintf(r->job.body, sizeof r->job.body, "%s", f->body);
	if (f->item >= 0)
		r->job.item = (int64_t)f->item;
	r->dirty = true;
	/* Its process died while it waited: journal_gone ends it, when all records are in. */
	if (s->open || unfinished || job_state_is_final(r->job.state))
		return;
	if (strcmp(f->status, "cancelled") == 0)
		end_as(r, JOB_CANCELLED, "cancelled", end_of(s));
	else if (s->span->flags & WIRE_SPAN_ERROR)
		end_as(r, JOB_CANCELLED, "refused", end_of(s));
	else if (r->job.started_real_ns == 0)
		r->job.started_real_ns = end_of(s);
}

/* ---- the job ------------------------------------------------------------ */

/* A thread runs one job at a time: what else it ran has ended, and the record of that is lost. */
static void
end_others_of_thread(struct journal *j, const struct row *now, uint64_t at_real_ns)
{
	rows_gather(j, now->job.probe, 1u << JOB_RUNNING);
	for (size_t i = 0; i < j->count; i++) {
		struct row *r = j->rows[i];

		if (r != now && r->job.thread == now->job.thread &&
		    r->job.probe == now->job.probe && r->job.state == JOB_RUNNING)
			end_as(r, JOB_FAILED, "record_lost", at_real_ns);
	}
}

static void
describe(struct row *r, const struct span_seen *s, const struct facts *f)
{
	uint32_t n = 0;
	const char *workflow = span_seen_text(s, s->span->resource, &n);

	if (workflow != NULL && n > 0)
		seen_copy(r->job.workflow, sizeof r->job.workflow, workflow, n);
	if (f->item >= 0)
		r->job.item = (int64_t)f->item;
	if (f->thread > 0)
		r->job.thread = (uint64_t)f->thread;
	if (f->nodes >= 0)
		r->job.nodes = f->nodes < UINT32_MAX ? (uint32_t)f->nodes : UINT32_MAX;
	if (f->executed >= 0)
		r->job.executed = f->executed < UINT32_MAX ? (uint32_t)f->executed : UINT32_MAX;
	if (f->cached >= 0)
		r->job.cached = f->cached < UINT32_MAX ? (uint32_t)f->cached : UINT32_MAX;
	if (f->peak_bytes > (double)r->job.peak_rss_bytes)
		r->job.peak_rss_bytes = (uint64_t)f->peak_bytes;
	r->job.device_error = r->job.device_error || f->device_error;
	r->dirty = true;
}

static void
end_in_words(struct row *r, const struct span_seen *s, const struct facts *f)
{
	uint64_t at = end_of(s);

	if (strcmp(f->status, "success") == 0) {
		end_as(r, JOB_SUCCEEDED, NULL, at);
		r->job.reason[0] = r->job.node_id[0] = r->job.node_class[0] = '\0';
		r->job.error_type[0] = '\0';
	} else if (strcmp(f->status, "interrupted") == 0) {
		end_as(r, JOB_INTERRUPTED, "interrupted", at);
	} else if (strcmp(f->status, "cancelled") == 0) {
		end_as(r, JOB_CANCELLED, "cancelled", at);
	} else if (f->worker_died) {
		end_as(r, JOB_FAILED, "worker_died", at);
	} else if (r->job.device_error) {
		end_as(r, JOB_FAILED, "device_error", at);
	} else if (strcmp(f->status, "error") == 0) {
		end_as(r, JOB_FAILED, r->job.reason[0] != '\0' ? NULL : "error", at);
	} else {
		end_as(r, JOB_FAILED, f->status[0] != '\0' ? f->status : "unknown", at);
	}
	if (r->job.error_type[0] == '\0' && r->job.state == JOB_FAILED)
		snprintf(r->job.error_type, sizeof r->job.error_type, "%s", f->error_type);
}

static void
see_run(struct journal *j, const struct span_seen *s, const struct facts *f)
{
	struct row *r = rows_of_run(j, s, f);
	struct journal_death death;

	if (r == NULL && !new_row(j, s, f, &r))
		return;
	r->job.run_span = s->span->span_id;
	if (r->job.queued_real_ns == 0)
		r->job.queued_real_ns = real_of(s, s->span->start_ns);
	if (r->job.started_real_ns == 0)
		r->job.started_real_ns = real_of(s, s->span->start_ns);
	describe(r, s, f);
	if (r->job.state == JOB_QUEUED)
		r->job.state = JOB_RUNNING;
	if (r->job.thread != 0 && s->open)
		end_others_of_thread(j, r, r->job.started_real_ns);
	if (s->open || r->job.state != JOB_RUNNING)
		return;
	if (!(s->span->flags & WIRE_SPAN_UNFINISHED)) {
		end_in_words(r, s, f);
		return;
	}
	ask_death(j, s->probe, &death);
	end_by_death(r, &death, JOB_FAILED, f->error_type, end_of(s));
}

/* ---- nodes -------------------------------------------------------------- */

/*
 * Only those that failed, or that death met: the first that failed is the one
 * that made the others fail, of those that death met the last begun was at
 * work.
 */
static void
see_node(struct journal *j, const struct span_seen *s, const struct facts *f)
{
	bool unfinished = s->span->flags & WIRE_SPAN_UNFINISHED;
	struct row *r = rows_of_node(j, s, f);

	if (r == NULL) {
		j->counts.orphans++;
		return;
	}
	if (r->job.node_id[0] != '\0' && (!unfinished || s->span->start_ns < r->node_start_ns))
		return;
	r->node_start_ns = s->span->start_ns;
	snprintf(r->job.node_id, sizeof r->job.node_id, "%s", f->node_id);
	snprintf(r->job.node_class, sizeof r->job.node_class, "%s", f->node_class);
	if (!unfinished) {
		snprintf(r->job.error_type, sizeof r->job.error_type, "%s", f->error_type);
		r->job.device_error = r->job.device_error || f->device_error;
		if (r->job.state == JOB_RUNNING && f->oom[0] != '\0')
			snprintf(r->job.reason, sizeof r->job.reason, "%s",
			    strcmp(f->oom, "gpu") == 0 ? "oom_gpu" : "oom_host");
	}
	r->dirty = true;
}

void
journal_see(struct journal *j, const struct span_seen *s)
{
	struct facts f;

	if (s->kind == SPAN_NODE && (s->open || !(s->span->flags & WIRE_SPAN_ERROR)))
		return;
	j->counts.seen++;
	facts_take(&f, s);
	if (s->kind == SPAN_NODE)
		see_node(j, s, &f);
	else if (f.prompt_id[0] == '\0')
		j->counts.orphans++;
	else if (s->kind == SPAN_QUEUE_WAIT)
		see_wait(j, s, &f);
	else
		see_run(j, s, &f);
}

void
journal_gone(struct journal *j, int64_t probe, const uint8_t boot_id[16], uint64_t now_real_ns)
{
	struct journal_death death = { .known = false };
	bool asked = false;

	rows_gather(j, probe, 1u << JOB_QUEUED | 1u << JOB_RUNNING);
	for (size_t i = 0; i < j->count; i++) {
		struct row *r = j->rows[i];

		if (r->job.probe != probe || job_state_is_final(r->job.state) ||
		    memcmp(r->job.boot_id, boot_id, sizeof r->job.boot_id) != 0)
			continue;
		if (!asked)
			ask_death(j, probe, &death);
		asked = true;
		if (r->job.state == JOB_RUNNING)
			end_by_death(r, &death, JOB_FAILED, "", now_real_ns);
		else if (r->job.body[0] == '\0')
			end_by_death(r, &death, JOB_LOST, "", now_real_ns);
		/* else it is queued still: somebody will put it into the queue again, or end it */
	}
}

/* What journal_ended_with looks for, among rows at hand and those of the store. */
struct last {
	const struct journal *j;
	struct job_row *out;
	int64_t probe;
	bool found;
};

static void
judge_last(struct last *l, const struct job_row *job)
{
	if (job->probe != l->probe || (job->state != JOB_RUNNING && !ended_by_death(job)) ||
	    (l->found && job->started_real_ns < l->out->started_real_ns))
		return;
	*l->out = *job;
	l->found = true;
}

static enum err
last_of_store(void *ctx, const struct job_row *job)
{
	struct last *l = ctx;

	if (!rows_has(l->j, job->id))
		judge_last(l, job);
	return E_OK;
}

bool
journal_ended_with(struct journal *j, int64_t probe, struct job_row *out)
{
	struct last l = { .j = j, .out = out, .probe = probe };
	struct job_filter f = {
		.probe = probe, .states = 1u << JOB_RUNNING | 1u << JOB_FAILED, .limit = LAST_JOBS
	};
	enum err e;

	for (size_t i = 0; i < j->count; i++)
		judge_last(&l, &j->rows[i]->job);
	e = j->o.store->ops->jobs(j->o.store, &f, last_of_store, &l);
	if (e != E_OK)
		rows_fail(j, e);
	return l.found;
}

enum err
journal_resolve(
    struct journal *j, int64_t job, enum job_state state, const char *reason, uint64_t now_real_ns)
{
	struct probe_row probe;
	struct row *r = rows_by_id(j, job);

	if (r == NULL)
		return j->failed != E_OK ? j->failed : E_NOTFOUND;
	if (r->dirty && r->job.state == state)
		return E_OK;
	if (r->job.state != JOB_QUEUED || (state != JOB_RESUBMITTED && state != JOB_LOST))
		return E_STATE;
	/* Alive, it would run it yet. */
	if (j->o.store->ops->probe_by_row(j->o.store, r->job.probe, &probe) == E_OK &&
	    memcmp(probe.probe_id, r->job.boot_id, sizeof probe.probe_id) == 0 && !probe.closed)
		return E_STATE;
	end_as(r, state, reason, now_real_ns);
	return E_OK;
}

bool
journal_failed(const struct journal *j)
{
	return j->failed != E_OK;
}

/* ---- transactions ------------------------------------------------------- */

bool
journal_dirty(const struct journal *j)
{
	for (size_t i = 0; i < j->count; i++)
		if (j->rows[i]->dirty)
			return true;
	return j->failed != E_OK;
}

enum err
journal_write(struct journal *j)
{
	const struct store_ops *ops = j->o.store->ops;
	enum err e = j->failed;

	for (size_t i = 0; e == E_OK && i < j->count; i++) {
		struct row *r = j->rows[i];
		bool is_new = r->job.id == 0;

		if (!r->dirty)
			continue;
		e = ops->job_put(j->o.store, &r->job);
		r->fresh = r->fresh || (is_new && e == E_OK);
		if (e == E_OK && j->o.notices && job_state_is_final(r->job.state) &&
		    !r->final_on_disk)
			e = ops->notice_put(j->o.store, r->job.id, r->job.state);
	}
	return e;
}

/* What has an end, the first at hand first; after a death that may be all that waited. */
static void
let_go_ended(struct journal *j)
{
	size_t n = 0, surplus = j->count > JOURNAL_ROWS_MAX ? j->count - JOURNAL_ROWS_MAX : 0;

	for (size_t i = 0; i < j->count; i++) {
		if (surplus > 0 && j->rows[i]->final_on_disk) {
			free(j->rows[i]);
			surplus--;
		} else {
			j->rows[n++] = j->rows[i];
		}
	}
	j->count = n;
}

/* Room for others: what has an end, then what was not used for longest. */
static void
let_go(struct journal *j)
{
	let_go_ended(j);
	while (j->count > JOURNAL_ROWS_MAX) {
		size_t out = 0;

		for (size_t i = 1; i < j->count; i++)
			if (j->rows[i]->used < j->rows[out]->used)
				out = i;
		free(j->rows[out]);
		memmove(
		    &j->rows[out], &j->rows[out + 1], (--j->count - out) * sizeof(struct row *));
	}
}

void
journal_commit(struct journal *j)
{
	for (size_t i = 0; i < j->count; i++) {
		struct row *r = j->rows[i];

		j->counts.written += r->dirty;
		j->counts.ended[r->job.state] +=
		    !r->final_on_disk && job_state_is_final(r->job.state);
		r->dirty = r->fresh = false;
		r->final_on_disk = job_state_is_final(r->job.state);
	}
	let_go(j);
}

void
journal_abort(struct journal *j)
{
	for (size_t i = 0; i < j->count; i++) {
		struct row *r = j->rows[i];

		if (r->fresh) /* the id was taken back */
			r->job.id = 0;
		r->fresh = false;
	}
}

void
journal_counts(const struct journal *j, struct journal_counts *out)
{
	*out = j->counts;
}
