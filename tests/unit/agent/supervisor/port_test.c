/*
 * Who listens on a port.
 */
#include "agent/supervisor/port.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/t.h"

/* A socket on a port of the kernel's choice. */
static int
bound(int family, uint16_t *port)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage a = { .ss_family = (sa_family_t)family };
	socklen_t n = sizeof a;

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		return -1;
	*port = ntohs(((struct sockaddr_in *)&a)->sin_port);
	return fd;
}

TEST(sees_who_listens_and_not_who_is_only_bound)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < 2; i++) {
		uint16_t port = 0;
		int fd = bound(families[i], &port);

		if (fd < 0 && families[i] == AF_INET6)
			continue; /* a host without it */
		REQUIRE(fd >= 0);
		CHECK(!port_listens(port));
		CHECK(listen(fd, 1) == 0);
		CHECK(port_listens(port));
		close(fd);
		CHECK(!port_listens(port));
	}
}

TEST(is_not_confused_by_many_other_listeners)
{
	uint16_t port, wanted = 0;
	int fds[300], n = 0;

	while (n < 300 && (fds[n] = bound(AF_INET, &port)) >= 0) {
		CHECK(listen(fds[n], 1) == 0);
		wanted = n == 150 ? port : wanted;
		n++;
	}
	CHECK(n > 151);
	CHECK(port_listens(wanted));
	while (n > 0)
		close(fds[--n]);
	CHECK(!port_listens(wanted));
}

int
main(void)
{
	RUN(sees_who_listens_and_not_who_is_only_bound);
	RUN(is_not_confused_by_many_other_listeners);
	return t_done();
}
