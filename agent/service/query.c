/*
 * query.c - questions from other threads, answered by the pipeline's between
 * two transactions, one at a time; and the snapshot that `status` shows.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/service/pipeline.h"
#include "agent/supervisor/state.h"

_Static_assert(CAUSE_COUNT <= STATUS_VERDICTS, "every verdict is counted");

#define STATUS_TIMEOUT_MS 5000

static struct timespec
deadline(uint64_t timeout_ms)
{
	uint64_t at = clock_mono_ns() + timeout_ms * NS_PER_MS;

	return (
	    struct timespec){ .tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S) };
}

static enum err
ask(struct pipeline *p, struct query q, uint64_t timeout_ms)
{
	struct timespec until = deadline(timeout_ms);
	enum err e = E_OK;
	int rv = 0;

	pthread_mutex_lock(&p->lock);
	while (p->query != NULL && !p->stopped && rv == 0)
		rv = pthread_cond_timedwait(&p->answered, &p->lock, &until);
	if (p->stopped || p->query != NULL) {
		e = p->stopped ? E_STATE : E_TIMEOUT;
		pthread_mutex_unlock(&p->lock);
		return e;
	}
	p->query = &q;
	pthread_mutex_unlock(&p->lock);
	pipeline_wake(p);
	pthread_mutex_lock(&p->lock);
	/* Once it runs it is waited for: it uses what the caller owns. */
	while (q.state == QUERY_RUNS || (q.state == QUERY_ASKED && !p->stopped && rv == 0))
		rv = q.state == QUERY_RUNS ? (pthread_cond_wait(&p->answered, &p->lock), 0)
					   : pthread_cond_timedwait(&p->answered, &p->lock, &until);
	if (q.state == QUERY_DONE) {
		e = q.result;
	} else {
		e = p->stopped ? E_STATE : E_TIMEOUT;
		p->query = NULL;
		pthread_cond_broadcast(&p->answered);
	}
	pthread_mutex_unlock(&p->lock);
	return e;
}

enum err
pipeline_query(struct pipeline *p, agent_query_fn fn, void *ctx, uint64_t timeout_ms)
{
	return ask(p, (struct query){ .fn = fn, .ctx = ctx, .state = QUERY_ASKED }, timeout_ms);
}

enum err
pipeline_act(struct pipeline *p, agent_journal_fn fn, void *ctx, uint64_t timeout_ms)
{
	return ask(
	    p, (struct query){ .journal_fn = fn, .ctx = ctx, .state = QUERY_ASKED }, timeout_ms);
}

uint64_t
pipeline_quiet_ns(struct pipeline *p)
{
	uint64_t ns;

	pthread_mutex_lock(&p->lock);
	ns = p->quiet ? clock_mono_ns() - p->quiet_since_ns : 0;
	pthread_mutex_unlock(&p->lock);
	return ns;
}

struct snapshot_ctx {
	struct pipeline *p;
	struct status_snapshot *out;
};

static void
add_rejected(void *ctx, enum signal signal, int status, uint64_t spans)
{
	struct status_snapshot *s = ctx;

	if (s->rejected_count < STATUS_REJECTED)
		s->rejected[s->rejected_count++] =
		    (struct status_rejected){ .signal = signal, .status = status, .spans = spans };
}

/* Where to, without "user:password@". */
static void
copy_url(char *to, size_t cap, const char *url)
{
	const char *host = strstr(url, "://");
	size_t scheme = host != NULL ? (size_t)(host + 3 - url) : 0;
	const char *at = strchr(url + scheme, '@');

	if (scheme > 0 && url[scheme] != '/' && at != NULL)
		snprintf(to, cap, "%.*s%s", (int)scheme, url, at + 1);
	else
		snprintf(to, cap, "%s", url);
}

static void
add_destination(struct pipeline *p, size_t i, struct status_snapshot *s)
{
	struct status_destination *d = &s->destinations[s->destination_count++];
	uint64_t oldest = 0, now = clock_real_ns();

	snprintf(d->name, sizeof d->name, "%s", p->destinations[i].name);
	copy_url(d->url, sizeof d->url, p->destinations[i].url);
	d->kind = p->destinations[i].kind;
	exporter_status(p->exporter, i, &d->now);
	if (p->store->ops->destination_stats(
		p->store, p->destination_ids[i], &d->queued, &oldest) == E_OK &&
	    oldest != 0 && oldest < now)
		d->oldest_queued_s = (now - oldest) / NS_PER_S;
}

static enum err
add_webhook(struct pipeline *p, struct store *st, struct status_snapshot *s)
{
	if (p->webhook == NULL)
		return E_OK;
	webhook_status(p->webhook, &s->webhook);
	s->webhook.expired = p->notices_expired;
	return st->ops->notice_count(st, &s->webhook.waiting);
}

