/*
 * drain.c - interrupt the running job, wait for its end.  See drain.h.
 */
#include "agent/supervisor/drain.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"

#define PORT_DEFAULT 8188
#define ANSWER_S     2
#define LOOK_MS      100

uint16_t
drain_port(char *const *command)
{
	for (size_t i = 0; command[i] != NULL; i++) {
		const char *value = NULL;
		char *end;

		if (strcmp(command[i], "--port") == 0)
			value = command[i + 1];
		else if (strncmp(command[i], "--port=", 7) == 0)
			value = command[i] + 7;
		if (value == NULL)
			continue;

		unsigned long port = strtoul(value, &end, 10);

		if (end != value && *end == '\0' && port > 0 && port < 65536)
			return (uint16_t)port;
	}
	return PORT_DEFAULT;
}

/* One request on a connection of its own; the answer's first bytes, terminated. */
static bool
ask(uint16_t port, const char *request, char *answer, size_t cap)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval wait = { .tv_sec = ANSWER_S };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = strlen(request), used = 0;
	bool ok = fd >= 0;

	if (ok) {
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
		ok = connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
		     send(fd, request, n, MSG_NOSIGNAL) == (ssize_t)n;
	}
	while (ok && used + 1 < cap) {
		ssize_t k = recv(fd, answer + used, cap - 1 - used, 0);

		if (k <= 0)
			break;
		used += (size_t)k;
	}
	answer[used] = '\0';
	if (fd >= 0)
		close(fd);
	return ok && used > 0;
}

/* Jobs running and waiting, -1 when the answer does not say. */
static long
remaining(const char *answer)
{
	static const char key[] = "\"queue_remaining\":";
	const char *at = strstr(answer, key);

	return at != NULL ? strtol(at + sizeof key - 1, NULL, 10) : -1;
}

static void
drain(uint16_t port, uint32_t max_ms)
{
	static const char look[] = "GET /prompt HTTP/1.0\r\nHost: localhost\r\n\r\n";
	static const char interrupt[] =
	    "POST /interrupt HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
	uint64_t end = clock_mono_ns() + max_ms * NS_PER_MS;
	struct timespec nap = { .tv_nsec = LOOK_MS * (long)NS_PER_MS };
	char answer[4096];
	long before, now;

	if (!ask(port, look, answer, sizeof answer) || (before = remaining(answer)) <= 0 ||
	    !ask(port, interrupt, answer, sizeof answer))
		return;
	/* Until the running one has ended; those behind it were not asked for. */
	do {
		nanosleep(&nap, NULL);
		now = ask(port, look, answer, sizeof answer) ? remaining(answer) : -1;
	} while (now >= before && clock_mono_ns() < end);
}

pid_t
drain_start(uint16_t port, uint32_t max_ms)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	alarm(max_ms / 1000 + 2 * ANSWER_S);
	drain(port, max_ms);
	_exit(0);
}
