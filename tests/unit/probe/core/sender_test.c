/* The sender against a collector that a script plays: byte for byte, kind and hostile. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/core/ident.h"
#include "probe/core/probe.h"
#include "schema/tables.h"
#include "tests/unit/probe/core/collector.h"

TEST(says_hello_resumes_where_told_and_releases_what_is_stored)
{
	char value[16];

	server_open();
	REQUIRE(start(256 * 1024) && span(1) && span(2));
	REQUIRE(accept_one() && read_hello());
	CHECK_EQ(hello.pid, getpid());
	CHECK_EQ(hello.acknowledged, 0);
	CHECK(wire_attr_find(hello.attrs, hello.attrs_bytes, "service", value, sizeof value));
	CHECK_STR(value, "s");
	CHECK(!readable(peer, 300)); /* nothing before the answer */
	REQUIRE(reply(STORED_OK, 96) && read_batch());
	CHECK_EQ(batch.first, 96);
	CHECK_EQ(batch.span_count, 1);
	CHECK_EQ(acknowledged(), 96);
	CHECK(reply(STORED_OK, batch.end));
	CHECK(becomes_acknowledged(batch.end));
	REQUIRE(span(3));
	REQUIRE(read_batch());
	CHECK_EQ(batch.first, 192);
	stop();
}

TEST(takes_a_handshake_and_replies_in_single_bytes)
{
	uint8_t frame[SP_HEADER_BYTES + STORED_BYTES] = { 1, 0, 0, 0, 0, 0, 0, 0, STORED_BYTES };
	struct wire_stored s = { .end = 0 };

	server_open();
	REQUIRE(start(256 * 1024) && span(1) && accept_one());
	for (size_t i = 0; i < sizeof pull; i++, pause_ms(5))
		REQUIRE(say(pull + i, 1));
	uint8_t shake[SP_HANDSHAKE_BYTES];
	struct wire_error err;

	REQUIRE(read_exactly(shake, sizeof shake) && read_frame());
	REQUIRE(wire_hello_get(body, body_bytes, &hello, &err) == 0);
	memcpy(s.probe_id, hello.probe_id, sizeof s.probe_id);
	wire_stored_put(frame + SP_HEADER_BYTES, &s);
	for (size_t i = 0; i < sizeof frame; i++, pause_ms(2))
		REQUIRE(say(frame + i, 1));
	CHECK(read_batch());
	CHECK_EQ(batch.span_count, 1);
	stop();
}

TEST(sends_again_from_where_the_collector_wants_it)
{
	uint64_t first_end;

	server_open();
	REQUIRE(start(256 * 1024) && span(1) && greet(0) && read_batch());
	first_end = batch.end;
	REQUIRE(span(2) && read_batch());
	CHECK_EQ(batch.first, first_end);
	/* Both were refused: one answer each, and one resend. */
	REQUIRE(reply(STORED_WANTED, 0) && read_batch());
	CHECK_EQ(batch.first, 0);
	CHECK_EQ(batch.span_count, 2);
	REQUIRE(reply(STORED_WANTED, 0));
	CHECK(!readable(peer, 300));
	CHECK(reply(STORED_OK, batch.end));
	CHECK(becomes_acknowledged(batch.end));
	stop();
}

TEST(goes_on_behind_a_batch_that_was_refused_for_good)
{
	uint64_t end;

	server_open();
	REQUIRE(start(256 * 1024) && span(1) && greet(0) && read_batch());
	end = batch.end;
	REQUIRE(reply(STORED_MALFORMED, end) && span(2) && read_batch());
	CHECK_EQ(batch.first, end);
	CHECK_EQ(acknowledged(), end);
	stop();
}

TEST(sends_the_unstored_again_after_a_disconnect)
{
	server_open();
	REQUIRE(start(256 * 1024) && span(1) && greet(0) && read_batch());
	REQUIRE(greet(0) && read_batch());
	CHECK_EQ(batch.first, 0);
	CHECK_EQ(batch.span_count, 1);
	CHECK(reply(STORED_OK, batch.end));
	CHECK(becomes_acknowledged(batch.end));
	stop();
}

