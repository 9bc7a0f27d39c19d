/*
 * ask_test.c - a question to servers that answer, refuse, hang up, and say
 * nothing.  The server's side is driven by hand on a socket of the test's own.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/ask.h"
#include "agent/base/clock.h"
#include "tests/t.h"

struct server {
	int fd;
	struct sockaddr_in at;
};

static struct server
listening(int backlog)
{
	struct server s = { .at = { .sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
	socklen_t n = sizeof s.at;

	s.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s.fd < 0 || bind(s.fd, (struct sockaddr *)&s.at, sizeof s.at) != 0 ||
	    getsockname(s.fd, (struct sockaddr *)&s.at, &n) != 0 ||
	    (backlog >= 0 && listen(s.fd, backlog) != 0))
		abort();
	return s;
}

static enum err
ask_it(struct ask *a, const struct server *s, const char *body)
{
	return ask_start(a, (const struct sockaddr *)&s->at, sizeof s->at, "POST", "/free", body);
}

TEST(an_answer_in_pieces_is_whole_when_the_connection_ends)
{
	struct server s = listening(4);
	char got[1024];
	struct ask a;
	ssize_t n;
	int fd;

	REQUIRE(ask_it(&a, &s, "{\"free_memory\":true}") == E_OK);
	CHECK_EQ(ask_wait(&a, 0), 0);
	fd = accept(s.fd, NULL, NULL);
	REQUIRE(fd >= 0);
	CHECK_EQ(ask_wait(&a, 20), 0);
	n = recv(fd, got, sizeof got - 1, 0);
	REQUIRE(n > 0);
	got[n] = '\0';
	CHECK(strncmp(got, "POST /free HTTP/1.0\r\n", 21) == 0);
	CHECK(strstr(got, "User-Agent: comfymon\r\n") != NULL);
	CHECK(strstr(got, "Content-Length: 20\r\n\r\n{\"free_memory\":true}") != NULL);
	CHECK_EQ(send(fd, "HTTP/1.1 20", 11, 0), 11);
	CHECK_EQ(ask_wait(&a, 20), 0);
	CHECK_EQ(send(fd, "4 No Content\r\n\r\nx", 17, 0), 17);
	CHECK_EQ(ask_wait(&a, 20), 0);
	close(fd);
	CHECK_EQ(ask_wait(&a, 1000), 204);
	CHECK_STR(a.answer, "HTTP/1.1 204 No Content\r\n\r\nx");
	ask_end(&a);
	ask_end(&a);
	CHECK_EQ(ask_wait(&a, 0), 204); /* what was heard stays */
	close(s.fd);
}

TEST(nobody_and_a_hang_up_are_told_from_silence)
{
	struct server bound = listening(-1), s = listening(4);
	struct ask a;
	enum err e = ask_it(&a, &bound, NULL);
	int fd;

	CHECK(e == E_NOTFOUND || (e == E_OK && ask_wait(&a, 1000) == -1));
	ask_end(&a);
	REQUIRE(ask_it(&a, &s, NULL) == E_OK);
	CHECK_EQ(ask_wait(&a, 0), 0);
	fd = accept(s.fd, NULL, NULL);
	close(fd); /* with the request unread: a reset */
	CHECK_EQ(ask_wait(&a, 1000), -1);
	ask_end(&a);
	REQUIRE(ask_it(&a, &s, NULL) == E_OK);
	fd = accept(s.fd, NULL, NULL);
	CHECK_EQ(send(fd, "\x15\x03\x03", 3, 0), 3); /* it speaks TLS */
	CHECK_EQ(ask_wait(&a, 20), 0);
	shutdown(fd, SHUT_WR);
	CHECK_EQ(ask_wait(&a, 1000), -1);
	ask_end(&a);
	close(fd);
	close(s.fd);
	close(bound.fd);
}

