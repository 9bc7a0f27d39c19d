/*
 * service.c - start from back to front (locks, store, processor, exporter,
 * pipeline, receiver, then who serves others), wait for a signal, stop from
 * front to back.  Main thread.
 */
#include "agent/service/service.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/metrics/metrics.h"
#include "agent/service/lock.h"
#include "agent/service/pipeline.h"
#include "agent/store/store.h"
#include "agent/supervisor/order.h"

#define INBOX_BYTES   (4u << 20)
#define HANDSHAKE_MS  10000
#define DRAIN_MS      5000
#define LINGER_MS     (5 * 60 * 1000)
#define LOCK_WAIT_MS  2000 /* a verb that reads the database holds the lock shortly */
#define MALLOC_ARENAS 2

struct service {
	const struct service_options *o;
	int data_lock, run_lock;
	struct destination_options destinations[STATUS_DESTINATIONS];
	struct pipeline pipeline;
	struct memory_watch watch;
	struct metrics *metrics; /* NULL: nobody is sent any */
	bool pipeline_started, ready;
	pthread_t main;
};

/* What others than the pipeline know. */
static void
complete(struct service *s, struct status_snapshot *out)
{
	health_status(s->pipeline.health, &out->health);
	memory_now(s->pipeline.memory, &out->memory);
	metrics_status(s->metrics, &out->metrics);
	self_now(&out->self);
}

static enum err
view_status(void *agent, struct status_snapshot *out)
{
	struct service *s = agent;
	enum err e = pipeline_status(&s->pipeline, out);

	if (e == E_OK)
		complete(s, out);
	return e;
}

static enum err
view_metrics(void *agent, struct outbuf *out)
{
	struct status_snapshot *now = malloc(sizeof *now);
	enum err e = now != NULL ? view_status(agent, now) : E_NOMEM;

	if (e == E_OK)
		e = metrics_expose(now, out);
	free(now);
	return e;
}

static void
view_health(void *agent, struct status_health *out)
{
	health_status(((struct service *)agent)->pipeline.health, out);
}

static enum err
view_query(void *agent, agent_query_fn fn, void *ctx, uint64_t timeout_ms)
{
	return pipeline_query(&((struct service *)agent)->pipeline, fn, ctx, timeout_ms);
}

static enum err
view_memory(void *agent, const struct memory_query *q, struct outbuf *out)
{
	return memory_view(((struct service *)agent)->pipeline.memory, q, out);
}

static enum err
view_act(void *agent, agent_journal_fn fn, void *ctx, uint64_t timeout_ms)
{
	return pipeline_act(&((struct service *)agent)->pipeline, fn, ctx, timeout_ms);
}

static void
view_retry_now(void *agent)
{
	struct service *s = agent;

	if (s->pipeline.exporter != NULL)
		exporter_retry_now(s->pipeline.exporter);
	if (s->pipeline.webhook != NULL)
		webhook_retry_now(s->pipeline.webhook);
	pipeline_wake(&s->pipeline);
}

/* Pipeline's thread: the main one waits for signals, and hears of it by one. */
static void
tell_missing(void *ctx)
{
	(void)pthread_kill(((struct service *)ctx)->main, SIGUSR1);
}

static struct upkeep_hands
hands_of(struct service *s)
{
	return (struct upkeep_hands){ s->o, &s->pipeline, &s->data_lock, &s->run_lock };
}

