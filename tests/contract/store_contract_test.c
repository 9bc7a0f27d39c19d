/*
 * store_contract_test.c - one suite, both stores.  A test gets a fresh store;
 * `identity` is checked after every transaction.
 */
#include <stdint.h>
#include <unistd.h>

#include "agent/store/store.h"
#include "tests/t.h"

static struct store *st;
static bool durable;
static char dir[64];

#define OPS    (st->ops)
#define DAY_NS 86400000000000ull
#define NOW    (1000 * DAY_NS)

static void
wipe(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0)
		abort();
}

static void
fresh_with(const struct store_limits *limits)
{
	struct store_open_report report;

	snprintf(dir, sizeof dir, "/tmp/store_contract.%d", (int)getpid());
	wipe();
	enum err e =
	    durable ? store_sqlite_open(dir, limits, &st, &report) : store_ram_new(limits, &st);
	if (e != E_OK) {
		fprintf(stderr, "open: %d %s\n", e, durable ? report.text : "");
		abort();
	}
}

static void
fresh(void)
{
	fresh_with(NULL);
}

static void
done(void)
{
	OPS->close(st);
	wipe();
}

static void
check_identity(void)
{
	struct store_stats s;
	bool equal = false;

	CHECK_EQ(OPS->stats(st, &s), E_OK);
	for (int i = 0; i < SIGNAL_COUNT; i++)
		CHECK(s.identity[i]);
	CHECK_EQ(store_recount(st, &equal), E_OK);
	CHECK(equal);
}

static void
commit(void)
{
	CHECK_EQ(OPS->commit(st), E_OK);
	check_identity();
}

static struct probe_row
probe(uint8_t n)
{
	struct probe_row p = { .pid = n, .seen_real_ns = NOW };

	memset(p.probe_id, n, sizeof p.probe_id);
	memcpy(p.attrs, "abc", 3);
	p.attrs_bytes = 3;
	CHECK_EQ(OPS->probe_put(st, &p), E_OK);
	return p;
}

static enum err
put_raw(
    struct probe_row *p, uint64_t first, uint64_t end, uint32_t spans, size_t bytes, bool strict)
{
	static uint8_t blob[256 * 1024];
	struct wire_batch b = { .first = first, .end = end, .span_count = spans, .real_ns = NOW };
	int64_t id;

	memset(blob, (int)(first & 0xff), bytes);
	return OPS->raw_put(st, p, blob, bytes, &b, strict, &id);
}

static int64_t
put_chunk(const struct probe_row *p, enum chunk_class class, uint32_t spans, size_t bytes,
    uint64_t created)
{
	static uint8_t blob[256 * 1024];
	struct chunk_row c = { .probe = p->id,
		.class = class,
		.traces = 1,
		.spans = spans,
		.created_real_ns = created,
		.blob = blob,
		.blob_bytes = bytes };

	memset(blob, (int)spans, bytes);
	CHECK_EQ(OPS->count_received(st, SIGNAL_TRACE, spans), E_OK);
	CHECK_EQ(OPS->chunk_put(st, &c), E_OK);
	return c.id;
}

static int64_t
lease_one(int32_t destination, bool newest, uint64_t now)
{
	struct lease l;
	uint64_t next;
	int64_t id;

	if (OPS->lease(st, destination, newest, now, &l, &next) != E_OK)
		return 0;
	id = l.chunk.id;
	CHECK(l.probe != NULL && l.probe->id == l.chunk.probe);
	lease_free(&l);
	return id;
}

static void
settle(int64_t chunk, int32_t destination, int kind, int status, uint64_t next)
{
	struct settlement g = { .chunk = chunk,
		.destination = destination,
		.status = status,
		.next_try_real_ns = next };

	g.kind = kind;
	CHECK_EQ(OPS->settle(st, &g), E_OK);
}

static struct store_stats
stats(void)
{
	struct store_stats s;

	CHECK_EQ(OPS->stats(st, &s), E_OK);
	return s;
}

TEST(a_batch_is_taken_once_and_in_order)
{
	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	CHECK_EQ(put_raw(&p, 0, 100, 3, 1000, true), E_OK);
	CHECK_EQ(p.end, 100);
	CHECK_EQ(put_raw(&p, 0, 100, 3, 1000, true), E_EXISTS);
	CHECK_EQ(put_raw(&p, 50, 150, 3, 1000, true), E_GAP);
	CHECK_EQ(put_raw(&p, 200, 300, 3, 1000, true), E_GAP);
	CHECK_EQ(p.end, 100);
	CHECK_EQ(put_raw(&p, 200, 300, 4, 1000, false), E_OK);
	commit();
	CHECK_EQ(stats().received[SIGNAL_TRACE], 7);
	CHECK_EQ(stats().queued[SIGNAL_TRACE], 7);
	CHECK_EQ(stats().raw_rows, 2);
	done();
}

