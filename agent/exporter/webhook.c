/*
 * webhook.c - tells a URL of the ends of jobs: agent/core/webhook.h.
 *
 * The thread sleeps in curl_multi_poll, without a time limit while no request
 * is in flight: when a rest is over is the pipeline's to know.  A failure that
 * is the far end's (no reply, 408, 425, 429, 3xx, 5xx) rests the whole line, so that a
 * receiver that is down costs one request a rest however many notices wait, and
 * what it was sent rests as well, so that a notice it cannot digest does not stop
 * those behind it; a refusal rests its notice alone.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"
#include "agent/core/webhook.h"
#include "agent/exporter/libcurl.h"
#include "agent/exporter/line.h"
#include "agent/exporter/netwatch.h"
#include "agent/exporter/post.h"
#include "agent/exporter/signature.h"
#include "agent/exporter/verdict.h"

#define TIMEOUT_MS     10000u
#define REST_MAX_MS    (10u * 60 * 1000)
#define SETTLE_MS      300u /* after a change of the network */
#define BODY_END_BYTES 4096u
#define WAKE_TRIES     100
#define IDLE_MS        INT32_MAX /* poll takes no longer one: 24 days */

struct webhook {
	struct webhook_options options;
	exporter_wake_fn wake;
	void *ctx;
	struct thread thread;

	pthread_mutex_t lock; /* guards down to `stop_mono_ns` */
	struct webhook_status status;
	struct webhook_notice given; /* waits for the thread */
	struct webhook_result result;
	bool has_given, has_result;
	bool outstanding;               /* from give until its result has been taken */
	uint64_t blocked_until_mono_ns; /* the line rests; 0 it does not */
	uint32_t failures;              /* of the line, in a row */
	bool unreachable;               /* the last attempt found no way */
	bool rested;                    /* a person has asked, and nothing has failed since */
	bool stop;
	uint64_t stop_mono_ns;

	/* the thread's own */
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	struct webhook_notice notice;
	struct reply reply;
	char error[CURL_ERROR_SIZE];
	bool direct, busy;
	int network; /* tells of changes, -1 none */
	int logged;  /* status of the last failure that was logged since the last success */
	uint64_t random;
};

/* ---- one request ------------------------------------------------------------- */

static enum err
set_headers(struct webhook *w)
{
	uint64_t now_s = clock_real_ns() / NS_PER_S;
	char key[WEBHOOK_KEY_MAX + 20], timestamp[48], mac[SIGNATURE_HEX_BYTES], signature[160];
	const char *const fixed[] = { "Content-Type: application/json", "Expect:", key, timestamp };
	enum err rv = E_OK;

	curl_slist_free_all(w->headers);
	w->headers = NULL;
	snprintf(key, sizeof key, "Idempotency-Key: %s", w->notice.key);
	snprintf(timestamp, sizeof timestamp, "Comfymon-Timestamp: %" PRIu64, now_s);
	for (size_t i = 0; rv == E_OK && i < sizeof fixed / sizeof fixed[0]; i++)
		rv = post_header(&w->headers, fixed[i]);
	if (rv != E_OK || w->options.secret[0] == '\0')
		return rv;
	signature_make(w->options.secret, now_s, w->notice.body.p, w->notice.body.n, mac);
	snprintf(
	    signature, sizeof signature, "Comfymon-Signature: t=%" PRIu64 ",v1=%s", now_s, mac);
	return post_header(&w->headers, signature);
}

static void
set_options(struct webhook *w)
{
	struct post p = { .url = w->options.url,
		.socket = "",
		.ca_file = w->options.ca_file,
		.direct = w->direct,
		.timeout_ms = w->options.timeout_ms,
		.body = w->notice.body.p,
		.body_bytes = w->notice.body.n,
		.headers = w->headers,
		.error = w->error,
		.reply = &w->reply };

	post_options(w->easy, &p);
}

/* ---- what comes of it ---------------------------------------------------------- */

/* How long until the next try, in ms: what the far end asks for, else more with each failure. */
static uint64_t
rest_ms(struct webhook *w, uint32_t failures)
{
	uint64_t ms = 0;

	if (w->reply.retry_after[0] != '\0' &&
	    retry_after_ms(w->reply.retry_after, (int64_t)(clock_real_ns() / NS_PER_S), &ms) &&
	    ms > 0)
		return ms;
	return backoff_up_to_ms(failures, REST_MAX_MS, random_next(&w->random));
}

