/*
 * collector.h - a collector that a script plays, byte for byte, and the probe of
 * this process against it.  For the tests of the sender; one at a time.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/core/ident.h"
#include "probe/core/probe.h"
#include "schema/tables.h"
#include "tests/t.h"

#define PATIENCE_MS 5000

static char dir[] = "/tmp/cm-send-XXXXXX", path[64];
static int listener = -1, peer = -1;
static uint8_t body[FRAME_MAX_BYTES];
static size_t body_bytes;
static struct wire_hello hello;
static struct wire_batch batch;
static const uint8_t pull[SP_HANDSHAKE_BYTES] = { 0, 'S', 'P', 0, 0, SP_PROTO_PULL, 0, 0 };

static inline void
pause_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static inline void
server_open(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 8) != 0)
		abort();
}

static inline void
server_close(void)
{
	if (listener >= 0)
		close(listener);
	listener = -1;
	unlink(path);
}

static inline void
hang_up(void)
{
	if (peer >= 0)
		close(peer);
	peer = -1;
}

static inline bool
readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return poll(&p, 1, ms) == 1;
}

static inline bool
accept_one(void)
{
	hang_up();
	if (!readable(listener, PATIENCE_MS + 5000))
		return false;
	peer = accept(listener, NULL, NULL);
	return peer >= 0;
}

static inline bool
read_exactly(void *p, size_t n)
{
	for (size_t got = 0; got < n;) {
		ssize_t one;

		if (!readable(peer, PATIENCE_MS))
			return false;
		one = read(peer, (uint8_t *)p + got, n - got);
		if (one <= 0)
			return false;
		got += (size_t)one;
	}
	return true;
}

/* The probe has closed the connection (after what it still had to say). */
static inline bool
hung_up_by_probe(void)
{
	char junk[4096];
	ssize_t n;

	do {
		if (!readable(peer, PATIENCE_MS))
			return false;
		n = read(peer, junk, sizeof junk);
	} while (n > 0);
	return n == 0 || errno == ECONNRESET;
}

static inline bool
read_frame(void)
{
	uint8_t head[SP_HEADER_BYTES];
	uint64_t n = 0;

	if (!read_exactly(head, sizeof head) || head[0] != 1)
		return false;
	for (int i = 1; i < 9; i++)
		n = n << 8 | head[i];
	if (n > sizeof body)
		return false;
	body_bytes = n;
	return read_exactly(body, n);
}

static inline bool
say(const void *p, size_t n)
{
	return send(peer, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static inline bool
reply(uint16_t status, uint64_t end)
{
	uint8_t frame[SP_HEADER_BYTES + STORED_BYTES] = { 1, 0, 0, 0, 0, 0, 0, 0, STORED_BYTES };
	struct wire_stored s = { .end = end, .status = status };

	memcpy(s.probe_id, hello.probe_id, sizeof s.probe_id);
	wire_stored_put(frame + SP_HEADER_BYTES, &s);
	return say(frame, sizeof frame);
}

static inline bool
read_hello(void)
{
	static uint8_t kept[FRAME_MAX_BYTES];
	uint8_t shake[SP_HANDSHAKE_BYTES];
	struct wire_error err;

	if (!read_exactly(shake, sizeof shake) || shake[5] != SP_PROTO_PUSH ||
	    !say(pull, sizeof pull) || !read_frame())
		return false;
	memcpy(kept, body, body_bytes);
	return wire_hello_get(kept, body_bytes, &hello, &err) == 0;
}

static inline bool
read_batch(void)
{
	struct wire_error err;

	if (!read_frame())
		return false;
	if (wire_batch_check(body, body_bytes, &batch, &err) != 0) {
		fprintf(stderr, "batch: %s at %zu\n", err.what, err.at);
		return false;
	}
	return memcmp(batch.probe_id, hello.probe_id, sizeof batch.probe_id) == 0;
}

static inline bool
greet(uint64_t stored)
{
	return accept_one() && read_hello() && reply(STORED_OK, stored);
}

static inline bool
start(uint64_t ring_bytes)
{
	uint8_t bytes[64];
	struct wire_attrs a = { .buf = bytes, .cap = sizeof bytes };
	char reason[256] = "";

	wire_attr_put(&a, "service", "s");
	struct comfymon_options o = { .run_dir = dir,
		.ring_bytes = ring_bytes,
		.attrs = bytes,
		.attrs_bytes = a.used,
		.sender = true };
	if (comfymon_start(&o, reason, sizeof reason) == 0)
		return true;
	fprintf(stderr, "%s\n", reason);
	return false;
}

static inline void
remove_rings(void)
{
	DIR *d = opendir(dir);

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (strncmp(e->d_name, RUN_RING_PREFIX, 5) == 0)
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static inline void
stop(void)
{
	comfymon_stop(0);
	hang_up();
	server_close();
	remove_rings();
}

static inline bool
span(uint64_t id)
{
	struct wire_span s = { .trace_lo = 7, .span_id = id, .name = comfymon_intern("name", 4) };

	return comfymon_span_finish(&s, COMFYMON_NO_SLOT);
}

static inline uint64_t
acknowledged(void)
{
	struct comfymon_stats f;

	comfymon_stats(&f);
	return f.acknowledged;
}

static inline bool
becomes_acknowledged(uint64_t end)
{
	for (int i = 0; i < 500 && acknowledged() != end; i++)
		pause_ms(10);
	return acknowledged() == end;
}
