/*
 * sink.c - see sink.h.
 */
#include "tests/bench/sink.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX    8192u
#define BODY_MAX    (32u << 20)
#define CONNECTIONS 16

static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
			    "Content-Length: 37\r\n\r\n{\"rate_by_service\":{\"service:,env:\":1}}";

static char url[64];
static uint16_t port;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int listener = -1, open_fds[CONNECTIONS];
static bool away;
static atomic_uint_fast64_t requests, bytes, traces, spans, connections, malformed;

static _Noreturn void
fail(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- msgpack: far enough to count spans ---------------------------------- */

struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static uint64_t
big(struct reader *r, unsigned n)
{
	uint64_t v = 0;

	if ((size_t)(r->end - r->p) < n) {
		r->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < n; i++)
		v = v << 8 | *r->p++;
	return v;
}

static void
pass(struct reader *r, uint64_t n)
{
	if ((uint64_t)(r->end - r->p) < n)
		r->bad = true;
	else
		r->p += n;
}

/* One head; what follows it is passed over. Returns how many values it contains. */
static uint64_t
head(struct reader *r)
{
	uint8_t b = (uint8_t)big(r, 1);

	if (b < 0x80 || b >= 0xe0)
		return 0;
	if (b < 0x90)
		return 2 * (uint64_t)(b & 15);
	if (b < 0xa0)
		return b & 15;
	if (b < 0xc0) {
		pass(r, b & 31);
		return 0;
	}
	switch (b) {
	case 0xc0:
	case 0xc2:
	case 0xc3:
		return 0;
	case 0xc4:
	case 0xd9:
		pass(r, big(r, 1));
		return 0;
	case 0xc5:
	case 0xda:
		pass(r, big(r, 2));
		return 0;
	case 0xc6:
	case 0xdb:
		pass(r, big(r, 4));
		return 0;
	case 0xcc:
	case 0xd0:
		pass(r, 1);
		return 0;
	case 0xcd:
	case 0xd1:
		pass(r, 2);
		return 0;
	case 0xca:
	case 0xce:
	case 0xd2:
		pass(r, 4);
		return 0;
	case 0xcb:
	case 0xcf:
	case 0xd3:
		pass(r, 8);
		return 0;
	case 0xdc:
		return big(r, 2);
	case 0xdd:
		return big(r, 4);
	case 0xde:
		return 2 * big(r, 2);
	case 0xdf:
		return 2 * big(r, 4);
	default:
		r->bad = true;
		return 0;
	}
}

static void
skip(struct reader *r)
{
	for (uint64_t left = 1; left > 0 && !r->bad; left--)
		left += head(r);
}

static void
count_body(const uint8_t *body, size_t n)
{
	struct reader r = { body, body + n, false };
	uint64_t t = head(&r), all = 0;

	for (uint64_t i = 0; i < t && !r.bad; i++) {
		uint64_t s = head(&r);

		for (uint64_t k = 0; k < s && !r.bad; k++)
			skip(&r);
		all += s;
	}
	if (r.bad || r.p != r.end) {
		malformed++;
		return;
	}
	traces += t;
	spans += all;
}

/* ---- HTTP ----------------------------------------------------------------- */

struct connection {
	int fd, slot;
	uint8_t *buf;
	size_t used;
};

static bool
more(struct connection *c, size_t upto)
{
	ssize_t n = read(c->fd, c->buf + c->used, upto - c->used);

	if (n <= 0)
		return false;
	c->used += (size_t)n;
	return true;
}

/* One request; false when the connection has ended. */
static bool
serve(struct connection *c)
{
	size_t head_bytes, body_bytes, keep;
	char *end, *field;

	c->buf[c->used] = 0;
	while ((end = strstr((char *)c->buf, "\r\n\r\n")) == NULL) {
		if (c->used >= HEAD_MAX || !more(c, HEAD_MAX))
			return false;
		c->buf[c->used] = 0;
	}
	*end = 0;
	head_bytes = (size_t)((uint8_t *)end - c->buf) + 4;
	field = strcasestr((char *)c->buf, "\r\nContent-Length:");
	body_bytes = field != NULL ? strtoul(field + 17, NULL, 10) : 0;
	if (body_bytes > BODY_MAX)
		return false;
	while (c->used < head_bytes + body_bytes)
		if (!more(c, head_bytes + body_bytes))
			return false;
	/* The agent's observer asks with GET whether this process, the probe's, is ComfyUI. */
	if (strncmp((char *)c->buf, "GET ", 4) != 0) {
		requests++;
		bytes += body_bytes;
		count_body(c->buf + head_bytes, body_bytes);
	}
	if (send(c->fd, reply, sizeof reply - 1, MSG_NOSIGNAL) != (ssize_t)sizeof reply - 1)
		return false;
	keep = c->used - head_bytes - body_bytes;
	memmove(c->buf, c->buf + head_bytes + body_bytes, keep);
	c->used = keep;
	return true;
}

static void *
connection_run(void *arg)
{
	struct connection *c = arg;

	while (serve(c))
		;
	pthread_mutex_lock(&lock);
	open_fds[c->slot] = -1;
	close(c->fd);
	pthread_mutex_unlock(&lock);
	free(c->buf);
	free(c);
	return NULL;
}

static void
admit(int fd)
{
	struct connection *c = calloc(1, sizeof *c);
	pthread_t t;

	c->fd = fd;
	c->buf = malloc(BODY_MAX + HEAD_MAX + 1);
	if (c->buf == NULL)
		fail("sink: memory");
	while (c->slot < CONNECTIONS && open_fds[c->slot] >= 0)
		c->slot++;
	if (c->slot == CONNECTIONS)
		fail("sink: too many connections");
	open_fds[c->slot] = fd;
	connections++;
	if (pthread_create(&t, NULL, connection_run, c) != 0)
		fail("sink: thread");
	pthread_detach(t);
}

static void *
accept_run(void *arg)
{
	for (;;) {
		int fd = accept(*(int *)arg, NULL, NULL);

		if (fd < 0)
			return NULL;
		pthread_mutex_lock(&lock);
		if (away)
			close(fd);
		else
			admit(fd);
		pthread_mutex_unlock(&lock);
	}
}

static void
listen_here(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	static int accepting;
	socklen_t n = sizeof a;
	pthread_t t;
	int one = 1;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 16) != 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &n) != 0)
		fail("sink: listen");
	port = ntohs(a.sin_port);
	accepting = listener;
	if (pthread_create(&t, NULL, accept_run, &accepting) != 0)
		fail("sink: thread");
	pthread_detach(t);
}

void
sink_start(void)
{
	for (int i = 0; i < CONNECTIONS; i++)
		open_fds[i] = -1;
	listen_here();
	snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
}

const char *
sink_url(void)
{
	return url;
}

void
sink_close(void)
{
	pthread_mutex_lock(&lock);
	away = true;
	shutdown(listener, SHUT_RDWR); /* ends accept_run */
	close(listener);
	for (int i = 0; i < CONNECTIONS; i++)
		if (open_fds[i] >= 0)
			shutdown(open_fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&lock);
}

void
sink_open(void)
{
	pthread_mutex_lock(&lock);
	away = false;
	pthread_mutex_unlock(&lock);
	listen_here();
}

void
sink_count(struct sink_counts *out)
{
	*out = (struct sink_counts){ requests, bytes, traces, spans, connections, malformed };
}