TEST(a_probe_keeps_its_end_and_stays_closed)
{
	struct probe_row got, p;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	p = probe(7);
	CHECK_EQ(put_raw(&p, 0, 64, 1, 10, true), E_OK);
	CHECK_EQ(OPS->probe_close(st, p.id), E_OK);
	commit();
	CHECK_EQ(OPS->begin(st), E_OK);
	p = probe(7);
	commit();
	CHECK_EQ(p.end, 64);
	CHECK(p.closed);
	CHECK_EQ(p.spans, 1);
	CHECK_EQ(OPS->probe_get(st, p.probe_id, &got), E_OK);
	CHECK_EQ(got.attrs_bytes, 3);
	CHECK_EQ(got.end, 64);
	memset(p.probe_id, 9, sizeof p.probe_id);
	CHECK_EQ(OPS->probe_get(st, p.probe_id, &got), E_NOTFOUND);
	done();
}

TEST(a_step_moves_spans_from_raw_to_chunk)
{
	struct raw_row r;
	struct segment_row g = { .spans = 2, .blob = (uint8_t[]){ 1, 2, 3 }, .blob_bytes = 3 }, got;
	struct chunk_row c = {
		.spans = 1, .class = CHUNK_NORMAL, .blob = (uint8_t[]){ 9 }, .blob_bytes = 1
	};
	int32_t id;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &id), E_OK);
	struct probe_row p = probe(1);
	CHECK_EQ(put_raw(&p, 0, 100, 3, 5000, true), E_OK);
	commit();
	REQUIRE(OPS->raw_next(st, 0, &r) == E_OK);
	CHECK_EQ(r.spans, 3);
	CHECK_EQ(r.blob_bytes, 5000);
	free(r.blob);
	CHECK_EQ(OPS->raw_next(st, r.id, &r), E_NOTFOUND);
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->raw_delete(st, r.id), E_OK);
	g.probe = c.probe = p.id;
	CHECK_EQ(OPS->segment_put(st, &g), E_OK);
	CHECK_EQ(OPS->chunk_put(st, &c), E_OK);
	commit();
	CHECK_EQ(stats().queued[SIGNAL_TRACE], 3);
	REQUIRE(OPS->segment_next(st, 0, &got) == E_OK);
	CHECK(got.id == g.id && got.blob_bytes == 3 && memcmp(got.blob, g.blob, 3) == 0);
	free(got.blob);
	done();
}

TEST(a_batch_without_a_row_moves_the_probe_and_counts)
{
	struct wire_batch b = { .first = 0, .end = 100, .span_count = 3, .real_ns = NOW };
	uint8_t blob[50] = { 0 };
	struct raw_row r;

	fresh();
	struct probe_row p = probe(1);
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->raw_put(st, &p, blob, sizeof blob, &b, true, NULL), E_OK);
	CHECK_EQ(p.end, 100);
	struct segment_row g = { .probe = p.id, .spans = 2, .blob = blob, .blob_bytes = 3 };
	CHECK_EQ(OPS->segment_put(st, &g), E_OK);
	CHECK_EQ(OPS->count_sampled_out(st, SIGNAL_TRACE, 1), E_OK);
	commit();
	CHECK_EQ(stats().received[SIGNAL_TRACE], 3);
	CHECK_EQ(stats().raw_rows, 0);
	CHECK_EQ(OPS->raw_next(st, 0, &r), E_NOTFOUND);
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->raw_put(st, &p, blob, sizeof blob, &b, true, NULL), E_EXISTS);
	b.first = 108;
	b.end = 116;
	CHECK_EQ(OPS->raw_put(st, &p, blob, sizeof blob, &b, true, NULL), E_GAP);
	commit();
	CHECK_EQ(OPS->begin(st), E_OK);
	b.first = 100;
	CHECK_EQ(OPS->raw_put(st, &p, blob, sizeof blob, &b, true, NULL), E_OK);
	OPS->rollback(st);
	CHECK_EQ(OPS->probe_by_row(st, p.id, &p), E_OK);
	CHECK_EQ(p.end, 100);
	CHECK_EQ(stats().received[SIGNAL_TRACE], 3);
	done();
}

