/*
 * receiver.c - the listener, the table of connections and the pipeline's side
 * of the inbox.  See agent/core/intake.h for the contract and conn.h for locks.
 *
 * nng's byte streams are used, not its PULL socket: the 1.5.2 PULL listener
 * stops for ever after one peer that connects and closes.
 */
#include "agent/receiver/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"

#define ACCEPT_REST_MS 100 /* out of descriptors: try again then */
#define BURST_MAX      64u /* connections in each BURST_MS */
#define BURST_MS       50u

static enum err
from_nng(int rv)
{
	switch (rv) {
	case 0:
		return E_OK;
	case NNG_ENOMEM:
		return E_NOMEM;
	case NNG_EADDRINUSE:
		return E_BUSY;
	case NNG_EPERM:
		return E_PERM;
	case NNG_EADDRINVAL:
	case NNG_EINVAL:
		return E_INVAL;
	default:
		return E_IO;
	}
}

static bool
uid_allowed(const struct receiver *r, nng_stream *s)
{
	uint64_t uid;

	if (nng_stream_get_uint64(s, NNG_OPT_IPC_PEER_UID, &uid) != 0)
		return false;
	if (uid == geteuid() || uid == 0)
		return true;
	for (size_t i = 0; i < r->o.allow_uid_count; i++)
		if (r->allow_uids[i] == uid)
			return true;
	return false;
}

static struct conn *
free_slot(struct receiver *r)
{
	for (uint32_t i = 0; i < r->o.max_connections; i++) {
		struct conn *c = &r->conns[i];

		if (c->state == CONN_FREE && (c->rx != NULL || conn_init(c, r, i) == E_OK))
			return c;
	}
	return NULL;
}

/*
 * Every place is taken: who has held one longest without ever sending a frame
 * gives it up.  Its slot is free after its callbacks, so it serves the next
 * that comes; a probe tries again within a moment.
 */
static void
close_silent(struct receiver *r)
{
	struct conn *oldest = NULL;

	for (uint32_t i = 0; i < r->o.max_connections; i++) {
		struct conn *c = &r->conns[i];

		if (c->has_probe || (c->state != CONN_HANDSHAKE && c->state != CONN_HEADER))
			continue;
		if (oldest == NULL || c->began_ns < oldest->began_ns)
			oldest = c;
	}
	if (oldest != NULL)
		conn_close(oldest);
}

static void
accepted(struct receiver *r, nng_stream *s)
{
	struct conn *c;

	if (!uid_allowed(r, s)) {
		r->stats.refused_uid++;
		nng_stream_free(s);
		return;
	}
	c = free_slot(r);
	r->stats.connections++;
	if (c == NULL) {
		log_warn("too_many_connections max=%u", r->o.max_connections);
		close_silent(r);
		nng_stream_free(s);
		return;
	}
	r->stats.connections_now++;
	conn_begin(c, s);
}

/*
 * nng closes a stream's descriptor some time after it was freed: who connects
 * and goes faster than that would use up all descriptors.  Milliseconds until
 * the next may be accepted, 0: at once.
 */
static nng_duration
burst_rest_ms(struct receiver *r)
{
	uint64_t now = clock_mono_ns(), age = now - r->burst_ns;

	if (age >= BURST_MS * NS_PER_MS) {
		r->burst_ns = now;
		r->burst = 0;
		return 0;
	}
	return ++r->burst < BURST_MAX ? 0 : (nng_duration)(BURST_MS - age / NS_PER_MS);
}

static void
on_accept(void *arg)
{
	struct receiver *r = arg;
	int rv = nng_aio_result(r->accept);
	nng_duration rest;
	bool again;

	pthread_mutex_lock(&r->lock);
	again = !r->stopping && rv != NNG_ECLOSED && rv != NNG_ECANCELED;
	if (rv == 0 && !again)
		nng_stream_free(nng_aio_get_output(r->accept, 0));
	else if (rv == 0)
		accepted(r, nng_aio_get_output(r->accept, 0));
	pthread_mutex_unlock(&r->lock);
	if (!again)
		return;
	rest = rv == 0 ? burst_rest_ms(r) : ACCEPT_REST_MS;
	if (rest == 0) {
		nng_stream_listener_accept(r->listener, r->accept);
		return;
	}
	if (rv != 0)
		log_warn("accept_failed error=\"%s\"", nng_strerror(rv));
	nng_sleep_aio(rest, r->rest);
}

static void
on_rest(void *arg)
{
	struct receiver *r = arg;
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stopping;
	pthread_mutex_unlock(&r->lock);
	if (!stop && nng_aio_result(r->rest) == 0)
		nng_stream_listener_accept(r->listener, r->accept);
}

/*
 * nng 1.5.2 crashes when its first call cannot start a thread, as where a
 * container limits them.  It starts 13 on 2 processors, 152 on 128 (measured).
 */
static enum err
room_for_nng(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned more = 11 + (unsigned)(cpus > 0 ? cpus : 1) * 9 / 8;
	enum err e = threads_available(more);

	if (e != E_OK)
		log_error("threads_refused needed=%u error=\"%s\"", more, err_text(e));
	return e;
}

