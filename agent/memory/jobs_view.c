/*
 * jobs_view.c - the jobs of one process as JSON, each with its nodes, what it
 * left held, and the trend of what nobody accounts for.  From copies, no lock.
 */
#include <string.h>

#include "agent/core/json.h"
#include "agent/memory/internal.h"
#include "agent/memory/trend.h"

struct of_process {
	const struct memory_process_now *p;
	bool earlier_boot;
	int64_t since_ns, ahead_ns;
};

static void
put_bytes(struct outbuf *b, const char *key, uint64_t v)
{
	if (v != RAN_UNKNOWN) {
		put_u64(b, key, v);
		return;
	}
	put_key(b, key);
	put_raw(b, "null");
}

/* What a process has not lived to finish ends with it. */
static int64_t
end_real_ns(const struct of_process *o, const struct ran *r)
{
	if (r->to_ns != 0)
		return r->to_ns + o->ahead_ns;
	return o->p->alive ? 0 : (int64_t)o->p->ended_real_ns;
}

static bool
is_seen(const struct of_process *o, const struct ran *r)
{
	int64_t end = end_real_ns(o, r);

	return ran_of(r, o->p->pid, o->p->start_ticks, o->earlier_boot) &&
	       (end == 0 || end >= o->since_ns + o->ahead_ns);
}

static void
put_ran(struct outbuf *b, const struct of_process *o, const struct ran *r)
{
	int64_t end = end_real_ns(o, r);

	put_i64(b, "from_ns", r->from_ns + o->ahead_ns);
	put_bytes(b, "to_ns", end == 0 ? RAN_UNKNOWN : (uint64_t)end);
	put_str(b, "status", r->status);
	put_bool(b, "unfinished", r->unfinished || (end != 0 && r->status[0] == '\0'));
	put_bytes(b, "peak_bytes", r->bytes[RAN_PEAK]);
	put_bytes(b, "gpu_peak_bytes", r->bytes[RAN_GPU_PEAK]);
	put_u64(b, "gpu", r->gpu);
	put_bytes(b, "outputs_bytes", r->bytes[RAN_OUTPUTS]);
	put_bytes(b, "outputs_gpu_bytes", r->bytes[RAN_OUTPUTS_GPU]);
}

static void
put_held(struct outbuf *b, const struct ran *r)
{
	put_bytes(b, "models_bytes", r->bytes[RAN_MODELS]);
	put_bytes(b, "models_gpu_bytes", r->bytes[RAN_MODELS_GPU]);
	put_bytes(b, "unaccounted_bytes", r->bytes[RAN_UNACCOUNTED]);
	put_bool(b, "partial", r->partial);
	put_str(b, "top", r->top);
}

static void
put_nodes(struct outbuf *b, const struct of_process *o, const struct ran_ring *nodes,
    const struct ran *job)
{
	put_key(b, "nodes");
	put_raw(b, "[");
	for (uint32_t i = 0; i < nodes->count && !b->failed; i++) {
		const struct ran *n = ran_at(nodes, i);

		if (!ran_within(n, job))
			continue;
		put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
		put_str(b, "id", n->id);
		put_str(b, "class", n->name);
		put_ran(b, o, n);
		put_raw(b, "}");
	}
	put_raw(b, "]");
}

/* Of all its jobs, also those before the time that is asked for. */
static void
put_trend(struct outbuf *b, const struct of_process *o, const struct ran_ring *jobs)
{
	uint64_t bytes[JOBS_MAX];
	struct trend t;
	size_t n = 0;

	for (uint32_t i = 0; i < jobs->count; i++) {
		const struct ran *r = ran_at(jobs, i);

		if (ran_of(r, o->p->pid, o->p->start_ticks, o->earlier_boot) && !r->partial &&
		    r->bytes[RAN_UNACCOUNTED] != RAN_UNKNOWN)
			bytes[n++] = r->bytes[RAN_UNACCOUNTED];
	}
	t = trend_of(bytes, n);
	put_key(b, "trend");
	put_raw(b, "{");
	put_str(b, "state", trend_name(t.state));
	put_u64(b, "jobs", t.jobs);
	put_key(b, "bytes_per_job");
	if (t.state == TREND_UNKNOWN)
		put_raw(b, "null");
	else
		put_f64(b, t.bytes_per_job);
	put_bytes(b, "first_bytes", n > 0 ? bytes[0] : RAN_UNKNOWN);
	put_bytes(b, "last_bytes", n > 0 ? bytes[n - 1] : RAN_UNKNOWN);
	put_raw(b, "}");
}

void
jobs_view(struct outbuf *b, const struct jobs *all, const struct memory_process_now *p,
    bool earlier_boot, int64_t since_ns, int64_t ahead_ns)
{
	struct of_process o = { p, earlier_boot, since_ns, ahead_ns };

	put_key(b, "jobs");
	put_raw(b, "[");
	for (uint32_t i = 0; i < all->jobs.count && !b->failed; i++) {
		const struct ran *job = ran_at(&all->jobs, i);

		if (!is_seen(&o, job))
			continue;
		put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
		put_str(b, "prompt_id", job->id);
		put_str(b, "workflow", job->name);
		put_ran(b, &o, job);
		put_held(b, job);
		put_nodes(b, &o, &all->nodes, job);
		put_raw(b, "}");
	}
	put_raw(b, "]");
	put_trend(b, &o, &all->jobs);
}