TEST(survives_a_disconnect_in_the_middle_of_a_frame)
{
	uint8_t some[40000];

	server_open();
	REQUIRE(start(2u << 20));
	for (int i = 0; i < 5000; i++)
		REQUIRE(span((uint64_t)i + 1));
	REQUIRE(greet(0) && read_exactly(some, sizeof some));
	uint64_t spans = 0;

	REQUIRE(greet(0));
	while (spans < 5000 && read_batch()) {
		spans += batch.span_count;
		REQUIRE(reply(STORED_OK, batch.end));
	}
	CHECK_EQ(spans, 5000);
	stop();
}

TEST(keeps_few_batches_on_the_way_and_gives_every_span_once)
{
	uint64_t spans = 0, at = 0, batches = 0;

	server_open();
	REQUIRE(start(16u << 20));
	for (int i = 0; i < 60000; i++)
		REQUIRE(span((uint64_t)i + 1));
	REQUIRE(greet(0));
	for (; batches < 16 && read_batch(); batches++) {
		CHECK_EQ(batch.first, at);
		at = batch.end;
		spans += batch.span_count;
	}
	CHECK_EQ(batches, 16);
	CHECK(!readable(peer, 300));
	CHECK(reply(STORED_OK, at)); /* one answer for all */
	while (spans < 60000 && read_batch()) {
		CHECK_EQ(batch.first, at);
		at = batch.end;
		spans += batch.span_count;
		CHECK(reply(STORED_OK, at));
	}
	CHECK_EQ(spans, 60000);
	CHECK(becomes_acknowledged(at));
	stop();
}

TEST(tells_a_collector_that_lost_its_data_what_is_gone)
{
	uint64_t end;

	server_open();
	REQUIRE(start(256 * 1024) && span(1) && greet(0) && read_batch());
	end = batch.end;
	REQUIRE(reply(STORED_OK, end) && becomes_acknowledged(end) && span(2));
	REQUIRE(greet(0) && read_batch());
	CHECK_EQ(batch.first, 0);
	CHECK_EQ(wire_get16(batch.records + 12), EVENT_LOSS);
	CHECK_EQ(wire_get64(batch.records + RECORD_HEADER_BYTES + 8), end);
	CHECK_EQ(batch.span_count, 1);
	stop();
}

static bool
drops_a_peer_that_says(const void *p, size_t n)
{
	return greet(0) && say(p, n) && hung_up_by_probe();
}

