/*
 * conn.h - what receiver.c and conn.c share: the receiver, its connections and
 * the inbox.  Nobody else includes it.
 *
 * One mutex guards everything that is not said to belong to a callback.  nng's
 * calls are made without it, except that nng_aio_begin-like starts never call
 * back on the same thread (1.5.2 dispatches every completion to its task
 * threads), so a start under the lock could not recurse either.
 *
 * A connection has at most one receive and one send in flight; each holds a
 * reference, and the last one gives the stream back.  Slots and their aios are
 * kept and used again, so that a flood of connections allocates nothing.
 */
#pragma once

#include <nng/nng.h>
#include <pthread.h>
#include <stdbool.h>

#include "agent/core/intake.h"

#define CONN_REPLIES     16u /* stored frames waiting for one peer */
#define CONN_REPLY_BYTES (SP_HEADER_BYTES + STORED_BYTES)

enum conn_state {
	CONN_FREE,
	CONN_HANDSHAKE,
	CONN_HEADER, /* waits for the 9 bytes before a body */
	CONN_HELD,   /* has a header, waits for room in the inbox */
	CONN_BODY,
	CONN_CLOSING, /* closed; its callbacks are still to come */
};

struct conn {
	struct receiver *r;
	nng_stream *stream;
	nng_aio *rx, *tx;
	uint32_t slot, generation;
	enum conn_state state;
	unsigned refs; /* operations in flight */
	bool parked;   /* not reading: the inbox is full or paused */
	bool greeted;  /* our half of the handshake is sent */
	bool said_hello;
	uint8_t probe_id[FRAME_PROBE_ID_BYTES]; /* of its last frame */
	bool has_probe;
	uint64_t began_ns;    /* accepted */
	uint64_t deadline_ns; /* of the handshake or of the frame under way, 0 none */

	uint8_t head[SP_HEADER_BYTES];
	uint8_t *into; /* where the receive in flight goes on */
	size_t want;
	uint8_t *body;
	size_t body_bytes;

	uint8_t out[CONN_REPLY_BYTES]; /* in flight, or the handshake */
	size_t out_at, out_bytes;
	struct wire_stored replies[CONN_REPLIES];
	unsigned reply_first, reply_count;
};

struct inbox_node {
	struct intake_item item;
	struct inbox_node *next;
};

struct receiver {
	struct receiver_options o;
	uint32_t *allow_uids;
	char path[256];
	receiver_wake_fn wake;
	void *wake_ctx;

	nng_stream_listener *listener;
	nng_aio *accept, *rest; /* rest: a pause after a failed accept, or after many */
	uint64_t burst_ns;      /* accepted since then; accept's callback only */
	unsigned burst;

	pthread_mutex_t lock;
	bool started, stopping, paused;
	struct conn *conns;
	struct inbox_node *first, *last;
	uint64_t held_bytes; /* in the inbox and in bodies under way */
	struct receiver_stats stats;
};

/* Make the two aios of a slot. */
MUST_CHECK enum err conn_init(struct conn *c, struct receiver *r, uint32_t slot);
void conn_fini(struct conn *c);
/* Begin with an accepted stream; the slot is free. Lock held. */
void conn_begin(struct conn *c, nng_stream *s);
/* Go on reading if it was parked and may again. Lock held. */
void conn_unpark(struct conn *c);
/* Queue a reply and send it when the line is free. Lock held. */
void conn_reply(struct conn *c, const struct wire_stored *s);
/* Close; its slot is free after its callbacks. Lock held. */
void conn_close(struct conn *c);

/* May `bytes` more be held? Always when nothing is held. Lock held. */
bool inbox_room(const struct receiver *r, size_t bytes);
/* Check a whole body and put it into the inbox or count it. Takes body. No lock held. */
void inbox_deliver(struct receiver *r, struct conn *c, uint8_t *body, size_t bytes);
/* Count a malformed frame. Lock held. */
void inbox_malformed(struct receiver *r, const char *what, size_t at);
