/*
 * status.c - the status object of the contract with outsiders.
 */
#include <inttypes.h>
#include <stdio.h>

#include "agent/control/json.h"
#include "agent/control/views.h"

static void
put_rejected(struct outbuf *b, const struct status_snapshot *s, enum signal signal)
{
	char key[24];

	json_key(b, "rejected");
	json_raw(b, "{");
	for (size_t i = 0; i < s->rejected_count; i++) {
		if (s->rejected[i].signal != signal)
			continue;
		snprintf(key, sizeof key, "%d", s->rejected[i].status);
		json_u64(b, key, s->rejected[i].spans);
	}
	json_raw(b, "}");
}

static void
put_signal(struct outbuf *b, const struct status_snapshot *s, enum signal signal)
{
	const struct store_stats *st = &s->store;

	json_key(b, signal_name(signal));
	json_raw(b, "{");
	json_u64(b, "received", st->received[signal]);
	json_u64(b, "sent", st->sent[signal]);
	json_u64(b, "sampled_out", st->sampled_out[signal]);
	json_u64(b, "queued", st->queued[signal]);
	json_u64(b, "in_flight", st->in_flight[signal]);
	json_key(b, "dropped");
	json_raw(b, "{");
	for (int r = 0; r < DROP_REASONS; r++)
		if (st->dropped[signal][r] > 0)
			json_u64(b, drop_reason_name((enum drop_reason)r), st->dropped[signal][r]);
	json_raw(b, "}");
	put_rejected(b, s, signal);
	json_bool(b, "identity", st->identity[signal]);
	json_raw(b, "}");
}

static void
put_destination(struct outbuf *b, const struct status_destination *d)
{
	static const char *const kinds[] = { "datadog_agent", "file", "none" };

	json_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
	json_str(b, "name", d->name);
	json_str(b, "kind", kinds[d->kind]);
	json_str(b, "state", destination_state_name(d->now.state));
	json_i64(b, "last_status", d->now.last_status);
	json_str(b, "last_error", d->now.last_error);
	json_u64(b, "oldest_queued_s", d->oldest_queued_s);
	json_u64(b, "queued", d->queued);
	json_u64(b, "sent_requests", d->now.sent_requests);
	json_u64(b, "sent_spans", d->now.sent_spans);
	json_u64(b, "sent_bytes", d->now.sent_bytes);
	json_u64(b, "retries", d->now.retries);
	json_u64(b, "last_ok_ns", d->now.last_ok_real_ns);
	json_u64(b, "next_try_ns", d->now.next_try_real_ns);
	json_raw(b, "}");
}

static void
put_probe(struct outbuf *b, const struct status_probe *p)
{
	char id[2 * FRAME_PROBE_ID_BYTES + 1];

	for (size_t i = 0; i < FRAME_PROBE_ID_BYTES; i++)
		snprintf(id + 2 * i, 3, "%02x", p->probe_id[i]);
	json_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
	json_u64(b, "pid", p->pid);
	json_bool(b, "alive", p->alive);
	json_u64(b, "spans", p->spans);
	json_key(b, "drops");
	json_raw(b, "{");
	for (int l = 0; l < (int)WIRE_LOSS_COUNT; l++)
		if (p->losses[l] > 0)
			json_u64(b, loss_name((enum wire_loss)l), p->losses[l]);
	json_raw(b, "}");
	json_str(b, "id", id);
	json_str(b, "service", p->service);
	json_bool(b, "closed", p->closed);
	json_u64(b, "seen_ns", p->seen_real_ns);
	json_raw(b, "}");
}

static void
put_work(struct outbuf *b, const struct status_snapshot *s)
{
	const struct status_work *w = &s->work;
	const struct receiver_stats *r = &s->receiver;

	json_key(b, "work");
	json_raw(b, "{");
	json_u64(b, "commits", w->commits);
	json_u64(b, "commit_failures", w->commit_failures);
	json_u64(b, "batches", w->batches);
	json_u64(b, "repeats", w->repeats);
	json_u64(b, "gaps", w->gaps);
	json_u64(b, "malformed", w->malformed);
	json_u64(b, "bytes", w->bytes);
	json_u64(b, "salvaged_rings", w->salvaged_rings);
	json_u64(b, "salvaged_spans", w->salvaged_spans);
	json_u64(b, "unfinished_spans", w->unfinished_spans);
	json_u64(b, "salvage_torn", w->salvage_torn);
	json_u64(b, "raw_backlog", w->raw_backlog);
	json_u64(b, "open_spans", w->open_spans);
	json_u64(b, "cpu_ns", w->cpu_ns);
	json_bool(b, "paused", w->paused);
	json_u64(b, "connections", r->connections_now);
	json_u64(b, "malformed_frames", r->malformed_frames);
	json_u64(b, "too_large_frames", r->too_large_frames);
	json_u64(b, "refused_uid", r->refused_uid);
	json_u64(b, "handshakes_failed", r->handshakes_failed);
	json_str(b, "last_malformed", r->last_malformed);
	json_raw(b, "}");
}

enum err
view_status(const struct status_snapshot *s, struct outbuf *b)
{
	json_raw(b, "{");
	json_str(b, "version", s->version);
	json_u64(b, "pid", s->pid);
	json_u64(b, "uptime_s", s->uptime_s);
	json_str(b, "state", agent_state_name(s->state));
	json_str(b, "reason", s->reason);
	json_key(b, "signals");
	json_raw(b, "{");
	put_signal(b, s, SIGNAL_TRACE);
	json_raw(b, "}");
	json_key(b, "destinations");
	json_raw(b, "[");
	for (size_t i = 0; i < s->destination_count && !b->failed; i++)
		put_destination(b, &s->destinations[i]);
	json_raw(b, "]");
	json_key(b, "probes");
	json_raw(b, "[");
	for (size_t i = 0; i < s->probe_count && !b->failed; i++)
		put_probe(b, &s->probes[i]);
	json_raw(b, "]");
	json_u64(b, "probe_total", s->probe_total);
	json_key(b, "store");
	json_raw(b, "{");
	json_u64(b, "bytes", s->store.bytes);
	json_u64(b, "cap_bytes", s->store.cap_bytes);
	json_u64(b, "history_bytes", s->store.history_bytes);
	json_u64(b, "raw_rows", s->store.raw_rows);
	json_u64(b, "segment_rows", s->store.segment_rows);
	json_u64(b, "chunk_rows", s->store.chunk_rows);
	json_bool(b, "volatile", s->store.volatile_);
	json_u64(b, "quarantined", s->store.quarantined);
	json_raw(b, "}");
	put_work(b, s);
	json_str(b, "run_dir", s->run_dir);
	json_str(b, "data_dir", s->data_dir);
	json_raw(b, "}");
	return b->failed ? E_NOMEM : E_OK;
}
