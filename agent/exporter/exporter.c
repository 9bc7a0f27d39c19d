/*
 * exporter.c - the thread that delivers, and the two mailboxes to the pipeline.
 *
 * The pipeline's thread calls wants, give and take; status and retry_now may be
 * called by any.  The lock guards what line.h marks; nothing is called out
 * while it is held.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"
#include "agent/exporter/line.h"
#include "agent/exporter/netwatch.h"
#include "agent/exporter/payload.h"
#include "agent/exporter/verdict.h"

#define HOLD_MS       60000u /* a refused key or a wrong address is tried again this often */
#define STALL_BYTES   1024u  /* less than this within the time limit is no progress */
#define TIMEOUT_MS    10000u
#define WAKE_TRIES    100
#define EXPANSION_DEF (4 * 16)

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
	return backoff_ms(l->failures + 1, random_next(&e->random));
}

/* The result of one lease that was in the body. */
static void
settle_sent(struct export_result *r, const struct lease *lease, enum verdict v, bool alone)
{
	switch (v) {
	case VERDICT_SENT:
		r->s.kind = SETTLE_SENT;
		return;
	case VERDICT_RETRY:
		r->s.kind = SETTLE_RETRY;
		return;
	case VERDICT_HOLD:
		r->s.kind = SETTLE_HOLD;
		return;
	case VERDICT_REJECT:
	case VERDICT_SPLIT:
		break;
	}
	/* Whose fault it is shows in a smaller request. */
	r->s.kind = alone ? SETTLE_REJECTED : SETTLE_RETURN;
	if (alone && v == VERDICT_SPLIT) /* one span cannot be split: rejected */
		r->split = payload_split(&lease->chunk, &r->a, &r->b) == E_OK;
}

static void
settle(struct line *l, enum verdict v, const struct outcome *o, uint64_t next_real_ns)
{
	for (size_t i = 0; i < l->lease_count; i++) {
		struct export_result *r = &l->results[i];
		const struct lease *lease = &l->leases[i];

		memset(r, 0, sizeof *r);
		r->s = (struct settlement){ .chunk = lease->chunk.id,
			.destination = lease->destination,
			.status = o->status,
			.kind = SETTLE_RETURN,
			.next_try_real_ns = next_real_ns };
		if (l->fates[i] == FATE_GOES) {
			settle_sent(r, lease, v, l->goes == 1);
		} else if (l->fates[i] == FATE_TOO_LARGE) {
			r->s.status = 413;
			settle_sent(r, lease, VERDICT_SPLIT, true);
		} else if (l->fates[i] == FATE_BROKEN) {
			r->s.status = STATUS_NOT_ENCODED;
			r->s.kind = SETTLE_REJECTED;
		}
	}
	if (v != VERDICT_SENT || o->body_bytes == 0 || l->goes == 0)
		return;
	l->results[0].agent_reply = malloc(o->body_bytes);
	if (l->results[0].agent_reply != NULL) {
		memcpy(l->results[0].agent_reply, o->body, o->body_bytes);
		l->results[0].agent_reply_bytes = o->body_bytes;
	}
}