enum err
receiver_new(
    const struct receiver_options *o, receiver_wake_fn wake, void *ctx, struct receiver **out)
{
	struct receiver *r = calloc(1, sizeof *r);
	enum err e;

	if (r == NULL)
		return E_NOMEM;
	r->o = *o;
	if (r->o.max_connections == 0)
		r->o.max_connections = 64;
	r->wake = wake;
	r->wake_ctx = ctx;
	pthread_mutex_init(&r->lock, NULL);
	e = path_join(r->path, sizeof r->path, o->run_dir, RUN_SOCKET_NAME);
	r->conns = calloc(r->o.max_connections, sizeof *r->conns);
	r->allow_uids = calloc(o->allow_uid_count + 1, sizeof *r->allow_uids);
	if (e == E_OK && (r->conns == NULL || r->allow_uids == NULL))
		e = E_NOMEM;
	if (e == E_OK && o->allow_uid_count > 0)
		memcpy(r->allow_uids, o->allow_uids, o->allow_uid_count * sizeof *r->allow_uids);
	if (e == E_OK)
		e = room_for_nng();
	if (e == E_OK && (nng_aio_alloc(&r->accept, on_accept, r) != 0 ||
			     nng_aio_alloc(&r->rest, on_rest, r) != 0))
		e = E_NOMEM;
	if (e != E_OK) {
		receiver_free(r);
		return e;
	}
	*out = r;
	return E_OK;
}

static enum err
listen_at_path(struct receiver *r)
{
	/* Others who may send must be able to connect; who they are is asked of the kernel. */
	int mode = r->o.allow_uid_count > 0 ? 0666 : 0600;
	char url[sizeof r->path + 8];
	int rv;

	/* nng cuts a longer path silently. */
	if (strlen(r->path) >= 108)
		return E_INVAL;
	snprintf(url, sizeof url, "ipc://%s", r->path);
	rv = nng_stream_listener_alloc(&r->listener, url);
	if (rv == 0)
		rv = nng_stream_listener_set_int(r->listener, NNG_OPT_IPC_PERMISSIONS, mode);
	if (rv == 0)
		rv = nng_stream_listener_listen(r->listener);
	if (rv != 0) {
		log_error("listen_failed path=%s error=\"%s\"", r->path, nng_strerror(rv));
		return from_nng(rv);
	}
	r->started = true;
	nng_stream_listener_accept(r->listener, r->accept);
	return E_OK;
}

enum err
receiver_start(struct receiver *r)
{
	return listen_at_path(r);
}

enum err
receiver_listen_again(struct receiver *r)
{
	/* Its end cancels what accepts; a rest ends in one more try, which is cancelled too. */
	if (r->listener != NULL) {
		nng_stream_listener_close(r->listener);
		nng_aio_wait(r->accept);
		nng_aio_wait(r->rest);
		nng_aio_wait(r->accept);
		nng_stream_listener_free(r->listener);
		r->listener = NULL;
	}
	return listen_at_path(r);
}

void
receiver_stop(struct receiver *r)
{
	pthread_mutex_lock(&r->lock);
	if (r->stopping) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	r->stopping = true;
	for (uint32_t i = 0; i < r->o.max_connections; i++)
		conn_close(&r->conns[i]);
	pthread_mutex_unlock(&r->lock);
	if (r->listener != NULL)
		nng_stream_listener_close(r->listener);
	nng_aio_stop(r->accept);
	nng_aio_stop(r->rest);
	for (uint32_t i = 0; i < r->o.max_connections; i++)
		conn_fini(&r->conns[i]);
}

void
receiver_free(struct receiver *r)
{
	if (r == NULL)
		return;
	if (r->accept != NULL && r->rest != NULL && r->conns != NULL)
		receiver_stop(r);
	if (r->listener != NULL)
		nng_stream_listener_free(r->listener);
	if (r->accept != NULL)
		nng_aio_free(r->accept);
	if (r->rest != NULL)
		nng_aio_free(r->rest);
	while (r->first != NULL) {
		struct inbox_node *n = r->first;

		r->first = n->next;
		free(n->item.body);
		free(n);
	}
	free(r->conns);
	free(r->allow_uids);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static void
unpark_all(struct receiver *r)
{
	for (uint32_t i = 0; i < r->o.max_connections; i++)
		conn_unpark(&r->conns[i]);
}

enum err
receiver_take(struct receiver *r, struct intake_item *out)
{
	struct inbox_node *n;

	pthread_mutex_lock(&r->lock);
	n = r->first;
	if (n != NULL) {
		r->first = n->next;
		if (r->first == NULL)
			r->last = NULL;
		r->held_bytes -= n->item.body_bytes;
		unpark_all(r);
	}
	pthread_mutex_unlock(&r->lock);
	if (n == NULL)
		return E_NOTFOUND;
	*out = n->item;
	free(n);
	return E_OK;
}

void
receiver_reply(struct receiver *r, uint64_t connection, const struct wire_stored *s)
{
	uint32_t slot = (uint32_t)connection - 1;

	if (connection == 0 || slot >= r->o.max_connections)
		return;
	pthread_mutex_lock(&r->lock);

	struct conn *c = &r->conns[slot];

	if (c->state != CONN_FREE && c->state != CONN_CLOSING &&
	    c->generation == (uint32_t)(connection >> 32))
		conn_reply(c, s);
	pthread_mutex_unlock(&r->lock);
}

bool
receiver_has_probe(struct receiver *r, const uint8_t probe_id[FRAME_PROBE_ID_BYTES])
{
	bool found = false;

	pthread_mutex_lock(&r->lock);
	for (uint32_t i = 0; i < r->o.max_connections && !found; i++)
		found = r->conns[i].has_probe &&
			memcmp(r->conns[i].probe_id, probe_id, FRAME_PROBE_ID_BYTES) == 0;
	pthread_mutex_unlock(&r->lock);
	return found;
}

void
receiver_pause(struct receiver *r, bool paused)
{
	pthread_mutex_lock(&r->lock);
	r->paused = paused;
	if (!paused)
		unpark_all(r);
	pthread_mutex_unlock(&r->lock);
}

void
receiver_stats(struct receiver *r, struct receiver_stats *out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->stats;
	pthread_mutex_unlock(&r->lock);
}
