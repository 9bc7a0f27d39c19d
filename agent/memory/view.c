/*
 * view.c - memory over time as JSON: for each process and device at most so many
 * points, each the highest of its part of the time.  Any thread.  The lock is
 * held while points are gathered, not while they are written.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/core/json.h"
#include "agent/memory/internal.h"

struct columns {
	unsigned count;
	const char *names[SERIES_VALUES];
	uint64_t unit[SERIES_VALUES]; /* of one, in what the name says */
};

static const struct columns of_process = { 6,
	{ "rss_bytes", "peak_bytes", "anon_bytes", "swap_bytes", "gpu_bytes", "group_bytes" },
	{ 1024, 1024, 1024, 1024, 1024, 1024 } };
static const struct columns of_device = { 6,
	{ "used_bytes", "peak_bytes", "utilisation", "celsius", "watts", "comfyui_bytes" },
	{ 1024, 1024, 1, 1, 1, 1024 } };

/* Parts of the time, each with the highest of every value. */
struct picture {
	int64_t from_ns, step_ns, ahead_ns;
	uint32_t count;
	struct point *parts; /* span_ms 0: nothing fell into it */
	struct jobs jobs;    /* copies */
	bool earlier_boot;   /* of the process that was taken */
};

static bool
put_point(void *ctx, const struct point *p, unsigned level)
{
	struct picture *pic = ctx;
	int64_t i = (p->t_ns - pic->from_ns - 1) / pic->step_ns;
	struct point *part = &pic->parts[i < 0 ? 0 : i >= pic->count ? pic->count - 1 : i];

	(void)level;
	part->span_ms = 1;
	if (p->t_ns > part->t_ns)
		part->t_ns = p->t_ns;
	for (unsigned v = 0; v < SERIES_VALUES; v++)
		if (p->v[v] > part->v[v])
			part->v[v] = p->v[v];
	return true;
}

static void
put_columns(struct outbuf *b, const struct columns *c)
{
	put_key(b, "columns");
	put_raw(b, "[\"t_ns\"");
	for (unsigned i = 0; i < c->count; i++) {
		put_raw(b, ",\"");
		put_raw(b, c->names[i]);
		put_raw(b, "\"");
	}
	put_raw(b, "]");
}

static void
put_points(struct outbuf *b, const struct columns *c, const struct picture *pic)
{
	char text[32];
	bool first = true;

	put_columns(b, c);
	put_key(b, "points");
	put_raw(b, "[");
	for (uint32_t i = 0; i < pic->count && !b->failed; i++) {
		const struct point *p = &pic->parts[i];

		if (p->span_ms == 0)
			continue;
		snprintf(text, sizeof text, "%s[%lld", first ? "" : ",",
		    (long long)(p->t_ns + pic->ahead_ns));
		put_raw(b, text);
		for (unsigned v = 0; v < c->count; v++) {
			snprintf(
			    text, sizeof text, ",%llu", (unsigned long long)(p->v[v] * c->unit[v]));
			put_raw(b, text);
		}
		put_raw(b, "]");
		first = false;
	}
	put_raw(b, "]");
}

static void
put_process(struct outbuf *b, const struct memory_process_now *p)
{
	put_u64(b, "pid", p->pid);
	put_u64(b, "start_ticks", p->start_ticks);
	put_u64(b, "started_ns", p->started_real_ns);
	put_u64(b, "ended_ns", p->ended_real_ns);
	put_bool(b, "alive", p->alive);
	put_bool(b, "job_runs", p->job_runs);
	put_u64(b, "rss_bytes", p->rss_bytes);
	put_u64(b, "peak_bytes", p->peak_bytes);
	put_u64(b, "anon_bytes", p->anon_bytes);
	put_u64(b, "file_bytes", p->file_bytes);
	put_u64(b, "shmem_bytes", p->shmem_bytes);
	put_u64(b, "swap_bytes", p->swap_bytes);
	put_u64(b, "gpu_bytes", p->gpu_bytes);
	put_u64(b, "group_bytes", p->group_bytes);
	put_u64(b, "limit_bytes", p->group_limit_bytes);
	put_u64(b, "major_faults", p->major_faults);
	put_u64(b, "descriptors", p->descriptors);
	put_u64(b, "threads", p->threads);
}

static void
put_pss(struct memory *m, uint64_t pid, struct outbuf *b)
{
	uint64_t bytes;

	if (process_pss(m->proc_dir, pid, &bytes) == E_OK)
		put_u64(b, "pss_bytes", bytes);
}

/* Gather what is asked for; false: the place is empty. */
static bool
take_process(struct memory *m, unsigned i, struct picture *pic, struct memory_process_now *now)
{
	struct slot *s = &m->slots[i];
	bool used;

	memset(pic->parts, 0, pic->count * sizeof *pic->parts);
	for (uint32_t k = 0; k < pic->count; k++)
		pic->parts[k].t_ns = INT64_MIN;
	pthread_mutex_lock(&m->lock);
	used = s->state != PLACE_FREE && s->series.levels[0].points != NULL;
	if (used) {
		slot_now(m, s, now);
		pic->earlier_boot = s->earlier_boot;
		series_each(&s->series, pic->from_ns, INT64_MAX, put_point, pic);
	}
	pthread_mutex_unlock(&m->lock);
	return used;
}

