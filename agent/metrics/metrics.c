/*
 * metrics.c - the sender: one thread that sleeps between two flushes.  See
 * metrics.h.
 *
 * What the lock guards: told, resolving.  The rest is the thread's alone until
 * it has been joined.
 */
#include "agent/metrics/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"
#include "agent/metrics/line.h"
#include "agent/metrics/statsd.h"

#define INTERVAL_MS 10000u
#define STOP_WAIT_S 1 /* for a resolver that does not answer */

struct metrics {
	metrics_status_fn status;
	void *ctx;
	uint64_t interval_ns;
	struct statsd *statsd;
	struct line line;
	bool reopened; /* in this flush */
	struct metrics_status now;
	struct thread thread;
	struct waker waker;
	bool stuck; /* the thread could not be joined */

	pthread_mutex_t lock;
	pthread_cond_t resolved;
	bool resolving;
	struct metrics_status told;
};

enum err
metrics_url_check(const char *url)
{
	struct line line;

	return strlen(url) < sizeof((struct metrics_options *)0)->url ? line_parse(url, &line)
								      : E_INVAL;
}

/* ---- one flush ------------------------------------------------------------ */

static void
resolve(struct metrics *m)
{
	if (!line_needs_resolver(&m->line))
		return;
	pthread_mutex_lock(&m->lock);
	m->resolving = true;
	pthread_mutex_unlock(&m->lock);
	line_resolve(&m->line); /* what fails is told when a datagram is to go */
	pthread_mutex_lock(&m->lock);
	m->resolving = false;
	pthread_cond_broadcast(&m->resolved);
	pthread_mutex_unlock(&m->lock);
}

static bool
try_to_send(struct metrics *m, const char *datagram, size_t n, enum metrics_drop *why)
{
	return line_open(&m->line, why) && line_send(&m->line, datagram, n, why);
}

static bool
send_datagram(void *ctx, const char *datagram, size_t n)
{
	struct metrics *m = ctx;
	enum metrics_drop why = METRICS_FAILED;
	bool sent = try_to_send(m, datagram, n, &why);

	/* Whoever listened may have begun anew since: its socket is another one. */
	if (!sent && m->line.is_unix && why == METRICS_REFUSED && !m->reopened) {
		m->reopened = true;
		line_close(&m->line);
		sent = try_to_send(m, datagram, n, &why);
	}
	if (sent) {
		m->now.sent_datagrams++;
		m->now.sent_bytes += n;
	} else {
		m->now.dropped[why]++;
		snprintf(m->now.last_error, sizeof m->now.last_error, "%s", m->line.error);
	}
	return sent;
}

/* An answer from afar comes after the flush that it is about. */
static void
take_back(struct metrics *m)
{
	enum metrics_drop why;

	if (!line_failed_since(&m->line, &why))
		return;
	m->now.dropped[why] += statsd_take_back(m->statsd);
	line_close(&m->line);
}

/* Once when it begins to fail, once when it is well again. */
static void
log_change(const struct metrics *m, bool was_well, bool well)
{
	if (was_well && !well)
		log_warn("metrics_not_sent url=%s error=\"%s\"", m->now.url, m->now.last_error);
	else if (!was_well && well)
		log_info("metrics_sent_again url=%s", m->now.url);
}

static void
flush(struct metrics *m, const struct status_snapshot *s)
{
	bool was_well = m->now.last_error[0] == '\0', well;

	take_back(m);
	m->reopened = false;
	m->now.last_error[0] = '\0';
	well = statsd_flush(m->statsd, s);
	m->now.flushes++;
	if (well)
		m->now.last_ok_real_ns = clock_real_ns();
	else
		line_renew(&m->line);
	log_change(m, was_well, well);
	pthread_mutex_lock(&m->lock);
	m->told = m->now;
	pthread_mutex_unlock(&m->lock);
}

