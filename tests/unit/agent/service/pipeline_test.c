/*
 * pipeline_test.c - the pipeline with the real store and receiver, between a
 * processor and an exporter that are made here and do as they are told.
 */
#include "tests/t.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/service/pipeline.h"
#include "agent/store/store.h"
#include "tests/unit/agent/receiver/peer.h"

/* ---- a processor: one chunk for each batch ------------------------------ */

#define FED_MAX 4096

struct processor {
	struct chunk_row chunks[64];
	size_t count;
	struct step step;
	uint64_t fed_first[FED_MAX];
	size_t fed;
	unsigned commits, aborts, resets;
};

static _Atomic bool refuse_feed;
static struct processor the_processor;
static uint8_t empty_bundle[BUNDLE_FIXED_BYTES];

enum err
processor_probe(struct processor *p, const struct probe_row *probe)
{
	(void)p;
	return probe->id > 0 ? E_OK : E_INVAL;
}

enum err
processor_probe_gone(struct processor *p, int64_t probe)
{
	(void)p;
	(void)probe;
	return E_OK;
}

enum err
processor_restore(struct processor *p, const struct segment_row *s)
{
	(void)p;
	(void)s;
	return E_OK;
}

enum err
processor_feed(struct processor *p, const struct raw_row *raw)
{
	struct wire_bundle b = { .span_count = raw->spans };
	struct wire_error err;
	struct wire_batch check;

	if (refuse_feed || p->count == 64 || p->fed == FED_MAX)
		return E_NOMEM;
	if (wire_batch_check(raw->blob, raw->blob_bytes, &check, &err) != 0)
		return E_CORRUPT;
	wire_bundle_seal(empty_bundle, &b);
	p->fed_first[p->fed++] = raw->first;
	p->chunks[p->count++] = (struct chunk_row){ .probe = raw->probe,
		.class = CHUNK_NORMAL,
		.spans = raw->spans,
		.traces = 1,
		.created_real_ns = clock_real_ns(),
		.blob = empty_bundle,
		.blob_bytes = sizeof empty_bundle };
	return E_OK;
}

enum err
processor_ended(struct processor *p, int64_t probe, const struct process_end *end)
{
	(void)p;
	(void)end;
	return probe > 0 ? E_OK : E_NOTFOUND;
}

enum err
processor_step(struct processor *p, uint64_t mono, uint64_t real, const struct step **out)
{
	(void)mono;
	(void)real;
	p->step = (struct step){ .chunks = p->chunks, .chunk_count = p->count };
	*out = &p->step;
	return E_OK;
}

void
processor_commit(struct processor *p)
{
	p->count = 0;
	p->commits++;
}

void
processor_abort(struct processor *p)
{
	p->aborts++;
}

void
processor_reset(struct processor *p)
{
	p->count = p->fed = 0;
	p->resets++;
}

uint64_t
processor_open_spans(const struct processor *p)
{
	return p->count;
}

bool
processor_hooks(const struct processor *p, int64_t probe, struct processor_hooks *out)
{
	(void)p;
	(void)probe;
	memset(out, 0, sizeof *out);
	return false;
}

void
processor_open_jobs(struct processor *p, processor_seen_fn fn, void *ctx)
{
	(void)p;
	(void)fn;
	(void)ctx;
}

/* The journal asks; this processor tells it of no records. */
const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	(void)s;
	(void)id;
	*n = 0;
	return NULL;
}

enum err
processor_agent_rates(struct processor *p, const char *json, size_t n)
{
	(void)p;
	(void)json;
	return n > 0 ? E_OK : E_INVAL;
}

/* ---- an exporter that succeeds at once ---------------------------------- */

struct exporter {
	struct settlement done[256];
	size_t count;
	_Atomic unsigned given;
};

static struct exporter the_exporter;

void
exporter_wants(struct exporter *e, size_t i, struct export_wish *out)
{
	*out = (struct export_wish){
		.chunks = i == 0 && e->count < 192 ? 64 : 0, .bytes = 1 << 20, .fresh = true
	};
}

enum err
exporter_give(struct exporter *e, size_t i, struct lease *leases, size_t n)
{
	(void)i;
	for (size_t k = 0; k < n; k++) {
		e->done[e->count++] = (struct settlement){ .chunk = leases[k].chunk.id,
			.destination = leases[k].destination,
			.kind = SETTLE_SENT,
			.status = 200 };
		e->given++;
		lease_free(&leases[k]);
	}
	return E_OK;
}