static bool
take_device(struct memory *m, unsigned i, struct picture *pic, struct memory_gpu_now *now)
{
	struct device *d = &m->devices[i];
	bool used;

	memset(pic->parts, 0, pic->count * sizeof *pic->parts);
	for (uint32_t k = 0; k < pic->count; k++)
		pic->parts[k].t_ns = INT64_MIN;
	pthread_mutex_lock(&m->lock);
	used = d->known;
	if (used) {
		device_now(&d->now, now);
		series_each(&d->series, pic->from_ns, INT64_MAX, put_point, pic);
	}
	pthread_mutex_unlock(&m->lock);
	return used;
}

static void
put_processes(struct memory *m, const struct memory_query *q, struct picture *pic, struct outbuf *b)
{
	struct memory_process_now now;

	put_key(b, "processes");
	put_raw(b, "[");
	for (unsigned i = 0; i < MEMORY_PROCESSES && !b->failed; i++) {
		if (!take_process(m, i, pic, &now))
			continue;
		put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
		put_process(b, &now);
		if (q->pss && now.alive)
			put_pss(m, now.pid, b);
		put_points(b, &of_process, pic);
		jobs_view(b, &pic->jobs, &now, pic->earlier_boot, pic->from_ns, pic->ahead_ns);
		put_raw(b, "}");
	}
	put_raw(b, "]");
}

static void
put_devices(struct memory *m, struct picture *pic, struct outbuf *b)
{
	struct memory_gpu_now now;

	put_key(b, "gpus");
	put_raw(b, "[");
	for (unsigned i = 0; i < MEMORY_GPUS && !b->failed; i++) {
		if (!take_device(m, i, pic, &now))
			continue;
		put_raw(b, b->p[b->n - 1] == '[' ? "{" : ",{");
		put_u64(b, "index", i);
		put_str(b, "name", now.name);
		put_str(b, "id", now.id);
		put_bool(b, "answers", now.answers);
		put_u64(b, "used_bytes", now.used_bytes);
		put_u64(b, "total_bytes", now.total_bytes);
		put_u64(b, "utilisation", now.utilisation);
		put_u64(b, "celsius", now.celsius);
		put_u64(b, "milliwatts", now.milliwatts);
		put_points(b, &of_device, pic);
		put_raw(b, "}");
	}
	put_raw(b, "]");
}

static bool
copy_ring(struct ran_ring *to, const struct ran_ring *from)
{
	to->of = malloc((from->count + 1) * sizeof *to->of);
	if (to->of == NULL)
		return false;
	to->cap = from->count + 1;
	for (; to->count < from->count; to->count++)
		to->of[to->count] = *ran_at(from, to->count);
	return true;
}

/* What has not ended, or died with its process: its peak is what was sampled until now, or then.
 * Under the lock. */
static void
complete(struct memory *m, struct ran_ring *ring)
{
	for (uint32_t i = 0; i < ring->count; i++) {
		struct ran *r = &ring->of[i];
		const struct slot *s;
		uint32_t kib;

		if (r->to_ns != 0 && !r->unfinished)
			continue;
		s = slot_find(m, r->pid, r->start_ticks, r->earlier_boot);
		if (s == NULL)
			continue;
		if (s->state == PLACE_GONE && (int64_t)s->ended_ns > r->to_ns)
			r->to_ns = (int64_t)s->ended_ns;
		if (series_max(&s->series, r->from_ns, INT64_MAX, V_RSS, V_PEAK, &kib) &&
		    (r->bytes[RAN_PEAK] == RAN_UNKNOWN || r->bytes[RAN_PEAK] < kib * 1024ull))
			r->bytes[RAN_PEAK] = kib * 1024ull;
	}
}

static enum err
take_jobs(struct memory *m, struct jobs *out)
{
	bool copied;

	pthread_mutex_lock(&m->lock);
	copied = copy_ring(&out->jobs, &m->jobs.jobs) && copy_ring(&out->nodes, &m->jobs.nodes);
	if (copied) {
		complete(m, &out->jobs);
		complete(m, &out->nodes);
	}
	pthread_mutex_unlock(&m->lock);
	return copied ? E_OK : E_NOMEM;
}

enum err
memory_view(struct memory *m, const struct memory_query *q, struct outbuf *b)
{
	uint64_t real = clock_real_ns(), mono = clock_mono_ns();
	uint64_t since = q->since_real_ns;
	struct memory_now *now = calloc(1, sizeof *now);
	struct picture pic = { .count = q->points > 0 ? q->points : 1,
		.ahead_ns = (int64_t)(real - mono) };

	pic.parts = calloc(pic.count, sizeof *pic.parts);
	if (now == NULL || pic.parts == NULL || take_jobs(m, &pic.jobs) != E_OK) {
		b->failed = true;
		goto out;
	}
	memory_now(m, now);
	if (since < now->since_real_ns)
		since = now->since_real_ns;
	if (since == 0 || since > real)
		since = real;
	/* Two clocks that are read one after the other: a first point at that very time counts. */
	pic.from_ns = (int64_t)since - pic.ahead_ns - (int64_t)NS_PER_MS;
	pic.step_ns = ((int64_t)mono - pic.from_ns) / pic.count + 1;
	put_raw(b, "{");
	put_u64(b, "now_ns", real);
	put_u64(b, "since_ns", since);
	put_u64(b, "known_since_ns", now->since_real_ns);
	put_u64(b, "step_ns", (uint64_t)pic.step_ns);
	put_u64(b, "host_total_bytes", now->host_total_bytes);
	put_u64(b, "host_available_bytes", now->host_available_bytes);
	put_str(b, "gpu_problem", now->gpu_problem);
	put_processes(m, q, &pic, b);
	put_devices(m, &pic, b);
	put_raw(b, "}");
out:
	jobs_fini(&pic.jobs);
	free(pic.parts);
	free(now);
	return b->failed ? E_NOMEM : E_OK;
}
