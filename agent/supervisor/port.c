/*
 * port.c - see port.h.
 */
#include "agent/supervisor/port.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define STATE_LISTEN 10 /* TCP_LISTEN of the kernel */

static bool
ask(int fd, int family)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 body;
	} q = { .head = { .nlmsg_len = sizeof q,
		    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.body = { .sdiag_family = (uint8_t)family,
		    .sdiag_protocol = IPPROTO_TCP,
		    .idiag_states = 1u << STATE_LISTEN } };

	return send(fd, &q, sizeof q, 0) == (ssize_t)sizeof q;
}

/* Read the answer to its end, so that the next question has its own. */
static bool
find(int fd, uint16_t port)
{
	_Alignas(struct nlmsghdr) char buffer[8192];
	bool found = false;
	ssize_t n;

	while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0) {
		const struct nlmsghdr *m = (const struct nlmsghdr *)buffer;

		for (size_t left = (size_t)n; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			const struct inet_diag_msg *d = NLMSG_DATA(m);

			if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR)
				return found;
			if (m->nlmsg_len >= NLMSG_LENGTH(sizeof *d) &&
			    d->id.idiag_sport == htons(port))
				found = true;
		}
	}
	return found;
}

bool
port_listens(uint16_t port)
{
	struct timeval wait = { .tv_sec = 1 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	bool found = false;

	if (fd < 0)
		return false;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	if (ask(fd, AF_INET))
		found = find(fd, port);
	if (!found && ask(fd, AF_INET6))
		found = find(fd, port);
	close(fd);
	return found;
}
