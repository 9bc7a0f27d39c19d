/*
 * devices.c - the thread that reads the devices: at most once a second, less
 * often when a driver is slow, never while a lock is held.  The driver is
 * let go of when no process lives, so that it may put the devices to sleep.
 */
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/memory/internal.h"

#define READ_NS   NS_PER_S
#define SHARE     20u             /* of the time between two reads, at most 1/20 is spent in one */
#define REOPEN_NS (60 * NS_PER_S) /* no library, or a driver that failed */

struct device *
device_take(struct memory *m, const char *id, unsigned index)
{
	struct device *vacant = NULL;

	if (id[0] == '\0' && m->devices[index].known)
		return &m->devices[index]; /* it does not say: whatever is at its place */
	for (unsigned i = 0; i < MEMORY_GPUS; i++) {
		struct device *d = &m->devices[i];

		if (d->known && strcmp(d->now.id, id) == 0)
			return d;
		if (!d->known && vacant == NULL)
			vacant = d;
	}
	if (vacant == NULL || series_init(&vacant->series) != E_OK)
		return NULL;
	vacant->known = true;
	snprintf(vacant->now.id, sizeof vacant->now.id, "%s", id);
	return vacant;
}

/* To each what it holds; all of it together. */
static uint64_t
share_out(struct memory *m, const struct gpu *g, unsigned index)
{
	uint64_t sum = 0;

	for (uint32_t h = 0; h < g->holder_count; h++)
		for (unsigned i = 0; i < MEMORY_PROCESSES; i++) {
			struct slot *s = &m->slots[i];

			if ((s->state != PLACE_LIVING && s->state != PLACE_NEW) ||
			    s->pid != g->holders[h].pid)
				continue;
			s->devices |= 1u << index;
			s->gpu_bytes += g->holders[h].bytes;
			sum += g->holders[h].bytes;
		}
	return sum;
}

void
devices_take(struct memory *m, const struct gpus *read, uint64_t now_ns)
{
	for (unsigned i = 0; i < MEMORY_PROCESSES; i++)
		m->slots[i].gpu_bytes = 0;
	for (unsigned i = 0; i < MEMORY_GPUS; i++)
		m->devices[i].now.answers = false;
	for (unsigned i = 0; i < read->count; i++) {
		const struct gpu *g = &read->of[i];
		struct device *d = g->answers ? device_take(m, g->id, i) : NULL;
		struct point minute, p = { .t_ns = (int64_t)now_ns };

		if (d == NULL)
			continue;
		if (d->sampled_ns != 0)
			p.span_ms =
			    (uint32_t)((now_ns - d->sampled_ns + NS_PER_MS - 1) / NS_PER_MS);
		d->now = *g;
		d->sampled_ns = now_ns;
		d->lists |= g->holder_count > 0;
		p.v[V_USED] = p.v[V_USED_PEAK] = series_kib(g->used_bytes);
		p.v[V_BUSY] = g->utilisation;
		p.v[V_CELSIUS] = g->celsius;
		p.v[V_WATTS] = g->milliwatts / 1000;
		p.v[V_OURS] = series_kib(share_out(m, g, (unsigned)(d - m->devices)));
		if (series_add(&d->series, &p, &minute) && m->keep != NULL)
			keep_minute(m->keep, KEEP_DEVICE, 0, 0, g->id, g->name, &minute);
	}
	snprintf(m->gpu_problem, sizeof m->gpu_problem, "%s", read->problem);
}

struct driver {
	struct nvml *nvml;
	uint64_t retry_ns; /* not before */
	char problem[120];
};

static void
open_driver(const struct memory *m, struct driver *d, uint64_t now_ns)
{
	char was[sizeof d->problem];
	enum err e;

	if (m->nvml[0] == '\0' || d->nvml != NULL || now_ns < d->retry_ns)
		return;
	memcpy(was, d->problem, sizeof was);
	e = nvml_open(m->nvml, &d->nvml, d->problem);
	d->retry_ns = now_ns + REOPEN_NS;
	if (e != E_OK && e != E_NOTFOUND && strcmp(was, d->problem) != 0)
		log_warn("gpu_driver_not_opened why=\"%s\"", d->problem);
}

static void
close_driver(struct driver *d)
{
	nvml_close(d->nvml);
	d->nvml = NULL;
}

static void
read_devices(const struct memory *m, struct driver *d, struct gpus *out)
{
	out->count = 0;
	snprintf(out->problem, sizeof out->problem, "%s", d->problem);
	if (d->nvml != NULL && !nvml_read(d->nvml, out) && clock_mono_ns() >= d->retry_ns) {
		/* A device was lost, or has come: begin again with the driver, now and then. */
		close_driver(d);
		d->retry_ns = clock_mono_ns();
	}
	amd_read(m->sys_dir, out);
}

/* One read; when to read again. */
static uint64_t
turn(struct memory *m, struct driver *d)
{
	uint64_t began = clock_mono_ns(), took;
	struct gpus *read = &m->read;

	open_driver(m, d, began);
	read_devices(m, d, read);
	took = clock_mono_ns() - began;
	pthread_mutex_lock(&m->lock);
	devices_take(m, read, began + took);
	m->gpu_reads++;
	m->gpu_read_ns = took;
	pthread_mutex_unlock(&m->lock);
	if (read->count == 0)
		return began + REOPEN_NS;
	return began + took + (took * SHARE > READ_NS ? took * SHARE : READ_NS - took);
}

void
devices_run(void *arg)
{
	struct memory *m = arg;
	struct driver d = { .problem = "" };
	uint64_t next = 0;

	while (!waker_stopped(&m->wake_reader)) {
		bool needed;

		pthread_mutex_lock(&m->lock);
		needed = m->living > 0;
		m->reader_busy = needed;
		pthread_mutex_unlock(&m->lock);
		if (!needed)
			close_driver(&d);
		else if (clock_mono_ns() >= next) /* else woken by one more process */
			next = turn(m, &d);
		pthread_mutex_lock(&m->lock);
		m->reader_busy = false;
		pthread_cond_broadcast(&m->reader_idle);
		pthread_mutex_unlock(&m->lock);
		(void)waker_wait(&m->wake_reader, needed ? next : WAKER_FOREVER);
	}
	close_driver(&d);
}