static uint64_t
spans_in_body(const struct line *l)
{
	uint64_t n = 0;

	for (size_t i = 0; i < l->lease_count; i++)
		n += l->fates[i] == FATE_GOES ? l->leases[i].chunk.spans : 0;
	return n;
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
	l->unreachable = v == VERDICT_RETRY && o->status <= 0;
	l->rested &= v != VERDICT_RETRY && v != VERDICT_HOLD;
	switch (v) {
	case VERDICT_SENT:
		s->state = DEST_OK;
		s->sent_requests++;
		s->sent_spans += spans_in_body(l);
		s->sent_bytes += l->body.n;
		s->last_ok_real_ns = clock_real_ns();
		l->failures = 0;
		l->expansion = l->learnt;
		l->chunk_limit =
		    l->chunk_limit < EXPORT_CHUNKS_MAX / 2 ? 2 * l->chunk_limit : EXPORT_CHUNKS_MAX;
		break;
	case VERDICT_SPLIT:
	case VERDICT_REJECT:
		s->state = DEST_OK;
		l->failures = 0;
		l->chunk_limit = l->goes > 1 ? (uint32_t)l->goes / 2 : 1;
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

/* The request is over: results out, leases freed, pipeline woken. */
static void
release(struct exporter *e, struct line *l)
{
	for (size_t i = 0; i < l->lease_count; i++)
		lease_free(&l->leases[i]);
	l->lease_count = 0;
	l->busy = false;
	e->wake(e->ctx);
}

/* Once for each kind of failure in a row; the rest is counted. */
static void
log_outcome(struct line *l, enum verdict v, const struct outcome *o, uint64_t rest)
{
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
}

/* The attempt on what is in the body has ended. */
static void
finish(struct exporter *e, struct line *l, const struct outcome *o)
{
	enum verdict v =
	    o->status > 0 ? verdict_of(o->status, o->body, o->body_bytes) : VERDICT_RETRY;
	uint64_t rest = rest_ms(e, l, v, o);

	settle(l, v, o, rest > 0 ? clock_real_ns() + rest * NS_PER_MS : 0);
	log_outcome(l, v, o, rest);
	(void)pthread_mutex_lock(&e->lock);
	note(l, v, o, rest);
	l->result_at = 0;
	l->result_count = l->lease_count;
	(void)pthread_mutex_unlock(&e->lock);
	release(e, l);
}

/* Nothing could be sent: what is too large is split, what is broken rejected, the rest given back.
 */
static void
finish_unsent(struct exporter *e, struct line *l)
{
	const struct outcome none = { .error = "", .body = "", .retry_after = "" };

	settle(l, VERDICT_SENT, &none, 0);
	(void)pthread_mutex_lock(&e->lock);
	l->result_at = 0;
	l->result_count = l->lease_count;
	(void)pthread_mutex_unlock(&e->lock);
	release(e, l);
}

/* No request could be made for want of memory: all of it is tried again. */
static void
finish_no_memory(struct exporter *e, struct line *l)
{
	const struct outcome o = {
		.status = 503, .error = err_text(E_NOMEM), .body = "", .retry_after = ""
	};

	for (size_t i = 0; i < l->lease_count; i++)
		l->fates[i] = FATE_GOES;
	l->goes = l->lease_count;
	finish(e, l, &o);
}

static void
begin(struct exporter *e, struct line *l)
{
	struct outcome o;
	enum err rv;

	l->busy = true;
	rv = request_encode(l);
	for (size_t i = 0; rv == E_OK && i < l->lease_count; i++)
		if (l->fates[i] == FATE_BROKEN)
			log_error("chunk_not_encoded destination=%s chunk=%lld", l->options.name,
			    (long long)l->leases[i].chunk.id);
	if (rv == E_OK && l->goes == 0) {
		finish_unsent(e, l);
		return;
	}
	if (rv == E_OK && l->options.kind == DEST_FILE) {
		file_write(l, &o);
		finish(e, l, &o);
		return;
	}
	if (rv == E_OK)
		rv = http_begin(l, e->multi);
	l->moved = 0;
	l->stall_mono_ns = clock_mono_ns() + l->options.timeout_ms * NS_PER_MS;
	if (rv != E_OK)
		finish_no_memory(e, l);
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

		ready[i] = l->given_count > 0 && !l->busy && !stop;
		if (ready[i]) {
			memcpy(l->leases, l->given, l->given_count * sizeof l->given[0]);
			l->lease_count = l->given_count;
			l->given_count = 0;
		}
		busy |= l->busy;
	}
	(void)pthread_mutex_unlock(&e->lock);
	*stopping = stop;
	return !stop || (busy && clock_mono_ns() < e->stop_mono_ns);
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

/* End what does not move; how long until the next look, in ms. */
static int
watch_stalls(struct exporter *e, int wait_ms)
{
	uint64_t now = clock_mono_ns();

	for (size_t i = 0; i < e->count; i++) {
		struct line *l = &e->lines[i];
		struct outcome o;
		uint64_t moved;

		if (!l->busy)
			continue;
		moved = http_moved(l);
		if (now >= l->stall_mono_ns && moved - l->moved < STALL_BYTES) {
			http_end(l, e->multi, CURLE_OPERATION_TIMEDOUT, &o);
			o.error = "no progress within the time limit";
			finish(e, l, &o);
			continue;
		}
		if (now >= l->stall_mono_ns) {
			l->moved = moved;
			l->stall_mono_ns = now + l->options.timeout_ms * NS_PER_MS;
		}

		uint64_t left = (l->stall_mono_ns - now) / NS_PER_MS + 1;

		wait_ms = left < (uint64_t)wait_ms ? (int)left : wait_ms;
	}
	return wait_ms;
}

/* Nothing will be sent by this process: what it took and takes stays queued in the store. */
static void
give_up(struct exporter *e, const char *why)
{
	log_error("libcurl_not_loaded error=\"%s\" text=\"nothing is sent: mend it, then restart "
		  "the agent\"",
	    why);
	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++) {
		e->lines[i].status.state = DEST_OFFLINE;
		snprintf(e->lines[i].status.last_error, sizeof e->lines[i].status.last_error,
		    "%.150s", why);
	}
	(void)pthread_mutex_unlock(&e->lock);
}

/* Sleep until there is something to send, then have libcurl. False: there will be no sending. */
static bool
await_first(struct exporter *e)
{
	const char *why;
	CURLM *multi;
	bool stop;
	enum err rv;

	(void)waker_wait(&e->first, WAKER_FOREVER);
	(void)pthread_mutex_lock(&e->lock);
	stop = e->stop;
	(void)pthread_mutex_unlock(&e->lock);
	if (stop)
		return false;
	rv = libcurl_open(&why);
	multi = rv == E_OK ? curl_multi_init() : NULL;
	for (size_t i = 0; i < e->count && rv == E_OK; i++)
		if (e->lines[i].options.kind == DEST_DATADOG_AGENT)
			rv = http_init(&e->lines[i]);
	(void)pthread_mutex_lock(&e->lock);
	e->multi = multi;
	(void)pthread_mutex_unlock(&e->lock);
	if (rv == E_OK && multi != NULL)
		return true;
	give_up(e, why[0] != '\0' ? why : err_text(E_NOMEM));
	return false;
}

static void
run(void *arg)
{
	struct exporter *e = arg;
	struct curl_waitfd network = { .fd = e->network, .events = CURL_WAIT_POLLIN };
	bool ready[LINES_MAX], stopping;
	int running = 0;

	if (!await_first(e))
		return;
	while (collect(e, ready, &stopping)) {
		for (size_t i = 0; i < e->count; i++)
			if (ready[i])
				begin(e, &e->lines[i]);
		(void)curl_multi_perform(e->multi, &running);
		complete(e);
		(void)curl_multi_poll(e->multi, &network, e->network >= 0,
		    watch_stalls(e, stopping ? 50 : rests_watch(e)), NULL);
		if (e->network >= 0 && netwatch_changed(e->network))
			rests_heed_network(e);
	}
}

static enum err
line_new(struct line *l, const struct destination_options *d)
{
	l->options = *d;
	if (l->options.timeout_ms == 0)
		l->options.timeout_ms = TIMEOUT_MS;
	l->fd = -1;
	l->fresh_next = true;
	l->chunk_limit = EXPORT_CHUNKS_MAX;
	l->expansion = EXPANSION_DEF;
	return spanview_new(&l->view);
}

enum err
exporter_new(const struct destination_options *d, size_t n, exporter_wake_fn wake, void *ctx,
    struct exporter **out)
{
	struct exporter *e;
	enum err rv = E_OK;

	if (n > LINES_MAX)
		return E_INVAL;
	e = calloc(1, sizeof *e);
	if (e == NULL)
		return E_NOMEM;
	(void)pthread_mutex_init(&e->lock, NULL);
	waker_init(&e->first);
	e->wake = wake;
	e->ctx = ctx;
	e->random = clock_real_ns() ^ clock_mono_ns();
	e->network = netwatch_open();
	for (size_t i = 0; i < n && rv == E_OK; i++) {
		e->count = i + 1;
		rv = line_new(&e->lines[i], &d[i]);
	}
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

/* libcurl writes to a socket of its own, which may fail: then the thread would sleep on. */
static void
rouse(struct exporter *e)
{
	CURLM *multi;

	(void)pthread_mutex_lock(&e->lock);
	multi = e->multi;
	(void)pthread_mutex_unlock(&e->lock);
	waker_wake(&e->first);
	if (multi == NULL)
		return;
	for (int tries = 0; curl_multi_wakeup(multi) != CURLM_OK && tries < WAKE_TRIES; tries++)
		(void)sched_yield();
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
	rouse(e);
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

		if (e->multi != NULL)
			http_fini(l, e->multi);
		file_fini(l);
		for (size_t k = 0; k < l->given_count; k++)
			lease_free(&l->given[k]);
		for (size_t k = 0; k < l->lease_count; k++)
			lease_free(&l->leases[k]);
		for (; l->result_at < l->result_count; l->result_at++) {
			struct export_result *r = &l->results[l->result_at];

			free(r->a.blob);
			free(r->b.blob);
			free(r->agent_reply);
		}
		span_identity_free(l->identity);
		spanview_free(l->view);
		outbuf_free(&l->body);
	}
	if (e->network >= 0)
		close(e->network);
	if (e->multi != NULL)
		(void)curl_multi_cleanup(e->multi);
	waker_fini(&e->first);
	(void)pthread_mutex_destroy(&e->lock);
	free(e);
}

void
exporter_wants(struct exporter *e, size_t i, struct export_wish *out)
{
	struct line *l = &e->lines[i];
	size_t body = REQUEST_TARGET_BYTES;

	memset(out, 0, sizeof *out);
	(void)pthread_mutex_lock(&e->lock);
	if (l->options.request_max_bytes > 0 && l->options.request_max_bytes < body)
		body = l->options.request_max_bytes;
	if (!l->outstanding && !e->stop && clock_mono_ns() >= l->blocked_until_mono_ns) {
		out->chunks = l->chunk_limit;
		out->bytes = body * 16 / l->expansion;
	}
	out->fresh = l->fresh_next;
	out->rested = l->rested;
	(void)pthread_mutex_unlock(&e->lock);
}

enum err
exporter_give(struct exporter *e, size_t i, struct lease *leases, size_t n)
{
	struct line *l = &e->lines[i];
	enum err rv = E_FULL;

	if (n == 0 || n > EXPORT_CHUNKS_MAX)
		return E_INVAL;
	(void)pthread_mutex_lock(&e->lock);
	if (!l->outstanding && !e->stop) {
		memcpy(l->given, leases, n * sizeof *leases);
		memset(leases, 0, n * sizeof *leases);
		l->given_count = n;
		l->outstanding = true;
		l->fresh_next = !l->fresh_next;
		rv = E_OK;
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (rv == E_OK)
		rouse(e);
	return rv;
}

enum err
exporter_take(struct exporter *e, struct export_result *out)
{
	enum err rv = E_NOTFOUND;

	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count && rv != E_OK; i++) {
		struct line *l = &e->lines[i];

		if (l->result_at == l->result_count)
			continue;
		*out = l->results[l->result_at++];
		if (l->result_at == l->result_count) {
			l->result_at = l->result_count = 0;
			l->outstanding = false;
		}
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