TEST(who_speaks_tls_is_told_by_the_first_bytes)
{
	static const struct {
		const char *bytes;
		size_t n;
		int status;
	} answers[] = { { "\x16\x03\x03\x00\x7a", 5, ASK_TLS }, { "\x15\x03\x01", 3, ASK_TLS },
		{ "HTTP/1.1 400 Bad Request\r\n", 26, -1 }, { "\x16\x02\x00", 3, -1 },
		{ "\x16\x03", 2, -1 }, { "", 0, -1 } };
	struct server s = listening(8);
	uint8_t got[512];
	struct ask a;

	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		int fd;
		ssize_t n;

		REQUIRE(ask_hello(&a, (const struct sockaddr *)&s.at, sizeof s.at) == E_OK);
		CHECK_EQ(ask_wait(&a, 0), 0);
		fd = accept(s.fd, NULL, NULL);
		REQUIRE(fd >= 0);
		CHECK_EQ(ask_wait(&a, 20), 0);
		n = recv(fd, got, sizeof got, 0);
		REQUIRE(n > 9);
		/* A record and a message that say how long they are. */
		CHECK_EQ(got[3] << 8 | got[4], n - 5);
		CHECK_EQ(got[6] << 16 | got[7] << 8 | got[8], n - 9);
		CHECK_EQ(send(fd, answers[i].bytes, answers[i].n, 0), (ssize_t)answers[i].n);
		shutdown(fd, SHUT_WR);
		CHECK_EQ(ask_wait(&a, 1000), answers[i].status);
		ask_end(&a);
		close(fd);
	}
	close(s.fd);
}

TEST(waiting_ends_when_its_time_is_up_and_costs_no_turns)
{
	struct server s = listening(4);
	struct ask a;
	uint64_t began = clock_mono_ns(), cpu = clock_thread_cpu_ns();

	CHECK_EQ(ask_local(&a, ntohs(s.at.sin_port), "GET", "/prompt", NULL, 200), -1);
	CHECK(clock_mono_ns() - began >= 200 * NS_PER_MS);
	CHECK(clock_thread_cpu_ns() - cpu < 50 * NS_PER_MS);
	close(s.fd);
}

TEST(an_answer_without_end_is_cut_and_one_too_long_is_not_asked)
{
	static char big[2 * ASK_REQUEST_BYTES], flood[2 * ASK_ANSWER_BYTES];
	struct server s = listening(4);
	struct ask a;
	int fd;

	memset(big, 'x', sizeof big - 1);
	CHECK_EQ(ask_it(&a, &s, big), E_INVAL);
	CHECK_EQ(ask_wait(&a, 0), -1);
	REQUIRE(ask_it(&a, &s, NULL) == E_OK);
	fd = accept(s.fd, NULL, NULL);
	memset(flood, 'y', sizeof flood);
	memcpy(flood, "HTTP/1.0 200 ", 13);
	CHECK(send(fd, flood, sizeof flood, 0) > 0);
	CHECK_EQ(ask_wait(&a, 1000), 200);
	CHECK_EQ(strlen(a.answer), ASK_ANSWER_BYTES - 1);
	ask_end(&a);
	close(fd);
	close(s.fd);
}

TEST(a_large_body_is_sent_from_where_it_lies)
{
	struct server s = listening(4);
	size_t n = 8u << 20, got = 0;
	char *body = malloc(n), head[512], *at;
	struct ask a;
	ssize_t k;
	int fd;

	REQUIRE(body != NULL);
	memset(body, 'x', n);
	REQUIRE(
	    ask_post(&a, (const struct sockaddr *)&s.at, sizeof s.at, "/prompt", body, n) == E_OK);
	CHECK_EQ(ask_wait(&a, 0), 0);
	fd = accept(s.fd, NULL, NULL);
	REQUIRE(fd >= 0);
	CHECK_EQ(ask_wait(&a, 20), 0); /* it does not fit into what the kernel takes */
	k = recv(fd, head, sizeof head - 1, 0);
	REQUIRE(k > 0);
	head[k] = '\0';
	CHECK(strstr(head, "Content-Length: 8388608\r\n") != NULL);
	at = strstr(head, "\r\n\r\n");
	REQUIRE(at != NULL);
	got = (size_t)(head + k - at - 4);
	while (got < n) {
		char piece[65536];

		CHECK_EQ(ask_wait(&a, 0), 0);
		k = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
		got += k > 0 ? (size_t)k : 0;
	}
	CHECK_EQ(got, n);
	CHECK_EQ(send(fd, "HTTP/1.0 200 OK\r\n\r\n", 19, 0), 19);
	close(fd);
	CHECK_EQ(ask_wait(&a, 1000), 200);
	ask_end(&a);
	free(body);
	close(s.fd);
}

int
main(void)
{
	RUN(an_answer_in_pieces_is_whole_when_the_connection_ends);
	RUN(nobody_and_a_hang_up_are_told_from_silence);
	RUN(who_speaks_tls_is_told_by_the_first_bytes);
	RUN(waiting_ends_when_its_time_is_up_and_costs_no_turns);
	RUN(an_answer_without_end_is_cut_and_one_too_long_is_not_asked);
	RUN(a_large_body_is_sent_from_where_it_lies);
	return t_done();
}