TEST(a_rollback_leaves_nothing)
{
	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	CHECK_EQ(put_raw(&p, 0, 100, 3, 5000, true), E_OK);
	int64_t kept = put_chunk(&p, CHUNK_NORMAL, 5, 100, NOW);
	commit();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(put_raw(&p, 100, 200, 3, 5000, true), E_OK);
	CHECK_EQ(OPS->raw_delete(st, 1), E_OK);
	(void)put_chunk(&p, CHUNK_NORMAL, 7, 100, NOW);
	CHECK_EQ(OPS->meta_put(st, "k", "v", 1), E_OK);
	OPS->rollback(st);
	check_identity();
	CHECK_EQ(stats().raw_rows, 1);
	CHECK_EQ(stats().chunk_rows, 1);
	CHECK_EQ(stats().received[SIGNAL_TRACE], 8);
	CHECK_EQ(OPS->probe_by_row(st, p.id, &p), E_OK);
	CHECK_EQ(p.end, 100);
	char v[4];
	size_t n;
	CHECK_EQ(OPS->meta_get(st, "k", v, sizeof v, &n), E_NOTFOUND);
	CHECK(kept > 0);
	done();
}

TEST(leases_come_newest_or_oldest_first_and_once)
{
	int32_t d;
	int64_t id[4];

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	struct probe_row p = probe(1);
	for (int i = 0; i < 4; i++)
		id[i] = put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW);
	commit();
	CHECK_EQ(lease_one(d, true, NOW), id[3]);
	CHECK_EQ(lease_one(d, false, NOW), id[0]);
	CHECK_EQ(lease_one(d, true, NOW), id[2]);
	CHECK_EQ(stats().in_flight[SIGNAL_TRACE], 3);
	CHECK_EQ(lease_one(d, false, NOW), id[1]);
	CHECK_EQ(lease_one(d, false, NOW), 0);
	OPS->unlease(st, d);
	CHECK_EQ(stats().in_flight[SIGNAL_TRACE], 0);
	CHECK_EQ(lease_one(d, false, NOW), id[0]);
	check_identity();
	done();
}

TEST(a_retry_waits_for_its_time)
{
	int32_t d;
	struct lease l;
	uint64_t next = 0;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	struct probe_row p = probe(1);
	int64_t id = put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW);
	commit();
	CHECK_EQ(lease_one(d, true, NOW), id);
	CHECK_EQ(OPS->begin(st), E_OK);
	settle(id, d, SETTLE_RETRY, 503, NOW + 500);
	commit();
	CHECK_EQ(OPS->lease(st, d, true, NOW, &l, &next), E_NOTFOUND);
	CHECK_EQ(next, NOW + 500);
	REQUIRE(OPS->lease(st, d, false, NOW + 500, &l, &next) == E_OK);
	CHECK_EQ(l.attempts, 1);
	lease_free(&l);
	done();
}

TEST(a_span_ends_once_sent_before_rejected_before_dropped)
{
	int32_t d[2];

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a", "b" }, 2, d), E_OK);
	struct probe_row p = probe(1);
	int64_t one = put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW);
	int64_t two = put_chunk(&p, CHUNK_NORMAL, 2, 100, NOW);
	int64_t three = put_chunk(&p, CHUNK_SAMPLED_OUT, 4, 100, NOW);
	commit();
	CHECK_EQ(OPS->begin(st), E_OK);
	settle(one, d[0], SETTLE_SENT, 200, 0);
	settle(one, d[1], SETTLE_REJECTED, 400, 0);
	settle(two, d[0], SETTLE_REJECTED, 400, 0);
	settle(three, d[0], SETTLE_SENT, 200, 0);
	commit();
	CHECK_EQ(stats().sent[SIGNAL_TRACE], 1);
	CHECK_EQ(stats().rejected_total[SIGNAL_TRACE], 0);
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, d), E_OK);
	commit();
	CHECK_EQ(stats().rejected_total[SIGNAL_TRACE], 2);
	CHECK_EQ(stats().sampled_out[SIGNAL_TRACE], 4);
	CHECK_EQ(stats().queued[SIGNAL_TRACE], 0);
	CHECK_EQ(stats().history_bytes, 300);
	done();
}

TEST(a_removed_destination_drops_what_only_it_awaited)
{
	int32_t d;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	struct probe_row p = probe(1);
	(void)put_chunk(&p, CHUNK_NORMAL, 3, 100, NOW);
	commit();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, NULL, 0, NULL), E_OK);
	(void)put_chunk(&p, CHUNK_NORMAL, 5, 100, NOW); /* none: history is the destination */
	commit();
	CHECK_EQ(stats().dropped[SIGNAL_TRACE][DROP_DESTINATION_REMOVED], 3);
	CHECK_EQ(stats().sent[SIGNAL_TRACE], 5);
	done();
}

