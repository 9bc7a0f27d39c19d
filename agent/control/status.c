/*
 * status.c - the status object of the contract with outsiders.
 */
#include <inttypes.h>
#include <stdio.h>

#include "agent/control/views.h"
#include "agent/core/json.h"

static void
put_rejected(struct outbuf *b, const struct status_snapshot *s, enum signal signal)
{
	char key[24];

	put_key(b, "rejected");
	put_raw(b, "{");
	for (size_t i = 0; i < s->rejected_count; i++) {
		if (s->rejected[i].signal != signal)
			continue;
		snprintf(key, sizeof key, "%d", s->rejected[i].status);
		put_u64(b, key, s->rejected[i].spans);
	}
	put_raw(b, "}");
}

static void
put_signal(struct outbuf *b, const struct status_snapshot *s, enum signal signal)
{
	const struct store_stats *st = &s->store;

	put_key(b, signal_name(signal));
	put_raw(b, "{");
	put_u64(b, "received", st->received[signal]);
	put_u64(b, "sent", st->sent[signal]);
	put_u64(b, "sampled_out", st->sampled_out[signal]);
	put_u64(b, "queued", st->queued[signal]);
	put_u64(b, "in_flight", st->in_flight[signal]);
	put_key(b, "dropped");
	put_raw(b, "{");
	for (int r = 0; r < DROP_REASONS; r++)
		if (st->dropped[signal][r] > 0)
			put_u64(b, drop_reason_name((enum drop_reason)r), st->dropped[signal][r]);
	put_raw(b, "}");
	put_rejected(b, s, signal);
	put_bool(b, "identity", st->identity[signal]);
	put_raw(b, "}");
}

static void
put_destination(struct outbuf *b, const struct status_destination *d)
{
	static const char *const kinds[] = { "datadog_agent", "file", "none" };

	put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
	put_str(b, "name", d->name);
	put_str(b, "url", d->url);
	put_str(b, "kind", kinds[d->kind]);
	put_str(b, "state", destination_state_name(d->now.state));
	put_i64(b, "last_status", d->now.last_status);
	put_str(b, "last_error", d->now.last_error);
	put_u64(b, "oldest_queued_s", d->oldest_queued_s);
	put_u64(b, "queued", d->queued);
	put_u64(b, "sent_requests", d->now.sent_requests);
	put_u64(b, "sent_spans", d->now.sent_spans);
	put_u64(b, "sent_bytes", d->now.sent_bytes);
	put_u64(b, "retries", d->now.retries);
	put_u64(b, "last_ok_ns", d->now.last_ok_real_ns);
	put_u64(b, "next_try_ns", d->now.next_try_real_ns);
	put_raw(b, "}");
}

/* Keys and values as the probe gave them; "service" stands beside them for short. */
static void
put_attrs(struct outbuf *b, const struct status_probe *p)
{
	const char *key, *value;
	uint16_t key_bytes, value_bytes;
	struct wire_error err;
	char service[128] = "";
	size_t at = 0;

	(void)wire_attr_find(p->attrs, p->attrs_bytes, "service", service, sizeof service);
	put_str(b, "service", service);
	put_key(b, "attrs");
	put_raw(b, "{");
	while (wire_attr_next(p->attrs, p->attrs_bytes, &at, &key, &key_bytes, &value, &value_bytes,
		   &err) == 1) {
		if (b->p[b->n - 1] != '{')
			put_raw(b, ",");
		put_text_n(b, key, key_bytes);
		put_raw(b, ":");
		put_text_n(b, value, value_bytes);
	}
	put_raw(b, "}");
}

static void
put_hooks(struct outbuf *b, const struct processor_hooks *h)
{
	put_key(b, "hooks");
	put_raw(b, "{");
	put_u64(b, "attached", h->attached);
	put_u64(b, "missing", h->missing);
	put_key(b, "names");
	put_raw(b, "[");
	for (uint32_t i = 0; i < h->missing && i < PROCESSOR_HOOK_NAMES; i++) {
		if (i > 0)
			put_raw(b, ",");
		put_text_n(b, h->names[i], strlen(h->names[i]));
	}
	put_raw(b, "]}");
}

