/*
 * health.c - the observer: its thread, what follows from a judgement, and what
 * is told of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/health/internal.h"

#define LOOK_NS      NS_PER_S
#define BLIND_LOOKS  15u /* as rare when nobody's process can be looked at */
#define LATE_LOOKS   2u
#define SILENT_S     5u              /* who does not answer for so long takes no jobs now */
#define ASK_AGAIN_NS (10 * NS_PER_S) /* for a restart that could not be asked for */

enum err
health_new(const struct health_options *o, struct health **out)
{
	struct health *h = calloc(1, sizeof *h);

	if (h == NULL)
		return E_NOMEM;
	h->o = *o;
	if (h->o.look_ns == 0)
		h->o.look_ns = LOOK_NS;
	h->limits = (struct health_limits){ o->http_silent_ns, o->no_progress_ns };
	for (size_t i = 0; i < STATUS_PROCESSES; i++)
		h->targets[i].ask.fd = -1;
	h->watched_ns = 1; /* 0 is never */
	pthread_mutex_init(&h->lock, NULL);
	waker_init(&h->waker);
	*out = h;
	return E_OK;
}

void
health_free(struct health *h)
{
	if (h == NULL)
		return;
	health_stop(h);
	for (size_t i = 0; i < STATUS_PROCESSES; i++)
		look_end(&h->targets[i]);
	waker_fini(&h->waker);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* ---- what follows -------------------------------------------------------- */

static bool
was_ordered(const struct health *h, const char *life)
{
	for (size_t i = 0; i < STATUS_PROCESSES; i++)
		if (strcmp(h->ordered[i], life) == 0)
			return true;
	return false;
}

/* At most once a life, whatever it suffers from. */
static void
restart(struct health *h, struct target *t)
{
	const char *life = t->told.life;
	enum err e;

	if ((h->o.restart & (1u << t->state)) == 0 || h->o.restart_fn == NULL || life[0] == '\0' ||
	    t->ordered || h->watched_ns < h->retry_ns)
		return;
	if (was_ordered(h, life)) {
		t->ordered = true;
		return;
	}
	e = h->o.restart_fn(h->o.ctx, life, t->state, t->why);
	if (e == E_OK) {
		t->ordered = true;
		memcpy(h->ordered[h->ordered_at++ % STATUS_PROCESSES], life, sizeof h->ordered[0]);
		log_warn("health_restart_asked pid=%llu life=%s state=%s",
		    (unsigned long long)t->told.pid, life, health_state_name(t->state));
	} else {
		h->retry_ns = h->watched_ns + ASK_AGAIN_NS;
		log_error("health_restart_not_asked pid=%llu life=%s error=\"%s\"",
		    (unsigned long long)t->told.pid, life, err_text(e));
	}
	pthread_mutex_lock(&h->lock);
	h->restarts_asked += e == E_OK;
	h->restarts_failed += e != E_OK;
	pthread_mutex_unlock(&h->lock);
}

/* Becoming ill and well again; that it starts is the greeting's line. */
static void
tell_change(const struct target *t, enum health_state before)
{
	const char *now = health_state_name(t->state), *was = health_state_name(before);
	unsigned long long pid = t->told.pid;

	if (t->state > HEALTH_WELL)
		log_warn("health pid=%llu state=%s before=%s why=\"%s\"", pid, now, was, t->why);
	else if (before > HEALTH_WELL)
		log_info("health pid=%llu state=%s before=%s", pid, now, was);
}

static uint64_t
age_s(const struct health *h, uint64_t since_ns)
{
	return since_ns != 0 ? (h->watched_ns - since_ns) / NS_PER_S : 0;
}

static void
show(struct health *h, size_t i, enum health_state before)
{
	const struct target *t = &h->targets[i];
	struct status_process *s = &h->shown[i];

	pthread_mutex_lock(&h->lock);
	memset(s, 0, sizeof *s);
	s->pid = t->told.pid;
	memcpy(s->probe_id, t->told.probe_id, sizeof s->probe_id);
	memcpy(s->life, t->told.life, sizeof s->life);
	s->state = t->state;
	memcpy(s->why, t->why, sizeof s->why);
	s->since_s = age_s(h, t->since_ns);
	s->port = t->found ? proc_address_port(&t->at) : 0;
	if (t->found)
		proc_address_text(&t->at, s->address, sizeof s->address);
	s->tls = t->found && t->tls;
	s->answered_s = age_s(h, t->vitals.http_ok_ns);
	s->silent_s = age_s(h, t->vitals.http_unanswered_ns);
	s->worker = t->worker;
	s->worker_alive = t->worker != 0 && t->vitals.worker_gone_ns == 0;
	s->busy = t->told.busy;
	memcpy(s->prompt_id, t->told.prompt_id, sizeof s->prompt_id);
	s->quiet_s = t->told.busy ? age_s(h, t->vitals.job_quiet_ns) : 0;
	s->device_failures = t->told.device_failures;
	s->restart_asked = t->ordered;
	h->is_shown[i] = true;
	h->ill[t->state] += t->state != before;
	pthread_mutex_unlock(&h->lock);
}

/* Its place is free again. */
static void
let_go(struct health *h, size_t i)
{
	struct target *t = &h->targets[i];

	look_end(t);
	pthread_mutex_lock(&h->lock);
	h->told[i].used = false;
	h->is_shown[i] = false;
	pthread_mutex_unlock(&h->lock);
	memset(t, 0, sizeof *t);
	t->ask.fd = -1;
}

/* True when it lives and can be looked at. */
static bool
observe(struct health *h, size_t i)
{
	struct target *t = &h->targets[i];
	enum health_state before;
	struct told told;
	bool deaf;

	pthread_mutex_lock(&h->lock);
	told = h->told[i];
	h->told[i].sign = false;
	deaf = h->deaf;
	pthread_mutex_unlock(&h->lock);
	if (!told.used)
		return false;
	if (told.gone) {
		let_go(h, i);
		return false;
	}
	t->told = told;
	deaf = deaf || (h->o.connected != NULL && !h->o.connected(h->o.ctx, told.probe_id));
	before = t->state;
	if (!look(t, &h->limits, deaf, h->watched_ns)) {
		let_go(h, i);
		return false;
	}
	if (t->state != before)
		tell_change(t, before);
	restart(h, t);
	show(h, i, before);
	return t->vitals.visible;
}

/* When to look again, WAKER_FOREVER when nobody lives. */
static uint64_t
round_of_looks(struct health *h)
{
	uint64_t now = clock_mono_ns(), step = h->mono_ns != 0 ? now - h->mono_ns : 0;
	uint64_t most = h->pause_ns + LATE_LOOKS * h->o.look_ns;
	bool seeing = false, any = false;

	/* Longer than that we were not running, and saw nothing. */
	h->watched_ns += step < most ? step : most;
	h->mono_ns = now;
	for (size_t i = 0; i < STATUS_PROCESSES; i++)
		seeing = observe(h, i) || seeing;
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < STATUS_PROCESSES; i++)
		any = any || h->told[i].used;
	h->looks++;
	h->cpu_ns = clock_thread_cpu_ns();
	pthread_mutex_unlock(&h->lock);
	h->pause_ns = any ? (seeing ? 1 : BLIND_LOOKS) * h->o.look_ns : 0;
	return any ? now + h->pause_ns : WAKER_FOREVER;
}

