/*
 * receiver_test.c - the listener against peers that behave and peers that do not.
 */
#include "tests/t.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"
#include "agent/core/intake.h"
#include "tests/unit/agent/receiver/peer.h"

static char dir[64];
static struct waker waker;
static uint8_t frame[FRAME_MAX_BYTES];

static void
wake(void *ctx)
{
	waker_wake(ctx);
}

static struct receiver *
start(uint64_t inbox_bytes, uint64_t handshake_ms, uint32_t connections)
{
	struct receiver_options o = { .run_dir = dir,
		.handshake_ms = handshake_ms,
		.max_connections = connections,
		.inbox_bytes = inbox_bytes };
	struct receiver *r = NULL;

	if (receiver_new(&o, wake, &waker, &r) != E_OK)
		return NULL;
	if (receiver_start(r) != E_OK) {
		receiver_free(r);
		return NULL;
	}
	return r;
}

/* The next item within five seconds. */
static bool
take(struct receiver *r, struct intake_item *it)
{
	uint64_t until = clock_mono_ns() + 5 * NS_PER_S;

	while (receiver_take(r, it) != E_OK) {
		if (clock_mono_ns() > until)
			return false;
		waker_wait(&waker, clock_mono_ns() + 20 * NS_PER_MS);
	}
	return true;
}

static bool
stats_reach(struct receiver *r, size_t offset, uint64_t want)
{
	struct receiver_stats s;

	for (int i = 0; i < 300; i++) {
		receiver_stats(r, &s);
		if (*(uint64_t *)((char *)&s + offset) >= want)
			return true;
		usleep(10000);
	}
	return false;
}
#define REACH(r, field, n) stats_reach(r, offsetof(struct receiver_stats, field), n)

static bool
closed_by_peer(int fd)
{
	struct pollfd pf = { .fd = fd, .events = POLLIN };
	char c;

	return poll(&pf, 1, 5000) == 1 && read(fd, &c, 1) <= 0;
}

TEST(takes_hello_and_batch_and_sends_the_reply_back)
{
	struct receiver *r = start(1 << 20, 5000, 4);
	struct intake_item it;
	struct wire_stored s = { .end = 96, .status = STORED_OK }, got;
	uint8_t id[16];
	uint64_t end;
	struct stat st;
	char path[128];

	REQUIRE(r != NULL);
	snprintf(path, sizeof path, "%s/%s", dir, RUN_SOCKET_NAME);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);

	int fd = peer_connect(dir);

	REQUIRE(peer_handshake(fd));
	CHECK(peer_frame(fd, frame, peer_hello(frame, sizeof frame, 7)));
	CHECK(peer_frame(fd, frame, peer_batch(frame, 7, 0, 1, &end)));
	REQUIRE(take(r, &it));
	CHECK_EQ(it.kind, INTAKE_HELLO);
	free(it.body);
	REQUIRE(take(r, &it));
	CHECK_EQ(it.kind, INTAKE_BATCH);
	CHECK(it.said_hello);
	free(it.body);
	peer_id(id, 7);
	CHECK(receiver_has_probe(r, id));
	memcpy(s.probe_id, id, 16);
	receiver_reply(r, it.connection, &s);
	REQUIRE(peer_stored(fd, &got, 5000));
	CHECK_EQ(got.end, 96);
	close(fd);
	for (int i = 0; i < 200 && receiver_has_probe(r, id); i++)
		usleep(10000);
	CHECK(!receiver_has_probe(r, id));
	receiver_reply(r, it.connection, &s); /* gone: ignored */
	receiver_free(r);
}

TEST(replies_keep_their_order_and_a_later_ok_says_what_earlier_ones_said)
{
	struct receiver *r = start(1 << 20, 5000, 4);
	struct intake_item it;
	struct wire_stored s = { .status = STORED_OK }, got = { .end = 0 };

	REQUIRE(r != NULL);

	int fd = peer_connect(dir);

	REQUIRE(peer_handshake(fd));
	CHECK(peer_frame(fd, frame, peer_hello(frame, sizeof frame, 7)));
	REQUIRE(take(r, &it));
	free(it.body);
	for (uint64_t i = 1, last = 0; i <= 20000; i++) {
		s.end = i;
		receiver_reply(r, it.connection, &s);
		if (i % 1000 != 0)
			continue;
		while (got.end < i) {
			REQUIRE(peer_stored(fd, &got, 5000));
			CHECK(got.end > last);
			last = got.end;
		}
	}
	close(fd);
	receiver_free(r);
}