static void
put_probe(struct outbuf *b, const struct status_probe *p)
{
	char id[2 * FRAME_PROBE_ID_BYTES + 1];

	for (size_t i = 0; i < FRAME_PROBE_ID_BYTES; i++)
		snprintf(id + 2 * i, 3, "%02x", p->probe_id[i]);
	put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
	put_u64(b, "pid", p->pid);
	put_bool(b, "alive", p->alive);
	put_u64(b, "spans", p->spans);
	put_key(b, "drops");
	put_raw(b, "{");
	for (int l = 0; l < (int)WIRE_LOSS_COUNT; l++)
		if (p->losses[l] > 0)
			put_u64(b, loss_name((enum wire_loss)l), p->losses[l]);
	put_raw(b, "}");
	put_str(b, "id", id);
	put_attrs(b, p);
	if (p->hooks_known)
		put_hooks(b, &p->hooks);
	put_bool(b, "closed", p->closed);
	put_bool(b, "ringless", p->ringless);
	put_u64(b, "seen_ns", p->seen_real_ns);
	put_raw(b, "}");
}

static void
put_work(struct outbuf *b, const struct status_snapshot *s)
{
	const struct status_work *w = &s->work;
	const struct receiver_stats *r = &s->receiver;

	put_key(b, "work");
	put_raw(b, "{");
	put_u64(b, "commits", w->commits);
	put_u64(b, "commit_failures", w->commit_failures);
	put_u64(b, "batches", w->batches);
	put_u64(b, "repeats", w->repeats);
	put_u64(b, "gaps", w->gaps);
	put_u64(b, "malformed", w->malformed);
	put_u64(b, "bytes", w->bytes);
	put_u64(b, "salvaged_rings", w->salvaged_rings);
	put_u64(b, "salvaged_spans", w->salvaged_spans);
	put_u64(b, "unfinished_spans", w->unfinished_spans);
	put_u64(b, "salvage_torn", w->salvage_torn);
	put_u64(b, "raw_backlog", w->raw_backlog);
	put_u64(b, "open_spans", w->open_spans);
	put_u64(b, "cpu_ns", w->cpu_ns);
	put_bool(b, "paused", w->paused);
	put_u64(b, "connections", r->connections_now);
	put_u64(b, "malformed_frames", r->malformed_frames);
	put_u64(b, "too_large_frames", r->too_large_frames);
	put_u64(b, "refused_uid", r->refused_uid);
	put_u64(b, "handshakes_failed", r->handshakes_failed);
	put_str(b, "last_malformed", r->last_malformed);
	put_raw(b, "}");
}

static void
put_jobs(struct outbuf *b, const uint64_t jobs[JOB_STATES])
{
	put_key(b, "jobs");
	put_raw(b, "{");
	for (int i = 0; i < JOB_STATES; i++)
		put_u64(b, job_state_name((enum job_state)i), jobs[i]);
	put_raw(b, "}");
}

static void
put_webhook(struct outbuf *b, const struct webhook_status *w)
{
	put_key(b, "webhook");
	if (!w->configured) {
		put_raw(b, "null");
		return;
	}
	put_raw(b, "{");
	put_str(b, "target", w->target);
	put_bool(b, "signed", w->is_signed);
	put_str(b, "state", destination_state_name(w->state));
	put_i64(b, "last_status", w->last_status);
	put_str(b, "last_error", w->last_error);
	put_u64(b, "waiting", w->waiting);
	put_u64(b, "told", w->told);
	put_u64(b, "retries", w->retries);
	put_u64(b, "given_up", w->given_up);
	put_u64(b, "expired", w->expired);
	put_u64(b, "last_ok_ns", w->last_ok_real_ns);
	put_u64(b, "next_try_ns", w->next_try_real_ns);
	put_raw(b, "}");
}

static void
put_rates(struct outbuf *b, const struct status_rates *r)
{
	put_key(b, "rates");
	put_raw(b, "{");
	put_u64(b, "window_ms", r->window_ms);
	put_key(b, "received_per_s");
	put_f64(b, r->received_per_s);
	put_key(b, "sent_per_s");
	put_f64(b, r->sent_per_s);
	put_raw(b, "}");
}

static void
put_supervisor(struct outbuf *b, const struct supervised *s)
{
	put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
	put_u64(b, "pid", s->pid);
	put_str(b, "state", s->state);
	put_str(b, "life", s->life);
	put_u64(b, "command_pid", s->command_pid);
	put_u64(b, "started_ns", s->started_real_ns);
	put_u64(b, "starts", s->starts);
	put_str(b, "method", s->method);
	put_str(b, "why", s->why);
	put_u64(b, "limit_bytes", s->limit_bytes);
	put_u64(b, "soft_limit_bytes", s->soft_bytes);
	put_u64(b, "high_bytes", s->high_bytes);
	put_str(b, "soft_state", s->soft_state);
	put_u64(b, "soft_frees", s->soft_frees);
	put_u64(b, "soft_restarts", s->soft_restarts);
	put_str(b, "last_verdict", s->verdict);
	put_str(b, "last_certainty", s->certainty);
	put_str(b, "last_death", s->death);
	put_u64(b, "ended_ns", s->ended_real_ns);
	put_raw(b, "}");
}

