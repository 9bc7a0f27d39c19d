/* What passes when the sender greets: hooks told to each collector, and a ring that one has closed.
 */
#include "tests/unit/probe/core/collector.h"

/* The last state that the batch at hand tells of this hook, -1 when it tells none; *times counts.
 */
static int
hook_told(uint32_t name, unsigned *times)
{
	int state = -1;

	*times = 0;
	for (uint32_t at = 0, n; at < batch.records_bytes; at += n) {
		const uint8_t *rec = batch.records + at;

		n = wire_get32(rec + 8);
		if (wire_get16(rec + 12) != EVENT_HOOK ||
		    wire_get32(rec + RECORD_HEADER_BYTES) != name)
			continue;
		state = (int)wire_get32(rec + RECORD_HEADER_BYTES + 4);
		++*times;
	}
	return state;
}

TEST(tells_of_its_hooks_to_every_collector_that_greets)
{
	uint32_t one, two;
	unsigned times;

	server_open();
	REQUIRE(start(256 * 1024) && greet(0));
	one = comfymon_intern("a:one", 5);
	two = comfymon_intern("a:two", 5);
	REQUIRE(comfymon_hook(one, 0) && comfymon_hook(two, 0) && comfymon_hook(two, 3));
	REQUIRE(read_batch());
	CHECK_EQ(hook_told(one, &times), 0);
	CHECK_EQ(hook_told(two, &times), 3);
	REQUIRE(reply(STORED_OK, batch.end) && becomes_acknowledged(batch.end));
	for (int i = 0; i < 2; i++) {
		/* The next one is told once, in the newest state, though nothing happens here. */
		REQUIRE(greet(batch.end) && read_batch());
		CHECK_EQ(hook_told(one, &times), 0);
		CHECK_EQ(times, 1);
		CHECK_EQ(hook_told(two, &times), 3);
		CHECK_EQ(times, 1);
		CHECK_EQ(batch.record_count, 2);
		CHECK_EQ(batch.span_count, 0);
		if (i == 0)
			REQUIRE(reply(STORED_OK, batch.end) && becomes_acknowledged(batch.end));
	}
	/* One that hangs up before it has stored them has them from the ring, not once more. */
	REQUIRE(greet(batch.first) && read_batch());
	CHECK_EQ(batch.record_count, 2);
	stop();
}

/* In a child: a probe that is off stays off. */
TEST(turns_off_when_the_collector_has_closed_its_ring)
{
	int status = -1;
	pid_t pid;

	server_open();
	if ((pid = fork()) == 0) {
		if (!start(256 * 1024) || !span(1) || !accept_one() || !read_hello())
			_exit(1);
		/* Behind the head: a reader of the dead has added what was left open. */
		if (!reply(STORED_CLOSED, 1u << 20) || !hung_up_by_probe())
			_exit(2);
		for (int i = 0; i < 300 && comfymon_is_on(); i++)
			pause_ms(10);
		if (strstr(comfymon_off_reason(), "collector") == NULL || span(2))
			_exit(3);
		if (readable(listener, 1000))
			_exit(4); /* it greets again */
		comfymon_stop(0);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	stop();
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 2;
	snprintf(path, sizeof path, "%s/%s", dir, RUN_SOCKET_NAME);
	RUN(tells_of_its_hooks_to_every_collector_that_greets);
	RUN(turns_off_when_the_collector_has_closed_its_ring);
	rmdir(dir);
	return t_done();
}
