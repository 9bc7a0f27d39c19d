/*
 * exporter.c - the thread that delivers, and the two mailboxes to the pipeline.
 *
 * The pipeline's thread calls wants, give and take; status and retry_now may be
 * called by any.  The lock guards what line.h marks; nothing is called out
 * while it is held.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"
#include "agent/exporter/line.h"
#include "agent/exporter/payload.h"
#include "agent/exporter/verdict.h"

#define LINES_MAX 8u
#define HOLD_MS   60000u /* a refused key or a wrong address is tried again this often */
#define POLL_MS   (10 * 60 * 1000)

struct exporter {
	struct line lines[LINES_MAX];
	size_t count;
	exporter_wake_fn wake;
	void *ctx;
	CURLM *multi;
	struct thread thread;

	pthread_mutex_t lock;
	bool stop; /* guarded by lock */
	uint64_t stop_mono_ns;
	uint64_t random; /* the thread's own */
};

enum err
line_identity(struct line *l)
{
	struct span_defaults d = { l->options.service, l->options.env, l->options.version,
		l->options.hostname, l->options.tags, l->options.service_mapping };

	if (l->identity != NULL && span_identity_is(l->identity, l->lease.probe))
		return E_OK;
	span_identity_free(l->identity);
	l->identity = NULL;
	return span_identity_new(l->lease.probe, &d, &l->identity);
}