void
health_look(struct health *h)
{
	(void)round_of_looks(h);
}

static void
loop(void *arg)
{
	struct health *h = arg;

	while (!waker_stopped(&h->waker))
		(void)waker_wait(&h->waker, round_of_looks(h));
}

enum err
health_start(struct health *h)
{
	return thread_start(&h->thread, "health", loop, h);
}

void
health_stop(struct health *h)
{
	waker_stop(&h->waker);
	thread_join(&h->thread);
}

/* ---- what is told -------------------------------------------------------- */

/* HTTP answers, the worker lives, the device is in order; a long job is no reason. */
static bool
takes_jobs(const struct status_process *s)
{
	return s->port != 0 && s->silent_s < SILENT_S &&
	       (s->state == HEALTH_WELL || s->state == HEALTH_NO_PROGRESS);
}

/* "pid 12 is zombie: ...; pid 13 is http_silent: ..." */
static void
add_wrong(struct status_health *out, const struct status_process *s)
{
	size_t n = strlen(out->wrong);

	snprintf(out->wrong + n, sizeof out->wrong - n, "%spid %llu is %s: %s", n > 0 ? "; " : "",
	    (unsigned long long)s->pid, health_state_name(s->state), s->why);
	out->healthy = false;
}

static void
say_why(struct status_health *out, const struct status_process *s)
{
	const char *state = health_state_name(s->state), *why = s->why;

	if (s->state == HEALTH_WELL)
		snprintf(out->why, sizeof out->why, "%s",
		    why[0] != '\0' ? why : "HTTP does not answer now");
	else
		snprintf(
		    out->why, sizeof out->why, "%s%s%s", state, why[0] != '\0' ? ": " : "", why);
}

void
health_status(struct health *h, struct status_health *out)
{
	memset(out, 0, sizeof *out);
	out->healthy = true;
	snprintf(out->why, sizeof out->why, "no ComfyUI is connected");
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < STATUS_PROCESSES; i++) {
		const struct status_process *s = &h->shown[i];

		if (!h->is_shown[i])
			continue;
		out->processes[out->process_count++] = *s;
		out->ready = out->ready || takes_jobs(s);
		if (health_state_is_broken(s->state))
			add_wrong(out, s);
		if (out->process_count == 1 || s->state > HEALTH_WELL || s->silent_s >= SILENT_S)
			say_why(out, s);
	}
	out->unwatched = h->unwatched;
	memcpy(out->ill, h->ill, sizeof out->ill);
	out->restarts_asked = h->restarts_asked;
	out->restarts_failed = h->restarts_failed;
	out->looks = h->looks;
	out->cpu_ns = h->cpu_ns;
	pthread_mutex_unlock(&h->lock);
	if (out->ready)
		out->why[0] = '\0';
}
