/*
 * Whatever answers at the far end: a reply that never ends, lies about its
 * length, crawls or redirects costs a bounded time and memory and gets the right
 * verdict.  Ways there: IPv6, a Unix socket, a proxy, and no proxy.
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/core/export.h"
#include "tests/t.h"
#include "tests/unit/agent/exporter/far.h"

#define TIMEOUT_MS 700

static void
wake(void *ctx)
{
	(void)ctx;
}

static struct lease
empty_bundle(void)
{
	struct wire_bundle none = { 0 };
	struct lease l = { .chunk.blob = calloc(1, BUNDLE_FIXED_BYTES),
		.chunk.blob_bytes = BUNDLE_FIXED_BYTES,
		.probe = calloc(1, sizeof *l.probe) };

	wire_bundle_seal(l.chunk.blob, &none);
	return l;
}

/* Deliver one chunk to `url`; false when no result came within the deadline. */
static bool
deliver(const char *url, struct export_result *r, struct destination_status *s)
{
	struct destination_options d = { .name = "agent",
		.kind = url[0] == '/' ? DEST_FILE : DEST_DATADOG_AGENT,
		.asked = true,
		.timeout_ms = TIMEOUT_MS };
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;
	struct exporter *e = NULL;
	struct lease l = empty_bundle();
	enum err rv;

	snprintf(d.url, sizeof d.url, "%s", url);
	if (exporter_new(&d, 1, wake, NULL, &e) != E_OK || exporter_start(e) != E_OK ||
	    exporter_give(e, 0, &l, 1) != E_OK)
		exit(2);
	while ((rv = exporter_take(e, r)) != E_OK && clock_mono_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	exporter_status(e, 0, s);
	exporter_free(e);
	return rv == E_OK;
}

static void
forget(struct export_result *r)
{
	free(r->agent_reply);
	free(r->a.blob);
	free(r->b.blob);
}

#define OK "HTTP/1.1 200 OK\r\n"

static const struct far_reply replies[] = {
	{ "plain", OK "Content-Length: 2\r\n\r\nOK", NULL, 0, 0, SETTLE_SENT, 200 },
	{ "no length, closed", OK "Connection: close\r\n\r\n{}", NULL, 0, 0, SETTLE_SENT, 200 },
	{ "chunked", OK "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", NULL, 0, 0,
	    SETTLE_SENT, 200 },
	{ "redirect", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", NULL, 0, 0,
	    SETTLE_RETRY, 302 },
	{ "redirect, method kept",
	    "HTTP/1.1 307 Temporary\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
	    NULL, 0, 0, SETTLE_RETRY, 307 },
	{ "not found", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", NULL, 0, 0,
	    SETTLE_HOLD, 404 },
	{ "bad request", "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", NULL, 0, 0,
	    SETTLE_REJECTED, 400 },
	{ "endless body", OK "\r\n", "{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{", 64u << 20, 0, SETTLE_RETRY,
	    -1 },
	{ "endless refusal", "HTTP/1.1 403 No\r\n\r\n", "no no no no no no no no no no ", 64u << 20,
	    0, SETTLE_HOLD, 403 },
	{ "endless headers", OK, "X-More: and more and more and more and more\r\n", 64u << 20, 0,
	    SETTLE_RETRY, -1 },
	{ "one endless header", OK "X-More: ", "and more and more and more ", 64u << 20, 0,
	    SETTLE_RETRY, -1 },
	{ "endless 100 Continue", "", "HTTP/1.1 100 Continue\r\n\r\n", 64u << 20, 0, SETTLE_RETRY,
	    -1 },
	{ "endless trailers", OK "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
	    "X-More: and more and more\r\n", 64u << 20, 0, SETTLE_RETRY, -1 },
	{ "longer than it is", OK "Content-Length: 100\r\n\r\n{}", NULL, 0, 0, SETTLE_RETRY, -1 },
	{ "negative length", OK "Content-Length: -5\r\n\r\n{}", NULL, 0, 0, SETTLE_RETRY, -1 },
	{ "no number for length", OK "Content-Length: many\r\n\r\n{}", NULL, 0, 0, SETTLE_RETRY,
	    -1 },
	{ "chunked garbage", OK "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", NULL, 0,
	    0, SETTLE_RETRY, -1 },
	{ "a chunk of 2^63", OK "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n{}", NULL, 0,
	    0, SETTLE_RETRY, -1 },
	{ "garbage", "\x16\x03\x01\x02\xff\xff\r\n\r\n", NULL, 0, 0, SETTLE_RETRY, -1 },
	{ "HTTP/0.9", "{\"rate_by_service\":{}}", NULL, 0, 0, SETTLE_RETRY, -1 },
	{ "nothing", "", NULL, 0, 0, SETTLE_RETRY, -1 },
	{ "one byte at a time", OK "Content-Length: 1000\r\n\r\n", " ", 1000, 100, SETTLE_RETRY,
	    -1 },
	{ "one header byte at a time", OK, "X", 1000, 100, SETTLE_RETRY, -1 },
	{ "a portal's page", OK "Content-Length: 6\r\n\r\n<html>", NULL, 0, 0, SETTLE_RETRY, 200 },
};

TEST(a_hostile_reply_costs_bounded_time_and_memory)
{
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
		const struct far_reply *want = &replies[i];
		uint64_t began = clock_mono_ns();
		struct destination_status s;
		struct export_result r = { 0 };
		struct far f;
		int failed = t_failed_checks;

		far_start(&f, want);
		CHECK(deliver(f.url, &r, &s));
		far_stop(&f);
		CHECK_EQ(r.s.kind, want->kind);
		if (want->status > 0)
			CHECK_EQ(r.s.status, want->status);
		else
			CHECK(r.s.status < 0);
		CHECK(clock_mono_ns() - began < 5 * NS_PER_S);
		CHECK(f.sent < 32u << 20); /* cut off, not drunk to the end */
		if (want->kind == SETTLE_RETRY || want->kind == SETTLE_HOLD) {
			CHECK(r.s.next_try_real_ns > 0);
			CHECK(s.last_error[0] != '\0');
		}
		if (t_failed_checks != failed)
			fprintf(stderr, "... in \"%s\": %s\n", want->name, s.last_error);
		forget(&r);
	}
	getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CHECK(after.ru_maxrss - before.ru_maxrss < 16 * 1024);
#endif
}

