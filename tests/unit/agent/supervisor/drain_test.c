/*
 * What is asked of ComfyUI, against a server that answers by a script: the n-th
 * connection gets the n-th answer, the last one for ever; what was asked is kept.
 */
#include "agent/supervisor/drain.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "tests/t.h"

#define OK      "HTTP/1.0 200 OK\r\n\r\n"
#define LEFT(n) OK "{\"exec_info\": {\"queue_remaining\": " #n "}}"
#define RUNS(n, p) \
	OK "{\"queue_running\": [[" #n ", \"" p "\", {\"1\": {}}]], \"queue_pending\": []}"
#define NOTHING OK "{\"queue_running\": [], \"queue_pending\": []}"
#define ASKED   4096

static char asked[ASKED]; /* "GET /prompt,POST /free,..." */

/* In the server's process: answers, and tells the first line of each request. */
static void
serve(int fd, const char *const *answers, int tell)
{
	for (size_t i = 0;; i += answers[i + 1] != NULL) {
		char request[2048], line[256];
		int peer = accept(fd, NULL, NULL);
		ssize_t n = peer >= 0 ? read(peer, request, sizeof request - 1) : -1;

		if (n <= 0)
			_exit(1);
		request[n] = '\0';
		n = snprintf(line, sizeof line, "%.*s,", (int)strcspn(request, "H") - 1, request);
		if (write(tell, line, (size_t)n) != n ||
		    write(peer, answers[i], strlen(answers[i])) < 0)
			_exit(1);
		close(peer);
	}
}

static int
listener(struct listen *to)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, 16) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		abort();
	memset(to, 0, sizeof *to);
	memcpy(&to->to, &a, sizeof a);
	to->bytes = sizeof a;
	to->port = ntohs(a.sin_port);
	return fd;
}

static enum drain_answer
finish(const struct listen *to, enum drain_task task, uint32_t max_ms)
{
	pid_t pid = drain_start(to, task, max_ms);
	int status = 0;

	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return drain_answer(status);
}

/* The task against a server with these answers. */
static enum drain_answer
drain(enum drain_task task, uint32_t max_ms, const char *const *answers)
{
	enum drain_answer answer;
	struct listen to;
	int fd = listener(&to), tell[2];
	ssize_t n;
	pid_t pid;

	if (pipe(tell) != 0)
		abort();
	pid = fork();
	if (pid == 0)
		serve(fd, answers, tell[1]);
	close(fd);
	close(tell[1]);
	answer = finish(&to, task, max_ms);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	n = read(tell[0], asked, sizeof asked - 1);
	asked[n > 0 ? n : 0] = '\0';
	close(tell[0]);
	return answer;
}

TEST(frees_who_is_idle)
{
	static const char *const answers[] = { LEFT(0), OK, NULL };

	CHECK_EQ(drain(DRAIN_FREE, 2000, answers), DRAIN_DONE);
	CHECK_STR(asked, "GET /prompt,POST /free,");
}

TEST(does_not_free_who_is_busy_unless_told_to)
{
	static const char *const answers[] = { LEFT(2), OK, NULL };

	CHECK_EQ(drain(DRAIN_FREE, 2000, answers), DRAIN_BUSY);
	CHECK_STR(asked, "GET /prompt,");
	CHECK_EQ(drain(DRAIN_FREE_NEXT, 2000, answers), DRAIN_DONE);
	CHECK_STR(asked, "GET /prompt,POST /free,");
}

TEST(a_refusal_is_no_freeing)
{
	static const char *const answers[] = { LEFT(0), "HTTP/1.0 403 Forbidden\r\n\r\n", NULL };

	CHECK_EQ(drain(DRAIN_FREE, 2000, answers), DRAIN_SILENT);
}

TEST(an_answer_that_does_not_say_it_is_silence)
{
	static const char *const bad[] = { "nonsense", OK, OK "{\"exec_info\": {}}",
		"HTTP/1.0 500 Oh\r\n\r\n{\"queue_remaining\": 0}", "HTTP/1.0 200" };

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		const char *const answers[] = { bad[i], NULL };

		CHECK_EQ(drain(DRAIN_FREE, 2000, answers), DRAIN_SILENT);
		CHECK_EQ(drain(DRAIN_INTERRUPT, 2000, answers), DRAIN_SILENT);
	}
}