static void
put_process(struct outbuf *b, const struct status_process *p)
{
	put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
	put_u64(b, "pid", p->pid);
	put_str(b, "life", p->life);
	put_str(b, "state", health_state_name(p->state));
	put_str(b, "why", p->why);
	put_u64(b, "since_s", p->since_s);
	put_u64(b, "port", p->port);
	put_str(b, "address", p->address);
	put_bool(b, "tls", p->tls);
	put_u64(b, "answered_s", p->answered_s);
	put_u64(b, "silent_s", p->silent_s);
	put_u64(b, "worker", p->worker);
	put_bool(b, "worker_alive", p->worker_alive);
	put_bool(b, "busy", p->busy);
	put_str(b, "prompt_id", p->busy ? p->prompt_id : "");
	put_u64(b, "quiet_s", p->quiet_s);
	put_u64(b, "device_failures", p->device_failures);
	put_bool(b, "restart_asked", p->restart_asked);
	put_raw(b, "}");
}

enum err
view_health(const struct status_health *h, struct outbuf *b)
{
	put_raw(b, "{");
	put_bool(b, "healthy", h->healthy);
	put_str(b, "wrong", h->wrong);
	put_bool(b, "ready", h->ready);
	put_str(b, "why", h->why);
	put_key(b, "processes");
	put_raw(b, "[");
	for (size_t i = 0; i < h->process_count && !b->failed; i++)
		put_process(b, &h->processes[i]);
	put_raw(b, "]");
	put_u64(b, "unwatched", h->unwatched);
	put_key(b, "ill");
	put_raw(b, "{");
	for (int s = HEALTH_WELL + 1; s < HEALTH_STATES; s++)
		put_u64(b, health_state_name((enum health_state)s), h->ill[s]);
	put_raw(b, "}");
	put_u64(b, "restarts_asked", h->restarts_asked);
	put_u64(b, "restarts_failed", h->restarts_failed);
	put_u64(b, "looks", h->looks);
	put_u64(b, "cpu_ns", h->cpu_ns);
	put_raw(b, "}");
	return b->failed ? E_NOMEM : E_OK;
}

static void
put_health_port(struct outbuf *b, const struct status_health_port *p)
{
	put_key(b, "health_port");
	put_raw(b, "{");
	put_u64(b, "port", p->port);
	put_bool(b, "open", p->open);
	put_str(b, "at", p->at);
	put_str(b, "problem", p->problem);
	put_raw(b, "}");
}

static void
put_held(struct outbuf *b, const char *key, bool known, uint64_t bytes)
{
	if (known) {
		put_u64(b, key, bytes);
		return;
	}
	put_key(b, key);
	put_raw(b, "null");
}

static void
put_memory(struct outbuf *b, const struct memory_now *m)
{
	put_key(b, "memory");
	put_raw(b, "{");
	put_u64(b, "host_total_bytes", m->host_total_bytes);
	put_u64(b, "host_available_bytes", m->host_available_bytes);
	put_key(b, "processes");
	put_raw(b, "[");
	for (size_t i = 0; i < m->process_count; i++) {
		const struct memory_process_now *p = &m->processes[i];

		put_raw(b, i == 0 ? "{" : ",{");
		put_u64(b, "pid", p->pid);
		put_u64(b, "rss_bytes", p->rss_bytes);
		put_u64(b, "peak_bytes", p->peak_bytes);
		put_u64(b, "swap_bytes", p->swap_bytes);
		put_u64(b, "gpu_bytes", p->gpu_bytes);
		put_u64(b, "group_bytes", p->group_bytes);
		put_u64(b, "limit_bytes", p->group_limit_bytes);
		put_held(b, "accounted_bytes", p->held_known, p->accounted_bytes);
		put_held(b, "unaccounted_bytes", p->held_known, p->unaccounted_bytes);
		put_raw(b, "}");
	}
	put_raw(b, "]");
	put_key(b, "gpus");
	put_raw(b, "[");
	for (size_t i = 0; i < m->gpu_count; i++) {
		const struct memory_gpu_now *g = &m->gpus[i];

		put_raw(b, i == 0 ? "{" : ",{");
		put_u64(b, "index", i);
		put_str(b, "name", g->name);
		put_bool(b, "answers", g->answers);
		put_u64(b, "used_bytes", g->used_bytes);
		put_u64(b, "total_bytes", g->total_bytes);
		put_raw(b, "}");
	}
	put_raw(b, "]");
	put_str(b, "gpu_problem", m->gpu_problem);
	put_u64(b, "samples", m->samples);
	put_u64(b, "cpu_ns", m->cpu_ns);
	put_u64(b, "not_followed", m->not_followed);
	put_raw(b, "}");
}

