/*
 * pipeline_dead_test.c - the pipeline and processes that have died, or are said
 * to have.
 */
#include "tests/unit/agent/service/stages.h"

/* A ring with one span and one open slot, nobody holding its lock. */
static void
write_dead_ring(const char *path, uint8_t id)
{
	static uint8_t ring[16384];
	struct wire_attrs attrs = { .buf = ring + RING_OFF_ATTRS, .cap = 64 };
	struct wire_span s = { .trace_lo = 1,
		.span_id = 1,
		.start_ns = 500,
		.duration_ns = 10,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE };
	uint8_t *rec = ring + 4096, *slot = ring + 8192;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	memcpy(ring, RING_MAGIC, 8);
	wire_put32(ring + 8, RING_VERSION);
	memset(ring + RING_OFF_PROBE_ID, id, 16);
	wire_put64(ring + RING_OFF_PID, 1);
	wire_put64(ring + RING_OFF_AREA, 4096);
	wire_put64(ring + RING_OFF_AREA_BYTES, 4096);
	wire_put64(ring + RING_OFF_OPEN, 8192);
	wire_put32(ring + RING_OFF_OPEN_SLOTS, 4);
	wire_put32(ring + RING_OFF_SLOT_BYTES, SLOT_BYTES);
	wire_attr_put(&attrs, "pid", "1"); /* its own: no forked child */
	wire_put32(ring + RING_OFF_ATTRS_BYTES, attrs.used);
	wire_put32(ring + RING_OFF_CRC,
	    wire_crc32c(wire_crc32c(0, ring, RING_OFF_CRC), attrs.buf, attrs.used));
	wire_span_put(rec + RECORD_HEADER_BYTES, &s);
	wire_record_seal(rec, 0, 96, EVENT_SPAN, RECORD_PUBLISHED);
	wire_put64(ring + RING_OFF_HEAD, 96);
	s.span_id = 2;
	wire_put32(slot, SLOT_OPEN);
	wire_put32(slot + 4, WIRE_SPAN_FIXED_BYTES);
	wire_put64(slot + 8, SLOT_NO_POSITION);
	wire_span_put(slot + SLOT_HEADER_BYTES, &s);
	wire_put32(slot + 24, wire_crc32c(0, slot + SLOT_HEADER_BYTES, WIRE_SPAN_FIXED_BYTES));
	CHECK(write(fd, ring, sizeof ring) == (ssize_t)sizeof ring);
	close(fd);
}

TEST(a_dead_ring_is_delivered_once_and_its_file_is_gone)
{
	char path[128];

	snprintf(path, sizeof path, "%s/" RUN_RING_PREFIX "09" RUN_RING_SUFFIX, dir);
	REQUIRE(begin());

	uint64_t before = status()->store.sent[SIGNAL_TRACE];

	end();
	for (int i = 0; i < 2; i++) { /* the second time only the file is left to remove */
		write_dead_ring(path, 9);
		REQUIRE(begin());

		struct status_snapshot *st = status_when_sent(before + 2);

		CHECK_EQ(st->store.sent[SIGNAL_TRACE], before + 2);
		CHECK_EQ(st->work.unfinished_spans, i == 0 ? 1 : 0);
		CHECK(st->store.identity[SIGNAL_TRACE]);
		CHECK(access(path, F_OK) != 0);
		end();
	}
}

/* More than there is room to note ends for: the others wait for their turn, not for another agent.
 */
TEST(many_processes_that_die_at_once_are_all_closed)
{
	enum { DEAD = PIPELINE_ENDS + 20 };
	char path[128];
	int left = DEAD;

	for (int i = 0; i < DEAD; i++) {
		snprintf(
		    path, sizeof path, "%s/" RUN_RING_PREFIX "%02x" RUN_RING_SUFFIX, dir, 0x80 + i);
		write_dead_ring(path, (uint8_t)(0x80 + i));
	}
	REQUIRE(begin());
	for (int t = 0; t < 1500 && left > 0; t++) {
		usleep(10000);
		left = 0;
		for (int i = 0; i < DEAD; i++) {
			snprintf(path, sizeof path, "%s/" RUN_RING_PREFIX "%02x" RUN_RING_SUFFIX,
			    dir, 0x80 + i);
			left += access(path, F_OK) == 0;
		}
	}
	CHECK_EQ(left, 0);
	CHECK_EQ(status()->work.salvaged_rings, DEAD);
	end();
}

TEST(a_ring_is_not_dead_while_its_probe_speaks)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/" RUN_RING_PREFIX "08" RUN_RING_SUFFIX, dir);
	REQUIRE(begin());

	uint64_t before = status()->store.sent[SIGNAL_TRACE];

	fd = connect_with_hello(8);
	write_dead_ring(path, 8);
	usleep(5300000); /* it has been looked at */
	CHECK(access(path, F_OK) == 0);
	CHECK_EQ(status()->work.salvaged_rings, 0);
	close(fd);
	end();
	REQUIRE(begin()); /* by the agent that saw it leave, or by this one */
	CHECK_EQ(status_when_sent(before + 2)->store.sent[SIGNAL_TRACE], before + 2);
	CHECK(access(path, F_OK) != 0);
	end();
}

TEST(a_closed_probe_that_greets_is_told_so_and_stays_closed)
{
	struct wire_stored s;
	int fd;

	REQUIRE(begin());
	for (int i = 0; i < 2; i++) { /* of the test before */
		fd = peer_connect(dir);
		CHECK(peer_handshake(fd));
		CHECK(peer_frame(fd, frame, peer_hello(frame, sizeof frame, 8)));
		REQUIRE(peer_stored(fd, &s, 5000));
		CHECK_EQ(s.status, STORED_CLOSED);
		close(fd);
	}
	end();
}

int
main(void)
{
	char command[128];

	snprintf(dir, sizeof dir, "/tmp/pipelinedead-%d", (int)getpid());
	mkdir(dir, 0700);
	log_set_level(LOG_ERROR);
	RUN(a_ring_is_not_dead_while_its_probe_speaks);
	RUN(a_dead_ring_is_delivered_once_and_its_file_is_gone);
	RUN(a_closed_probe_that_greets_is_told_so_and_stays_closed);
	RUN(many_processes_that_die_at_once_are_all_closed);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command) != 0 || t_done();
}
