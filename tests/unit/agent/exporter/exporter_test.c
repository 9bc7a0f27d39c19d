/*
 * The circuit of a destination that is away: it rests, and says when it is over.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/core/export.h"
#include "tests/t.h"

static _Atomic unsigned wakes;

static void
wake(void *ctx)
{
	(void)ctx;
	wakes++;
}

/* A port of loopback on which nobody listens. */
static unsigned
free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		exit(2);
	close(fd);
	return ntohs(a.sin_port);
}

static struct exporter *
away(bool asked)
{
	struct destination_options d = { .name = "agent", .asked = asked, .timeout_ms = 500 };
	struct exporter *e = NULL;

	snprintf(d.url, sizeof d.url, "http://127.0.0.1:%u", free_port());
	if (exporter_new(&d, 1, wake, NULL, &e) != E_OK || exporter_start(e) != E_OK)
		exit(2);
	wakes = 0;
	return e;
}

static uint32_t
wants(struct exporter *e)
{
	struct export_wish w;

	exporter_wants(e, 0, &w);
	return w.chunks;
}

static bool
give_empty_bundle(struct exporter *e)
{
	struct wire_bundle none = { 0 };
	struct lease l = { .chunk.blob = calloc(1, BUNDLE_FIXED_BYTES),
		.chunk.blob_bytes = BUNDLE_FIXED_BYTES,
		.probe = calloc(1, sizeof *l.probe) };

	wire_bundle_seal(l.chunk.blob, &none);
	if (exporter_give(e, 0, &l, 1) == E_OK)
		return true;
	lease_free(&l);
	return false;
}

static bool
await(const unsigned count, uint64_t ms)
{
	uint64_t until = clock_mono_ns() + ms * NS_PER_MS;

	while (wakes < count && clock_mono_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	return wakes >= count;
}

TEST(rests_after_a_failed_connection_and_wakes_the_pipeline_when_it_is_over)
{
	struct exporter *e = away(true);
	struct export_result r;
	struct destination_status s;

	CHECK_EQ(wants(e) > 0, 1);
	CHECK(give_empty_bundle(e));
	CHECK_EQ(wants(e) > 0, 0);
	CHECK(await(1, 5000));
	REQUIRE(exporter_take(e, &r) == E_OK);
	CHECK_EQ(r.s.kind, SETTLE_RETRY);
	CHECK(r.s.status < 0);
	CHECK(r.s.next_try_real_ns > 0);
	CHECK_EQ(exporter_take(e, &r), E_NOTFOUND);
	exporter_status(e, 0, &s);
	CHECK_EQ(s.state, DEST_OFFLINE);
	CHECK_EQ(s.retries, 1);
	/* The first rest is 1 s at most; nobody asks meanwhile. */
	CHECK(await(2, 5000));
	CHECK_EQ(wants(e) > 0, 1);
	exporter_free(e);
}

TEST(rests_by_the_monotonic_clock_when_the_real_one_is_set_back)
{
	struct exporter *e = away(true);
	struct export_result r;

	CHECK(give_empty_bundle(e));
	CHECK(await(1, 5000));
	REQUIRE(exporter_take(e, &r) == E_OK);
	clock_test_shift(0, -(int64_t)(3600 * NS_PER_S));
	CHECK(await(2, 5000));
	CHECK_EQ(wants(e) > 0, 1);
	clock_test_shift(0, 0);
	exporter_free(e);
}

TEST(is_local_when_nobody_asked_for_the_destination)
{
	struct exporter *e = away(false);
	struct destination_status s;

	CHECK(give_empty_bundle(e));
	CHECK(await(1, 5000));
	exporter_status(e, 0, &s);
	CHECK_EQ(s.state, DEST_LOCAL);
	exporter_free(e);
}

int
main(void)
{
	RUN(rests_after_a_failed_connection_and_wakes_the_pipeline_when_it_is_over);
	RUN(rests_by_the_monotonic_clock_when_the_real_one_is_set_back);
	RUN(is_local_when_nobody_asked_for_the_destination);
	return t_done();
}