TEST(drops_a_peer_that_breaks_the_protocol_and_tries_again)
{
	static const uint8_t huge[9] = { 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t long_frame[9] = { 1, 0, 0, 0, 0, 0, 0, 0x20, 0 };
	static const uint8_t wrong_type[9] = { 2, 0, 0, 0, 0, 0, 0, 0, 4 };
	uint8_t broken[SP_HEADER_BYTES + STORED_BYTES] = { 1, 0, 0, 0, 0, 0, 0, 0, STORED_BYTES };

	memcpy(broken + SP_HEADER_BYTES, STORED_MAGIC, 4);
	server_open();
	REQUIRE(start(256 * 1024) && span(1));
	CHECK(drops_a_peer_that_says(huge, sizeof huge));
	CHECK(drops_a_peer_that_says(long_frame, sizeof long_frame));
	CHECK(drops_a_peer_that_says(wrong_type, sizeof wrong_type));
	CHECK(drops_a_peer_that_says(broken, sizeof broken));
	REQUIRE(accept_one());
	CHECK(say("HTTP/1.1 400 Bad Request\r\n", 26));
	CHECK(hung_up_by_probe());
	/* Stored more than there is: not our collector. */
	REQUIRE(accept_one() && read_hello() && reply(STORED_OK, 1u << 30));
	CHECK(hung_up_by_probe());
	CHECK_EQ(acknowledged(), 0);
	/* Stored what it was never given: recorded meanwhile, but not sent. */
	REQUIRE(greet(0) && read_batch());
	CHECK_EQ(batch.span_count, 1);
	REQUIRE(span(2) && reply(STORED_OK, batch.end + 96));
	CHECK(hung_up_by_probe());
	CHECK_EQ(acknowledged(), 0);
	stop();
}

TEST(drops_a_peer_that_claims_the_middle_of_a_record)
{
	server_open();
	REQUIRE(start(256 * 1024) && span(1) && span(2));
	REQUIRE(greet(0) && read_batch());
	REQUIRE(reply(STORED_OK, batch.end - 5));
	CHECK(hung_up_by_probe());
	CHECK_EQ(acknowledged(), 0);
	REQUIRE(greet(0) && read_batch());
	CHECK_EQ(batch.span_count, 2);
	stop();
}

TEST(passes_over_frames_of_an_unknown_kind)
{
	static const uint8_t news[SP_HEADER_BYTES + 8] = { 1, 0, 0, 0, 0, 0, 0, 0, 8, 'C', 'M', 'X',
		'9', 1, 2, 3, 4 };

	server_open();
	REQUIRE(start(256 * 1024) && span(1) && greet(0) && say(news, sizeof news));
	REQUIRE(read_batch() && reply(STORED_OK, batch.end));
	CHECK(becomes_acknowledged(batch.end));
	stop();
}

TEST(a_peer_that_is_silent_costs_the_host_nothing)
{
	server_open();
	REQUIRE(start(256 * 1024) && span(1) && accept_one());
	uint64_t began = comfymon_now_ns();

	for (int i = 0; i < 1000; i++)
		REQUIRE(span((uint64_t)i + 2));
	CHECK(comfymon_now_ns() - began < 500 * NS_PER_MS);
	began = comfymon_now_ns();
	comfymon_stop(200);
	CHECK(comfymon_now_ns() - began < 2000 * NS_PER_MS);
	stop();
}

TEST(a_full_ring_without_a_collector_drops_the_newest_and_counts)
{
	struct comfymon_stats f;
	uint64_t took = 0, refused = 0;

	REQUIRE(start(256 * 1024));
	for (int i = 0; i < 4000; i++)
		*(span((uint64_t)i + 1) ? &took : &refused) += 1;
	comfymon_stats(&f);
	CHECK(refused > 0);
	CHECK_EQ(f.losses[WIRE_LOSS_RING_FULL], refused);
	CHECK_EQ(f.spans, took);
	server_open();
	REQUIRE(greet(0));
	for (uint64_t got = 0; got < took; got += batch.span_count) {
		REQUIRE(read_batch() && reply(STORED_OK, batch.end));
		if (got == 0)
			CHECK_EQ(wire_get64(batch.records + RECORD_HEADER_BYTES + 16), 1);
	}
	CHECK_EQ(batch.losses[WIRE_LOSS_RING_FULL], refused);
	stop();
}

/* How often the sender's thread has gone to sleep; -1 when there is none. */
static long
sender_switches(void)
{
	DIR *d = opendir("/proc/self/task");
	char name[300], line[200];
	long n, found = -1;

	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		bool ours = false;
		FILE *f;

		snprintf(name, sizeof name, "/proc/self/task/%s/status", e->d_name);
		if (e->d_name[0] == '.' || (f = fopen(name, "r")) == NULL)
			continue;
		while (fgets(line, sizeof line, f) != NULL) {
			ours |= strstr(line, "comfymon-send") != NULL;
			if (ours && sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
				found = n;
		}
		fclose(f);
	}
	closedir(d);
	return found;
}

TEST(connects_when_a_collector_comes_and_sleeps_while_there_is_nothing)
{
	long before;

	REQUIRE(start(256 * 1024) && span(1));
	pause_ms(300);
	server_open();
	REQUIRE(greet(0) && read_batch() && reply(STORED_OK, batch.end));
	CHECK(becomes_acknowledged(batch.end));
	pause_ms(200);
	before = sender_switches();
	CHECK(before > 0);
	pause_ms(1200);
	CHECK_EQ(sender_switches(), before); /* no timer at all */
	REQUIRE(span(2));
	CHECK(read_batch());
	stop();
}

/* In a child: a probe that is off stays off. The sender has gone to sleep when `asleep`. */
static int
off_after_descriptors_are_closed(bool asleep)
{
	struct wire_span s = { .trace_lo = 7, .span_id = 9 };
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (!start(256 * 1024) || (asleep && !greet(0)))
			_exit(1);
		pause_ms(asleep ? 300 : 0);
		for (int fd = 3; fd < 64; fd++)
			syscall(SYS_close, fd); /* unseen by a race detector: it is a race */
		for (int i = 0; i < 300 && comfymon_span_finish(&s, COMFYMON_NO_SLOT); i++)
			pause_ms(10);
		if (strstr(comfymon_off_reason(), "descriptor") == NULL)
			_exit(2);
		comfymon_stop(0);
		_exit(comfymon_is_on());
	}
	waitpid(pid, &status, 0);
	return status;
}