TEST(a_split_is_the_whole_in_two)
{
	int32_t d;
	struct chunk_row a = { .class = CHUNK_NORMAL,
		.spans = 2,
		.blob = (uint8_t[]){ 1 },
		.blob_bytes = 1 },
			 b = a;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	struct probe_row p = probe(1);
	int64_t id = put_chunk(&p, CHUNK_NORMAL, 5, 100, NOW);
	commit();
	a.probe = b.probe = p.id;
	CHECK_EQ(lease_one(d, true, NOW), id);
	CHECK_EQ(OPS->split(st, id, &a, &b), E_INVAL);
	b.spans = 3;
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->split(st, id, &a, &b), E_OK);
	commit();
	CHECK_EQ(stats().queued[SIGNAL_TRACE], 5);
	CHECK_EQ(stats().chunk_rows, 2);
	CHECK_EQ(lease_one(d, false, NOW), a.id);
	CHECK_EQ(lease_one(d, false, NOW), b.id);
	done();
}

TEST(age_and_history_caps_evict_the_oldest)
{
	struct store_limits limits = { .history_bytes = 250 };
	int32_t d;

	fresh_with(&limits);
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	for (int i = 0; i < 4; i++)
		(void)put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	(void)put_chunk(&p, CHUNK_ERROR, 8, 100, NOW - 6 * DAY_NS);
	(void)put_chunk(&p, CHUNK_NORMAL, 16, 100, NOW);
	commit();
	CHECK_EQ(OPS->maintain(st, NOW, true), E_OK);
	check_identity();
	CHECK_EQ(stats().history_bytes, 200);
	CHECK_EQ(OPS->maintain(st, NOW + 2 * DAY_NS, true), E_OK);
	check_identity();
	CHECK_EQ(stats().dropped[SIGNAL_TRACE][DROP_TOO_OLD], 8);
	CHECK_EQ(stats().queued[SIGNAL_TRACE], 16);
	CHECK_EQ(OPS->maintain(st, NOW + 4000 * DAY_NS, true), E_OK); /* a wrong clock */
	CHECK_EQ(stats().queued[SIGNAL_TRACE], 16);
	done();
}

TEST(a_clock_that_is_set_back_makes_nothing_old)
{
	struct store_limits limits = { .cap_bytes = 4 << 20, .reserve_bytes = 1 << 20 };
	int32_t d;

	fresh_with(&limits);
	CHECK_EQ(OPS->maintain(st, NOW + 4000 * DAY_NS, true), E_OK); /* wrong from the start */
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	(void)put_chunk(&p, CHUNK_NORMAL, 16, 100, NOW);
	commit();
	CHECK_EQ(OPS->maintain(st, NOW, true), E_OK);
	CHECK_EQ(stats().queued[SIGNAL_TRACE], 16);
	check_identity();
	done();
}

TEST(when_full_history_loses_first_and_errors_last)
{
	struct store_limits limits = { .cap_bytes = 4 << 20, .reserve_bytes = 1 << 20 };
	int32_t d;
	uint64_t at = 0;
	struct store_stats s;

	fresh_with(&limits);
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	(void)put_chunk(&p, CHUNK_NORMAL, 1, 200000, NOW);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	(void)put_chunk(&p, CHUNK_ERROR, 10, 200000, NOW);
	(void)put_chunk(&p, CHUNK_NORMAL, 100, 200000, NOW);
	(void)put_chunk(&p, CHUNK_SAMPLED_OUT, 1000, 200000, NOW);
	commit();
	uint64_t want[] = { 0, 1000, 1100, 1110 }; /* dropped, step by step */
	int step = 0;
	for (int i = 0; i < 40; i++) {
		CHECK_EQ(OPS->begin(st), E_OK);
		enum err e = put_raw(&p, at, at + 8, 1, 200000, true);
		if (e == E_FULL) {
			OPS->rollback(st);
			break;
		}
		CHECK_EQ(e, E_OK);
		at += 8;
		commit();
		s = stats();
		uint64_t dropped = s.dropped[SIGNAL_TRACE][DROP_STORE_FULL];
		while (step < 3 && dropped > want[step])
			step++;
		CHECK_EQ(dropped, want[step]);
		if (dropped > 0)
			CHECK_EQ(s.history_bytes, 0);
	}
	CHECK_EQ(stats().dropped[SIGNAL_TRACE][DROP_STORE_FULL], 1110);
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(put_raw(&p, at, at + 8, 1, 200000, true), E_FULL);
	OPS->rollback(st);
	/* the reserve belongs to the step: a chunk still finds room */
	CHECK_EQ(OPS->begin(st), E_OK);
	(void)put_chunk(&p, CHUNK_NORMAL, 1, 200000, NOW);
	commit();
	done();
}