static void
ask_and_flush(struct metrics *m)
{
	struct status_snapshot *s = malloc(sizeof *s);
	enum err e = s != NULL ? m->status(m->ctx, s) : E_NOMEM;

	m->now.cpu_ns = clock_thread_cpu_ns();
	if (e == E_OK)
		flush(m, s);
	else if (e != E_STATE) /* stopping */
		log_warn("metrics_without_status error=\"%s\"", err_text(e));
	free(s);
}

static void
run(void *arg)
{
	struct metrics *m = arg;

	for (;;) {
		resolve(m);
		if (waker_stopped(&m->waker))
			return; /* whoever answers may be gone, when resolving took long */
		ask_and_flush(m);
		(void)waker_wait(&m->waker, clock_mono_ns() + m->interval_ns);
	}
}

/* ---- the object ------------------------------------------------------------- */

enum err
metrics_new(const struct metrics_options *o, const struct status_snapshot *begin,
    metrics_status_fn status, void *ctx, struct metrics **out)
{
	struct metrics *m = calloc(1, sizeof *m);
	struct statsd_options so = { .service = o->service,
		.env = o->env,
		.version = o->version,
		.hostname = o->hostname,
		.tags = o->tags,
		.send = send_datagram,
		.ctx = m };
	pthread_condattr_t attr;
	enum err e;

	if (m == NULL)
		return E_NOMEM;
	e = line_parse(o->url, &m->line);
	so.datagram_bytes = m->line.is_unix ? STATSD_UNIX_BYTES : STATSD_UDP_BYTES;
	if (e == E_OK)
		e = statsd_new(&so, &m->statsd);
	if (e != E_OK) {
		free(m);
		return e;
	}
	if (statsd_tags_left_out(m->statsd) > 0)
		log_warn("metrics_tags_left_out count=%u reason=too_long",
		    statsd_tags_left_out(m->statsd));
	statsd_begin(m->statsd, begin);
	m->status = status;
	m->ctx = ctx;
	m->interval_ns = (o->interval_ms != 0 ? o->interval_ms : INTERVAL_MS) * NS_PER_MS;
	m->now.on = true;
	snprintf(m->now.url, sizeof m->now.url, "%s", o->url);
	m->told = m->now;
	waker_init(&m->waker);
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->resolved, &attr);
	pthread_condattr_destroy(&attr);
	*out = m;
	return E_OK;
}

enum err
metrics_start(struct metrics *m)
{
	return thread_start(&m->thread, "metrics", run, m);
}

/* False: the resolver does not return. */
static bool
resolver_returns(struct metrics *m)
{
	struct timespec until;
	int rv = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_WAIT_S;
	pthread_mutex_lock(&m->lock);
	while (m->resolving && rv == 0)
		rv = pthread_cond_timedwait(&m->resolved, &m->lock, &until);
	rv = m->resolving;
	pthread_mutex_unlock(&m->lock);
	return rv == 0;
}

void
metrics_stop(struct metrics *m)
{
	if (m == NULL || !m->thread.started)
		return;
	waker_stop(&m->waker);
	if (resolver_returns(m)) {
		thread_join(&m->thread);
		return;
	}
	log_warn("resolver_does_not_return host=%s", m->line.host);
	pthread_detach(m->thread.id);
	m->thread.started = false;
	m->stuck = true;
}

void
metrics_flush_last(struct metrics *m, const struct status_snapshot *s)
{
	if (m != NULL && !m->stuck)
		flush(m, s);
}

void
metrics_free(struct metrics *m)
{
	if (m == NULL)
		return;
	metrics_stop(m);
	if (m->stuck)
		return; /* a thread uses it yet: the process ends soon */
	line_close(&m->line);
	statsd_free(m->statsd);
	waker_fini(&m->waker);
	pthread_cond_destroy(&m->resolved);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

void
metrics_status(struct metrics *m, struct metrics_status *out)
{
	memset(out, 0, sizeof *out);
	if (m == NULL)
		return;
	pthread_mutex_lock(&m->lock);
	*out = m->told;
	pthread_mutex_unlock(&m->lock);
}