static enum err
prepare(struct service *s, struct service_holder *holder)
{
	const struct service_options *o = s->o;
	enum err e;

	umask(077);
	if ((e = dir_prepare(o->data_dir)) != E_OK) {
		log_error("data_dir_refused path=%s error=\"%s\"", o->data_dir, err_text(e));
		return e;
	}
	if ((e = upkeep_run_dir(o)) != E_OK) {
		log_error("run_dir_refused path=%s error=\"%s\"", o->run_dir, err_text(e));
		return e;
	}
	e = lock_directory(o->data_dir, o->run_dir, LOCK_WAIT_MS, holder, &s->data_lock);
	if (e != E_OK && e != E_BUSY)
		log_error("data_dir_not_locked path=%s error=\"%s\"", o->data_dir, err_text(e));
	if (e != E_OK || strcmp(o->data_dir, o->run_dir) == 0)
		return e;
	e = lock_directory(o->run_dir, o->run_dir, 0, holder, &s->run_lock);
	if (e != E_OK && e != E_BUSY)
		log_error("run_dir_not_locked path=%s error=\"%s\"", o->run_dir, err_text(e));
	return e;
}

static enum err
open_store(struct service *s)
{
	struct store_open_report report = { .text = "" };
	enum err e;

	if (s->o->store == SERVICE_STORE_RAM) {
		log_warn("store_volatile text=\"what waits in memory dies with this process\"");
		return store_ram_new(&s->o->limits, &s->pipeline.store);
	}
	e = store_sqlite_open(s->o->data_dir, &s->o->limits, &s->pipeline.store, &report);
	if (e != E_OK)
		log_error("store_not_opened path=%s error=\"%s\" text=\"%s\"", s->o->data_dir,
		    err_text(e), report.text);
	else if (report.text[0] != '\0')
		log_warn("store_opened text=\"%s\"", report.text);
	return e;
}

/* ---- for the observer of health: its thread calls ------------------------ */

static enum err
restart_life(void *ctx, const char *life, enum health_state why, const char *detail)
{
	static const enum order_why whys[HEALTH_STATES] = {
		[HEALTH_ZOMBIE] = ORDER_ZOMBIE,
		[HEALTH_HTTP_SILENT] = ORDER_HTTP_SILENT,
		[HEALTH_NO_PROGRESS] = ORDER_NO_PROGRESS,
		[HEALTH_CUDA_POISONED] = ORDER_CUDA_POISONED,
	};
	const struct service *s = ctx;

	return order_give(s->o->run_dir, life, whys[why], detail);
}

static bool
is_connected(void *ctx, const uint8_t probe_id[FRAME_PROBE_ID_BYTES])
{
	return receiver_has_probe(((struct service *)ctx)->pipeline.receiver, probe_id);
}

static enum err
open_health(struct service *s)
{
	struct health_options o = s->o->health;

	o.ctx = s;
	o.restart_fn = restart_life;
	o.connected = is_connected;
	return health_new(&o, &s->pipeline.health);
}

/* Before anything is counted in this run: what it counts is told, what earlier ones did is not. */
static enum err
open_metrics(struct service *s)
{
	struct status_snapshot *begin = calloc(1, sizeof *begin);
	enum err e = begin != NULL ? snapshot_counters(s->pipeline.store, begin) : E_NOMEM;

	if (e == E_OK)
		e = metrics_new(&s->o->metrics, begin, view_status, s, &s->metrics);
	free(begin);
	return e;
}

/* What was counted on the way out. */
static void
last_metrics(struct service *s)
{
	struct status_snapshot *last;

	if (s->metrics == NULL || (last = malloc(sizeof *last)) == NULL)
		return;
	if (pipeline_last_status(&s->pipeline, last) == E_OK) {
		complete(s, last);
		metrics_flush_last(s->metrics, last);
	}
	free(last);
}

static enum err
open_webhook(struct service *s)
{
	struct pipeline *p = &s->pipeline;
	enum err e;

	if (s->o->webhook.url[0] == '\0') {
		notices_forget(p);
		return E_OK;
	}
	p->notice_age_s = s->o->limits.cap_age_s;
	e = webhook_new(&s->o->webhook, pipeline_wake, p, &p->webhook);
	return e == E_OK ? webhook_start(p->webhook) : e;
}