/* Once for each kind of failure in a row; the rest is counted. */
static void
log_outcome(struct webhook *w, const struct webhook_result *r, int status, const char *error)
{
	if (r->end == WEBHOOK_TOLD) {
		if (w->logged != 0)
			log_info("webhook_resumed target=%s", w->status.target);
		w->logged = 0;
		return;
	}
	/* The last of three refusals has a line of its own. */
	if (w->logged == status + (r->end == WEBHOOK_GIVEN_UP ? 1000 : 0))
		return;
	w->logged = status + (r->end == WEBHOOK_GIVEN_UP ? 1000 : 0);
	log_warn("webhook_%s target=%s job=%" PRId64 " status=%d error=\"%s\"",
	    r->end == WEBHOOK_GIVEN_UP ? "given_up" : "failed", w->status.target, r->job, status,
	    error);
}

/* How an attempt ended. */
struct attempt {
	int status; /* of a reply, or a negative curl code */
	bool sent;  /* the far end saw something of it */
	const char *error;
};

static struct webhook_result
judge(struct webhook *w, const struct attempt *a, enum verdict v)
{
	struct webhook_result r = { .id = w->notice.id, .job = w->notice.job };
	uint32_t failures = w->notice.tries + 1;

	r.refused = v != VERDICT_SENT && v != VERDICT_RETRY;
	if (r.refused)
		failures = w->notice.refusals + 1;
	r.end = v == VERDICT_SENT                           ? WEBHOOK_TOLD
		: r.refused && failures >= WEBHOOK_REFUSALS ? WEBHOOK_GIVEN_UP
							    : WEBHOOK_AGAIN;
	/* One that nobody has seen keeps its place: the line rests, and goes on with it. */
	if (r.end == WEBHOOK_AGAIN && a->sent)
		r.next_try_real_ns = clock_real_ns() + rest_ms(w, failures) * NS_PER_MS;
	return r;
}

/* Lock held: what the status says after an attempt. */
static void
note(struct webhook *w, const struct webhook_result *r, const struct attempt *a, uint64_t rest)
{
	struct webhook_status *s = &w->status;

	s->last_status = a->status > 0 ? a->status : 0;
	snprintf(s->last_error, sizeof s->last_error, "%.150s", a->error);
	s->next_try_real_ns = rest > 0 ? clock_real_ns() + rest * NS_PER_MS : r->next_try_real_ns;
	s->told += r->end == WEBHOOK_TOLD;
	s->retries += r->end == WEBHOOK_AGAIN;
	s->given_up += r->end == WEBHOOK_GIVEN_UP;
	if (r->end == WEBHOOK_TOLD)
		s->last_ok_real_ns = clock_real_ns();
	s->state = r->end == WEBHOOK_TOLD                     ? DEST_OK
		   : r->end == WEBHOOK_GIVEN_UP || r->refused ? DEST_HOLD
							      : DEST_OFFLINE;
}

/* The attempt is over. */
static void
finish(struct webhook *w, struct attempt a)
{
	enum verdict v = a.status > 0 ? verdict_of(a.status, "", 0) : VERDICT_RETRY;
	struct webhook_result r = judge(w, &a, v);
	uint64_t rest = v == VERDICT_RETRY ? rest_ms(w, w->failures + 1) : 0;

	if (a.status > 0 && v != VERDICT_SENT && a.error[0] == '\0')
		a.error = r.refused ? "refused: is the address right, may this host send?"
				    : "not taken now";
	log_outcome(w, &r, a.status, a.error);
	(void)pthread_mutex_lock(&w->lock);
	note(w, &r, &a, rest);
	w->failures = v == VERDICT_RETRY ? w->failures + 1 : 0;
	w->unreachable = a.status <= 0;
	w->blocked_until_mono_ns = rest > 0 ? clock_mono_ns() + rest * NS_PER_MS : 0;
	w->rested = w->rested && v == VERDICT_SENT;
	w->result = r;
	w->has_result = true;
	(void)pthread_mutex_unlock(&w->lock);
	outbuf_free(&w->notice.body);
	w->busy = false;
	w->wake(w->ctx);
}

