/*
 * link.c - SP over a Unix socket as nng's PUSH speaks it, with frames coming
 * back.  The sender's thread only.
 */
#include "probe/core/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void
put_header(uint8_t *p, uint64_t bytes)
{
	p[0] = 1;
	for (int i = 0; i < 8; i++)
		p[1 + i] = (uint8_t)(bytes >> (56 - 8 * i));
}

/* Only our own user, or root, may take what we send. */
static bool
peer_is_ours(int fd)
{
	struct ucred cred;
	socklen_t n = sizeof cred;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 &&
	       (cred.uid == geteuid() || cred.uid == 0);
}

int
link_open(struct link *l, const char *run_dir)
{
	static const uint8_t hello[SP_HANDSHAKE_BYTES] = { 0, 'S', 'P', 0, 0, SP_PROTO_PUSH, 0, 0 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, n = snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", run_dir, RUN_SOCKET_NAME);

	if (n < 0 || (size_t)n >= sizeof a.sun_path)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)&a, sizeof a) != 0 || !peer_is_ours(fd)) {
		close(fd);
		return -1;
	}
	l->shaken = false;
	l->out = NULL;
	l->out_bytes = l->out_at = l->in_bytes = l->head_at = 0;
	memcpy(l->head, hello, sizeof hello);
	l->head_bytes = sizeof hello;
	if (own_set(&l->fd, fd) == 0)
		return 0;
	close(fd);
	return -1;
}

void
link_close(struct link *l)
{
	own_close(&l->fd);
}

void
link_send(struct link *l, const uint8_t *body, size_t bytes)
{
	if (l->head_at == l->head_bytes)
		l->head_at = l->head_bytes = 0;
	put_header(l->head + l->head_bytes, bytes);
	l->head_bytes += SP_HEADER_BYTES;
	l->out = body;
	l->out_bytes = bytes;
	l->out_at = 0;
}

bool
link_idle(const struct link *l)
{
	return l->head_at == l->head_bytes && l->out_at == l->out_bytes;
}

int
link_flush(struct link *l)
{
	int fd = own_get(&l->fd);

	while (!link_idle(l)) {
		struct iovec v[2] = {
			{ l->head + l->head_at, l->head_bytes - l->head_at },
			{ (void *)(uintptr_t)(l->out + l->out_at), l->out_bytes - l->out_at },
		};
		struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
		ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;

		size_t of_head = (size_t)n < v[0].iov_len ? (size_t)n : v[0].iov_len;

		l->head_at += of_head;
		l->out_at += (size_t)n - of_head;
	}
	return 0;
}

static bool
shake(struct link *l)
{
	static const uint8_t want[SP_HANDSHAKE_BYTES] = { 0, 'S', 'P', 0, 0, SP_PROTO_PULL, 0, 0 };
	size_t n = l->in_bytes < sizeof want ? l->in_bytes : sizeof want;

	if (memcmp(l->in, want, n) != 0)
		return false;
	if (n == sizeof want) {
		l->shaken = true;
		l->in_bytes -= n;
		memmove(l->in, l->in + n, l->in_bytes);
	}
	return true;
}

int
link_fill(struct link *l)
{
	int fd = own_get(&l->fd);
	bool came = false;

	while (l->in_bytes < sizeof l->in) {
		ssize_t n = recv(fd, l->in + l->in_bytes, sizeof l->in - l->in_bytes, MSG_DONTWAIT);

		if (n == 0)
			return -1;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -1;
		came = true;
		l->in_bytes += (size_t)n;
		if (!l->shaken && !shake(l))
			return -1;
	}
	return came;
}

int
link_next(struct link *l, const uint8_t **body, size_t *bytes)
{
	uint64_t n = 0;

	if (!l->shaken || l->in_bytes < SP_HEADER_BYTES)
		return 0;
	for (int i = 0; i < 8; i++)
		n = n << 8 | l->in[1 + i];
	if (l->in[0] != 1 || n > LINK_IN_MAX_BYTES)
		return -1;
	if (l->in_bytes < SP_HEADER_BYTES + n)
		return 0;
	*body = l->in + SP_HEADER_BYTES;
	*bytes = (size_t)n;
	return 1;
}

void
link_drop(struct link *l, size_t bytes)
{
	l->in_bytes -= SP_HEADER_BYTES + bytes;
	memmove(l->in, l->in + SP_HEADER_BYTES + bytes, l->in_bytes);
}