/* Rows come oldest first: the array is a ring, turned round at the end by row order. */
static void
add_probes(struct pipeline *p, struct status_snapshot *s)
{
	struct probe_row row;
	int64_t at = 0;

	while (p->store->ops->probe_next(p->store, &at, &row) == E_OK) {
		struct status_probe *d;

		if (ends_made(&row)) /* it never spoke */
			continue;
		if (s->probe_count == STATUS_PROBES)
			memmove(s->probes, s->probes + 1, (--s->probe_count) * sizeof *s->probes);
		d = &s->probes[s->probe_count++];
		memset(d, 0, sizeof *d);
		memcpy(d->probe_id, row.probe_id, sizeof d->probe_id);
		d->pid = row.pid;
		d->alive = receiver_has_probe(p->receiver, row.probe_id);
		d->closed = row.closed;
		d->ringless = d->alive && row.pid != 0 && !rings_has(p, row.probe_id);
		d->spans = row.spans;
		d->end = row.end;
		d->seen_real_ns = row.seen_real_ns;
		memcpy(d->losses, row.losses, sizeof d->losses);
		d->hooks_known = processor_hooks(p->processor, row.id, &d->hooks);
		d->attrs_bytes = row.attrs_bytes;
		memcpy(d->attrs, row.attrs, row.attrs_bytes);
		s->probe_total++;
	}
	for (size_t i = 0; i < s->probe_count / 2; i++) {
		struct status_probe swap = s->probes[i];

		s->probes[i] = s->probes[s->probe_count - 1 - i];
		s->probes[s->probe_count - 1 - i] = swap;
	}
}

/* The worst of what is wrong, with its reason. */
static void
judge(struct status_snapshot *s)
{
	s->state = AGENT_OK;
	for (size_t i = 0; i < s->destination_count; i++) {
		const struct status_destination *d = &s->destinations[i];
		enum agent_state state = d->now.state == DEST_OFFLINE || d->now.state == DEST_HOLD
					     ? AGENT_OFFLINE
					 : d->now.state == DEST_LOCAL ? AGENT_LOCAL
								      : AGENT_OK;

		if (state <= s->state)
			continue;
		s->state = state;
		if (state == AGENT_OFFLINE)
			snprintf(s->reason, sizeof s->reason, "%.60s: %.90s", d->name,
			    d->now.last_error);
	}
	if (s->destination_count == 0)
		s->state = AGENT_LOCAL;
	if (s->upkeep.problem[0] != '\0') {
		s->state = AGENT_DEGRADED;
		snprintf(s->reason, sizeof s->reason, "%s", s->upkeep.problem);
	}
	if (s->store.volatile_ || s->work.paused) {
		s->state = AGENT_DEGRADED;
		snprintf(
		    s->reason, sizeof s->reason, "%s", s->work.paused ? "store_full" : "volatile");
	}
}

enum err
snapshot_counters(struct store *st, struct status_snapshot *s)
{
	enum err e = st->ops->stats(st, &s->store);

	return e == E_OK ? st->ops->rejected(st, add_rejected, s) : e;
}

static enum err
take_snapshot(void *ctx, struct store *st, struct processor *processor)
{
	struct snapshot_ctx *c = ctx;
	struct pipeline *p = c->p;
	struct status_snapshot *s = c->out;
	struct journal_counts jobs;
	enum err e;

	memset(s, 0, sizeof *s);
	snprintf(s->version, sizeof s->version, "%s", COMFYMON_VERSION);
	s->pid = (uint64_t)getpid();
	s->uptime_s = (clock_mono_ns() - p->started_mono_ns) / NS_PER_S;
	s->supervisor_count = state_list(p->run_dir, s->supervisors, STATUS_SUPERVISORS);
	for (; s->verdict_count < CAUSE_COUNT; s->verdict_count++)
		s->ends[s->verdict_count] =
		    (struct status_ends){ cause_name((enum cause)s->verdict_count),
			    p->ends.counts[s->verdict_count] };
	snprintf(s->run_dir, sizeof s->run_dir, "%s", p->run_dir);
	snprintf(s->data_dir, sizeof s->data_dir, "%s", p->data_dir);
	if ((e = snapshot_counters(st, s)) != E_OK)
		return e;
	for (size_t i = 0; i < p->destination_count; i++)
		add_destination(p, i, s);
	add_probes(p, s);
	if ((e = st->ops->jobs_count(st, s->jobs)) != E_OK)
		return e;
	if ((e = add_webhook(p, st, s)) != E_OK)
		return e;
	receiver_stats(p->receiver, &s->receiver);
	s->upkeep = p->upkept;
	s->jobs_db.behind = p->projected.behind;
	snprintf(s->jobs_db.problem, sizeof s->jobs_db.problem, "%s", p->projected.problem);
	journal_counts(p->journal, &jobs);
	memcpy(s->jobs_ended, jobs.ended, sizeof s->jobs_ended);
	s->work = p->work;
	s->work.raw_backlog = s->store.raw_rows;
	s->work.open_spans = processor_open_spans(processor);
	if (s->store.oldest_queued_real_ns != 0 && s->store.oldest_queued_real_ns < clock_real_ns())
		s->oldest_queued_s = (clock_real_ns() - s->store.oldest_queued_real_ns) / NS_PER_S;
	rates_now(p, &s->store, &s->rates);
	judge(s);
	return E_OK;
}

enum err
pipeline_status(struct pipeline *p, struct status_snapshot *out)
{
	struct snapshot_ctx c = { .p = p, .out = out };

	return pipeline_query(p, take_snapshot, &c, STATUS_TIMEOUT_MS);
}

enum err
pipeline_last_status(struct pipeline *p, struct status_snapshot *out)
{
	struct snapshot_ctx c = { .p = p, .out = out };

	return take_snapshot(&c, p->store, p->processor);
}