static void
begin(struct webhook *w)
{
	enum err rv;

	w->busy = true;
	w->error[0] = '\0';
	reply_begin(&w->reply, 0, BODY_END_BYTES);
	rv = set_headers(w);
	if (rv == E_OK) {
		set_options(w);
		rv = curl_multi_add_handle(w->multi, w->easy) == CURLM_OK ? E_OK : E_NOMEM;
	}
	if (rv != E_OK)
		finish(w, (struct attempt){ .status = 503, .error = err_text(rv) });
}

/*
 * A 2xx says that the notice was taken, whatever becomes of the reply's body;
 * so does a refusal.  Headers that never ended say nothing.
 */
static void
complete(struct webhook *w)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(w->multi, &left)) != NULL) {
		struct attempt a = { .error = "" };
		CURLcode code = m->data.result;
		long status = 0, sent = 0;

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, &status);
		(void)curl_easy_getinfo(w->easy, CURLINFO_REQUEST_SIZE, &sent);
		(void)curl_multi_remove_handle(w->multi, w->easy);
		if (!w->reply.headers_whole || status < 200) { /* libcurl says 200 to half a head */
			if (code == CURLE_OK)
				code = CURLE_WEIRD_SERVER_REPLY;
			a.error = w->error[0] != '\0' ? w->error : curl_easy_strerror(code);
			status = -(long)code;
		}
		a.status = (int)status;
		a.sent = sent > 0;
		finish(w, a);
	}
}

/* ---- the thread ------------------------------------------------------------------ */

/* Move a notice to the thread's side. False when it is time to end. */
static bool
collect(struct webhook *w, bool *ready, bool *stopping)
{
	(void)pthread_mutex_lock(&w->lock);
	*stopping = w->stop;
	*ready = w->has_given && !w->stop;
	if (*ready) {
		w->notice = w->given;
		w->has_given = false;
	}
	(void)pthread_mutex_unlock(&w->lock);
	return !*stopping || (w->busy && clock_mono_ns() < w->stop_mono_ns);
}

/* An address, a route or a link has come: a line that found no way soon tries again. */
static void
heed_network(struct webhook *w)
{
	uint64_t soon = clock_mono_ns() + SETTLE_MS * NS_PER_MS;
	bool wakes = false;

	(void)pthread_mutex_lock(&w->lock);
	if (w->unreachable && w->blocked_until_mono_ns > soon) {
		w->blocked_until_mono_ns = soon;
		wakes = true;
		w->failures = 0;
	}
	(void)pthread_mutex_unlock(&w->lock);
	if (wakes)
		w->wake(w->ctx);
}

static void
run(void *arg)
{
	struct webhook *w = arg;
	struct curl_waitfd network = { .fd = w->network, .events = CURL_WAIT_POLLIN };
	bool ready, stopping;
	int running = 0;

	while (collect(w, &ready, &stopping)) {
		if (ready)
			begin(w);
		(void)curl_multi_perform(w->multi, &running);
		complete(w);
		(void)curl_multi_poll(w->multi, &network, w->network >= 0,
		    stopping  ? 50
		    : w->busy ? (int)w->options.timeout_ms
			      : IDLE_MS,
		    NULL);
		if (w->network >= 0 && netwatch_changed(w->network))
			heed_network(w);
	}
}

/* It writes to a socket of its own, which may fail: then the thread would sleep on. */
static void
rouse(struct webhook *w)
{
	for (int tries = 0; curl_multi_wakeup(w->multi) != CURLM_OK && tries < WAKE_TRIES; tries++)
		(void)sched_yield();
}

/* "https://host:port" of an address. */
static void
name_target(struct webhook *w)
{
	const char *url = w->options.url, *host = strstr(url, "://");
	size_t end, at = 0;

	host = host != NULL ? host + 3 : url;
	end = strcspn(host, "/?#");
	for (size_t i = 0; i < end; i++)
		if (host[i] == '@')
			at = i + 1;
	snprintf(w->status.target, sizeof w->status.target, "%.*s%.*s", (int)(host - url), url,
	    (int)(end - at), host + at);
}