static enum err
open_rooms(struct service *s)
{
	const struct service_options *o = s->o;
	struct pipeline *p = &s->pipeline;
	struct receiver_options r = { .run_dir = o->run_dir,
		.allow_uids = o->allow_uids,
		.allow_uid_count = o->allow_uid_count,
		.handshake_ms = HANDSHAKE_MS,
		.max_connections = o->max_connections,
		.inbox_bytes = o->inbox_bytes != 0 ? o->inbox_bytes : INBOX_BYTES };
	const struct memory_options mo = { .data_dir = o->data_dir, .nvml = o->nvml };
	struct processor_options po = o->processor;
	struct journal_options jo = {
		.death = deaths_ask, .death_ctx = p, .notices = o->webhook.url[0] != '\0'
	};
	enum err e;

	p->told_gone = o->gone;
	p->told_ctx = o->ctx;
	p->missing = tell_missing;
	p->missing_ctx = s;
	p->run_dir = o->run_dir;
	p->data_dir = o->data_dir;
	p->end_age_s = o->limits.cap_age_s;
	p->destinations = s->destinations;
	for (size_t i = 0; i < o->destination_count && i < STATUS_DESTINATIONS; i++)
		if (o->destinations[i].kind != DEST_NONE)
			s->destinations[p->destination_count++] = o->destinations[i];
	if ((e = open_store(s)) != E_OK)
		return e;
	if (o->metrics.on && (e = open_metrics(s)) != E_OK)
		return e;
	jo.store = p->store;
	if ((e = journal_new(&jo, &p->journal)) != E_OK ||
	    (e = projection_new(o->data_dir, &p->projection)) != E_OK)
		return e;
	if ((e = open_health(s)) != E_OK)
		return e;
	if ((e = memory_new(&mo, &p->memory)) != E_OK)
		return e;
	s->watch = (struct memory_watch){ p->memory, memory_job, memory_peak };
	po.memory = &s->watch;
	po.seen = pipeline_saw;
	po.seen_ctx = p;
	if ((e = processor_new(&po, &p->processor)) != E_OK)
		return e;
	if ((e = receiver_new(&r, pipeline_wake, p, &p->receiver)) != E_OK)
		return e;
	if ((e = memory_start(p->memory)) != E_OK || (e = pipeline_init(p)) != E_OK)
		return e;
	if (p->destination_count > 0) {
		e = exporter_new(
		    s->destinations, p->destination_count, pipeline_wake, p, &p->exporter);
		if (e == E_OK)
			e = exporter_start(p->exporter);
		if (e != E_OK)
			return e;
	}
	if ((e = open_webhook(s)) != E_OK)
		return e;
	if ((e = pipeline_start(p)) != E_OK)
		return e;
	s->pipeline_started = true;
	if ((e = receiver_start(p->receiver)) != E_OK)
		return e;
	if ((e = health_start(p->health)) != E_OK)
		return e;
	return s->metrics != NULL ? metrics_start(s->metrics) : E_OK;
}

static uint64_t
left_ms(uint64_t until_mono_ns)
{
	uint64_t now = clock_mono_ns();

	return now < until_mono_ns ? (until_mono_ns - now) / NS_PER_MS : 0;
}

/* Front to back; each may not have been made. */
static void
close_rooms(struct service *s)
{
	uint64_t until =
	    clock_mono_ns() + (s->o->drain_ms != 0 ? s->o->drain_ms : DRAIN_MS) * NS_PER_MS;
	struct pipeline *p = &s->pipeline;

	if (s->ready && s->o->stopping != NULL)
		s->o->stopping(s->o->ctx);
	metrics_stop(s->metrics); /* its thread asks the pipeline */
	if (s->pipeline_started) {
		pipeline_last_look(p, left_ms(until) / 2);
		/* What is on its way out may end within half of the time; its results are
		 * written by the pipeline's last turns. */
		if (p->exporter != NULL)
			exporter_stop(p->exporter, left_ms(until) / 2);
		webhook_stop(p->webhook, left_ms(until) / 4);
		pipeline_stop(p);
		last_metrics(s);
	}
	metrics_free(s->metrics);
	s->metrics = NULL;
	health_free(p->health); /* its thread asks the receiver */
	receiver_free(p->receiver);
	exporter_free(p->exporter);
	webhook_free(p->webhook);
	if (p->started_mono_ns != 0)
		pipeline_fini(p);
	processor_free(p->processor);
	journal_free(p->journal);
	projection_free(p->projection);
	memory_free(p->memory);
	if (p->store != NULL)
		p->store->ops->close(p->store);
	if (s->run_lock >= 0)
		close(s->run_lock);
	if (s->data_lock >= 0)
		close(s->data_lock);
}

