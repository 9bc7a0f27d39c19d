/*
 * intake.h - the contract between receiver (or salvage) and pipeline: a bounded
 * inbox of frames that were checked, and replies that go back.
 */
#pragma once

#include "agent/core/store.h"

enum intake_kind {
	INTAKE_HELLO,
	INTAKE_BATCH,
	/* A batch whose header and crc are right (wire_batch_peek) and whose content is not: the
	 * pipeline moves the probe's end past it, counts its spans and answers STORED_MALFORMED. */
	INTAKE_MALFORMED,
};

struct intake_item {
	enum intake_kind kind;
	uint64_t connection; /* handle for the reply, 0 none */
	bool said_hello;     /* strict sequence */
	uint8_t *body; /* the frame's body, heap, checked (wire_hello_get / wire_batch_check) */
	size_t body_bytes;
};

struct receiver;

struct receiver_options {
	const char *run_dir;        /* socket path is run_dir/RUN_SOCKET_NAME */
	const uint32_t *allow_uids; /* besides our own and root */
	size_t allow_uid_count;
	uint64_t handshake_ms; /* deadline of a half-open peer, 10 s */
	uint32_t max_connections;
	uint64_t
	    inbox_bytes; /* cap of the inbox; a connection waits (is not read) while it is full */
};

struct receiver_stats {
	uint64_t connections, connections_now, probes_left, refused_uid, handshakes_failed, frames,
	    bytes, malformed_frames, too_large_frames, hellos, batches, stored_replies, waits_full;
	char last_malformed[120]; /* what and where */
};

typedef void (*receiver_wake_fn)(void *ctx); /* any thread; only wakes the pipeline */

enum err receiver_new(
    const struct receiver_options *o, receiver_wake_fn wake, void *ctx, struct receiver **out);
enum err receiver_start(struct receiver *r); /* E_BUSY: somebody listens there */
/* The socket's name is gone: a new one. Connections stay as they are. Who started it calls. */
MUST_CHECK enum err receiver_listen_again(struct receiver *r);
void receiver_stop(struct receiver *r); /* no more input; idempotent */
void receiver_free(struct receiver *r);

/* The next item, caller frees body; E_NOTFOUND when empty. Pipeline thread. */
MUST_CHECK enum err receiver_take(struct receiver *r, struct intake_item *out);
/* Send a stored frame on a connection (ignored when it has gone). Never blocks. */
void receiver_reply(struct receiver *r, uint64_t connection, const struct wire_stored *s);
/* Is any connection of this probe open? */
bool receiver_has_probe(struct receiver *r, const uint8_t probe_id[FRAME_PROBE_ID_BYTES]);
/* Stop reading (the store is full) / go on. */
void receiver_pause(struct receiver *r, bool paused);
void receiver_stats(struct receiver *r, struct receiver_stats *out);
