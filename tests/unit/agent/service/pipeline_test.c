/*
 * pipeline_test.c - the pipeline between stages: what is stored, answered,
 * delivered, asked.
 */
#include "tests/unit/agent/service/stages.h"

TEST(stores_answers_and_delivers_what_a_probe_sends)
{
	uint64_t at = 0;
	struct wire_stored s = { .end = 0 };

	REQUIRE(begin());

	int fd = connect_with_hello(1);

	for (int i = 0; i < 20; i++)
		CHECK(peer_frame(fd, frame, peer_batch(frame, 1, at, 10, &at)));
	while (s.end < at)
		REQUIRE(peer_stored(fd, &s, 5000));
	CHECK_EQ(s.status, STORED_OK);

	struct status_snapshot *st = status_when_sent(200);

	CHECK_EQ(st->store.received[SIGNAL_TRACE], 200);
	CHECK_EQ(st->store.sent[SIGNAL_TRACE], 200);
	CHECK(st->store.identity[SIGNAL_TRACE]);
	CHECK_EQ(st->store.raw_rows, 0);
	CHECK_EQ(st->probe_count, 1);
	CHECK(st->probes[0].alive);
	CHECK_EQ(st->state, AGENT_OK);
	close(fd);
	end();
}

TEST(a_repeat_is_answered_and_counted_once_and_a_gap_says_where_to_go_on)
{
	uint64_t at = 0, next;
	struct wire_stored s;

	REQUIRE(begin());

	uint64_t before = status()->store.received[SIGNAL_TRACE];
	int fd = connect_with_hello(2);

	for (int i = 0; i < 2; i++) {
		CHECK(peer_frame(fd, frame, peer_batch(frame, 2, 0, 10, &at)));
		REQUIRE(peer_stored(fd, &s, 5000));
		CHECK_EQ(s.status, STORED_OK);
		CHECK_EQ(s.end, at);
	}
	CHECK(peer_frame(fd, frame, peer_batch(frame, 2, at + 960, 10, &next)));
	REQUIRE(peer_stored(fd, &s, 5000));
	CHECK_EQ(s.status, STORED_WANTED);
	CHECK_EQ(s.end, at);

	struct status_snapshot *st = status();

	CHECK_EQ(st->store.received[SIGNAL_TRACE] - before, 10);
	CHECK_EQ(st->work.repeats, 1);
	CHECK_EQ(st->work.gaps, 1);
	close(fd);
	end();
}

TEST(a_batch_of_wrong_content_is_counted_and_the_stream_goes_on_behind_it)
{
	uint64_t at = 0;
	struct wire_stored s;
	struct wire_batch b;
	struct wire_error err;

	REQUIRE(begin());

	uint64_t before = status()->store.dropped[SIGNAL_TRACE][DROP_MALFORMED];
	int fd = connect_with_hello(3);
	size_t n = peer_batch(frame, 3, 0, 10, &at);

	REQUIRE(wire_batch_peek(frame, n, &b, &err) == 0);
	b.record_count = 9;
	wire_batch_seal(frame, &b);
	CHECK(peer_frame(fd, frame, n));
	REQUIRE(peer_stored(fd, &s, 5000));
	CHECK_EQ(s.status, STORED_MALFORMED);
	CHECK_EQ(s.end, at);
	CHECK(peer_frame(fd, frame, peer_batch(frame, 3, at, 10, &at)));
	REQUIRE(peer_stored(fd, &s, 5000));
	CHECK_EQ(s.status, STORED_OK);

	struct status_snapshot *st = status();

	CHECK_EQ(st->store.dropped[SIGNAL_TRACE][DROP_MALFORMED] - before, 10);
	CHECK(st->store.identity[SIGNAL_TRACE]);
	close(fd);
	end();
}

TEST(nothing_is_stored_and_answered_before_the_processor_has_taken_it)
{
	uint64_t at = 0;
	struct wire_stored s = { .end = 0 };

	REQUIRE(begin());

	uint64_t before = status()->store.received[SIGNAL_TRACE];
	uint64_t sent = status()->store.sent[SIGNAL_TRACE];
	int fd = connect_with_hello(4);

	refuse_feed = true;
	for (int i = 0; i < 10; i++)
		CHECK(peer_frame(fd, frame, peer_batch(frame, 4, at, 10, &at)));
	CHECK(!peer_stored(fd, &s, 300));
	CHECK_EQ(status()->work.batches, 0);
	CHECK_EQ(status()->store.received[SIGNAL_TRACE], before);
	CHECK_EQ(status()->store.raw_rows, 0);
	refuse_feed = false;
	while (s.end < at)
		REQUIRE(peer_stored(fd, &s, 5000));
	CHECK(the_processor.resets > 0);

	struct status_snapshot *st = status_when_sent(sent + 100);

	CHECK_EQ(st->store.received[SIGNAL_TRACE], before + 100);
	CHECK_EQ(st->store.sent[SIGNAL_TRACE], sent + 100);
	CHECK_EQ(st->work.batches, 10); /* each once, however often it was tried */
	CHECK(st->work.commit_failures > 0);
	CHECK(st->store.identity[SIGNAL_TRACE]);
	close(fd);
	end();
}

