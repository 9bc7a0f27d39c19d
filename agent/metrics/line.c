/*
 * line.c - see line.h.
 */
#include "agent/metrics/line.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum metrics_drop
drop_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
	case ENOTCONN:
		return METRICS_REFUSED;
	case ENOENT:
		return METRICS_ABSENT;
	case EAGAIN:
	case ENOBUFS:
		return METRICS_FULL;
	case EMSGSIZE:
		return METRICS_TOO_LARGE;
	default:
		return METRICS_FAILED;
	}
}

static bool
fail(struct line *l, int error, enum metrics_drop *why)
{
	*why = drop_of(error);
	snprintf(l->error, sizeof l->error, "%.150s", strerror(error));
	return false;
}

/* An address that is written as one needs no resolver. */
static void
numeric(struct line *l, in_port_t port)
{
	union line_address *a = &l->addresses[0];

	if (inet_pton(AF_INET, l->host, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = port;
	} else if (inet_pton(AF_INET6, l->host, &a->v6.sin6_addr) == 1) {
		a->v6.sin6_family = AF_INET6;
		a->v6.sin6_port = port;
	} else {
		return;
	}
	l->fixed = true;
	l->address_count = 1;
}

/* "host:port" or "[v6]:port", to the end. */
static bool
split(const char *s, struct line *l)
{
	bool bracket = s[0] == '[';
	const char *from = s + bracket, *end = strchr(from, bracket ? ']' : ':');
	const char *port = end == NULL ? NULL : end + bracket;
	unsigned long number = 0;

	if (end == NULL || end == from || (size_t)(end - from) >= sizeof l->host || *port != ':')
		return false;
	for (const char *p = ++port; *p != '\0'; p++) {
		if (*p < '0' || *p > '9' || p - port > 4)
			return false;
		number = number * 10 + (unsigned long)(*p - '0');
	}
	if (number < 1 || number > 65535)
		return false;
	memcpy(l->host, from, (size_t)(end - from));
	l->host[end - from] = '\0';
	snprintf(l->port, sizeof l->port, "%lu", number);
	numeric(l, htons((uint16_t)number));
	return true;
}

enum err
line_parse(const char *url, struct line *l)
{
	const char *path = strncmp(url, "unix:///", 8) == 0        ? url + 7
			   : strncmp(url, "unixgram:///", 12) == 0 ? url + 11
								   : NULL;

	memset(l, 0, sizeof *l);
	l->fd = -1;
	if (path == NULL)
		return strncmp(url, "udp://", 6) == 0 && split(url + 6, l) ? E_OK : E_INVAL;
	if (strlen(path) >= sizeof l->addresses[0].path.sun_path)
		return E_INVAL;
	l->is_unix = l->fixed = true;
	l->addresses[0].path.sun_family = AF_UNIX;
	strcpy(l->addresses[0].path.sun_path, path);
	l->address_count = 1;
	return E_OK;
}

bool
line_needs_resolver(const struct line *l)
{
	return !l->fixed && (l->address_count == 0 || l->stale);
}

void
line_resolve(struct line *l)
{
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV },
			*list = NULL;
	int e = getaddrinfo(l->host, l->port, &hints, &list);

	if (e != 0) {
		snprintf(l->error, sizeof l->error, "%.100s: %.50s", l->host,
		    e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e));
		return;
	}
	l->address_count = l->turn = 0;
	l->stale = false;
	for (const struct addrinfo *a = list; a != NULL && l->address_count < LINE_ADDRESSES;
	     a = a->ai_next)
		if (a->ai_addrlen <= sizeof l->addresses[0])
			memcpy(&l->addresses[l->address_count++], a->ai_addr, a->ai_addrlen);
	freeaddrinfo(list);
}

static socklen_t
address_bytes(const union line_address *a)
{
	return a->any.sa_family == AF_UNIX    ? sizeof a->path
	       : a->any.sa_family == AF_INET6 ? sizeof a->v6
					      : sizeof a->v4;
}

/*
 * Where nobody listens the kernel may have given us that very port: we would be
 * told our own numbers, and keep the place of whoever is to listen there.
 */
static bool
is_ourselves(const struct line *l, const union line_address *a)
{
	union line_address own;
	socklen_t n = sizeof own;

	if (l->is_unix || getsockname(l->fd, &own.any, &n) != 0)
		return false;
	return a->any.sa_family == AF_INET
		   ? own.v4.sin_port == a->v4.sin_port &&
			 own.v4.sin_addr.s_addr == a->v4.sin_addr.s_addr
		   : own.v6.sin6_port == a->v6.sin6_port &&
			 IN6_ARE_ADDR_EQUAL(&own.v6.sin6_addr, &a->v6.sin6_addr);
}

bool
line_open(struct line *l, enum metrics_drop *why)
{
	const union line_address *a;

	if (l->fd >= 0)
		return true;
	if (l->address_count == 0) {
		*why = METRICS_UNRESOLVED;
		return false;
	}
	a = &l->addresses[l->turn % l->address_count];
	l->fd = socket(a->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return fail(l, errno, why);
	if (connect(l->fd, &a->any, address_bytes(a)) != 0) {
		(void)fail(l, errno, why);
	} else if (is_ourselves(l, a)) {
		(void)fail(l, ECONNREFUSED, why);
	} else {
		return true;
	}
	line_close(l);
	return false;
}

bool
line_failed_since(struct line *l, enum metrics_drop *why)
{
	int error = 0;
	socklen_t n = sizeof error;

	if (l->fd < 0 || getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0 || error == 0)
		return false;
	(void)fail(l, error, why);
	return true;
}

bool
line_send(struct line *l, const char *datagram, size_t n, enum metrics_drop *why)
{
	if (send(l->fd, datagram, n, MSG_NOSIGNAL) < 0)
		return fail(l, errno, why);
	/* Nobody listens: on this host the answer is there already. */
	return !line_failed_since(l, why);
}

void
line_close(struct line *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

void
line_renew(struct line *l)
{
	line_close(l);
	if (!l->fixed && ++l->turn >= l->address_count) {
		l->turn = 0;
		l->stale = true; /* it may have moved */
	}
}