enum err
exporter_take(struct exporter *e, struct export_result *out)
{
	if (e->count == 0)
		return E_NOTFOUND;
	memset(out, 0, sizeof *out);
	out->s = e->done[--e->count];
	return E_OK;
}

void
exporter_status(struct exporter *e, size_t i, struct destination_status *out)
{
	(void)i;
	memset(out, 0, sizeof *out);
	out->state = DEST_OK;
	out->sent_requests = e->given;
}

/* ---- the house ----------------------------------------------------------- */

static char dir[64];
static uint8_t frame[FRAME_MAX_BYTES];
static struct pipeline *p;
static struct store_ops ops;
static enum err (*real_raw_put)(struct store *, struct probe_row *, const uint8_t *, size_t,
    const struct wire_batch *, bool, int64_t *);
static _Atomic bool full;
static struct destination_options destination = { .name = "here", .kind = DEST_FILE };

static enum err
raw_put(struct store *st, struct probe_row *row, const uint8_t *body, size_t bytes,
    const struct wire_batch *b, bool hello, int64_t *id)
{
	return full ? E_FULL : real_raw_put(st, row, body, bytes, b, hello, id);
}

static bool
begin(void)
{
	struct store_open_report report;
	struct store_limits limits = { 0 };
	struct journal_options jo = { .store = NULL };
	struct health_options ho = { .look_ns = 0 }; /* its thread does not run */
	struct receiver_options r = {
		.run_dir = dir, .handshake_ms = 5000, .max_connections = 4, .inbox_bytes = 1 << 22
	};

	memset(&the_processor, 0, sizeof the_processor);
	memset(&the_exporter, 0, sizeof the_exporter);
	p = calloc(1, sizeof *p);
	p->processor = &the_processor;
	p->exporter = &the_exporter;
	p->destinations = &destination;
	p->destination_count = 1;
	p->run_dir = p->data_dir = dir;
	if (store_sqlite_open(dir, &limits, &p->store, &report) != E_OK)
		return false;
	ops = *p->store->ops;
	real_raw_put = ops.raw_put;
	ops.raw_put = raw_put;
	p->store->ops = &ops;
	jo.store = p->store;
	return journal_new(&jo, &p->journal) == E_OK && health_new(&ho, &p->health) == E_OK &&
	       receiver_new(&r, pipeline_wake, p, &p->receiver) == E_OK &&
	       pipeline_init(p) == E_OK && pipeline_start(p) == E_OK &&
	       receiver_start(p->receiver) == E_OK;
}

static void
end(void)
{
	pipeline_stop(p);
	receiver_free(p->receiver);
	pipeline_fini(p);
	journal_free(p->journal);
	health_free(p->health);
	p->store->ops->close(p->store);
	free(p);
}

static struct status_snapshot *
status(void)
{
	static struct status_snapshot s;

	CHECK_EQ(pipeline_status(p, &s), E_OK);
	return &s;
}

/* Until that many spans are sent, at most five seconds. */
static struct status_snapshot *
status_when_sent(uint64_t spans)
{
	struct status_snapshot *s = status();

	for (int i = 0; i < 500 && s->store.sent[SIGNAL_TRACE] < spans; i++) {
		usleep(10000);
		s = status();
	}
	return s;
}

static int
connect_with_hello(uint8_t id)
{
	struct wire_stored s;
	int fd = peer_connect(dir);

	CHECK(peer_handshake(fd));
	CHECK(peer_frame(fd, frame, peer_hello(frame, sizeof frame, id)));
	CHECK(peer_stored(fd, &s, 5000));
	return fd;
}

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
	RUN(a_ring_is_not_dead_while_its_probe_speaks);
	RUN(damage_that_shows_only_at_work_is_salvaged_and_work_goes_on);
	RUN(a_dead_ring_is_delivered_once_and_its_file_is_gone);
	RUN(a_closed_probe_that_greets_is_told_so_and_stays_closed);
	RUN(many_processes_that_die_at_once_are_all_closed);
	RUN(a_question_gets_its_own_answer_even_when_it_outlasts_its_deadline);
	RUN(a_change_of_the_journal_is_durable_when_it_is_answered);
	RUN(sleeps_when_nothing_happens);
	RUN(a_full_store_is_asked_again_now_and_then_and_keeps_nobody_from_stopping);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command) != 0 || t_done();
}
