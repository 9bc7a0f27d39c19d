/*
 * conn.c - one connection: SP handshake as PULL, length, body, again; and the
 * stored frames that go back.  Callbacks run on nng's task threads.
 *
 * A peer is not read while the inbox has no room for its next body: that is the
 * back-pressure.  Who stops in the middle of a handshake or of a frame is
 * closed at the deadline, so bodies that are under way cannot hold the inbox.
 */
#include "agent/receiver/conn.h"

#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"

static const uint8_t greeting[SP_HANDSHAKE_BYTES] = { 0, 'S', 'P', 0, 0, SP_PROTO_PULL, 0, 0 };
static const uint8_t expected[SP_HANDSHAKE_BYTES] = { 0, 'S', 'P', 0, 0, SP_PROTO_PUSH, 0, 0 };

/* Ask for c->want bytes more at c->into. */
static void
receive(struct conn *c)
{
	nng_iov iov = { .iov_buf = c->into, .iov_len = c->want };
	nng_duration limit = NNG_DURATION_INFINITE;

	if (c->deadline_ns != 0) {
		uint64_t now = clock_mono_ns();

		limit = now >= c->deadline_ns
			    ? 1
			    : (nng_duration)((c->deadline_ns - now) / NS_PER_MS + 1);
	}
	nng_aio_set_timeout(c->rx, limit);
	nng_aio_set_iov(c->rx, 1, &iov);
	c->refs++;
	nng_stream_recv(c->stream, c->rx);
}

static void
transmit(struct conn *c)
{
	nng_iov iov = { .iov_buf = c->out + c->out_at, .iov_len = c->out_bytes - c->out_at };

	nng_aio_set_iov(c->tx, 1, &iov);
	c->refs++;
	nng_stream_send(c->stream, c->tx);
}

static void
expect_header(struct conn *c)
{
	c->state = CONN_HEADER;
	c->deadline_ns = 0; /* an idle peer may wait for ever */
	c->into = c->head;
	c->want = SP_HEADER_BYTES;
	c->parked = c->r->paused || !inbox_room(c->r, 1);
	if (c->parked)
		c->r->stats.waits_full++;
	else
		receive(c);
}

/* The header is in: hold the connection until its body has a place. */
static void
expect_body(struct conn *c)
{
	struct receiver *r = c->r;

	if (r->paused || !inbox_room(r, c->body_bytes)) {
		if (!c->parked)
			r->stats.waits_full++;
		c->state = CONN_HELD;
		c->parked = true;
		return;
	}
	c->body = malloc(c->body_bytes);
	if (c->body == NULL) {
		log_error("receiver_no_memory bytes=%zu", c->body_bytes);
		conn_close(c);
		return;
	}
	r->held_bytes += c->body_bytes;
	c->parked = false;
	c->state = CONN_BODY;
	c->deadline_ns = clock_mono_ns() + r->o.handshake_ms * NS_PER_MS;
	c->into = c->body;
	c->want = c->body_bytes;
	receive(c);
}

static uint64_t
get_big64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

/* The 9 bytes are in. The length is judged before anything is allocated. */
static void
header_done(struct conn *c)
{
	uint64_t n = get_big64(c->head + 1);

	if (c->head[0] != 1) {
		inbox_malformed(c->r, "SP message type", 0);
		conn_close(c);
	} else if (n > FRAME_MAX_BYTES) {
		c->r->stats.too_large_frames++;
		inbox_malformed(c->r, "frame longer than the limit", 1);
		conn_close(c);
	} else if (n == 0) {
		inbox_malformed(c->r, "empty frame", 1);
		expect_header(c);
	} else {
		c->body_bytes = (size_t)n;
		expect_body(c);
	}
}

static void
handshake_done(struct conn *c)
{
	if (memcmp(c->head, expected, sizeof expected) != 0) {
		c->r->stats.handshakes_failed++;
		conn_close(c);
		return;
	}
	expect_header(c);
}

/* The last reference has gone: give the slot back. */
static void
unref(struct conn *c)
{
	struct receiver *r = c->r;

	if (--c->refs > 0 || c->state != CONN_CLOSING)
		return;
	if (c->body != NULL) {
		free(c->body);
		c->body = NULL;
		r->held_bytes -= c->body_bytes;
	}
	nng_stream_free(c->stream); /* later, on nng's reaper */
	c->stream = NULL;
	c->state = CONN_FREE;
	r->stats.probes_left += c->has_probe;
	c->has_probe = false;
	c->generation++;
	r->stats.connections_now--;
}

/* Bytes have come; true when all that was wanted is there. */
static bool
progress(struct conn *c)
{
	size_t n = nng_aio_count(c->rx);

	c->r->stats.bytes += n;
	c->into += n;
	c->want -= n;
	if (c->want == 0)
		return true;
	if (c->state == CONN_HEADER && c->deadline_ns == 0)
		c->deadline_ns = clock_mono_ns() + c->r->o.handshake_ms * NS_PER_MS;
	receive(c);
	return false;
}

static void
failed(struct conn *c, int rv)
{
	bool half = c->state == CONN_HANDSHAKE || c->state == CONN_BODY ||
		    (c->state == CONN_HEADER && c->want < SP_HEADER_BYTES);

	if (c->state == CONN_HANDSHAKE)
		c->r->stats.handshakes_failed++;
	else if (half && rv != NNG_ECANCELED)
		inbox_malformed(c->r, rv == NNG_ETIMEDOUT ? "frame too slow" : "frame cut short",
		    (size_t)(c->into - (c->state == CONN_BODY ? c->body : c->head)));
	conn_close(c);
}

