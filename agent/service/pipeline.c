/*
 * pipeline.c - the loop: wait, one transaction, leases, questions.  See
 * pipeline.h.  Sleeps without a timer when nothing is due but the next look at
 * the rings.
 */
#include "agent/service/pipeline.h"
#include "agent/supervisor/state.h"

#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "schema/fault.h"

#define RETRY_NS    NS_PER_S         /* after a failed transaction */
#define SCAN_NS     (5 * NS_PER_S)   /* rings */
#define AGAIN_NS    (5 * NS_PER_MS)  /* after a probe has left; doubled, as its lock may go later */
#define ENDS_NS     (20 * NS_PER_MS) /* a ring was read or is waited for: whose end is it? */
#define MAINTAIN_NS (10 * NS_PER_S)

void
pipeline_wake(void *p)
{
	waker_wake(&((struct pipeline *)p)->waker);
}

enum err
pipeline_begin(struct pipeline *p)
{
	enum err e = E_OK;

	if (p->transaction)
		return E_OK;
	e = p->store->ops->begin(p->store);
	p->transaction = e == E_OK;
	if (p->salvages == p->store->salvages)
		return e;
	/* rows may be gone that the processor counts on: it learns again what there is */
	log_error("buffer_salvaged times=%u", p->store->salvages);
	p->salvages = p->store->salvages;
	p->begin_again = true;
	return e == E_OK ? E_STATE : e;
}

static enum err
apply_step(struct pipeline *p, const struct step *s)
{
	const struct store_ops *ops = p->store->ops;
	enum err e = E_OK;

	for (size_t i = 0; e == E_OK && i < s->dead_count; i++)
		e = ops->segment_delete(p->store, s->dead_segments[i]);
	for (size_t i = 0; e == E_OK && i < s->chunk_count; i++)
		e = ops->chunk_put(p->store, &s->chunks[i]);
	for (size_t i = 0; e == E_OK && i < s->segment_count; i++)
		e = ops->segment_put(p->store, &s->segments[i]);
	if (e == E_OK && s->received > 0)
		e = ops->count_received(p->store, SIGNAL_TRACE, s->received);
	if (e == E_OK && s->repeats > 0) /* their batches counted them once more */
		e = ops->count_received(p->store, SIGNAL_TRACE, 0 - s->repeats);
	if (e == E_OK && s->sampled_out > 0)
		e = ops->count_sampled_out(p->store, SIGNAL_TRACE, s->sampled_out);
	for (int r = 0; e == E_OK && r < DROP_REASONS; r++)
		if (s->dropped[r] > 0)
			e = ops->count_dropped(
			    p->store, SIGNAL_TRACE, (enum drop_reason)r, s->dropped[r]);
	return e;
}

static bool
step_changes(const struct step *s)
{
	uint64_t n = s->chunk_count + s->segment_count + s->dead_count + s->sampled_out +
		     s->received + s->repeats;

	for (int r = 0; r < DROP_REASONS; r++)
		n += s->dropped[r];
	return n > 0;
}

/* Ask the processor and write what it says. */
static enum err
run_step(struct pipeline *p)
{
	uint64_t now = clock_mono_ns();
	const struct step *s = NULL;
	enum err e;

	if (!p->transaction && (p->step_mono_ns == 0 || now < p->step_mono_ns))
		return E_OK;
	e = processor_step(p->processor, now, clock_real_ns(), &s);
	if (e != E_OK)
		return e;
	p->step_mono_ns = s->next_ms == 0 ? 0 : now + s->next_ms * NS_PER_MS;
	if (!step_changes(s))
		return E_OK;
	if ((e = pipeline_begin(p)) != E_OK)
		return e;
	return apply_step(p, s);
}

static enum err
commit(struct pipeline *p)
{
	enum err e;

	if (!p->transaction) {
		processor_commit(p->processor);
		return E_OK;
	}
	if (fault_breaks("stored-before-commit"))
		intake_reply(p);
	if (p->stored_count > 0)
		fault_enter("commit/stored");
	e = p->store->ops->commit(p->store);
	if (e != E_OK)
		return e;
	p->transaction = false;
	pipeline_count(p, true);
	processor_commit(p->processor);
	journal_commit(p->journal);
	wellbeing_kept(p);
	ends_told(p);
	if (p->stored_count > 0)
		fault_inside("commit/stored");
	if (!fault_breaks("stored-before-commit"))
		intake_reply(p);
	if (p->stored_count > 0)
		fault_leave("commit/stored");
	p->work.commits++;
	return E_OK;
}

