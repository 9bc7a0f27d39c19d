/*
 * drain.c - interrupt the running job, wait for its end.  See drain.h.
 */
#include "agent/supervisor/drain.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/ask.h"
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

static struct ask conversation; /* of the helper process */

/* Jobs running and waiting, -1 when the answer does not say. */
static long
remaining(const char *answer)
{
	static const char key[] = "\"queue_remaining\":";
	const char *at = strstr(answer, key);

	return at != NULL ? strtol(at + sizeof key - 1, NULL, 10) : -1;
}

static long
look(uint16_t port)
{
	int status = ask_local(&conversation, port, "GET", "/prompt", NULL, ANSWER_S * 1000);

	return status > 0 ? remaining(conversation.answer) : -1;
}

static void
drain(uint16_t port, uint32_t max_ms)
{
	uint64_t end = clock_mono_ns() + max_ms * NS_PER_MS;
	struct timespec nap = { .tv_nsec = LOOK_MS * (long)NS_PER_MS };
	long before, now;

	if ((before = look(port)) <= 0 ||
	    ask_local(&conversation, port, "POST", "/interrupt", NULL, ANSWER_S * 1000) < 0)
		return;
	/* Until the running one has ended; those behind it were not asked for. */
	do {
		nanosleep(&nap, NULL);
		now = look(port);
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
