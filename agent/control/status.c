/*
 * status.c - the status object of the contract with outsiders: agent, pipeline,
 * destinations, probes.
 */
#include <inttypes.h>
#include <stdio.h>

#include "agent/control/views.h"
#include "agent/core/json.h"

static void
put_rejected(struct outbuf *b, const struct status_snapshot *s, enum signal signal)
{
	char key[24];

	put_open(b, "rejected", "{");
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

	put_open(b, signal_name(signal), "{");
	put_u64(b, "received", st->received[signal]);
	put_u64(b, "sent", st->sent[signal]);
	put_u64(b, "sampled_out", st->sampled_out[signal]);
	put_u64(b, "queued", st->queued[signal]);
	put_u64(b, "in_flight", st->in_flight[signal]);
	put_open(b, "dropped", "{");
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

	put_item(b);
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
	put_open(b, "attrs", "{");
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
	put_open(b, "hooks", "{");
	put_u64(b, "attached", h->attached);
	put_u64(b, "missing", h->missing);
	put_open(b, "names", "[");
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
	put_item(b);
	put_u64(b, "pid", p->pid);
	put_bool(b, "alive", p->alive);
	put_u64(b, "spans", p->spans);
	put_open(b, "drops", "{");
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

	put_open(b, "work", "{");
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
	put_open(b, "jobs", "{");
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
	put_open(b, "rates", "{");
	put_u64(b, "window_ms", r->window_ms);
	put_key(b, "received_per_s");
	put_f64(b, r->received_per_s);
	put_key(b, "sent_per_s");
	put_f64(b, r->sent_per_s);
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
	put_open(b, "dropped", "{");
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
	put_open(b, "signals", "{");
	put_signal(b, s, SIGNAL_TRACE);
	put_raw(b, "}");
	put_open(b, "destinations", "[");
	for (size_t i = 0; i < s->destination_count && !b->failed; i++)
		put_destination(b, &s->destinations[i]);
	put_raw(b, "]");
	put_open(b, "probes", "[");
	for (size_t i = 0; i < s->probe_count && !b->failed; i++)
		put_probe(b, &s->probes[i]);
	put_raw(b, "]");
	put_u64(b, "probe_total", s->probe_total);
	put_open(b, "store", "{");
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
	put_open(b, "jobs_db", "{");
	put_u64(b, "behind", s->jobs_db.behind);
	put_str(b, "problem", s->jobs_db.problem);
	put_raw(b, "}");
	put_open(b, "upkeep", "{");
	put_u64(b, "run_dir_remade", s->upkeep.run_dir_remade);
	put_u64(b, "buffer_rewritten", s->upkeep.buffer_rewritten);
	put_str(b, "problem", s->upkeep.problem);
	put_raw(b, "}");
	put_webhook(b, &s->webhook);
	put_work(b, s);
	put_metrics(b, &s->metrics);
	put_open(b, "self", "{");
	put_u64(b, "rss_bytes", s->self.rss_bytes);
	put_u64(b, "cpu_ns", s->self.cpu_ns);
	put_raw(b, "}");
	view_guard(s, b);
	put_str(b, "run_dir", s->run_dir);
	put_str(b, "data_dir", s->data_dir);
	put_raw(b, "}");
	return b->failed ? E_NOMEM : E_OK;
}