static enum err
count_chunk(void *ctx, const struct chunk_row *c, const struct probe_row *p,
    enum delivery_state state, bool queued)
{
	int *n = ctx;

	CHECK(p->id == c->probe);
	CHECK(state == (*n == 0 ? DELIVERY_QUEUED : DELIVERY_SENT));
	CHECK(queued == (*n == 0));
	(*n)++;
	return E_OK;
}

TEST(the_views_walk_newest_first_with_states)
{
	int32_t d;
	int n = 0;
	uint64_t queued = 0, oldest = 0;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	(void)put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW);
	CHECK_EQ(OPS->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	(void)put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW + 1);
	commit();
	CHECK_EQ(OPS->chunks(st, 0, count_chunk, &n), E_OK);
	CHECK_EQ(n, 2);
	CHECK_EQ(OPS->destination_stats(st, d, &queued, &oldest), E_OK);
	CHECK_EQ(queued, 1);
	CHECK_EQ(oldest, NOW + 1);
	done();
}

TEST(the_views_go_on_below_a_chunk)
{
	int n = 1; /* the newer one was seen */

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	(void)put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW);
	int64_t newer = put_chunk(&p, CHUNK_NORMAL, 1, 100, NOW + 1);
	commit();
	CHECK_EQ(OPS->chunks(st, newer, count_chunk, &n), E_OK);
	CHECK_EQ(n, 2);
	CHECK_EQ(OPS->chunks(st, 1, count_chunk, &n), E_OK);
	CHECK_EQ(n, 2);
	done();
}

TEST(all_rows_are_checked_a_slice_at_a_time)
{
	struct store_check c = { 0 };
	int slices = 0;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	struct probe_row p = probe(1);
	for (uint64_t i = 0; i < 5; i++)
		CHECK_EQ(put_raw(&p, i * 8, i * 8 + 8, 1, 20000, true), E_OK);
	for (int i = 0; i < 5; i++)
		(void)put_chunk(&p, CHUNK_NORMAL, 1, 20000, NOW);
	commit();
	while (!c.done && slices++ < 100) /* its time is up at once */
		CHECK_EQ(OPS->check(st, &c, 1), E_OK);
	CHECK(c.done && c.identity && c.recount);
	CHECK_EQ(c.rows, 10);
	CHECK_EQ(c.bad, 0);
	CHECK(slices == (durable ? 11 : 1));
	c = (struct store_check){ 0 };
	CHECK_EQ(OPS->check(st, &c, 0), E_OK); /* all at once */
	CHECK(c.done && c.rows == 10);
	done();
}

TEST(small_values_are_kept)
{
	char v[8];
	size_t n = 0;

	fresh();
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->meta_put(st, "k", "one", 3), E_OK);
	CHECK_EQ(OPS->meta_put(st, "k", "four", 4), E_OK);
	commit();
	CHECK_EQ(OPS->meta_get(st, "k", v, sizeof v, &n), E_OK);
	CHECK(n == 4 && memcmp(v, "four", 4) == 0);
	CHECK_EQ(OPS->meta_get(st, "k", v, 2, &n), E_FULL);
	CHECK_EQ(OPS->meta_get(st, "none", v, sizeof v, &n), E_NOTFOUND);
	done();
}

static void
suite(void)
{
	RUN(a_batch_is_taken_once_and_in_order);
	RUN(a_probe_keeps_its_end_and_stays_closed);
	RUN(a_step_moves_spans_from_raw_to_chunk);
	RUN(a_batch_without_a_row_moves_the_probe_and_counts);
	RUN(a_rollback_leaves_nothing);
	RUN(leases_come_newest_or_oldest_first_and_once);
	RUN(a_retry_waits_for_its_time);
	RUN(a_span_ends_once_sent_before_rejected_before_dropped);
	RUN(a_removed_destination_drops_what_only_it_awaited);
	RUN(a_split_is_the_whole_in_two);
	RUN(age_and_history_caps_evict_the_oldest);
	RUN(a_clock_that_is_set_back_makes_nothing_old);
	RUN(when_full_history_loses_first_and_errors_last);
	RUN(the_views_walk_newest_first_with_states);
	RUN(the_views_go_on_below_a_chunk);
	RUN(all_rows_are_checked_a_slice_at_a_time);
	RUN(small_values_are_kept);
}

int
main(void)
{
	durable = true;
	suite();
	durable = false;
	suite();
	return t_done();
}
