/*
 * listen.c - the sockets of the two doors: a Unix one of the owner alone, TCP
 * ones on loopback or where the operator wants them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/control/internal.h"

#define UNIX_QUEUE 16
#define TCP_QUEUE  256 /* who is not accepted waits here; beyond, they try again by themselves */

/* True when somebody answers at the path. */
static bool
somebody_listens(const struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes = fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof *a) == 0;

	if (fd >= 0)
		close(fd);
	return yes;
}

enum err
listen_unix(const char *path, int *out)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	memcpy(a.sun_path, path, strlen(path) + 1);
	if (somebody_listens(&a))
		return E_BUSY;
	(void)unlink(path); /* stale, or not there */

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_from_errno(errno);

	/* The mode is set before listen: nobody can connect in between. */
	if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || chmod(path, 0600) != 0 ||
	    listen(fd, UNIX_QUEUE) != 0) {
		enum err rv = err_from_errno(errno);

		close(fd);
		return rv;
	}
	*out = fd;
	return E_OK;
}

size_t
listen_addresses(const char *bind, uint16_t port, union listen_address out[LISTEN_ADDRESSES])
{
	memset(out, 0, LISTEN_ADDRESSES * sizeof *out);
	out[0].v4.sin_family = AF_INET;
	out[0].v4.sin_port = htons(port);
	out[1].v6.sin6_family = AF_INET6;
	out[1].v6.sin6_port = htons(port);
	if (bind == NULL) {
		out[0].v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		out[1].v6.sin6_addr = in6addr_loopback;
		return 2;
	}
	if (inet_pton(AF_INET, bind, &out[0].v4.sin_addr) == 1)
		return 1;
	out[0] = out[1];
	return inet_pton(AF_INET6, bind, &out[0].v6.sin6_addr) == 1 ? 1 : 0;
}

bool
listen_is_loopback(const union listen_address *a)
{
	return a->any.sa_family == AF_INET6
		   ? IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr) != 0
		   : (ntohl(a->v4.sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
}

void
listen_text(const union listen_address *a, char *out, size_t cap)
{
	char host[INET6_ADDRSTRLEN] = "";

	if (a->any.sa_family == AF_INET6) {
		(void)inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof host);
		snprintf(out, cap, "[%s]:%u", host, ntohs(a->v6.sin6_port));
	} else {
		(void)inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof host);
		snprintf(out, cap, "%s:%u", host, ntohs(a->v4.sin_port));
	}
}

int
listen_tcp(const union listen_address *a)
{
	int yes = 1, no = 0;
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
	    (a->any.sa_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) != 0) ||
	    bind(fd, &a->any, a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4) != 0 ||
	    listen(fd, TCP_QUEUE) != 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}