TEST(survives_two_thousand_peers_that_connect_and_close)
{
	struct receiver *r = start(1 << 20, 5000, 8);
	struct intake_item it;

	REQUIRE(r != NULL);
	for (int i = 0; i < 2000; i++) {
		int fd = peer_connect(dir);

		if (fd >= 0)
			close(fd);
	}

	int fd = -1;
	bool shook = false;

	for (int i = 0; i < 100 && !shook; i++) {
		fd = peer_connect(dir);
		shook = fd >= 0 && peer_handshake(fd);
		if (!shook) {
			close(fd);
			usleep(20000); /* the table is still full of the dead */
		}
	}
	REQUIRE(shook);
	CHECK(peer_frame(fd, frame, peer_hello(frame, sizeof frame, 7)));
	REQUIRE(take(r, &it));
	free(it.body);
	close(fd);
	receiver_free(r);
}

TEST(closes_a_half_open_peer_at_the_deadline_and_serves_others_meanwhile)
{
	struct receiver *r = start(1 << 20, 200, 4);
	struct intake_item it;

	REQUIRE(r != NULL);

	int half = peer_connect(dir), good = peer_connect(dir);
	uint8_t answer[8];

	CHECK(peer_send(half, "\0SP", 3));
	REQUIRE(peer_handshake(good));
	CHECK(peer_frame(good, frame, peer_hello(frame, sizeof frame, 7)));
	REQUIRE(take(r, &it));
	free(it.body);
	CHECK(peer_read(half, answer, 8, 1000));
	CHECK(closed_by_peer(half));
	CHECK(REACH(r, handshakes_failed, 1));
	CHECK(peer_send(good, "\1\0\0", 3)); /* the good one stops in a header */
	CHECK(closed_by_peer(good));
	CHECK(REACH(r, malformed_frames, 1));
	close(half);
	close(good);
	receiver_free(r);
}

TEST(refuses_a_wrong_handshake_and_lengths_beyond_the_limit_before_allocating)
{
	static const uint64_t lengths[] = { FRAME_MAX_BYTES + 1, UINT64_C(1) << 63, UINT64_MAX };
	struct receiver *r = start(1 << 20, 2000, 4);
	uint8_t head[9], answer[8];

	REQUIRE(r != NULL);

	int fd = peer_connect(dir);

	CHECK(peer_send(fd, "GET / HT", 8));
	CHECK(peer_read(fd, answer, 8, 2000));
	CHECK(closed_by_peer(fd));
	close(fd);
	for (size_t i = 0; i < 3; i++) {
		fd = peer_connect(dir);
		REQUIRE(peer_handshake(fd));
		peer_head(head, lengths[i]);
		CHECK(peer_send(fd, head, 9));
		CHECK(closed_by_peer(fd));
		close(fd);
		CHECK(REACH(r, too_large_frames, i + 1));
	}
	CHECK(REACH(r, handshakes_failed, 1));
	receiver_free(r);
}

TEST(counts_garbage_with_its_place_and_keeps_a_batch_of_wrong_content_apart)
{
	struct receiver *r = start(1 << 20, 2000, 4);
	struct receiver_stats s;
	struct intake_item it;
	uint64_t end;

	REQUIRE(r != NULL);

	int fd = peer_connect(dir);

	REQUIRE(peer_handshake(fd));
	CHECK(peer_frame(fd, "XXXXXXXX", 8)); /* unknown: skipped, a newer probe may mean it */
	CHECK(peer_frame(fd, "", 0));

	size_t n = peer_batch(frame, 7, 0, 2, &end);
	struct wire_batch b;
	struct wire_error err;

	REQUIRE(wire_batch_peek(frame, n, &b, &err) == 0);
	b.span_count = 1; /* a lie with a right crc */
	wire_batch_seal(frame, &b);
	CHECK(peer_frame(fd, frame, n));
	REQUIRE(take(r, &it));
	CHECK_EQ(it.kind, INTAKE_MALFORMED);
	free(it.body);
	receiver_stats(r, &s);
	CHECK_EQ(s.malformed_frames, 3);
	CHECK_STR(s.last_malformed, "batch's counts differ at byte 144");

	n = peer_batch(frame, 7, 0, 2, &end);
	frame[200] ^= 1; /* crc wrong: nothing in it is believed */
	CHECK(peer_frame(fd, frame, n));
	CHECK(closed_by_peer(fd));
	close(fd);
	receiver_free(r);
}