/* Until a signal that ends us, or nobody needs us any more. */
static void
wait_for_end(struct service *s, const sigset_t *set)
{
	uint64_t linger = (s->o->linger_ms != 0 ? s->o->linger_ms : LINGER_MS) * NS_PER_MS;

	for (;;) {
		struct timespec nap = { .tv_sec = (time_t)(linger / 4 / NS_PER_S),
			.tv_nsec = (long)(linger / 4 % NS_PER_S) };
		int sig =
		    s->o->autostarted ? sigtimedwait(set, NULL, &nap) : sigwaitinfo(set, NULL);

		if (sig == SIGTERM || sig == SIGINT) {
			log_info("stopping signal=%d", sig);
			return;
		}
		if (sig == SIGHUP && s->o->reload != NULL)
			s->o->reload(s->o->ctx);
		if (sig == SIGUSR1) {
			struct upkeep_hands h = hands_of(s);

			upkeep_mend(&h);
		}
		if (s->o->autostarted && pipeline_quiet_ns(&s->pipeline) >= linger) {
			log_info("stopping reason=no_probe");
			return;
		}
		if (s->o->autostarted && s->o->enough != NULL && s->o->enough(s->o->ctx))
			return;
	}
}

enum err
service_run(const struct service_options *o, struct service_holder *holder)
{
	struct service *s = calloc(1, sizeof *s);
	struct agent_view view = { .agent = s,
		.status = view_status,
		.query = view_query,
		.act = view_act,
		.health = view_health,
		.memory = view_memory,
		.metrics = view_metrics,
		.retry_now = view_retry_now };
	uint64_t began = clock_mono_ns();
	sigset_t set;
	enum err e;

	if (s == NULL)
		return E_NOMEM;
	s->o = o;
	s->data_lock = s->run_lock = -1;
	s->main = pthread_self();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1); /* our own: a file is missing */
	signal(SIGPIPE, SIG_IGN); /* a peer that has gone is an error code, not a signal */
	/* Before any thread exists, so that all inherit it; for good, so that a second signal
	 * while we drain does not end the process behind an orderly stop. */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	/* Any of nng's threads takes a frame, the pipeline frees it: an arena for each thread
	 * would hold a megabyte more. */
	(void)mallopt(M_ARENA_MAX, MALLOC_ARENAS);
	e = prepare(s, holder);
	if (e == E_OK)
		e = open_rooms(s);
	if (e == E_OK && o->ready != NULL)
		e = o->ready(o->ctx, &view);
	if (e == E_OK) {
		struct upkeep_hands h = hands_of(s);

		s->ready = true; /* also when the next fails: what serves others is stopped */
		e = upkeep_begin(&h);
	}
	if (e == E_OK) {
		log_info("ready run_dir=%s data_dir=%s start_ms=%llu", o->run_dir, o->data_dir,
		    (unsigned long long)((clock_mono_ns() - began) / NS_PER_MS));
		wait_for_end(s, &set);
	}
	began = clock_mono_ns();
	close_rooms(s);
	if (s->ready)
		log_info("stopped stop_ms=%llu",
		    (unsigned long long)((clock_mono_ns() - began) / NS_PER_MS));
	free(s);
	return e;
}
