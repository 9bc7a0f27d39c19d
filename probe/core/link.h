/*
 * link.h - the probe's end of the collector's socket: connect, check the peer,
 * SP handshake, frames both ways.  The sender's thread only.  Never waits:
 * every call does what can be done now.  What the peer says is bounded before
 * it is believed.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/core/own.h"
#include "schema/wire.h"

#define LINK_IN_MAX_BYTES 4096u /* longest frame that a collector has reason to send */

struct link {
	struct own_fd fd; /* a forked child reads it too */
	bool shaken;      /* the peer's handshake has come */
	const uint8_t *out;
	size_t out_bytes, out_at;
	uint8_t in[SP_HEADER_BYTES + LINK_IN_MAX_BYTES];
	size_t in_bytes;
	uint8_t head[SP_HANDSHAKE_BYTES + SP_HEADER_BYTES];
	size_t head_bytes, head_at;
};

/* Connect to the collector in run_dir; 0, or -1 when nobody (or a stranger) listens. */
int link_open(struct link *l, const char *run_dir);
void link_close(struct link *l);

/* Begin to send one frame; the bytes stay the caller's until link_idle. */
void link_send(struct link *l, const uint8_t *body, size_t bytes);
bool link_idle(const struct link *l); /* nothing left to write */

/* Write what goes out now. -1: the line is broken. */
int link_flush(struct link *l);
/* Read what is there. 1 something came, 0 nothing, -1 the line is broken or the peer is not ours.
 */
int link_fill(struct link *l);
/*
 * The next whole frame: 1 with *body valid until link_drop, 0 none yet, -1
 * the peer breaks the protocol.
 */
int link_next(struct link *l, const uint8_t **body, size_t *bytes);
void link_drop(struct link *l, size_t bytes);