static void
failed(struct pipeline *p, enum err e)
{
	log_error("transaction_failed error=\"%s\"", err_text(e));
	if (p->transaction)
		p->store->ops->rollback(p->store);
	p->transaction = p->memo = false;
	pipeline_count(p, false);
	processor_abort(p->processor);
	journal_abort(p->journal);
	pipeline_forget_probes(p);
	p->stored_count = 0;
	p->work.commit_failures++;
	p->retry_mono_ns = clock_mono_ns() + RETRY_NS;
}

/* What an earlier run left: open traces go back into the processor. */
static enum err
restore(struct pipeline *p)
{
	struct segment_row s;
	int64_t after = 0;
	enum err e;

	while ((e = p->store->ops->segment_next(p->store, after, &s)) != E_NOTFOUND) {
		struct probe_row row, *known;

		if (e == E_CORRUPT) {
			after = 0; /* it is deleted and counted: begin again behind those we have */
			continue;
		}
		if (e != E_OK)
			return e;
		after = s.id;
		e = p->store->ops->probe_by_row(p->store, s.probe, &row);
		if (e == E_OK)
			e = pipeline_probe_known(p, &row, &known);
		if (e == E_OK)
			e = processor_restore(p->processor, &s);
		free(s.blob);
		if (e == E_NOMEM)
			return e;
		if (e != E_OK)
			log_error("segment_not_restored id=%lld error=\"%s\"", (long long)s.id,
			    err_text(e));
	}
	return E_OK;
}

/*
 * The processor ran out of memory in the middle of a batch, or rows have gone
 * that it counts on.  As a kill and a restart would: what is on disk is the truth, the rest is fed
 * again.
 */
static enum err
begin_again(struct pipeline *p)
{
	enum err e;

	log_warn("processor_begins_again");
	processor_reset(p->processor);
	journal_reset(p->journal);
	pipeline_forget_probes(p);
	for (size_t i = 0; i < p->pending_count; i++)
		p->pending[i].fed = false;
	p->backlog_count = 0;
	p->backlog_after = 0;
	p->backlog = true;
	if ((e = restore(p)) != E_OK)
		return e;
	p->begin_again = false;
	p->gone = true;
	ends_begin(p);
	return E_OK;
}

static enum err
write_journal(struct pipeline *p)
{
	enum err e;

	if (!journal_dirty(p->journal))
		return E_OK;
	if ((e = pipeline_begin(p)) != E_OK)
		return e;
	e = journal_write(p->journal);
	p->project_mono_ns = clock_mono_ns(); /* after the commit */
	/* What it missed of a batch comes again only with all of it. */
	p->begin_again = p->begin_again || journal_failed(p->journal);
	return e;
}

/* One transaction. False when there was nothing to do. */
static bool
turn(struct pipeline *p)
{
	enum err e = E_OK;

	p->turn++;
	if (p->begin_again)
		e = begin_again(p);
	deliver_collect(p);
	if (e == E_OK && !(p->draining && p->full))
		e = intake_collect(p);
	if (e == E_OK)
		e = intake_store(p);
	if (e == E_OK)
		e = intake_backlog(p);
	if (e == E_OK)
		e = deliver_settle(p);
	if (e == E_OK)
		e = notices_settle(p);
	if (e == E_OK)
		e = ends_tell(p);
	if (e == E_OK)
		e = run_step(p);
	if (e == E_OK)
		e = write_journal(p);
	if (e == E_OK)
		e = wellbeing_keep(p);

	bool worked = p->transaction;

	if (e == E_OK)
		e = commit(p);
	if (e != E_OK) {
		failed(p, e);
		return false;
	}
	p->retry_mono_ns = 0;
	intake_done(p);
	deliver_done(p);
	return worked;
}

/* Traces that closed probes left open end now, once all that they sent is in. */
static void
tell_gone(struct pipeline *p)
{
	struct probe_row row;
	int64_t at = 0;

	if (p->backlog || p->begin_again || !p->gone)
		return;
	while (p->store->ops->probe_next(p->store, &at, &row) == E_OK) {
		if (!row.closed)
			continue;
		if (processor_probe_gone(p->processor, row.id) != E_OK)
			log_warn("probe_gone_failed probe=%lld", (long long)row.id);
		journal_gone(p->journal, row.id, row.probe_id, clock_real_ns());
		health_gone(p->health, row.id);
	}
	p->gone = false;
	if (p->told_gone != NULL)
		p->told_gone(p->told_ctx);
	p->step_mono_ns = clock_mono_ns(); /* its lost spans leave with the next step */
}

