/*
 * drain.c - see drain.h.
 */
#include "agent/supervisor/drain.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/ask.h"
#include "agent/base/clock.h"

#define ANSWER_S  2
#define LOOK_MS   100
#define IDLE_MS   500            /* between two looks of who waits for long */
#define STEADY_NS (3 * NS_PER_S) /* idle so long: what is freed between jobs has been */
#define JOB_BYTES 80             /* number and id of the job that runs */

/* The helper's own. */
static struct ask conversation;
static struct listen server;

static bool
ask(const char *method, const char *path, const char *body)
{
	int status = -1;

	if (ask_start(&conversation, (const struct sockaddr *)&server.to, server.bytes, method,
		path, body) == E_OK)
		status = ask_wait(&conversation, ANSWER_S * 1000);
	ask_end(&conversation);
	return status >= 200 && status < 300;
}

static void
nap(long ms)
{
	struct timespec t = { .tv_nsec = ms * (long)NS_PER_MS };

	nanosleep(&t, NULL);
}

/* Jobs running and waiting, -1 when the answer does not say. */
static long
remaining(void)
{
	static const char key[] = "\"queue_remaining\":";
	const char *at = ask("GET", "/prompt", NULL) ? strstr(conversation.answer, key) : NULL;

	return at != NULL ? strtol(at + sizeof key - 1, NULL, 10) : -1;
}

static enum drain_answer
interrupt_job(uint64_t end)
{
	long before = remaining(), now;

	if (before <= 0)
		return before == 0 ? DRAIN_DONE : DRAIN_SILENT;
	if (!ask("POST", "/interrupt", NULL))
		return DRAIN_SILENT;
	/* Until the running one has ended; those behind it were not asked for. */
	do {
		nap(LOOK_MS);
		now = remaining();
	} while (now >= before && clock_mono_ns() < end);
	return now < before ? DRAIN_DONE : DRAIN_BUSY;
}

static enum drain_answer
free_memory(bool busy_too)
{
	long jobs = remaining();

	if (jobs < 0)
		return DRAIN_SILENT;
	if (jobs > 0 && !busy_too)
		return DRAIN_BUSY;
	return ask("POST", "/free", "{\"unload_models\":true,\"free_memory\":true}") ? DRAIN_DONE
										     : DRAIN_SILENT;
}

/* "[12, \"id" of the job that runs, "" when none does; false: not known.  The answer holds whole
 * prompts: its beginning is all that is read. */
static bool
running(char job[JOB_BYTES])
{
	static const char key[] = "\"queue_running\":";
	const char *at;
	size_t n;

	if (!ask("GET", "/queue", NULL) || (at = strstr(conversation.answer, key)) == NULL)
		return false;
	at += sizeof key - 1;
	at += strspn(at, " [");
	n = strcspn(at, "{]");
	n = n < JOB_BYTES - 1 ? n : JOB_BYTES - 1;
	memcpy(job, at, n);
	job[n] = '\0';
	return true;
}

/* Idle for a moment, or, with only_job, at work on another job than at first. */
static enum drain_answer
wait_between(bool only_job, uint64_t end)
{
	char first[JOB_BYTES] = "", now[JOB_BYTES];
	uint64_t idle_since = 0;
	long jobs;

	do {
		jobs = remaining();
		if (jobs != 0)
			idle_since = 0;
		else if (idle_since == 0)
			idle_since = clock_mono_ns();
		else if (clock_mono_ns() - idle_since >= STEADY_NS)
			return DRAIN_DONE;
		if (only_job && jobs > 0 && running(now) && now[0] != '\0') {
			if (first[0] != '\0' && strcmp(first, now) != 0)
				return DRAIN_DONE;
			memcpy(first, now, sizeof first);
		}
		nap(IDLE_MS);
	} while (clock_mono_ns() < end);
	return jobs >= 0 ? DRAIN_BUSY : DRAIN_SILENT;
}

static enum drain_answer
work(enum drain_task task, uint64_t end)
{
	switch (task) {
	case DRAIN_INTERRUPT:
		return interrupt_job(end);
	case DRAIN_FREE:
	case DRAIN_FREE_NEXT:
		return free_memory(task == DRAIN_FREE_NEXT);
	case DRAIN_IDLE:
	case DRAIN_JOB:
		return wait_between(task == DRAIN_JOB, end);
	}
	return DRAIN_SILENT;
}

pid_t
drain_start(const struct listen *to, enum drain_task task, uint32_t max_ms)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(DRAIN_SILENT);
	alarm(max_ms / 1000 + 3 * ANSWER_S);
	server = *to;
	_exit(server.tls ? DRAIN_SILENT : (int)work(task, clock_mono_ns() + max_ms * NS_PER_MS));
}

enum drain_answer
drain_answer(int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : DRAIN_SILENT;

	return code == DRAIN_DONE || code == DRAIN_BUSY ? (enum drain_answer)code : DRAIN_SILENT;
}