/* Batches of a probe as rows, as an earlier version or a salvaged ring leaves them. */
static uint64_t
leave_raw_rows(uint8_t probe, int batches)
{
	struct store_limits limits = { 0 };
	struct store_open_report report;
	struct probe_row row = { .pid = 0 };
	struct wire_error err;
	struct wire_batch b;
	struct store *st;
	uint64_t at = 0;
	int64_t id;

	memset(row.probe_id, probe, sizeof row.probe_id);
	if (store_sqlite_open(dir, &limits, &st, &report) != E_OK ||
	    st->ops->probe_put(st, &row) != E_OK)
		exit(2);
	for (int i = 0; i < batches; i++) {
		size_t n = peer_batch(frame, probe, at, 10, &at);

		CHECK_EQ(wire_batch_peek(frame, n, &b, &err), 0);
		CHECK_EQ(st->ops->raw_put(st, &row, frame, n, &b, true, &id), E_OK);
	}
	st->ops->close(st);
	return at;
}

TEST(new_batches_queue_behind_rows_that_wait_in_the_store)
{
	uint64_t at = leave_raw_rows(5, 10);
	struct wire_stored s = { .end = 0 };

	refuse_feed = true;
	REQUIRE(begin());

	uint64_t sent = status()->store.sent[SIGNAL_TRACE];
	int fd = peer_connect(dir);

	CHECK(peer_handshake(fd));
	CHECK(peer_frame(fd, frame, peer_hello(frame, sizeof frame, 5)));
	CHECK(peer_frame(fd, frame, peer_batch(frame, 5, at, 10, &at)));
	CHECK(!peer_stored(fd, &s, 300));
	CHECK_EQ(status()->store.raw_rows, 10);
	refuse_feed = false;
	while (s.end < at)
		REQUIRE(peer_stored(fd, &s, 5000));

	struct status_snapshot *st = status_when_sent(sent + 110);

	CHECK_EQ(st->store.sent[SIGNAL_TRACE], sent + 110);
	CHECK_EQ(st->store.raw_rows, 0);
	CHECK(st->store.identity[SIGNAL_TRACE]);
	CHECK_EQ(the_processor.fed, 11);
	for (size_t i = 1; i < the_processor.fed; i++)
		CHECK(the_processor.fed_first[i] > the_processor.fed_first[i - 1]);
	close(fd);
	end();
}

/* Break the head of the first page with batches in it: the oldest rows cannot be walked. */
static void
break_oldest_rows(void)
{
	uint8_t page[16384];
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, dir);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	for (off_t at = sizeof page; pread(fd, page, sizeof page, at) == sizeof page;
	     at += sizeof page) {
		if (page[0] != 13 || memmem(page, sizeof page, BATCH_MAGIC, 4) == NULL)
			continue;
		CHECK(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, at) == 8);
		break;
	}
	close(fd);
}

TEST(damage_that_shows_only_at_work_is_salvaged_and_work_goes_on)
{
	struct wire_stored s = { .end = 0 };
	struct status_snapshot *st;
	uint64_t at = 0;
	int fd = -1;

	(void)leave_raw_rows(6, 60);
	break_oldest_rows();
	REQUIRE(begin());
	for (int i = 0; i < 100 && fd < 0; i++, usleep(50000)) {
		fd = peer_connect(dir);
		if (!peer_handshake(fd) ||
		    !peer_frame(fd, frame, peer_hello(frame, sizeof frame, 77)) ||
		    !peer_stored(fd, &s, 8000)) {
			close(fd);
			fd = -1;
		}
	}
	REQUIRE(fd >= 0);
	CHECK(peer_frame(fd, frame, peer_batch(frame, 77, 0, 10, &at)));
	while (s.end < at)
		REQUIRE(peer_stored(fd, &s, 5000));
	st = status();
	CHECK_EQ(st->store.quarantined, 1);
	CHECK(st->store.identity[SIGNAL_TRACE]);
	CHECK(st->store.dropped[SIGNAL_TRACE][DROP_CORRUPT] > 0);
	CHECK_EQ(the_processor.resets, 1);
	close(fd);
	end();
}

