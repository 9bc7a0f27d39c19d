/*
 * bench_handoff.c - from ring to a sink that only answers "stored": what the
 * sender can hand over, and how many bytes a span takes in a batch.  Baseline
 * in the same run: the same bytes through a Unix socket, with nothing made of
 * them.
 *
 *   bench_handoff [--json FILE]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "probe/core/probe.h"

#define SPANS 400000u
#define TAGS  10u

static char dir[] = "/dev/shm/cm-bench-XXXXXX";
static int listener;
static uint64_t spans, bytes, began, ended;

static bool
read_exactly(int fd, uint8_t *p, size_t n)
{
	for (ssize_t one; n > 0; p += one, n -= (size_t)one)
		if ((one = read(fd, p, n)) <= 0)
			return false;
	return true;
}

static size_t
read_frame(int fd, uint8_t *body)
{
	uint8_t head[SP_HEADER_BYTES];
	uint64_t n = 0;

	if (!read_exactly(fd, head, sizeof head))
		return 0;
	for (int i = 1; i < 9; i++)
		n = n << 8 | head[i];
	return n <= FRAME_MAX_BYTES && read_exactly(fd, body, n) ? n : 0;
}

static void
answer(int fd, const uint8_t *probe_id, uint64_t end)
{
	uint8_t frame[SP_HEADER_BYTES + STORED_BYTES] = { 1, 0, 0, 0, 0, 0, 0, 0, STORED_BYTES };
	struct wire_stored s = { .end = end, .status = STORED_OK };

	memcpy(s.probe_id, probe_id, sizeof s.probe_id);
	wire_stored_put(frame + SP_HEADER_BYTES, &s);
	if (write(fd, frame, sizeof frame) != (ssize_t)sizeof frame)
		exit(1);
}

static void *
sink(void *arg)
{
	static const uint8_t pull[SP_HANDSHAKE_BYTES] = { 0, 'S', 'P', 0, 0, SP_PROTO_PULL, 0, 0 };
	static uint8_t body[FRAME_MAX_BYTES];
	int fd = accept(listener, NULL, NULL);
	size_t n;

	(void)arg;
	if (!read_exactly(fd, body, SP_HANDSHAKE_BYTES) || write(fd, pull, sizeof pull) < 0 ||
	    read_frame(fd, body) == 0)
		exit(1);
	answer(fd, body + 8, 0);
	while (spans < SPANS && (n = read_frame(fd, body)) > 0) {
		struct wire_batch b;
		struct wire_error err;

		if (wire_batch_peek(body, n, &b, &err) != 0)
			exit(1);
		spans += b.span_count;
		bytes += n;
		answer(fd, b.probe_id, b.end);
	}
	ended = comfymon_now_ns();
	/* Open until the probe has gone, so that it has no reason to reconnect. */
	while (read(fd, body, sizeof body) > 0)
		;
	close(fd);
	return NULL;
}

static void
make_spans(void)
{
	uint32_t key[TAGS], value[TAGS], name = comfymon_intern("bench.span", 10);
	struct comfymon_stats f;
	char text[48];

	for (unsigned k = 0; k < TAGS; k++) {
		key[k] = comfymon_intern(text, (size_t)sprintf(text, "bench.key%u", k));
		value[k] = comfymon_intern(text, (size_t)sprintf(text, "bench value %u", k));
	}
	began = comfymon_now_ns();
	for (unsigned i = 0; i < SPANS; i++) {
		uint8_t buf[256];
		struct wire_tags t = { .buf = buf, .cap = sizeof buf };
		struct wire_span s = { .trace_lo = i / 21 + 1, .span_id = i + 1, .name = name };

		for (unsigned k = 0; k < TAGS; k++)
			wire_tag_str(&t, key[k], value[k]);
		s.tags = buf;
		s.tag_bytes = t.used;
		s.tag_count = t.count;
		/* A writer never waits, but this one has all the time: look before each 1000. */
		while (i % 1000 == 0 &&
		       (comfymon_stats(&f), f.head - f.acknowledged > f.area_bytes / 2))
			usleep(50);
		if (!comfymon_span_finish(&s, COMFYMON_NO_SLOT)) {
			fprintf(stderr, "bench_handoff: the ring was full\n");
			exit(1);
		}
	}
}

static void *
swallow(void *arg)
{
	static uint8_t buf[256 * 1024];
	int fd = *(int *)arg;

	while (read(fd, buf, sizeof buf) > 0)
		;
	return NULL;
}

/* Seconds for the same bytes through a socket pair, in pieces of a batch. */
static double
bare_socket(void)
{
	static uint8_t piece[256 * 1024];
	uint64_t start = comfymon_now_ns();
	pthread_t t;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		exit(1);
	pthread_create(&t, NULL, swallow, &pair[1]);
	for (uint64_t left = bytes; left > 0;) {
		ssize_t n = write(pair[0], piece, left < sizeof piece ? left : sizeof piece);

		if (n <= 0)
			exit(1);
		left -= (uint64_t)n;
	}
	close(pair[0]);
	pthread_join(t, NULL);
	close(pair[1]);
	return (double)(comfymon_now_ns() - start) / 1e9;
}

int
main(int argc, char **argv)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct comfymon_options o = { .run_dir = dir, .sender = true };
	FILE *json = argc == 3 && strcmp(argv[1], "--json") == 0 ? fopen(argv[2], "a") : NULL;
	char reason[256] = "";
	pthread_t t;

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(a.sun_path, sizeof a.sun_path, "%s/" RUN_SOCKET_NAME, dir);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 4) != 0)
		return 1;
	pthread_create(&t, NULL, sink, NULL);
	if (comfymon_start(&o, reason, sizeof reason) != 0) {
		fprintf(stderr, "bench_handoff: %s\n", reason);
		return 1;
	}
	make_spans();
	comfymon_stop(10000);
	pthread_join(t, NULL);

	double seconds = (double)(ended - began) / 1e9, bare = bare_socket();
	double rate = SPANS / seconds, each = (double)bytes / SPANS;

	printf("hand-off, %u tags: %8.0f spans/s, %.0f bytes a span in a batch, "
	       "%.0f MB/s (bare socket %.0f MB/s)\n",
	    TAGS, rate, each, (double)bytes / seconds / 1e6, (double)bytes / bare / 1e6);
	if (json != NULL) {
		fprintf(json,
		    "{\"name\":\"handoff_ack_only\",\"value\":%.0f,\"unit\":\"spans/s\","
		    "\"baseline\":\"bare socket\",\"baseline_value\":%.0f,\"ratio\":%.3f,"
		    "\"goal\":1000000,\"met\":%s}\n"
		    "{\"name\":\"batch_bytes_per_span_10_tags\",\"value\":%.1f,\"unit\":\"B\","
		    "\"goal\":200,\"met\":%s}\n",
		    rate, SPANS / bare, bare / seconds, rate >= 1e6 ? "true" : "false", each,
		    each <= 200 ? "true" : "false");
		fclose(json);
	}
	unlink(a.sun_path);
	snprintf(reason, sizeof reason, "exec rm -f %s/" RUN_RING_PREFIX "*", dir);
	if (system(reason) != 0)
		return 1;
	rmdir(dir);
	return 0;
}
