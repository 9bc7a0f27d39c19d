/*
 * reach.c - does anybody listen there?  A connection is opened and closed;
 * nothing is sent.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/cli/exam.h"

#define REACH_MS 2000

/* 0 or an errno. */
static int
try_connect(int family, const struct sockaddr *a, socklen_t n)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rv = 0;
	socklen_t size = sizeof rv;

	if (fd < 0)
		return errno;
	if (connect(fd, a, n) != 0) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };

		rv = errno;
		if (rv == EINPROGRESS) {
			rv = ETIMEDOUT;
			if (poll(&p, 1, REACH_MS) == 1)
				(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &rv, &size);
		}
	}
	close(fd);
	return rv;
}

static const char *
reach_unix(const char *path, char *why, size_t cap)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int e = ENAMETOOLONG;

	if (strlen(path) < sizeof a.sun_path) {
		strcpy(a.sun_path, path);
		e = try_connect(AF_UNIX, (struct sockaddr *)&a, sizeof a);
	}
	snprintf(why, cap, "%s", e == 0 ? "" : strerror(e));
	return why;
}

/* "host:port/..." or "[v6]:port"; no port means that of the scheme. */
static bool
split_host(const char *s, const char *default_port, char host[256], char port[8])
{
	size_t n = strcspn(s, "/");
	const char *close = s[0] == '[' ? memchr(s, ']', n) : NULL;
	const char *colon =
	    memchr(close != NULL ? close : s, ':', (size_t)(s + n - (close != NULL ? close : s)));
	const char *from = close != NULL ? s + 1 : s;
	const char *end = close != NULL ? close : colon != NULL ? colon : s + n;

	if (end == from || end - from > 255)
		return false;
	memcpy(host, from, (size_t)(end - from));
	host[end - from] = '\0';
	snprintf(port, 8, "%s", default_port);
	if (colon != NULL)
		snprintf(port, 8, "%.*s", (int)(s + n - colon - 1 < 7 ? s + n - colon - 1 : 7),
		    colon + 1);
	return true;
}

const char *
reach(const char *url, char *why, size_t cap)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	char host[256], port[8];
	bool https = strncmp(url, "https://", 8) == 0;

	why[0] = '\0';
	if (strncmp(url, "unix://", 7) == 0)
		return reach_unix(url + 7, why, cap);
	if (!https && strncmp(url, "http://", 7) != 0)
		return why;
	if (!split_host(url + (https ? 8 : 7), https ? "443" : "80", host, port)) {
		snprintf(why, cap, "no host in %s", url);
		return why;
	}

	int e = getaddrinfo(host, port, &hints, &list);

	if (e != 0) {
		snprintf(why, cap, "%s: %s", host, gai_strerror(e));
		return why;
	}
	e = EHOSTUNREACH;
	for (struct addrinfo *a = list; a != NULL && e != 0; a = a->ai_next)
		e = try_connect(a->ai_family, a->ai_addr, a->ai_addrlen);
	freeaddrinfo(list);
	snprintf(why, cap, "%s", e == 0 ? "" : strerror(e));
	return why;
}