TEST(turns_off_when_the_host_closes_descriptors_it_does_not_know)
{
	server_open();
	CHECK_EQ(off_after_descriptors_are_closed(false), 0);
	server_close();
	server_open();
	CHECK_EQ(off_after_descriptors_are_closed(true), 0);
	stop();
}

/* The host closes everything from 3 on and opens files of its own, which get the same numbers. */
static void
host_takes_the_descriptors(int theirs[2])
{
	bool open[64];

	for (int fd = 3; fd < 64; fd++)
		open[fd] = fcntl(fd, F_GETFD) >= 0;
	for (int fd = 3; fd < 64; fd++)
		syscall(SYS_close, fd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, theirs) != 0 ||
	    fcntl(theirs[1], F_DUPFD, 100) != 100 || close(theirs[1]) != 0 ||
	    fcntl(theirs[0], F_DUPFD, 101) != 101 || close(theirs[0]) != 0)
		_exit(3);
	theirs[0] = 101;
	theirs[1] = 100;
	for (int fd = 3; fd < 64; fd++)
		if (open[fd])
			dup2(theirs[0], fd);
}

TEST(touches_nothing_that_the_host_has_put_in_its_descriptors_place)
{
	struct wire_span s = { .trace_lo = 7, .span_id = 9 };
	int theirs[2], status = -1;
	char c;
	pid_t pid;

	server_open();
	pid = fork();
	if (pid == 0) {
		if (!start(256 * 1024) || !greet(0))
			_exit(1);
		pause_ms(300); /* it sleeps */
		host_takes_the_descriptors(theirs);
		if (send(theirs[1], "theirs", 6, 0) != 6)
			_exit(3);
		for (int i = 0; i < 300 && comfymon_span_finish(&s, COMFYMON_NO_SLOT); i++)
			pause_ms(10);
		comfymon_stop(0);
		if (strstr(comfymon_off_reason(), "descriptor") == NULL)
			_exit(2);
		if (recv(theirs[1], &c, 1, MSG_DONTWAIT) >= 0)
			_exit(4); /* we wrote to it */
		if (recv(theirs[0], &c, 1, MSG_DONTWAIT) != 1 || c != 't')
			_exit(5); /* we read from it */
		for (int fd = 3; fd < 8; fd++)
			if (fcntl(fd, F_GETFD) < 0)
				_exit(6); /* we closed it */
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	stop();
}

static bool
ring_path(char *name)
{
	DIR *d = opendir(dir);
	bool found = false;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (strncmp(e->d_name, RUN_RING_PREFIX, 5) == 0) {
			snprintf(name, 300, "%s/%s", dir, e->d_name);
			found = true;
		}
	closedir(d);
	return found;
}

/* As another process sees it. */
static bool
locked(const char *name)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open(name, O_RDWR);

		_exit(fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

TEST(takes_its_lock_again_when_the_host_has_opened_and_closed_the_ring)
{
	char name[300];

	server_open();
	REQUIRE(start(256 * 1024) && greet(0) && ring_path(name));
	CHECK(locked(name));
	close(open(name, O_RDONLY));
	CHECK(!locked(name));
	for (uint64_t i = 1; i < 300 && !locked(name); i++) {
		CHECK(span(i));
		pause_ms(10);
	}
	CHECK(locked(name));
	CHECK(comfymon_is_on());
	stop();
}

TEST(goes_on_when_its_file_has_been_removed)
{
	char name[300];
	int status = -1;
	pid_t pid;

	server_open();
	pid = fork();
	if (pid == 0) {
		if (!start(256 * 1024) || !greet(0) || !ring_path(name) || unlink(name) != 0)
			_exit(1);
		for (uint64_t i = 1; i < 150; i++) { /* over more than one look at the ring */
			if (!span(i))
				_exit(2);
			pause_ms(10);
		}
		if (!comfymon_is_on() || !read_batch())
			_exit(3);
		comfymon_stop(0);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	stop();
}

TEST(stop_hands_over_what_is_there_within_its_time)
{
	server_open();
	REQUIRE(start(256 * 1024) && greet(0) && span(1));
	uint64_t began = comfymon_now_ns();

	comfymon_stop(100); /* not answered in time */
	CHECK(comfymon_now_ns() - began < 1500 * NS_PER_MS);
	CHECK(read_batch());
	CHECK_EQ(batch.span_count, 1);
	CHECK(hung_up_by_probe());
	stop();
}

static void *
stop_patiently(void *took_ns)
{
	uint64_t began = comfymon_now_ns();

	comfymon_stop(PATIENCE_MS);
	*(uint64_t *)took_ns = comfymon_now_ns() - began;
	return NULL;
}

TEST(stop_ends_as_soon_as_all_is_stored)
{
	uint64_t took_ns = UINT64_MAX;
	pthread_t stopper;

	server_open();
	REQUIRE(start(256 * 1024) && greet(0) && span(1));
	REQUIRE(pthread_create(&stopper, NULL, stop_patiently, &took_ns) == 0);
	CHECK(read_batch() && reply(STORED_OK, batch.end));
	CHECK(hung_up_by_probe());
	pthread_join(stopper, NULL);
	CHECK(took_ns < PATIENCE_MS / 2 * NS_PER_MS);
	stop();
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 2;
	snprintf(path, sizeof path, "%s/%s", dir, RUN_SOCKET_NAME);
	RUN(says_hello_resumes_where_told_and_releases_what_is_stored);
	RUN(takes_a_handshake_and_replies_in_single_bytes);
	RUN(sends_again_from_where_the_collector_wants_it);
	RUN(goes_on_behind_a_batch_that_was_refused_for_good);
	RUN(sends_the_unstored_again_after_a_disconnect);
	RUN(survives_a_disconnect_in_the_middle_of_a_frame);
	RUN(keeps_few_batches_on_the_way_and_gives_every_span_once);
	RUN(tells_a_collector_that_lost_its_data_what_is_gone);
	RUN(drops_a_peer_that_breaks_the_protocol_and_tries_again);
	RUN(drops_a_peer_that_claims_the_middle_of_a_record);
	RUN(passes_over_frames_of_an_unknown_kind);
	RUN(a_peer_that_is_silent_costs_the_host_nothing);
	RUN(a_full_ring_without_a_collector_drops_the_newest_and_counts);
	RUN(connects_when_a_collector_comes_and_sleeps_while_there_is_nothing);
	RUN(turns_off_when_the_host_closes_descriptors_it_does_not_know);
	RUN(touches_nothing_that_the_host_has_put_in_its_descriptors_place);
	RUN(takes_its_lock_again_when_the_host_has_opened_and_closed_the_ring);
	RUN(goes_on_when_its_file_has_been_removed);
	RUN(stop_hands_over_what_is_there_within_its_time);
	RUN(stop_ends_as_soon_as_all_is_stored);
	rmdir(dir);
	return t_done();
}