static void
on_receive(void *arg)
{
	struct conn *c = arg;
	struct receiver *r = c->r;
	int rv = nng_aio_result(c->rx);
	uint8_t *body = NULL;
	bool gone;

	pthread_mutex_lock(&r->lock);
	if (c->state == CONN_CLOSING) {
		;
	} else if (rv != 0) {
		failed(c, rv);
	} else if (progress(c)) {
		if (c->state == CONN_HANDSHAKE) {
			handshake_done(c);
		} else if (c->state == CONN_HEADER) {
			header_done(c);
		} else {
			body = c->body;
			c->body = NULL;
		}
	}
	if (body != NULL) {
		/* The check is the costly part: without the lock, with our reference held. */
		pthread_mutex_unlock(&r->lock);
		inbox_deliver(r, c, body, c->body_bytes);
		pthread_mutex_lock(&r->lock);
		if (c->state == CONN_BODY)
			expect_header(c);
	}
	gone = c->state == CONN_CLOSING;
	unref(c);
	pthread_mutex_unlock(&r->lock);
	if (gone || body != NULL)
		r->wake(r->wake_ctx);
}

/* The line is free: the next reply, if there is one. */
static void
next_reply(struct conn *c)
{
	uint8_t *p = c->out;

	if (c->reply_count == 0)
		return;
	memset(p, 0, SP_HEADER_BYTES);
	p[0] = 1;
	p[SP_HEADER_BYTES - 1] = STORED_BYTES;
	wire_stored_put(p + SP_HEADER_BYTES, &c->replies[c->reply_first]);
	c->reply_first = (c->reply_first + 1) % CONN_REPLIES;
	c->reply_count--;
	c->out_at = 0;
	c->out_bytes = CONN_REPLY_BYTES;
	c->r->stats.stored_replies++;
	transmit(c);
}

static void
on_sent(void *arg)
{
	struct conn *c = arg;
	struct receiver *r = c->r;
	int rv = nng_aio_result(c->tx);

	pthread_mutex_lock(&r->lock);
	if (c->state != CONN_CLOSING && rv != 0) {
		conn_close(c);
	} else if (c->state != CONN_CLOSING) {
		c->out_at += nng_aio_count(c->tx);
		if (c->out_at < c->out_bytes) {
			transmit(c);
		} else {
			c->out_bytes = 0;
			c->greeted = true;
			next_reply(c);
		}
	}
	unref(c);
	pthread_mutex_unlock(&r->lock);
}

void
conn_reply(struct conn *c, const struct wire_stored *s)
{
	if (c->reply_count > 0) {
		unsigned last = (c->reply_first + c->reply_count - 1) % CONN_REPLIES;
		struct wire_stored *before = &c->replies[last];

		/* `end` is cumulative: a later OK says all that an earlier one said. */
		if (before->status == STORED_OK && s->status == STORED_OK &&
		    memcmp(before->probe_id, s->probe_id, FRAME_PROBE_ID_BYTES) == 0) {
			*before = *s;
			return;
		}
	}
	if (c->reply_count == CONN_REPLIES) {
		conn_close(c); /* it does not read; on reconnect it hears where we are */
		return;
	}
	c->replies[(c->reply_first + c->reply_count++) % CONN_REPLIES] = *s;
	if (c->greeted && c->out_bytes == 0)
		next_reply(c);
}

void
conn_close(struct conn *c)
{
	if (c->state == CONN_FREE || c->state == CONN_CLOSING)
		return;
	c->state = CONN_CLOSING;
	c->refs++; /* a parked connection has none in flight */
	nng_stream_close(c->stream);
	unref(c);
}

void
conn_unpark(struct conn *c)
{
	if (!c->parked)
		return;
	if (c->state == CONN_HELD)
		expect_body(c);
	else if (c->state == CONN_HEADER && !c->r->paused && inbox_room(c->r, 1)) {
		c->parked = false;
		receive(c);
	}
}

void
conn_begin(struct conn *c, nng_stream *s)
{
	c->stream = s;
	c->state = CONN_HANDSHAKE;
	c->refs = 1; /* ours, until both operations are started */
	c->parked = c->greeted = c->said_hello = c->has_probe = false;
	c->reply_first = c->reply_count = 0;
	c->began_ns = clock_mono_ns();
	c->deadline_ns = c->began_ns + c->r->o.handshake_ms * NS_PER_MS;
	memcpy(c->out, greeting, sizeof greeting);
	c->out_at = 0;
	c->out_bytes = sizeof greeting;
	c->into = c->head;
	c->want = SP_HANDSHAKE_BYTES;
	transmit(c);
	receive(c);
	unref(c);
}

enum err
conn_init(struct conn *c, struct receiver *r, uint32_t slot)
{
	c->r = r;
	c->slot = slot;
	c->generation = 1;
	if (nng_aio_alloc(&c->rx, on_receive, c) != 0)
		return E_NOMEM;
	if (nng_aio_alloc(&c->tx, on_sent, c) != 0) {
		nng_aio_free(c->rx);
		c->rx = NULL;
		return E_NOMEM;
	}
	nng_aio_set_timeout(c->tx, NNG_DURATION_INFINITE);
	return E_OK;
}

void
conn_fini(struct conn *c)
{
	if (c->rx == NULL)
		return;
	nng_aio_stop(c->rx);
	nng_aio_stop(c->tx);
	nng_aio_free(c->rx);
	nng_aio_free(c->tx);
	c->rx = c->tx = NULL;
}