static void
put_metrics(struct outbuf *b, const struct metrics_status *m)
{
	put_key(b, "metrics");
	if (!m->on) {
		put_raw(b, "null");
		return;
	}
	put_raw(b, "{");
	put_str(b, "target", m->url);
	put_str(b, "last_error", m->last_error);
	put_u64(b, "flushes", m->flushes);
	put_u64(b, "sent_datagrams", m->sent_datagrams);
	put_u64(b, "sent_bytes", m->sent_bytes);
	put_key(b, "dropped");
	put_raw(b, "{");
	for (int r = 0; r < METRICS_DROPS; r++)
		if (m->dropped[r] > 0)
			put_u64(b, metrics_drop_name((enum metrics_drop)r), m->dropped[r]);
	put_raw(b, "}");
	put_u64(b, "last_ok_ns", m->last_ok_real_ns);
	put_u64(b, "cpu_ns", m->cpu_ns);
	put_raw(b, "}");
}

enum err
view_status(const struct status_snapshot *s, struct outbuf *b)
{
	put_raw(b, "{");
	put_str(b, "version", s->version);
	put_u64(b, "pid", s->pid);
	put_u64(b, "uptime_s", s->uptime_s);
	put_str(b, "state", agent_state_name(s->state));
	put_str(b, "reason", s->reason);
	put_key(b, "signals");
	put_raw(b, "{");
	put_signal(b, s, SIGNAL_TRACE);
	put_raw(b, "}");
	put_key(b, "destinations");
	put_raw(b, "[");
	for (size_t i = 0; i < s->destination_count && !b->failed; i++)
		put_destination(b, &s->destinations[i]);
	put_raw(b, "]");
	put_key(b, "probes");
	put_raw(b, "[");
	for (size_t i = 0; i < s->probe_count && !b->failed; i++)
		put_probe(b, &s->probes[i]);
	put_raw(b, "]");
	put_u64(b, "probe_total", s->probe_total);
	put_key(b, "store");
	put_raw(b, "{");
	put_u64(b, "bytes", s->store.bytes);
	put_u64(b, "cap_bytes", s->store.cap_bytes);
	put_u64(b, "history_bytes", s->store.history_bytes);
	put_u64(b, "raw_rows", s->store.raw_rows);
	put_u64(b, "segment_rows", s->store.segment_rows);
	put_u64(b, "chunk_rows", s->store.chunk_rows);
	put_bool(b, "volatile", s->store.volatile_);
	put_u64(b, "quarantined", s->store.quarantined);
	put_u64(b, "oldest_queued_s", s->oldest_queued_s);
	put_raw(b, "}");
	put_rates(b, &s->rates);
	put_jobs(b, s->jobs);
	put_key(b, "jobs_db");
	put_raw(b, "{");
	put_u64(b, "behind", s->jobs_db.behind);
	put_str(b, "problem", s->jobs_db.problem);
	put_raw(b, "}");
	put_key(b, "upkeep");
	put_raw(b, "{");
	put_u64(b, "run_dir_remade", s->upkeep.run_dir_remade);
	put_u64(b, "buffer_rewritten", s->upkeep.buffer_rewritten);
	put_str(b, "problem", s->upkeep.problem);
	put_raw(b, "}");
	put_webhook(b, &s->webhook);
	put_work(b, s);
	put_key(b, "supervisors");
	put_raw(b, "[");
	for (size_t i = 0; i < s->supervisor_count && !b->failed; i++)
		put_supervisor(b, &s->supervisors[i]);
	put_raw(b, "]");
	put_memory(b, &s->memory);
	put_metrics(b, &s->metrics);
	put_key(b, "self");
	put_raw(b, "{");
	put_u64(b, "rss_bytes", s->self.rss_bytes);
	put_u64(b, "cpu_ns", s->self.cpu_ns);
	put_raw(b, "}");
	put_key(b, "health");
	if (view_health(&s->health, b) != E_OK)
		return E_NOMEM;
	put_health_port(b, &s->health_port);
	put_str(b, "run_dir", s->run_dir);
	put_str(b, "data_dir", s->data_dir);
	put_raw(b, "}");
	return b->failed ? E_NOMEM : E_OK;
}
