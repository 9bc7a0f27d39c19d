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
		CHECK(!port_listens(getpid(), port));
		CHECK(listen(fd, 1) == 0);
		CHECK(port_listens(getpid(), port));
		close(fd);
		CHECK(!port_listens(getpid(), port));
	}
}

TEST(says_no_of_a_process_that_is_not_there)
{
	CHECK(!port_listens(0x7ffffff0, 80));
}

int
main(void)
{
	RUN(sees_who_listens_and_not_who_is_only_bound);
	RUN(says_no_of_a_process_that_is_not_there);
	return t_done();
}