static const struct far_reply fine = { "fine", OK "Content-Length: 2\r\n\r\n{}", NULL, 0, 0,
	SETTLE_SENT, 200 };

TEST(delivers_over_ipv6)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t n = sizeof a;
	struct destination_status s;
	struct export_result r = { 0 };
	struct far f = { .reply = &fine };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool have = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;

	close(fd);
	if (!have) {
		puts("skip: no IPv6 loopback here");
		return;
	}
	a.sin6_port = 0;
	listen_on(&f, &a, sizeof a, AF_INET6);
	CHECK_EQ(getsockname(f.listener, (struct sockaddr *)&a, &n), 0);
	snprintf(f.url, sizeof f.url, "http://[::1]:%u", ntohs(a.sin6_port));
	CHECK(deliver(f.url, &r, &s));
	far_stop(&f);
	CHECK_EQ(r.s.kind, SETTLE_SENT);
	forget(&r);
}

TEST(delivers_over_a_unix_socket)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct destination_status s;
	struct export_result r = { 0 };
	struct far f = { .reply = &fine };

	snprintf(a.sun_path, sizeof a.sun_path, "/tmp/hostile_test.%d.sock", (int)getpid());
	unlink(a.sun_path);
	listen_on(&f, &a, sizeof a, AF_UNIX);
	snprintf(f.url, sizeof f.url, "unix://%s", a.sun_path);
	CHECK(deliver(f.url, &r, &s));
	far_stop(&f);
	unlink(a.sun_path);
	CHECK_EQ(r.s.kind, SETTLE_SENT);
	CHECK(strstr(f.request, "POST /v0.4/traces HTTP/1.1\r\nHost: localhost\r\n") != NULL);
	forget(&r);
}

/* A reserved address (RFC 5737) that only a proxy could reach. */
#define ELSEWHERE "http://192.0.2.1:8126"

TEST(asks_the_proxy_for_hosts_elsewhere_and_never_for_this_one)
{
	struct destination_status s;
	struct export_result r = { 0 };
	struct far proxy, here;

	far_start(&proxy, &fine);
	setenv("http_proxy", proxy.url, 1);
	CHECK(deliver(ELSEWHERE, &r, &s));
	CHECK_EQ(r.s.kind, SETTLE_SENT);
	forget(&r);
	far_stop(&proxy);
	CHECK(strstr(proxy.request, "POST " ELSEWHERE "/v0.4/traces HTTP/1.1\r\n") != NULL);

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	far_start(&here, &fine);
	CHECK(deliver(here.url, &r, &s));
	CHECK_EQ(r.s.kind, SETTLE_SENT);
	forget(&r);
	far_stop(&here);
	CHECK(strstr(here.request, "POST /v0.4/traces HTTP/1.1\r\n") != NULL);
	unsetenv("all_proxy");
	unsetenv("http_proxy");
}

TEST(no_proxy_is_honoured)
{
	struct destination_status s;
	struct export_result r = { 0 };
	struct far proxy;

	far_start(&proxy, &fine);
	setenv("http_proxy", proxy.url, 1);
	setenv("no_proxy", "192.0.2.1", 1);
	CHECK(deliver(ELSEWHERE, &r, &s));
	CHECK_EQ(r.s.kind, SETTLE_RETRY);
	CHECK(r.s.status < 0);
	forget(&r);
	unsetenv("http_proxy");
	unsetenv("no_proxy");
	CHECK(deliver(proxy.url, &r, &s)); /* nobody had asked it: it still waits */
	CHECK_EQ(r.s.kind, SETTLE_SENT);
	forget(&r);
	far_stop(&proxy);
}

TEST(a_file_that_somebody_else_laid_there_is_not_written)
{
	struct destination_status s;
	struct export_result r = { 0 };
	char path[64];
	struct stat st;
	int fd;

	if (geteuid() != 0) {
		puts("skip: only root can give a file away");
		return;
	}
	snprintf(path, sizeof path, "/tmp/hostile_test.%d.json", (int)getpid());
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
	REQUIRE(fd >= 0 && fchown(fd, 12345, 12345) == 0);
	CHECK(deliver(path, &r, &s));
	CHECK_EQ(r.s.kind, SETTLE_RETRY);
	CHECK(strstr(s.last_error, "permission") != NULL);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 0);
	forget(&r);
	close(fd);
	unlink(path);
	CHECK(deliver(path, &r, &s)); /* our own is */
	CHECK_EQ(r.s.kind, SETTLE_SENT);
	forget(&r);
	unlink(path);
}

int
main(void)
{
	RUN(a_file_that_somebody_else_laid_there_is_not_written);
	RUN(a_hostile_reply_costs_bounded_time_and_memory);
	RUN(delivers_over_ipv6);
	RUN(delivers_over_a_unix_socket);
	RUN(asks_the_proxy_for_hosts_elsewhere_and_never_for_this_one);
	RUN(no_proxy_is_honoured);
	return t_done();
}