static uint64_t
next_random(struct exporter *e)
{
	/* splitmix64: jitter needs spread, not secrecy */
	uint64_t z = (e->random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* How long the line rests after this outcome, in ms; 0 for none. */
static uint64_t
rest_ms(struct exporter *e, const struct line *l, enum verdict v, const struct outcome *o)
{
	uint64_t ms = 0;

	if (v == VERDICT_HOLD)
		return HOLD_MS;
	if (v != VERDICT_RETRY)
		return 0;
	if (o->retry_after[0] != '\0' &&
	    retry_after_ms(o->retry_after, (int64_t)(clock_real_ns() / NS_PER_S), &ms) && ms > 0)
		return ms;
	return backoff_ms(l->failures + 1, next_random(e));
}

static void
settle(struct line *l, enum verdict v, const struct outcome *o, uint64_t next_real_ns)
{
	struct export_result *r = &l->result;

	memset(r, 0, sizeof *r);
	r->s.chunk = l->lease.chunk.id;
	r->s.destination = l->lease.destination;
	r->s.status = o->status;
	r->s.next_try_real_ns = next_real_ns;
	switch (v) {
	case VERDICT_SENT:
		r->s.kind = SETTLE_SENT;
		break;
	case VERDICT_RETRY:
		r->s.kind = SETTLE_RETRY;
		break;
	case VERDICT_HOLD:
		r->s.kind = SETTLE_HOLD;
		break;
	case VERDICT_REJECT:
		r->s.kind = SETTLE_REJECTED;
		break;
	case VERDICT_SPLIT:
		r->split = payload_split(&l->lease.chunk, &r->a, &r->b) == E_OK;
		r->s.kind = SETTLE_REJECTED; /* one span that is too large for the far end */
		break;
	}
	if (v == VERDICT_SENT && o->body_bytes > 0) {
		r->agent_reply = malloc(o->body_bytes);
		if (r->agent_reply != NULL) {
			memcpy(r->agent_reply, o->body, o->body_bytes);
			r->agent_reply_bytes = o->body_bytes;
		}
	}
}

/* What the line says of itself after an outcome. Lock held. */
static void
note(struct line *l, enum verdict v, const struct outcome *o, uint64_t rest)
{
	struct destination_status *s = &l->status;

	s->last_status = o->status > 0 ? o->status : 0;
	snprintf(s->last_error, sizeof s->last_error, "%.150s",
	    o->error[0] != '\0' ? o->error
	    : v == VERDICT_SENT ? ""
				: verdict_hint(o->status));
	s->next_try_real_ns = rest > 0 ? clock_real_ns() + rest * NS_PER_MS : 0;
	l->blocked_until_mono_ns = rest > 0 ? clock_mono_ns() + rest * NS_PER_MS : 0;
	switch (v) {
	case VERDICT_SENT:
		s->state = DEST_OK;
		s->sent_requests++;
		s->sent_spans += l->lease.chunk.spans;
		s->sent_bytes += l->body.n;
		s->last_ok_real_ns = clock_real_ns();
		l->failures = 0;
		break;
	case VERDICT_SPLIT:
	case VERDICT_REJECT:
		s->state = DEST_OK;
		l->failures = 0;
		break;
	case VERDICT_HOLD:
		s->state = DEST_HOLD;
		break;
	case VERDICT_RETRY:
		s->retries++;
		l->failures++;
		s->state = s->last_ok_real_ns == 0 && !l->options.asked ? DEST_LOCAL : DEST_OFFLINE;
		break;
	}
}

/* The attempt on l->lease has ended: result out, lease freed, pipeline woken. */
static void
finish(struct exporter *e, struct line *l, const struct outcome *o)
{
	enum verdict v = VERDICT_RETRY;
	uint64_t rest, next;

	if (o->status > 0)
		v = verdict_of(o->status, o->body, o->body_bytes);
	else if (o->status == STATUS_NOT_ENCODED)
		v = VERDICT_REJECT;
	rest = rest_ms(e, l, v, o);
	next = rest > 0 ? clock_real_ns() + rest * NS_PER_MS : 0;
	settle(l, v, o, next);
	/* once for each kind of failure in a row; the rest is counted */
	if (v == VERDICT_SENT) {
		if (l->logged != 0)
			log_info("delivery_resumed destination=%s", l->options.name);
		l->logged = 0;
	} else if (v != VERDICT_SPLIT && l->logged != o->status) {
		l->logged = o->status;
		log_warn("delivery_failed destination=%s status=%d error=\"%s\" retry_ms=%llu",
		    l->options.name, o->status,
		    o->error[0] != '\0' ? o->error : verdict_hint(o->status),
		    (unsigned long long)rest);
	}
	(void)pthread_mutex_lock(&e->lock);
	note(l, v, o, rest);
	l->has_result = true;
	(void)pthread_mutex_unlock(&e->lock);
	lease_free(&l->lease);
	l->busy = false;
	e->wake(e->ctx);
}

/*
 * No request could be made of the chunk: without memory it is tried again, else
 * the chunk itself is broken and rejected under a status that no far end gives.
 */
static void
finish_broken(struct exporter *e, struct line *l, enum err why)
{
	struct outcome o = { .status = why == E_NOMEM ? 503 : STATUS_NOT_ENCODED,
		.error = err_text(why),
		.body = "",
		.retry_after = "" };

	log_error("chunk_not_encoded destination=%s chunk=%lld error=\"%s\"", l->options.name,
	    (long long)l->lease.chunk.id, err_text(why));
	finish(e, l, &o);
}

static void
begin(struct exporter *e, struct line *l)
{
	struct outcome o = { .error = "", .body = "", .retry_after = "" };
	enum err rv;

	l->busy = true;
	if (l->options.kind == DEST_FILE) {
		rv = file_write(l, &o);
		if (rv == E_OK)
			finish(e, l, &o);
	} else {
		rv = http_begin(l, e->multi);
	}
	if (rv != E_OK)
		finish_broken(e, l, rv);
}

/* Move what was given to the thread's side. False when it is time to end. */
static bool
collect(struct exporter *e, bool ready[LINES_MAX], bool *stopping)
{
	bool busy = false, stop;

	(void)pthread_mutex_lock(&e->lock);
	stop = e->stop;
	for (size_t i = 0; i < e->count; i++) {
		struct line *l = &e->lines[i];

		ready[i] = l->has_given && !l->busy && !stop;
		if (ready[i]) {
			l->lease = l->given;
			l->has_given = false;
		}
		busy |= l->busy;
	}
	(void)pthread_mutex_unlock(&e->lock);
	*stopping = stop;
	return !stop || (busy && clock_mono_ns() < e->stop_mono_ns);
}

/*
 * How long to sleep, in ms, until the first rest is over; a rest that is over
 * wakes the pipeline, for nobody else would ask for the next chunk.
 */
static int
watch_rests(struct exporter *e)
{
	uint64_t now = clock_mono_ns(), wait = (uint64_t)POLL_MS * NS_PER_MS;
	bool over = false;

	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++) {
		struct line *l = &e->lines[i];

		if (l->blocked_until_mono_ns == 0)
			continue;
		if (l->blocked_until_mono_ns <= now) {
			l->blocked_until_mono_ns = 0;
			over = true;
		} else if (l->blocked_until_mono_ns - now < wait) {
			wait = l->blocked_until_mono_ns - now;
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (over)
		e->wake(e->ctx);
	return (int)(wait / NS_PER_MS) + 1;
}

static void
complete(struct exporter *e)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(e->multi, &left)) != NULL) {
		struct outcome o;
		struct line *l = NULL;

		if (m->msg != CURLMSG_DONE ||
		    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&l) != CURLE_OK)
			continue;
		http_end(l, e->multi, m->data.result, &o);
		finish(e, l, &o);
	}
}

static void
run(void *arg)
{
	struct exporter *e = arg;
	bool ready[LINES_MAX], stopping;
	int running = 0;

	while (collect(e, ready, &stopping)) {
		for (size_t i = 0; i < e->count; i++)
			if (ready[i])
				begin(e, &e->lines[i]);
		(void)curl_multi_perform(e->multi, &running);
		complete(e);
		(void)curl_multi_poll(e->multi, NULL, 0, stopping ? 50 : watch_rests(e), NULL);
	}
}