TEST(a_frame_cut_at_any_place_is_discarded_and_leaves_nothing_behind)
{
	struct receiver *r = start(1 << 20, 2000, 8);
	struct intake_item it;
	uint8_t head[9];
	uint64_t end;

	REQUIRE(r != NULL);

	size_t n = peer_batch(frame, 7, 0, 3, &end);

	for (size_t cut = 1; cut < n; cut += 37) {
		int fd = peer_connect(dir);

		REQUIRE(peer_handshake(fd));
		peer_head(head, n);
		CHECK(peer_send(fd, head, 9));
		CHECK(peer_send(fd, frame, cut));
		close(fd);
		usleep(2000);
	}
	CHECK(REACH(r, malformed_frames, n / 37));
	CHECK(receiver_take(r, &it) == E_NOTFOUND);
	receiver_free(r);
}

/* Frame after frame, until the receiver holds the connection; how much of the last one is missing.
 */
static size_t
send_until_held(struct receiver *r, int fd, size_t n)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;
	struct receiver_stats s;
	uint8_t head[9];

	peer_head(head, n);
	for (;;) {
		size_t at = 0, all = sizeof head + n;

		while (at < all) {
			bool in_head = at < sizeof head;
			const uint8_t *from = in_head ? head + at : frame + at - sizeof head;
			size_t piece = in_head ? sizeof head - at : all - at;
			ssize_t m = send(fd, from, piece, MSG_NOSIGNAL);
			struct pollfd pf = { .fd = fd, .events = POLLOUT };

			if (m > 0) {
				at += (size_t)m;
				continue;
			}
			receiver_stats(r, &s);
			if (poll(&pf, 1, 100) == 0 && at >= sizeof head &&
			    (s.waits_full > 0 || clock_mono_ns() > until))
				return all - at;
		}
	}
}

TEST(does_not_read_a_peer_while_the_inbox_is_full_or_paused)
{
	uint64_t end;
	size_t n = peer_batch(frame, 7, 0, 1000, &end);
	struct receiver *r = start(2 * n + 10, 2000, 4);
	struct intake_item it;
	struct receiver_stats s;

	REQUIRE(r != NULL);

	int fd = peer_connect(dir);

	REQUIRE(peer_handshake(fd));
	fcntl(fd, F_SETFL, O_NONBLOCK);

	size_t left = send_until_held(r, fd, n);

	CHECK(REACH(r, batches, 2));
	receiver_stats(r, &s);
	CHECK(s.waits_full > 0);
	receiver_pause(r, true);
	for (int i = 0; i < 2; i++) {
		REQUIRE(take(r, &it));
		free(it.body);
	}
	usleep(50000);
	CHECK(receiver_take(r, &it) == E_NOTFOUND);
	receiver_pause(r, false);
	/* The frame that was under way is read to its end, which may not have been sent yet. */
	fcntl(fd, F_SETFL, 0);
	CHECK(left == 0 || peer_send(fd, frame + n - left, left));
	REQUIRE(take(r, &it));
	free(it.body);
	close(fd);
	receiver_free(r);
}

TEST(says_busy_when_somebody_listens_and_takes_over_a_stale_socket)
{
	struct receiver *r = start(1 << 20, 2000, 4), *second = NULL;
	struct receiver_options o = {
		.run_dir = dir, .handshake_ms = 1000, .inbox_bytes = 1 << 20
	};
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	REQUIRE(r != NULL);
	REQUIRE(receiver_new(&o, wake, &waker, &second) == E_OK);
	CHECK_EQ(receiver_start(second), E_BUSY);
	receiver_free(second);
	receiver_free(r);

	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", dir, RUN_SOCKET_NAME);
	CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
	close(fd); /* its name stays: a stale socket */
	r = start(1 << 20, 2000, 4);
	CHECK(r != NULL);
	receiver_free(r);
}

int
main(void)
{
	snprintf(dir, sizeof dir, "/tmp/recvtest-%d", (int)getpid());
	mkdir(dir, 0700);
	waker_init(&waker);
	log_set_level(LOG_ERROR);
	RUN(takes_hello_and_batch_and_sends_the_reply_back);
	RUN(replies_keep_their_order_and_a_later_ok_says_what_earlier_ones_said);
	RUN(survives_two_thousand_peers_that_connect_and_close);
	RUN(closes_a_half_open_peer_at_the_deadline_and_serves_others_meanwhile);
	RUN(refuses_a_wrong_handshake_and_lengths_beyond_the_limit_before_allocating);
	RUN(counts_garbage_with_its_place_and_keeps_a_batch_of_wrong_content_apart);
	RUN(a_frame_cut_at_any_place_is_discarded_and_leaves_nothing_behind);
	RUN(does_not_read_a_peer_while_the_inbox_is_full_or_paused);
	RUN(says_busy_when_somebody_listens_and_takes_over_a_stale_socket);
	rmdir(dir);
	return t_done();
}
