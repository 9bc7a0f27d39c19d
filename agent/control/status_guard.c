/*
 * status_guard.c - what the status object says of ComfyUI itself: who guards it,
 * how it is, what it holds.
 */
#include "agent/control/views.h"
#include "agent/core/json.h"

static void
put_supervisor(struct outbuf *b, const struct supervised *s)
{
	put_item(b);
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
	put_item(b);
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

static void
put_health(struct outbuf *b, const struct status_health *h)
{
	put_raw(b, "{");
	put_bool(b, "healthy", h->healthy);
	put_str(b, "wrong", h->wrong);
	put_bool(b, "ready", h->ready);
	put_str(b, "why", h->why);
	put_open(b, "processes", "[");
	for (size_t i = 0; i < h->process_count && !b->failed; i++)
		put_process(b, &h->processes[i]);
	put_raw(b, "]");
	put_u64(b, "unwatched", h->unwatched);
	put_open(b, "ill", "{");
	for (int s = HEALTH_WELL + 1; s < HEALTH_STATES; s++)
		put_u64(b, health_state_name((enum health_state)s), h->ill[s]);
	put_raw(b, "}");
	put_u64(b, "restarts_asked", h->restarts_asked);
	put_u64(b, "restarts_failed", h->restarts_failed);
	put_u64(b, "looks", h->looks);
	put_u64(b, "cpu_ns", h->cpu_ns);
	put_raw(b, "}");
}

static void
put_health_port(struct outbuf *b, const struct status_health_port *p)
{
	put_open(b, "health_port", "{");
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
	put_open(b, "memory", "{");
	put_u64(b, "host_total_bytes", m->host_total_bytes);
	put_u64(b, "host_available_bytes", m->host_available_bytes);
	put_open(b, "processes", "[");
	for (size_t i = 0; i < m->process_count; i++) {
		const struct memory_process_now *p = &m->processes[i];

		put_item(b);
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
	put_open(b, "gpus", "[");
	for (size_t i = 0; i < m->gpu_count; i++) {
		const struct memory_gpu_now *g = &m->gpus[i];

		put_item(b);
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

enum err
view_health(const struct status_health *h, struct outbuf *b)
{
	put_health(b, h);
	return b->failed ? E_NOMEM : E_OK;
}

void
view_guard(const struct status_snapshot *s, struct outbuf *b)
{
	put_open(b, "supervisors", "[");
	for (size_t i = 0; i < s->supervisor_count && !b->failed; i++)
		put_supervisor(b, &s->supervisors[i]);
	put_raw(b, "]");
	put_memory(b, &s->memory);
	put_key(b, "health");
	put_health(b, &s->health);
	put_health_port(b, &s->health_port);
}