static enum err
line_new(struct line *l, const struct destination_options *d)
{
	l->options = *d;
	l->fd = -1;
	l->fresh_next = true;
	enum err rv = spanview_new(&l->view);

	if (rv == E_OK && d->kind == DEST_DATADOG_AGENT)
		rv = http_init(l);
	return rv;
}

enum err
exporter_new(const struct destination_options *d, size_t n, exporter_wake_fn wake, void *ctx,
    struct exporter **out)
{
	struct exporter *e;
	enum err rv = E_OK;

	if (n > LINES_MAX)
		return E_INVAL;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return E_NOMEM;
	e = calloc(1, sizeof *e);
	if (e == NULL)
		return E_NOMEM;
	(void)pthread_mutex_init(&e->lock, NULL);
	e->wake = wake;
	e->ctx = ctx;
	e->random = clock_real_ns() ^ clock_mono_ns();
	e->multi = curl_multi_init();
	for (size_t i = 0; i < n && rv == E_OK; i++) {
		e->count = i + 1;
		rv = line_new(&e->lines[i], &d[i]);
	}
	if (rv == E_OK && e->multi == NULL)
		rv = E_NOMEM;
	if (rv != E_OK) {
		exporter_free(e);
		return rv;
	}
	*out = e;
	return E_OK;
}

enum err
exporter_start(struct exporter *e)
{
	return thread_start(&e->thread, "exporter", run, e);
}

void
exporter_stop(struct exporter *e, uint64_t deadline_ms)
{
	if (e == NULL)
		return;
	(void)pthread_mutex_lock(&e->lock);
	if (!e->stop)
		e->stop_mono_ns = clock_mono_ns() + deadline_ms * NS_PER_MS;
	e->stop = true;
	(void)pthread_mutex_unlock(&e->lock);
	(void)curl_multi_wakeup(e->multi);
	thread_join(&e->thread);
}

void
exporter_free(struct exporter *e)
{
	if (e == NULL)
		return;
	exporter_stop(e, 0);
	for (size_t i = 0; i < e->count; i++) {
		struct line *l = &e->lines[i];

		http_fini(l, e->multi);
		file_fini(l);
		if (l->has_given)
			lease_free(&l->given);
		if (l->busy)
			lease_free(&l->lease);
		if (l->has_result) {
			free(l->result.a.blob);
			free(l->result.b.blob);
			free(l->result.agent_reply);
		}
		span_identity_free(l->identity);
		spanview_free(l->view);
		outbuf_free(&l->body);
	}
	(void)curl_multi_cleanup(e->multi);
	(void)pthread_mutex_destroy(&e->lock);
	free(e);
}

uint32_t
exporter_wants(struct exporter *e, size_t i, bool *fresh)
{
	struct line *l = &e->lines[i];
	uint32_t wants = 0;

	(void)pthread_mutex_lock(&e->lock);
	if (!l->outstanding && !e->stop && clock_mono_ns() >= l->blocked_until_mono_ns)
		wants = 1;
	*fresh = l->fresh_next;
	(void)pthread_mutex_unlock(&e->lock);
	return wants;
}

enum err
exporter_give(struct exporter *e, size_t i, struct lease *lease)
{
	struct line *l = &e->lines[i];
	enum err rv = E_FULL;

	(void)pthread_mutex_lock(&e->lock);
	if (!l->outstanding && !e->stop) {
		l->given = *lease;
		memset(lease, 0, sizeof *lease);
		l->has_given = l->outstanding = true;
		l->fresh_next = !l->fresh_next;
		rv = E_OK;
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (rv == E_OK)
		(void)curl_multi_wakeup(e->multi);
	return rv;
}

enum err
exporter_take(struct exporter *e, struct export_result *out)
{
	enum err rv = E_NOTFOUND;

	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count && rv != E_OK; i++) {
		struct line *l = &e->lines[i];

		if (!l->has_result)
			continue;
		*out = l->result;
		memset(&l->result, 0, sizeof l->result);
		l->has_result = l->outstanding = false;
		rv = E_OK;
	}
	(void)pthread_mutex_unlock(&e->lock);
	return rv;
}

void
exporter_status(struct exporter *e, size_t i, struct destination_status *out)
{
	(void)pthread_mutex_lock(&e->lock);
	*out = e->lines[i].status;
	(void)pthread_mutex_unlock(&e->lock);
}

void
exporter_retry_now(struct exporter *e)
{
	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++)
		e->lines[i].blocked_until_mono_ns = 0;
	(void)pthread_mutex_unlock(&e->lock);
	e->wake(e->ctx);
}
