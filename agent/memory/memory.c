/*
 * memory.c - the object and what any thread may ask of it.  See memory.h.
 */
#include "agent/memory/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/memory/internal.h"

#define STOP_WAIT_S 1 /* for a driver that does not answer */

static int
open_proc(const struct memory *m, const char *name)
{
	char path[300];

	return path_join(path, sizeof path, m->proc_dir, name) == E_OK
		   ? open(path, O_RDONLY | O_CLOEXEC)
		   : -1;
}

static void
set_text(char *to, size_t cap, const char *text, const char *otherwise)
{
	snprintf(to, cap, "%s", text != NULL ? text : otherwise);
}

enum err
memory_new(const struct memory_options *o, struct memory **out)
{
	struct memory *m = calloc(1, sizeof *m);
	pthread_condattr_t attr;
	enum err e;

	if (m == NULL)
		return E_NOMEM;
	set_text(m->proc_dir, sizeof m->proc_dir, o->proc_dir, "/proc");
	set_text(m->sys_dir, sizeof m->sys_dir, o->sys_dir, "/sys");
	set_text(m->nvml, sizeof m->nvml, o->nvml, "");
	m->slow_ns = (o->slow_ms != 0 ? o->slow_ms : 1000) * NS_PER_MS;
	m->fast_ns = (o->fast_ms != 0 ? o->fast_ms : 100) * NS_PER_MS;
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->reader_idle, &attr);
	pthread_condattr_destroy(&attr);
	waker_init(&m->wake_sampler);
	waker_init(&m->wake_reader);
	m->meminfo_fd = open_proc(m, "meminfo");
	m->pressure_fd = open_proc(m, "pressure/memory"); /* not every kernel has it */
	e = jobs_init(&m->jobs);
	if (e == E_OK && o->data_dir != NULL)
		e = keep_open(m, o->data_dir, &m->keep);
	if (e != E_OK) {
		memory_free(m);
		return e;
	}
	*out = m;
	return E_OK;
}

enum err
memory_start(struct memory *m)
{
	enum err e = m->keep != NULL ? keep_start(m->keep) : E_OK;

	if (e != E_OK) { /* told; the picture is drawn without it */
		keep_close(m->keep);
		m->keep = NULL;
	}
	e = thread_start(&m->sampler, "memory", sampler_run, m);
	if (e == E_OK)
		e = thread_start(&m->reader, "devices", devices_run, m);
	m->started = true;
	return e;
}

/* False: it is in a call that does not return. */
static bool
reader_stops(struct memory *m)
{
	struct timespec until;
	int rv = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_WAIT_S;
	pthread_mutex_lock(&m->lock);
	while (m->reader_busy && rv == 0)
		rv = pthread_cond_timedwait(&m->reader_idle, &m->lock, &until);
	rv = m->reader_busy;
	pthread_mutex_unlock(&m->lock);
	return rv == 0;
}

void
memory_stop(struct memory *m)
{
	if (!m->started || m->reader_stuck)
		return;
	waker_stop(&m->wake_sampler);
	waker_stop(&m->wake_reader);
	thread_join(&m->sampler);
	m->reader_stuck = !reader_stops(m);
	if (!m->reader_stuck) {
		thread_join(&m->reader);
		return;
	}
	log_warn("gpu_driver_does_not_return");
	pthread_detach(m->reader.id);
	m->reader.started = false;
}