enum err
webhook_new(const struct webhook_options *o, exporter_wake_fn wake, void *ctx, struct webhook **out)
{
	struct webhook *w;
	const char *why;
	enum err rv = libcurl_open(&why);

	if (rv != E_OK) {
		log_error("libcurl_not_loaded error=\"%s\"", why);
		return rv;
	}
	w = calloc(1, sizeof *w);
	if (w == NULL)
		return E_NOMEM;
	(void)pthread_mutex_init(&w->lock, NULL);
	w->options = *o;
	if (w->options.timeout_ms == 0)
		w->options.timeout_ms = TIMEOUT_MS;
	w->wake = wake;
	w->ctx = ctx;
	w->status.configured = true;
	w->status.is_signed = o->secret[0] != '\0';
	name_target(w);
	w->random = clock_real_ns() ^ clock_mono_ns();
	w->direct = http_is_loopback(o->url);
	w->network = netwatch_open();
	w->multi = curl_multi_init();
	w->easy = curl_easy_init();
	if (w->multi == NULL || w->easy == NULL) {
		webhook_free(w);
		return E_NOMEM;
	}
	*out = w;
	return E_OK;
}

enum err
webhook_start(struct webhook *w)
{
	log_info("webhook target=%s signed=%d%s", w->status.target, w->status.is_signed,
	    w->status.is_signed ? "" : " text=\"no secret: requests carry no signature\"");
	return thread_start(&w->thread, "webhook", run, w);
}

void
webhook_stop(struct webhook *w, uint64_t deadline_ms)
{
	if (w == NULL)
		return;
	(void)pthread_mutex_lock(&w->lock);
	if (!w->stop)
		w->stop_mono_ns = clock_mono_ns() + deadline_ms * NS_PER_MS;
	w->stop = true;
	(void)pthread_mutex_unlock(&w->lock);
	rouse(w);
	thread_join(&w->thread);
}

void
webhook_free(struct webhook *w)
{
	if (w == NULL)
		return;
	if (w->multi != NULL)
		webhook_stop(w, 0);
	if (w->busy)
		(void)curl_multi_remove_handle(w->multi, w->easy);
	curl_easy_cleanup(w->easy);
	(void)curl_multi_cleanup(w->multi);
	curl_slist_free_all(w->headers);
	if (w->has_given)
		outbuf_free(&w->given.body);
	outbuf_free(&w->notice.body);
	outbuf_free(&w->reply.body);
	if (w->network >= 0)
		close(w->network);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
}

/* ---- for others ------------------------------------------------------------------ */

void
webhook_wants(struct webhook *w, struct webhook_wish *out)
{
	memset(out, 0, sizeof *out);
	(void)pthread_mutex_lock(&w->lock);
	if (!w->outstanding && !w->stop) {
		out->ready = clock_mono_ns() >= w->blocked_until_mono_ns;
		out->from_mono_ns = out->ready ? 0 : w->blocked_until_mono_ns;
		out->rested = w->rested;
	}
	(void)pthread_mutex_unlock(&w->lock);
}

enum err
webhook_give(struct webhook *w, struct webhook_notice *n)
{
	enum err rv = E_FULL;

	(void)pthread_mutex_lock(&w->lock);
	if (!w->outstanding && !w->stop) {
		w->given = *n;
		memset(&n->body, 0, sizeof n->body);
		w->has_given = w->outstanding = true;
		rv = E_OK;
	}
	(void)pthread_mutex_unlock(&w->lock);
	if (rv == E_OK)
		rouse(w);
	return rv;
}

enum err
webhook_take(struct webhook *w, struct webhook_result *out)
{
	enum err rv = E_NOTFOUND;

	(void)pthread_mutex_lock(&w->lock);
	if (w->has_result) {
		*out = w->result;
		w->has_result = w->outstanding = false;
		rv = E_OK;
	}
	(void)pthread_mutex_unlock(&w->lock);
	return rv;
}

void
webhook_status(struct webhook *w, struct webhook_status *out)
{
	(void)pthread_mutex_lock(&w->lock);
	*out = w->status;
	(void)pthread_mutex_unlock(&w->lock);
}

void
webhook_retry_now(struct webhook *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->blocked_until_mono_ns = 0;
	w->rested = true;
	(void)pthread_mutex_unlock(&w->lock);
	w->wake(w->ctx);
}