/* Whoever changes the journal is told when it is durable. */
static enum err
change(struct pipeline *p, const struct query *q)
{
	enum err e = E_IO; /* nothing can be written now */

	if (p->retry_mono_ns != 0)
		return e;
	e = q->journal_fn(q->ctx, p->store, p->journal);
	return e == E_OK && journal_dirty(p->journal) && !turn(p) ? E_IO : e;
}

static void
answer(struct pipeline *p)
{
	struct query *q;

	pthread_mutex_lock(&p->lock);
	q = p->query;
	if (q != NULL && q->state == QUERY_ASKED)
		q->state = QUERY_RUNS;
	else
		q = NULL;
	pthread_mutex_unlock(&p->lock);
	if (q == NULL)
		return;
	q->result = q->fn != NULL ? q->fn(q->ctx, p->store, p->processor) : change(p, q);
	pthread_mutex_lock(&p->lock);
	q->state = QUERY_DONE;
	p->query = NULL;
	pthread_cond_broadcast(&p->answered);
	pthread_mutex_unlock(&p->lock);
}

/* jobs.db follows what is committed; what goes wrong with it is its own affair. */
static void
project(struct pipeline *p)
{
	uint64_t now = clock_mono_ns();

	if (p->project_mono_ns == 0 || now < p->project_mono_ns)
		return;
	p->project_mono_ns = 0;
	if (p->projection == NULL)
		return;
	projection_sync(p->projection, p->store, now, &p->projected);
	p->project_mono_ns = p->projected.next_mono_ns;
}

/* Keep the store in shape; go on taking when it has room again. */
static void
maintain(struct pipeline *p, bool idle)
{
	uint64_t now = clock_mono_ns();

	if (now < p->maintain_mono_ns)
		return;
	p->maintain_mono_ns = now + (p->full ? NS_PER_S : MAINTAIN_NS);

	enum err e = p->store->ops->maintain(p->store, clock_real_ns(), idle);

	p->room = true;
	if (e != E_OK)
		log_warn("maintain_failed error=\"%s\"", err_text(e));
}

static void
note_quiet(struct pipeline *p)
{
	struct receiver_stats rs;
	bool quiet;

	receiver_stats(p->receiver, &rs);
	if (rs.probes_left != p->probes_left) {
		p->probes_left = rs.probes_left;
		p->scan_again_ns = AGAIN_NS;
		p->scan_mono_ns = clock_mono_ns();
	}
	quiet = rs.connections_now == 0 && p->pending_count == 0 && p->lease_mono_ns == 0 &&
		p->notice_mono_ns == 0;
	health_deaf(p->health, p->full || p->retry_mono_ns != 0 || p->backlog);
	pthread_mutex_lock(&p->lock);
	if (quiet && !p->quiet)
		p->quiet_since_ns = clock_mono_ns();
	p->quiet = quiet;
	p->work.turns = p->turn;
	p->work.cpu_ns = clock_thread_cpu_ns();
	p->work.paused = p->full;
	p->work.open_spans = processor_open_spans(p->processor);
	pthread_mutex_unlock(&p->lock);
}

static uint64_t
earliest(uint64_t a, uint64_t b)
{
	return b != 0 && b < a ? b : a;
}

static uint64_t
next_deadline(const struct pipeline *p)
{
	uint64_t t = p->scan_mono_ns;

	if (p->retry_mono_ns != 0)
		return p->retry_mono_ns;
	t = earliest(t, p->step_mono_ns);
	t = earliest(t, p->lease_mono_ns);
	t = earliest(t, p->notice_mono_ns);
	t = earliest(t, p->project_mono_ns);
	if (p->backlog)
		return 0;
	return p->full ? earliest(t, p->maintain_mono_ns) : t;
}

/* For rings and for what is missing. Every few seconds; at once, and a few times, when a probe has
 * left. */