void
memory_free(struct memory *m)
{
	if (m == NULL)
		return;
	memory_stop(m);
	if (m->reader_stuck)
		return; /* it is not ours to free while a thread uses it: the process ends soon */
	keep_close(m->keep);
	jobs_fini(&m->jobs);
	for (unsigned i = 0; i < MEMORY_PROCESSES; i++)
		series_fini(&m->slots[i].series);
	for (unsigned i = 0; i < MEMORY_GPUS; i++)
		series_fini(&m->devices[i].series);
	if (m->meminfo_fd >= 0)
		close(m->meminfo_fd);
	if (m->pressure_fd >= 0)
		close(m->pressure_fd);
	waker_fini(&m->wake_sampler);
	waker_fini(&m->wake_reader);
	pthread_cond_destroy(&m->reader_idle);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* ---- who is followed --------------------------------------------------------- */

struct slot *
slot_find(struct memory *m, uint64_t pid, uint64_t start_ticks, bool earlier_boot)
{
	for (unsigned i = 0; i < MEMORY_PROCESSES; i++) {
		struct slot *s = &m->slots[i];

		if (s->state != PLACE_FREE && s->pid == pid && s->start_ticks == start_ticks &&
		    s->earlier_boot == earlier_boot)
			return s;
	}
	return NULL;
}

/* A free place, else the one of who is longest gone. */
static struct slot *
slot_vacate(struct memory *m)
{
	struct slot *oldest = NULL;

	for (unsigned i = 0; i < MEMORY_PROCESSES; i++) {
		struct slot *s = &m->slots[i];

		if (s->state == PLACE_FREE)
			return s;
		if (s->state == PLACE_GONE && (oldest == NULL || s->ended_ns < oldest->ended_ns))
			oldest = s;
	}
	if (oldest != NULL) {
		series_fini(&oldest->series);
		memset(oldest, 0, sizeof *oldest);
	}
	return oldest;
}

struct slot *
slot_take(struct memory *m, uint64_t pid, uint64_t start_ticks, bool earlier_boot)
{
	struct slot *s = slot_find(m, pid, start_ticks, earlier_boot);

	if (s != NULL)
		return s;
	s = slot_vacate(m);
	if (s == NULL || series_init(&s->series) != E_OK)
		return NULL;
	s->pid = pid;
	s->start_ticks = start_ticks;
	s->earlier_boot = earlier_boot;
	return s;
}

void
memory_follow(struct memory *m, uint64_t pid, uint64_t start_ticks)
{
	struct slot *s;

	if (pid == 0)
		return; /* a client that never said who it is */
	pthread_mutex_lock(&m->lock);
	s = slot_take(m, pid, start_ticks, false);
	if (s == NULL) {
		m->not_followed++;
	} else if (s->state == PLACE_FREE || s->state == PLACE_GONE) {
		s->state = PLACE_NEW;
		m->living++;
	}
	pthread_mutex_unlock(&m->lock);
	waker_wake(&m->wake_sampler);
}

void
memory_job(void *ctx, uint64_t pid, uint64_t start_ticks, uint64_t span_id, bool begins)
{
	struct memory *m = ctx;
	struct slot *s;

	pthread_mutex_lock(&m->lock);
	s = slot_find(m, pid, start_ticks, false);
	if (s != NULL && begins)
		s->job = span_id;
	else if (s != NULL && s->job == span_id)
		s->job = 0;
	pthread_mutex_unlock(&m->lock);
	if (s != NULL && begins)
		waker_wake(&m->wake_sampler);
}

void
memory_saw(struct memory *m, const struct span_seen *s)
{
	struct slot *of;
	struct ran r;
	bool matters;

	if (!ran_from(&r, s))
		return;
	matters = ran_matters(s->kind, &r);
	pthread_mutex_lock(&m->lock);
	of = s->kind == SPAN_WORKFLOW ? slot_find(m, s->pid, s->start_ticks, false) : NULL;
	if (of != NULL)
		order_told(&of->told, s);
	if (matters)
		jobs_put(&m->jobs, s->kind, &r);
	else
		jobs_drop(&m->jobs, s->kind, &r);
	pthread_mutex_unlock(&m->lock);
	if (matters && r.to_ns != 0 && m->keep != NULL)
		keep_ran(m->keep, s->kind, &r);
}

/* Whether a device may have held memory of this process. */
static bool
concerns(const struct slot *s, const struct device *d, unsigned index)
{
	if (!d->known)
		return false;
	/* A driver that names nobody (in a container, say) leaves it open. */
	return s->devices != 0 ? (s->devices & 1u << index) != 0 : !d->lists;
}

/* By the process's own index of each device. */
static bool
gpu_peaks(const struct memory *m, const struct slot *s, int64_t from_ns, int64_t to_ns,
    struct memory_peak *out)
{
	const struct gpu_order *o = s->told.given ? &s->told : &s->visible;
	char ids[MEMORY_GPUS][ORDER_ID_BYTES];
	unsigned at;
	uint32_t kib;
	bool any = false;

	for (unsigned i = 0; i < MEMORY_GPUS; i++)
		memcpy(ids[i], m->devices[i].now.id, sizeof ids[i]);
	for (unsigned i = 0; i < MEMORY_GPUS; i++) {
		const struct device *d;

		if (!order_find(o, i, (const char(*)[ORDER_ID_BYTES])ids, &at))
			continue;
		d = &m->devices[at];
		if (!concerns(s, d, at) ||
		    !series_max(&d->series, from_ns, to_ns, V_USED, V_USED_PEAK, &kib))
			continue;
		out->gpu_bytes[i] = (uint64_t)kib * 1024;
		any = true;
	}
	return any;
}

bool
memory_peak(void *ctx, uint64_t pid, uint64_t start_ticks, uint64_t from_ns, uint64_t to_ns,
    struct memory_peak *out)
{
	struct memory *m = ctx;
	struct slot *s;
	uint32_t kib;
	bool any = false;

	memset(out, 0, sizeof *out);
	if (from_ns > INT64_MAX || to_ns > INT64_MAX)
		return false;
	pthread_mutex_lock(&m->lock);
	s = slot_find(m, pid, start_ticks, false);
	if (s != NULL &&
	    series_max(&s->series, (int64_t)from_ns, (int64_t)to_ns, V_RSS, V_PEAK, &kib)) {
		out->rss_bytes = (uint64_t)kib * 1024;
		any = true;
	}
	/* Which devices it means is known when the sampler has looked at it. */
	if (s != NULL && s->state != PLACE_NEW)
		any |= gpu_peaks(m, s, (int64_t)from_ns, (int64_t)to_ns, out);
	pthread_mutex_unlock(&m->lock);
	return any;
}

/* ---- what is now --------------------------------------------------------------- */

static uint64_t
started_real(const struct slot *s)
{
	struct timespec boot;
	long hz = sysconf(_SC_CLK_TCK);

	if (s->earlier_boot || hz <= 0 || clock_gettime(CLOCK_BOOTTIME, &boot) != 0)
		return 0;
	return clock_real_ns() - (uint64_t)boot.tv_sec * NS_PER_S - (uint64_t)boot.tv_nsec +
	       s->start_ticks / (uint64_t)hz * NS_PER_S +
	       s->start_ticks % (uint64_t)hz * (NS_PER_S / (uint64_t)hz);
}

/* What its newest job has left. */
static void
held_now(const struct memory *m, const struct slot *s, struct memory_process_now *p)
{
	for (uint32_t i = m->jobs.jobs.count; i-- > 0 && !p->held_known;) {
		const struct ran *r = ran_at(&m->jobs.jobs, i);
		const uint64_t *b = r->bytes;

		if (!ran_of(r, s->pid, s->start_ticks, s->earlier_boot) ||
		    b[RAN_UNACCOUNTED] == RAN_UNKNOWN || b[RAN_OUTPUTS] == RAN_UNKNOWN ||
		    b[RAN_OUTPUTS_GPU] == RAN_UNKNOWN || b[RAN_MODELS] == RAN_UNKNOWN ||
		    b[RAN_MODELS_GPU] == RAN_UNKNOWN)
			continue;
		p->held_known = true;
		p->accounted_bytes =
		    b[RAN_OUTPUTS] - b[RAN_OUTPUTS_GPU] + b[RAN_MODELS] - b[RAN_MODELS_GPU];
		p->unaccounted_bytes = b[RAN_UNACCOUNTED];
	}
}

void
slot_now(const struct memory *m, const struct slot *s, struct memory_process_now *p)
{
	const struct process_sample *n = &s->now;
	int64_t ahead = (int64_t)(clock_real_ns() - clock_mono_ns());

	*p = (struct memory_process_now){ .pid = s->pid,
		.start_ticks = s->start_ticks,
		.started_real_ns = started_real(s),
		.ended_real_ns =
		    s->state == PLACE_GONE ? (uint64_t)((int64_t)s->ended_ns + ahead) : 0,
		.alive = s->state == PLACE_LIVING || s->state == PLACE_NEW,
		.job_runs = s->job != 0,
		.rss_bytes = n->status.rss_bytes,
		.peak_bytes = n->status.peak_bytes,
		.anon_bytes = n->status.anon_bytes,
		.file_bytes = n->status.file_bytes,
		.shmem_bytes = n->status.shmem_bytes,
		.swap_bytes = n->status.swap_bytes,
		.gpu_bytes = s->gpu_bytes,
		.group_bytes = n->group_bytes,
		.group_limit_bytes = n->group_limit_bytes,
		.group_some_x100 = n->group_pressure.some_x100,
		.group_full_x100 = n->group_pressure.full_x100,
		.major_faults = n->major_faults,
		.descriptors = n->descriptors,
		.threads = n->status.threads };
	held_now(m, s, p);
}

void
device_now(const struct gpu *g, struct memory_gpu_now *out)
{
	memcpy(out->name, g->name, sizeof out->name);
	memcpy(out->id, g->id, sizeof out->id);
	out->answers = g->answers;
	out->used_bytes = g->answers ? g->used_bytes : 0;
	out->total_bytes = g->total_bytes;
	out->utilisation = g->answers ? g->utilisation : 0;
	out->celsius = g->answers ? g->celsius : 0;
	out->milliwatts = g->answers ? g->milliwatts : 0;
}

static bool
has_place(struct memory *m, const struct ran *r)
{
	return slot_find(m, r->pid, r->start_ticks, r->earlier_boot) != NULL;
}

static uint64_t
since_real(struct memory *m)
{
	int64_t least = INT64_MAX, t, ahead = (int64_t)(clock_real_ns() - clock_mono_ns());
	uint32_t i = 0;

	/* A kill of the agent costs up to a minute of the series, but no job. */
	while (i < m->jobs.jobs.count && !has_place(m, ran_at(&m->jobs.jobs, i)))
		i++;
	if (i < m->jobs.jobs.count)
		least = ran_at(&m->jobs.jobs, i)->from_ns;
	for (i = 0; i < MEMORY_PROCESSES; i++)
		if (series_since(&m->slots[i].series, &t) && t < least)
			least = t;
	return least != INT64_MAX && least + ahead > 0 ? (uint64_t)(least + ahead) : 0;
}

void
memory_now(struct memory *m, struct memory_now *out)
{
	memset(out, 0, sizeof *out);
	out->known = true;
	pthread_mutex_lock(&m->lock);
	out->since_real_ns = since_real(m);
	for (unsigned i = 0; i < MEMORY_PROCESSES; i++)
		if (m->slots[i].state == PLACE_LIVING)
			slot_now(m, &m->slots[i], &out->processes[out->process_count++]);
	/* Up to the last known: a place is an index in names. */
	for (unsigned i = 0; i < MEMORY_GPUS; i++)
		if (m->devices[i].known) {
			device_now(&m->devices[i].now, &out->gpus[i]);
			out->gpu_count = i + 1;
		}
	out->host_total_bytes = m->host.total_bytes;
	out->host_available_bytes = m->host.available_bytes;
	out->swap_total_bytes = m->host.swap_total_bytes;
	out->swap_free_bytes = m->host.swap_free_bytes;
	out->host_some_x100 = m->host_pressure.some_x100;
	out->host_full_x100 = m->host_pressure.full_x100;
	memcpy(out->gpu_problem, m->gpu_problem, sizeof out->gpu_problem);
	out->samples = m->samples;
	out->cpu_ns = m->sampler_cpu_ns;
	out->gpu_reads = m->gpu_reads;
	out->gpu_read_ns = m->gpu_read_ns;
	out->not_followed = m->not_followed;
	pthread_mutex_unlock(&m->lock);
}
