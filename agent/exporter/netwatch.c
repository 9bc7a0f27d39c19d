/*
 * netwatch.c - see netwatch.h.
 */
#include "agent/exporter/netwatch.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUPS                                                                       \
	(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | \
	    RTMGRP_IPV6_ROUTE)

int
netwatch_open(void)
{
	const struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = GROUPS };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool
is_gain(const struct nlmsghdr *h)
{
	if (h->nlmsg_type == RTM_NEWADDR || h->nlmsg_type == RTM_NEWROUTE)
		return true;
	if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
		return false;
	return (((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_flags & IFF_RUNNING) != 0;
}

bool
netwatch_changed(int fd)
{
	_Alignas(struct nlmsghdr) char buf[8192];
	bool gained = false;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0 || errno == EINTR ||
	       errno == ENOBUFS) {
		if (n < 0) {
			gained |= errno == ENOBUFS; /* more than we could hear */
			continue;
		}

		size_t left = (size_t)n;

		for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left))
			gained |= is_gain(h);
	}
	return gained;
}
