/*
 * The sender against sockets that are there, are not, fill up and come back.
 */
#include "agent/metrics/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/metrics/line.h"
#include "tests/unit/agent/metrics/snapshot.h"

static char dir[64];

static const char *
socket_url(char url[200])
{
	snprintf(url, 200, "unix://%s/dsd", dir);
	return url;
}

/* A far end, UDP on loopback (path NULL) or Unix. */
static int
serve(const char *path, uint16_t *port)
{
	union line_address a = { .v4 = { .sin_family = AF_INET } };
	socklen_t n = sizeof a.v4;
	int fd;

	a.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (path != NULL) {
		memset(&a, 0, sizeof a);
		a.path.sun_family = AF_UNIX;
		snprintf(a.path.sun_path, sizeof a.path.sun_path, "%.100s", path);
		n = sizeof a.path;
		(void)unlink(path);
	} else {
		a.v4.sin_port = htons(*port);
	}
	fd = socket(a.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, &a.any, n) != 0)
		abort();
	if (path == NULL) {
		if (getsockname(fd, &a.any, &n) != 0)
			abort();
		*port = ntohs(a.v4.sin_port);
	}
	return fd;
}

/* Free, and none that the kernel gives to a socket by itself: it may be had again after a close. */
static uint16_t
quiet_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (uint16_t port = 20000; port < 30000; port++) {
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		int rv;

		a.sin_port = htons(port);
		rv = bind(fd, (struct sockaddr *)&a, sizeof a);
		close(fd);
		if (rv == 0)
			return port;
	}
	abort();
}

/* What was added to a count in all that came. */
static uint64_t
sum(int fd, const char *name)
{
	char datagram[9000];
	uint64_t n = 0;
	ssize_t k;

	while ((k = recv(fd, datagram, sizeof datagram - 1, 0)) > 0) {
		datagram[k] = '\0';
		for (const char *p = datagram; (p = strstr(p, name)) != NULL; p++)
			n += strtoull(p + strlen(name), NULL, 10);
	}
	return n;
}

static enum err
no_status(void *ctx, struct status_snapshot *out)
{
	(void)ctx;
	(void)out;
	return E_STATE;
}

static struct metrics *
make(const char *url)
{
	struct status_snapshot *begin = calloc(1, sizeof *begin);
	struct metrics_options o = { .on = true, .service = "s", .interval_ms = 1000 };
	struct metrics *m = NULL;

	snprintf(o.url, sizeof o.url, "%s", url);
	if (metrics_new(&o, begin, no_status, NULL, &m) != E_OK)
		abort();
	free(begin);
	return m;
}

static struct metrics_status
status_of(struct metrics *m)
{
	struct metrics_status s;

	metrics_status(m, &s);
	return s;
}

TEST(reads_addresses_and_nothing_else)
{
	static const char *const good[] = { "udp://localhost:8125", "udp://127.0.0.1:1",
		"udp://[::1]:65535", "unix:///a", "unixgram:///a/b.sock" };
	static const char *const bad[] = { "", "udp://", "udp://host", "udp://host:", "udp://:1",
		"udp://host:0", "udp://host:65536", "udp://host:1x", "udp://host:-1",
		"udp://host:1/", "udp://[::1]", "udp://[::1:8125", "udp://host:000001", "unix://",
		"unix://a", "tcp://host:1", "http://host:1", "unixstream:///a", "localhost:8125" };
	char longest[400] = "unix:///";

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		CHECK_EQ(metrics_url_check(good[i]), E_OK);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK_EQ(metrics_url_check(bad[i]), E_INVAL);
	memset(longest + 8, 'a', 106);
	CHECK_EQ(metrics_url_check(longest), E_OK);
	longest[114] = 'a';
	CHECK_EQ(metrics_url_check(longest), E_INVAL);
	memset(longest, 0, sizeof longest);
	strcpy(longest, "udp://");
	memset(longest + 6, 'a', 256);
	strcat(longest, ":1");
	CHECK_EQ(metrics_url_check(longest), E_INVAL);
}