TEST(nobody_there_and_tls_are_silence_at_once)
{
	uint64_t began = clock_mono_ns();
	struct listen to;

	close(listener(&to));
	CHECK_EQ(finish(&to, DRAIN_FREE, 2000), DRAIN_SILENT);
	to.tls = true;
	CHECK_EQ(finish(&to, DRAIN_IDLE, 60000), DRAIN_SILENT);
	CHECK(clock_mono_ns() - began < NS_PER_S);
}

TEST(interrupts_and_waits_for_the_end_of_that_job_alone)
{
	static const char *const answers[] = { LEFT(3), OK, LEFT(3), LEFT(3), LEFT(2), NULL };
	static const char *const idle[] = { LEFT(0), NULL };
	static const char *const deaf[] = { LEFT(1), NULL };

	CHECK_EQ(drain(DRAIN_INTERRUPT, 5000, answers), DRAIN_DONE);
	CHECK_STR(asked, "GET /prompt,POST /interrupt,GET /prompt,GET /prompt,GET /prompt,");
	CHECK_EQ(drain(DRAIN_INTERRUPT, 5000, idle), DRAIN_DONE);
	CHECK_STR(asked, "GET /prompt,");
	CHECK_EQ(drain(DRAIN_INTERRUPT, 300, deaf), DRAIN_BUSY);
}

TEST(idle_is_who_stays_so_for_three_seconds)
{
	static const char *const answers[] = { LEFT(1), LEFT(0), LEFT(0), LEFT(1), LEFT(0), NULL };
	uint64_t began = clock_mono_ns();

	CHECK_EQ(drain(DRAIN_IDLE, 20000, answers), DRAIN_DONE);
	CHECK(clock_mono_ns() - began >= 5 * NS_PER_S); /* 4 looks, then 3 seconds */
}

TEST(who_never_rests_is_busy_when_the_time_is_over)
{
	static const char *const busy[] = { LEFT(1), NULL };
	static const char *const gone[] = { LEFT(1), "", NULL };

	CHECK_EQ(drain(DRAIN_IDLE, 700, busy), DRAIN_BUSY);
	CHECK_EQ(drain(DRAIN_IDLE, 1200, gone), DRAIN_SILENT);
}

TEST(with_resubmission_only_the_job_that_runs_is_waited_for)
{
	static const char *const next[] = { LEFT(2), RUNS(7, "aa"), LEFT(2), RUNS(7, "aa"), LEFT(1),
		NOTHING, LEFT(1), RUNS(8, "aa"), LEFT(9), NULL };
	static const char *const same[] = { LEFT(2), RUNS(7, "aa"), LEFT(2), RUNS(7, "aa"), LEFT(2),
		RUNS(7, "aa"), LEFT(2), RUNS(7, "aa"), NULL };

	CHECK_EQ(drain(DRAIN_JOB, 20000, next), DRAIN_DONE);
	CHECK_STR(asked, "GET /prompt,GET /queue,GET /prompt,GET /queue,GET /prompt,GET /queue,"
			 "GET /prompt,GET /queue,");
	CHECK_EQ(drain(DRAIN_JOB, 1400, same), DRAIN_BUSY);
}

TEST(what_is_no_answer_of_a_helper_is_silence)
{
	CHECK_EQ(drain_answer(SIGKILL), DRAIN_SILENT);
	CHECK_EQ(drain_answer(77 << 8), DRAIN_SILENT);
	CHECK_EQ(drain_answer(0), DRAIN_DONE);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	RUN(frees_who_is_idle);
	RUN(does_not_free_who_is_busy_unless_told_to);
	RUN(a_refusal_is_no_freeing);
	RUN(an_answer_that_does_not_say_it_is_silence);
	RUN(nobody_there_and_tls_are_silence_at_once);
	RUN(interrupts_and_waits_for_the_end_of_that_job_alone);
	RUN(idle_is_who_stays_so_for_three_seconds);
	RUN(who_never_rests_is_busy_when_the_time_is_over);
	RUN(with_resubmission_only_the_job_that_runs_is_waited_for);
	RUN(what_is_no_answer_of_a_helper_is_silence);
	return t_done();
}
