/*
 * sampler.c - the thread that reads /proc.  It opens and closes descriptors and
 * reads without the lock, and takes it to publish.
 */
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/memory/internal.h"

#define MORE_NS    NS_PER_S /* faults, pressure, the host */
#define REST_EVERY 10u      /* ... and of these, descriptors and limits */
#define TEXT_BYTES 8192u
#define EARLY_NS   (5 * NS_PER_MS) /* a due time this near is now: one wake for all */

static void
set_gone(struct memory *m, struct slot *s, uint64_t now_ns)
{
	process_close(&s->process);
	pthread_mutex_lock(&m->lock);
	m->living--;
	s->state = PLACE_GONE;
	s->ended_ns = now_ns;
	s->job = 0;
	s->gpu_bytes = 0;
	pthread_mutex_unlock(&m->lock);
}

/* False: it is not there. */
static bool
open_slot(struct memory *m, struct slot *s, uint64_t now_ns)
{
	struct gpu_order visible = { .given = false };
	enum err e = process_open(&s->process, m->proc_dir, s->pid, s->start_ticks);

	if (e != E_OK) {
		log_info("memory_not_followed pid=%llu", (unsigned long long)s->pid);
		set_gone(m, s, now_ns);
		pthread_mutex_lock(&m->lock);
		m->not_followed++;
		pthread_mutex_unlock(&m->lock);
		return false;
	}
	s->due_ns = s->more_ns = now_ns;
	s->sampled_ns = 0;
	s->seconds = 0;
	process_visible(&s->process, &visible);
	pthread_mutex_lock(&m->lock);
	s->visible = visible;
	s->state = PLACE_LIVING;
	pthread_mutex_unlock(&m->lock);
	waker_wake(&m->wake_reader);
	return true;
}

/* The kernel's own peak tells of what came and went between two samples. */
static uint64_t
peak_since(const struct process_sample *before, const struct process_sample *now)
{
	bool higher =
	    before->status.peak_bytes != 0 && now->status.peak_bytes > before->status.peak_bytes;

	return higher && now->status.peak_bytes > now->status.rss_bytes ? now->status.peak_bytes
									: now->status.rss_bytes;
}

static void
publish(struct memory *m, struct slot *s, const struct process_sample *now, uint64_t now_ns)
{
	struct point minute, p = { .t_ns = (int64_t)now_ns };
	bool full;

	if (s->sampled_ns != 0)
		p.span_ms = (uint32_t)((now_ns - s->sampled_ns + NS_PER_MS - 1) / NS_PER_MS);
	p.v[V_RSS] = series_kib(now->status.rss_bytes);
	p.v[V_PEAK] = series_kib(peak_since(&s->now, now));
	p.v[V_ANON] = series_kib(now->status.anon_bytes);
	p.v[V_SWAP] = series_kib(now->status.swap_bytes);
	p.v[V_GROUP] = series_kib(now->group_bytes);
	pthread_mutex_lock(&m->lock);
	p.v[V_GPU] = series_kib(s->gpu_bytes);
	s->now = *now;
	full = series_add(&s->series, &p, &minute);
	m->samples++;
	pthread_mutex_unlock(&m->lock);
	s->sampled_ns = now_ns;
	if (full && m->keep != NULL)
		keep_minute(m->keep, KEEP_PROCESS, s->pid, s->start_ticks, "", "", &minute);
}

static void
sample_host(struct memory *m)
{
	char text[TEXT_BYTES];
	struct host_text host = { 0 };
	struct pressure_text pressure = { 0 };
	bool known = text_read(m->meminfo_fd, text, sizeof text) && text_meminfo(text, &host);

	if (text_read(m->pressure_fd, text, sizeof text))
		(void)text_pressure(text, &pressure);
	pthread_mutex_lock(&m->lock);
	if (known)
		m->host = host;
	m->host_pressure = pressure;
	m->sampler_cpu_ns = clock_thread_cpu_ns();
	pthread_mutex_unlock(&m->lock);
}

/* False: it has gone. */
static bool
sample_slot(struct memory *m, struct slot *s, uint64_t now_ns)
{
	struct process_sample now = s->now; /* ours alone writes it */

	if (!process_sample(&s->process, &now)) {
		set_gone(m, s, now_ns);
		return false;
	}
	if (now_ns + EARLY_NS >= s->more_ns) {
		process_sample_more(&s->process, &now);
		if (s->seconds++ % REST_EVERY == 0)
			process_sample_rest(&s->process, &now);
		s->more_ns = now_ns + MORE_NS;
		sample_host(m);
	}
	publish(m, s, &now, now_ns);
	return true;
}

/* When this one is due: at once closer when a job has begun. */
static bool
due(const struct memory *m, struct slot *s, bool job, uint64_t now_ns)
{
	uint64_t step = job ? m->fast_ns : m->slow_ns;

	if (s->due_ns > now_ns + step)
		s->due_ns = now_ns + step;
	if (s->due_ns > now_ns + EARLY_NS)
		return false;
	s->due_ns += step;
	if (s->due_ns <= now_ns)
		s->due_ns = now_ns + step; /* it was asleep: no catching up */
	return true;
}

/* All that are due; the next time, WAKER_FOREVER when nobody lives. */
static uint64_t
round_of(struct memory *m)
{
	uint64_t next = WAKER_FOREVER;

	for (unsigned i = 0; i < MEMORY_PROCESSES; i++) {
		struct slot *s = &m->slots[i];
		uint64_t now_ns = clock_mono_ns();
		enum slot_state state;
		bool job, living;

		pthread_mutex_lock(&m->lock);
		state = s->state;
		job = s->job != 0;
		pthread_mutex_unlock(&m->lock);
		/* From here on a slot that has gone is not ours: another may be put into it. */
		living = state == PLACE_NEW ? open_slot(m, s, now_ns) : state == PLACE_LIVING;
		if (living && due(m, s, job, now_ns))
			living = sample_slot(m, s, now_ns);
		if (living && s->due_ns < next)
			next = s->due_ns;
	}
	return next;
}

/* At the end: what has not become a whole minute yet, and the descriptors. */
static void
finish_slot(struct memory *m, struct slot *s)
{
	const struct level *minutes = &s->series.levels[SERIES_LEVELS - 1];
	struct point rest;
	bool living, some;

	pthread_mutex_lock(&m->lock);
	living = s->state == PLACE_LIVING;
	some = living && minutes->has_open;
	if (some)
		rest = minutes->open;
	pthread_mutex_unlock(&m->lock);
	if (some && m->keep != NULL)
		keep_minute(m->keep, KEEP_PROCESS, s->pid, s->start_ticks, "", "", &rest);
	if (living)
		process_close(&s->process);
}

void
sampler_run(void *arg)
{
	struct memory *m = arg;

	while (!waker_stopped(&m->wake_sampler)) {
		uint64_t next = round_of(m);

		(void)waker_wait(&m->wake_sampler, next);
	}
	for (unsigned i = 0; i < MEMORY_PROCESSES; i++)
		finish_slot(m, &m->slots[i]);
}