TEST(keeps_counts_while_a_unix_socket_is_away_and_finds_the_new_one)
{
	struct status_snapshot *s = snapshot_plain();
	char url[200], path[100];
	struct metrics *m = make(socket_url(url));
	int fd;

	snprintf(path, sizeof path, "%s/dsd", dir);
	metrics_flush_last(m, s);
	CHECK_EQ(status_of(m).dropped[METRICS_ABSENT], 1);
	CHECK_EQ(status_of(m).sent_datagrams, 0);
	CHECK(status_of(m).last_error[0] != '\0' && status_of(m).last_ok_real_ns == 0);
	fd = serve(path, NULL);
	s->store.received[SIGNAL_TRACE] += 1;
	metrics_flush_last(m, s);
	CHECK_EQ(sum(fd, "comfymon.pipeline.received:"), 101);
	CHECK(status_of(m).last_error[0] == '\0' && status_of(m).last_ok_real_ns != 0);
	close(fd); /* its path stays: refused */
	s->store.received[SIGNAL_TRACE] += 10;
	metrics_flush_last(m, s);
	CHECK_EQ(status_of(m).dropped[METRICS_REFUSED], 1);
	fd = serve(path, NULL); /* another socket at the same path, between two flushes */
	close(fd);
	fd = serve(path, NULL);
	s->store.received[SIGNAL_TRACE] += 100;
	metrics_flush_last(m, s);
	CHECK_EQ(sum(fd, "comfymon.pipeline.received:"), 110);
	close(fd);
	fd = serve(path, NULL); /* begun anew: not even this datagram is lost */
	s->store.received[SIGNAL_TRACE] += 5;
	metrics_flush_last(m, s);
	CHECK_EQ(sum(fd, "comfymon.pipeline.received:"), 5);
	CHECK_EQ(status_of(m).dropped[METRICS_REFUSED], 1);
	CHECK_EQ(status_of(m).flushes, 5);
	close(fd);
	unlink(path);
	metrics_free(m);
	free(s);
}

TEST(does_not_wait_for_who_does_not_read)
{
	struct status_snapshot *s = snapshot_plain();
	char url[200], path[100];
	struct metrics *m = make(socket_url(url));
	uint64_t told = 0;
	int fd, rounds = 0;

	snprintf(path, sizeof path, "%s/dsd", dir);
	fd = serve(path, NULL);
	while (status_of(m).dropped[METRICS_FULL] == 0 && rounds++ < 10000) {
		s->store.received[SIGNAL_TRACE] += 1;
		metrics_flush_last(m, s);
	}
	CHECK(rounds < 10000);
	told += sum(fd, "comfymon.pipeline.received:");
	metrics_flush_last(m, s);
	told += sum(fd, "comfymon.pipeline.received:");
	CHECK_EQ(told, s->store.received[SIGNAL_TRACE]);
	close(fd);
	unlink(path);
	metrics_free(m);
	free(s);
}

TEST(keeps_counts_while_nobody_listens_on_the_port)
{
	struct status_snapshot *s = snapshot_plain();
	uint16_t port = 0;
	uint64_t told = 0;
	char url[64];
	struct metrics *m;
	int fd;

	port = quiet_port();
	fd = serve(NULL, &port);
	snprintf(url, sizeof url, "udp://127.0.0.1:%u", port);
	m = make(url);
	for (int round = 0; round < 20; round++) {
		if (round % 4 == 1)
			close(fd);
		s->store.received[SIGNAL_TRACE] += 3;
		metrics_flush_last(m, s);
		if (round % 4 == 3)
			fd = serve(NULL, &port);
		else if (round % 4 == 0)
			told += sum(fd, "comfymon.pipeline.received:");
	}
	metrics_flush_last(m, s);
	told += sum(fd, "comfymon.pipeline.received:");
	CHECK_EQ(told, s->store.received[SIGNAL_TRACE]);
	CHECK(status_of(m).dropped[METRICS_REFUSED] >= 15);
	CHECK(status_of(m).sent_datagrams > 0);
	close(fd);
	metrics_free(m);
	free(s);
}

/* The kernel may give the sender's socket the very port that nobody listens on. */
TEST(never_talks_to_itself)
{
	enum metrics_drop why = METRICS_FAILED;
	uint16_t port = 0;
	struct line l;
	char url[64];

	close(serve(NULL, &port));
	snprintf(url, sizeof url, "udp://127.0.0.1:%u", port);
	CHECK_EQ(line_parse(url, &l), E_OK);
	for (int i = 0; i < 100000; i++) {
		REQUIRE(!line_open(&l, &why) || !line_send(&l, "x", 1, &why));
		CHECK_EQ(why, METRICS_REFUSED);
		line_close(&l);
	}
}

TEST(says_that_a_name_has_no_address)
{
	enum metrics_drop why = METRICS_FAILED;
	struct line l;

	CHECK_EQ(line_parse("udp://nobody.invalid:8125", &l), E_OK);
	CHECK(line_needs_resolver(&l));
	line_resolve(&l);
	CHECK(!line_open(&l, &why));
	CHECK_EQ(why, METRICS_UNRESOLVED);
	CHECK(strstr(l.error, "nobody.invalid") != NULL);
}

TEST(is_off_when_it_is_not_there)
{
	metrics_stop(NULL);
	metrics_flush_last(NULL, NULL);
	metrics_free(NULL);
	CHECK(!status_of(NULL).on);
}

int
main(void)
{
	strcpy(dir, "/tmp/metrics_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return 1;
	RUN(reads_addresses_and_nothing_else);
	RUN(keeps_counts_while_a_unix_socket_is_away_and_finds_the_new_one);
	RUN(does_not_wait_for_who_does_not_read);
	RUN(keeps_counts_while_nobody_listens_on_the_port);
	RUN(never_talks_to_itself);
	RUN(says_that_a_name_has_no_address);
	RUN(is_off_when_it_is_not_there);
	rmdir(dir);
	return t_done();
}