static void
scan(struct pipeline *p, uint64_t now)
{
	uint64_t before = p->work.salvaged_rings;
	bool waits, ends_wait;

	/* A supervisor that was killed: behind a shell its ComfyUI lives on, ring and all. */
	(void)state_sweep(p->run_dir, p->data_dir);
	ends_find(p);
	waits = rings_scan(p);
	ends_wait = ends_settle(p) || p->work.salvaged_rings > before;

	if (p->missing != NULL && !p->upkeep.told && upkeep_missing(&p->upkeep)) {
		p->upkeep.told = true;
		p->missing(p->missing_ctx);
	}

	if (p->work.salvaged_rings > before && !waits)
		p->scan_again_ns = 0;
	if (p->scan_again_ns == 0 && !waits) {
		if (!ends_wait)
			rates_sample(p);
		p->scan_mono_ns = now + (ends_wait ? ENDS_NS : SCAN_NS);
		return;
	}
	p->scan_mono_ns = now + (p->scan_again_ns != 0 ? p->scan_again_ns : AGAIN_NS);
	p->scan_again_ns = p->scan_again_ns * 2 < NS_PER_S ? p->scan_again_ns * 2 : 0;
}

static void
loop(void *arg)
{
	struct pipeline *p = arg;

	for (;;) {
		bool worked = clock_mono_ns() >= p->retry_mono_ns && turn(p);
		uint64_t now = clock_mono_ns();

		tell_gone(p);
		if (p->exporter != NULL && p->retry_mono_ns == 0)
			deliver_lease(p);
		if (p->retry_mono_ns == 0)
			notices_next(p);
		answer(p);
		if (now >= p->scan_mono_ns && p->retry_mono_ns == 0)
			scan(p, now);
		project(p);
		maintain(p, !worked);
		note_quiet(p);
		if (waker_stopped(&p->waker)) {
			if (p->draining && (!worked || p->retry_mono_ns != 0))
				break;
			p->draining = true;
			continue;
		}
		if (!worked)
			waker_wait(&p->waker, next_deadline(p));
	}
	pthread_mutex_lock(&p->lock);
	p->stopped = true;
	pthread_cond_broadcast(&p->answered);
	pthread_mutex_unlock(&p->lock);
}

enum err
pipeline_init(struct pipeline *p)
{
	const char *names[STATUS_DESTINATIONS];
	enum err e;

	waker_init(&p->waker);
	pthread_mutex_init(&p->lock, NULL);

	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->answered, &attr);
	pthread_condattr_destroy(&attr);
	p->started_mono_ns = p->quiet_since_ns = clock_mono_ns();
	(void)deliver_age_clock(p); /* a leap is one from here on */
	p->scan_mono_ns = p->started_mono_ns + SCAN_NS;
	p->maintain_mono_ns = p->started_mono_ns + MAINTAIN_NS;
	p->step_mono_ns = p->started_mono_ns;
	p->project_mono_ns = p->started_mono_ns; /* what an earlier run left undone */
	p->backlog = true;                       /* until a look says that there is none */
	p->salvages = p->store->salvages;
	for (size_t i = 0; i < p->destination_count; i++)
		names[i] = p->destinations[i].name;
	if ((e = pipeline_begin(p)) != E_OK)
		return e;
	e = p->store->ops->destinations_set(
	    p->store, names, p->destination_count, p->destination_ids);
	if (e == E_OK)
		e = p->store->ops->commit(p->store);
	if (e != E_OK)
		p->store->ops->rollback(p->store);
	p->transaction = false;
	if (e != E_OK)
		return e;
	e = restore(p);
	if (e != E_IO)
		return e;
	/* Damage that only a walk meets: maintain sets the file aside, then all begins again. */
	p->begin_again = true;
	p->maintain_mono_ns = p->started_mono_ns;
	return E_OK;
}

enum err
pipeline_start(struct pipeline *p)
{
	ends_begin(p);
	rings_scan(p);
	p->scan_mono_ns = p->started_mono_ns; /* once more, for ends without a ring */
	p->gone = true;
	rates_sample(p);
	wellbeing_begin(p);
	return thread_start(&p->thread, "pipeline", loop, p);
}

void
pipeline_stop(struct pipeline *p)
{
	waker_stop(&p->waker);
	thread_join(&p->thread);
}

void
pipeline_fini(struct pipeline *p)
{
	for (size_t i = 0; i < p->pending_count; i++)
		free(p->pending[i].item.body);
	for (size_t i = 0; i < p->result_count; i++) {
		free(p->results[i].agent_reply);
		free(p->results[i].a.blob);
		free(p->results[i].b.blob);
	}
	pthread_cond_destroy(&p->answered);
	pthread_mutex_destroy(&p->lock);
	waker_fini(&p->waker);
}
