/*
 * far.h - the far end of one HTTP request, for tests: it reads the request, then
 * answers as its script says, however wrong that is.  A thread of its own from
 * far_start to far_stop.
 */
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the far end does after it has read a request. */
struct far_reply {
	const char *name;
	const char *head;   /* sent once */
	const char *repeat; /* then this, until the peer goes or `limit` bytes are out */
	size_t limit;
	unsigned pause_ms; /* between two of them */
	int kind;          /* what is to come of it, as the test has it */
	int status;        /* wanted; below 0: any failure of the transfer */
};

struct far {
	const struct far_reply *reply;
	int listener;
	char request[4096];
	size_t sent;
	pthread_t thread;
	uint16_t port;
	char url[160];
};

/* The head and all of the body; the first bytes stay in f->request. */
static inline void
read_request(struct far *f, int fd)
{
	size_t n = 0, body;
	char *end = NULL, *length;

	while (end == NULL && n < sizeof f->request - 1) {
		ssize_t got = read(fd, f->request + n, sizeof f->request - 1 - n);

		if (got <= 0)
			return;
		n += (size_t)got;
		end = strstr(f->request, "\r\n\r\n");
	}
	length = strstr(f->request, "Content-Length: ");
	if (end == NULL || length == NULL)
		return;
	body = strtoul(length + 16, NULL, 10);
	for (n -= (size_t)(end + 4 - f->request); n < body;) {
		char sink[4096];
		ssize_t got = read(fd, sink, sizeof sink);

		if (got <= 0)
			return;
		n += (size_t)got;
	}
}

static inline void
answer(struct far *f, int fd)
{
	const struct far_reply *r = f->reply;

	f->sent = strlen(r->head);
	if (send(fd, r->head, f->sent, MSG_NOSIGNAL) < 0)
		return;
	while (r->repeat != NULL && f->sent < r->limit) {
		ssize_t m = send(fd, r->repeat, strlen(r->repeat), MSG_NOSIGNAL);

		if (m <= 0)
			return;
		f->sent += (size_t)m;
		if (r->pause_ms > 0)
			usleep(r->pause_ms * 1000);
	}
}

static inline void *
serve(void *arg)
{
	struct far *f = arg;
	struct pollfd p = { .fd = f->listener, .events = POLLIN };
	int fd;

	if (poll(&p, 1, 5000) != 1 || (fd = accept(f->listener, NULL, NULL)) < 0)
		return NULL;
	read_request(f, fd);
	answer(f, fd);
	close(fd);
	return NULL;
}

static inline void
listen_on(struct far *f, const void *address, socklen_t n, int family)
{
	f->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)setsockopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (f->listener < 0 || bind(f->listener, address, n) != 0 || listen(f->listener, 4) != 0 ||
	    pthread_create(&f->thread, NULL, serve, f) != 0) {
		perror("the far end");
		exit(2);
	}
}

/* On a port of its own choice when `port` is 0. */
static inline void
far_start_at(struct far *f, const struct far_reply *reply, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;

	memset(f, 0, sizeof *f);
	f->reply = reply;
	listen_on(f, &a, sizeof a, AF_INET);
	if (getsockname(f->listener, (struct sockaddr *)&a, &n) != 0)
		exit(2);
	f->port = ntohs(a.sin_port);
	snprintf(f->url, sizeof f->url, "http://127.0.0.1:%u", f->port);
}

static inline void
far_start(struct far *f, const struct far_reply *reply)
{
	far_start_at(f, reply, 0);
}

/* When the one request has been answered. */
static inline void
far_stop(struct far *f)
{
	pthread_join(f->thread, NULL);
	close(f->listener);
}

/* Whether anybody has come or not. */
static inline void
far_close(struct far *f)
{
	shutdown(f->listener, SHUT_RDWR);
	far_stop(f);
}
