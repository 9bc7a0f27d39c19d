/*
 * peer.h - a probe made by hand for tests: a socket, the SP handshake, frames.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "schema/tables.h"
#include "schema/wire.h"

static inline int
peer_connect(const char *dir)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", dir, RUN_SOCKET_NAME);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Exactly n bytes within ms; false on end or time. */
static inline bool
peer_read(int fd, void *p, size_t n, int ms)
{
	for (size_t got = 0; got < n;) {
		struct pollfd pf = { .fd = fd, .events = POLLIN };

		if (poll(&pf, 1, ms) <= 0)
			return false;

		ssize_t m = read(fd, (char *)p + got, n - got);

		if (m <= 0)
			return false;
		got += (size_t)m;
	}
	return true;
}

static inline bool
peer_send(int fd, const void *p, size_t n)
{
	return send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static inline bool
peer_handshake(int fd)
{
	static const uint8_t ours[8] = { 0, 'S', 'P', 0, 0, SP_PROTO_PUSH, 0, 0 };
	uint8_t theirs[8];

	return peer_send(fd, ours, 8) && peer_read(fd, theirs, 8, 5000) && theirs[1] == 'S' &&
	       theirs[5] == SP_PROTO_PULL;
}

static inline void
peer_head(uint8_t head[9], uint64_t n)
{
	head[0] = 1;
	for (int i = 0; i < 8; i++)
		head[1 + i] = (uint8_t)(n >> (56 - 8 * i));
}

static inline bool
peer_frame(int fd, const void *body, size_t n)
{
	uint8_t head[9];

	peer_head(head, n);
	return peer_send(fd, head, 9) && peer_send(fd, body, n);
}

static inline bool
peer_stored(int fd, struct wire_stored *out, int ms)
{
	uint8_t p[SP_HEADER_BYTES + STORED_BYTES];
	struct wire_error err;

	return peer_read(fd, p, sizeof p, ms) &&
	       wire_stored_get(p + SP_HEADER_BYTES, STORED_BYTES, out, &err) == 0;
}

static inline void
peer_id(uint8_t id[16], uint8_t n)
{
	memset(id, n, 16);
}

static inline size_t
peer_hello(uint8_t *p, size_t cap, uint8_t n)
{
	struct wire_hello h = { .pid = (uint64_t)getpid() };

	peer_id(h.probe_id, n);
	return wire_hello_put(p, cap, &h);
}

/* A batch of `spans` spans of one trace from `first` on; *end is where it ends. */
static inline size_t
peer_batch(uint8_t *p, uint8_t n, uint64_t first, unsigned spans, uint64_t *end)
{
	struct wire_batch b = { .first = first, .mono_ns = 1000, .real_ns = 2000 };
	uint8_t *at = p + BATCH_FIXED_BYTES;

	peer_id(b.probe_id, n);
	for (unsigned i = 0; i < spans; i++) {
		struct wire_span s = { .trace_lo = first + 1,
			.span_id = first + i + 1,
			.parent_id = i == 0 ? 0 : first + 1,
			.start_ns = 100 + i,
			.duration_ns = 10,
			.name = 1,
			.flags = i == 0 ? WIRE_SPAN_LOCAL_ROOT : 0,
			.priority = WIRE_PRIORITY_NONE,
			.mechanism = WIRE_PRIORITY_NONE };
		uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES;

		wire_span_put(at + RECORD_HEADER_BYTES, &s);
		wire_record_seal(
		    at, first + (uint64_t)i * length, length, EVENT_SPAN, RECORD_PUBLISHED);
		at += length;
	}
	b.records_bytes = (uint32_t)(at - p - BATCH_FIXED_BYTES);
	b.end = first + b.records_bytes;
	b.record_count = b.span_count = spans;
	b.dict_bytes = (uint32_t)wire_dict_put(at, 1, "a.name", 6);
	wire_batch_seal(p, &b);
	*end = b.end;
	return BATCH_FIXED_BYTES + (size_t)b.records_bytes + b.dict_bytes;
}