static enum err
slow(void *ctx, struct store *st, struct processor *processor)
{
	(void)st;
	(void)processor;
	usleep(1200000);
	*(int *)ctx = 1;
	return E_EXISTS;
}

TEST(a_question_gets_its_own_answer_even_when_it_outlasts_its_deadline)
{
	int ran = 0;

	REQUIRE(begin());
	(void)status(); /* the loop runs: from here on only a busy machine is in the way */
	CHECK_EQ(pipeline_query(p, slow, &ran, 1000), E_EXISTS);
	CHECK_EQ(ran, 1);
	pipeline_stop(p);
	CHECK_EQ(pipeline_query(p, slow, &ran, 20), E_STATE);
	end();
}

/* A job that waits, of a process that has ended. */
static enum err
leave_job(void *ctx, struct store *st, struct processor *processor)
{
	struct probe_row probe = { .probe_id = { 7 } };
	struct job_row job = { .boot_id = { 7 }, .item = -1, .prompt_id = "x", .body = "x-1.json" };

	(void)processor;
	CHECK_EQ(st->ops->probe_put(st, &probe), E_OK);
	job.probe = probe.id;
	CHECK_EQ(st->ops->job_put(st, &job), E_OK);
	*(int64_t *)ctx = job.id;
	return st->ops->probe_close(st, probe.id);
}

static enum err
lose_job(void *ctx, struct store *st, struct journal *journal)
{
	(void)st;
	return journal_resolve(journal, *(int64_t *)ctx, JOB_LOST, "refused", clock_real_ns());
}

TEST(a_change_of_the_journal_is_durable_when_it_is_answered)
{
	uint64_t commits;
	int64_t job = 0;
	REQUIRE(begin());
	CHECK_EQ(pipeline_query(p, leave_job, &job, 5000), E_OK);
	commits = status()->work.commits;
	CHECK_EQ(pipeline_act(p, lose_job, &job, 5000), E_OK);
	CHECK_EQ(p->work.commits, commits + 1); /* a question would bring on a turn */
	CHECK_EQ(status()->jobs[JOB_LOST], 1);
	CHECK_EQ(pipeline_act(p, lose_job, &job, 5000), E_STATE);
	end();
}

TEST(sleeps_when_nothing_happens)
{
	REQUIRE(begin());
	usleep(300000);

	uint64_t turns = status()->work.turns;

	usleep(1500000);
	CHECK(status()->work.turns - turns <= 2); /* the question itself is one */
	end();
}

TEST(a_full_store_is_asked_again_now_and_then_and_keeps_nobody_from_stopping)
{
	struct wire_stored s = { .end = 0 };
	uint64_t at = 0;

	REQUIRE(begin());

	int fd = connect_with_hello(12);

	full = true;
	CHECK(peer_frame(fd, frame, peer_batch(frame, 12, 0, 10, &at)));
	usleep(300000);

	uint64_t turns = status()->work.turns;

	usleep(1500000);
	CHECK(status()->work.paused);
	CHECK(status()->work.turns - turns <= 8); /* one each second, and the questions */
	full = false;
	CHECK(peer_stored(fd, &s, 5000));
	CHECK_EQ(s.end, at);
	full = true;
	CHECK(peer_frame(fd, frame, peer_batch(frame, 12, at, 10, &at)));
	usleep(300000);
	end(); /* returns */
	full = false;
	close(fd);
}

int
main(void)
{
	char command[128];

	snprintf(dir, sizeof dir, "/tmp/pipelinetest-%d", (int)getpid());
	mkdir(dir, 0700);
	log_set_level(LOG_ERROR);
	RUN(stores_answers_and_delivers_what_a_probe_sends);
	RUN(a_repeat_is_answered_and_counted_once_and_a_gap_says_where_to_go_on);
	RUN(a_batch_of_wrong_content_is_counted_and_the_stream_goes_on_behind_it);
	RUN(nothing_is_stored_and_answered_before_the_processor_has_taken_it);
	RUN(new_batches_queue_behind_rows_that_wait_in_the_store);
	RUN(damage_that_shows_only_at_work_is_salvaged_and_work_goes_on);
	RUN(a_question_gets_its_own_answer_even_when_it_outlasts_its_deadline);
	RUN(a_change_of_the_journal_is_durable_when_it_is_answered);
	RUN(sleeps_when_nothing_happens);
	RUN(a_full_store_is_asked_again_now_and_then_and_keeps_nobody_from_stopping);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command) != 0 || t_done();
}
