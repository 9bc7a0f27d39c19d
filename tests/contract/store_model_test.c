/*
 * store_model_test.c - one random sequence of operations against both stores;
 * after every transaction their statistics, jobs and notices are equal, the
 * identity holds, and the SQLite counters equal a recount of its rows.  The seed is fixed.
 */
#include <stdint.h>
#include <unistd.h>

#include "agent/store/store.h"
#include "tests/t.h"

#define NOW   86400000000000000ull
#define STEPS 1500
#define DAY   86400000000000ull
#define JOBS  40u /* kept by number; many more are made */

static struct store *st[2];
static struct probe_row probes[2];
static uint32_t seed = 20231;
static uint64_t clock_step; /* chunks are made in order of time */

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void
same(enum err a, enum err b)
{
	CHECK_EQ(a, b);
}

static void
put_raw(void)
{
	uint64_t first = probes[0].end + (rnd(8) == 0 ? 8 : 0) - (rnd(8) == 0 ? 8 : 0);
	struct wire_batch b = {
		.first = first, .end = first + 8, .span_count = rnd(9), .real_ns = NOW
	};
	uint8_t blob[600] = { 1 };
	size_t n = 1 + rnd(600);
	bool strict = rnd(4) != 0;
	int64_t id;

	same(st[0]->ops->raw_put(st[0], &probes[0], blob, n, &b, strict, &id),
	    st[1]->ops->raw_put(st[1], &probes[1], blob, n, &b, strict, &id));
	CHECK_EQ(probes[0].end, probes[1].end);
}

static void
put_chunk(void)
{
	uint8_t blob[600] = { 2 };
	struct chunk_row c = { .class = (enum chunk_class)rnd(4),
		.spans = rnd(9),
		.blob = blob,
		.blob_bytes = 1 + rnd(600),
		.created_real_ns = NOW - 9 * 86400000000000ull + clock_step * 400000000000ull };

	c.probe = probes[0].id;
	for (int k = 0; k < 2; k++) {
		CHECK_EQ(st[k]->ops->count_received(st[k], SIGNAL_TRACE, c.spans), E_OK);
		CHECK_EQ(st[k]->ops->chunk_put(st[k], &c), E_OK);
	}
}

static void
destinations(void)
{
	const char *names[] = { "a", "b", "c" };
	size_t from = rnd(3), n = rnd((uint32_t)(4 - from));
	int32_t ids[2][3];

	for (int k = 0; k < 2; k++)
		CHECK_EQ(st[k]->ops->destinations_set(st[k], names + from, n, ids[k]), E_OK);
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(ids[0][i], ids[1][i]);
}

static void
deliver(void)
{
	int32_t d = (int32_t)rnd(3) + 1;
	bool fresh = rnd(2), keep = rnd(6) == 0;
	struct lease l[2] = { 0 };
	uint64_t next[2], now = NOW + rnd(100);
	struct settlement g = {
		.destination = d, .status = 400 + (int)rnd(3), .next_try_real_ns = NOW + rnd(100)
	};
	enum err e = st[0]->ops->lease(st[0], d, fresh, now, &l[0], &next[0]);

	g.kind = rnd(4);
	same(e, st[1]->ops->lease(st[1], d, fresh, now, &l[1], &next[1]));
	CHECK_EQ(next[0], next[1]);
	if (e != E_OK)
		return;
	CHECK_EQ(l[0].chunk.id, l[1].chunk.id);
	CHECK_EQ(l[0].attempts, l[1].attempts);
	g.chunk = l[0].chunk.id;
	for (int k = 0; k < 2; k++) {
		if (!keep)
			CHECK_EQ(st[k]->ops->settle(st[k], &g), E_OK);
		lease_free(&l[k]);
	}
}

static void
take(void)
{
	struct raw_row r[2];
	enum err e = st[0]->ops->raw_next(st[0], 0, &r[0]);

	same(e, st[1]->ops->raw_next(st[1], 0, &r[1]));
	if (e != E_OK)
		return;
	for (int k = 0; k < 2; k++) {
		struct segment_row g = { .probe = probes[0].id,
			.spans = r[k].spans,
			.blob = r[k].blob,
			.blob_bytes = r[k].blob_bytes };

		CHECK_EQ(st[k]->ops->raw_delete(st[k], r[k].id), E_OK);
		CHECK_EQ(st[k]->ops->segment_put(st[k], &g), E_OK);
		free(r[k].blob);
	}
}

/* ---- jobs --------------------------------------------------------------- */

static int64_t jobs_made; /* highest id */

static void
put_job(void)
{
	/* One that is there, one that was forgotten, or a new one. */
	int64_t id = jobs_made > 0 && rnd(3) > 0 ? 1 + (int64_t)rnd((uint32_t)jobs_made) : 0;
	struct job_row j = { .id = id,
		.probe = 1 + (int64_t)rnd(2),
		.trace_lo = rnd(9),
		.state = (enum job_state)rnd(JOB_STATES),
		.queued_real_ns = NOW - rnd(40) * DAY };
	struct job_row other;

	if (job_state_is_final(j.state))
		j.ended_real_ns = j.queued_real_ns + 1;
	snprintf(j.prompt_id, sizeof j.prompt_id, "%c%u", 'a' + (char)rnd(2), rnd(3));
	memset(j.reason, 'r', rnd(sizeof j.reason));
	other = j;
	CHECK_EQ(st[0]->ops->job_put(st[0], &j), E_OK);
	CHECK_EQ(st[1]->ops->job_put(st[1], &other), E_OK);
	CHECK_EQ(j.id, other.id);
	CHECK_EQ(j.version, other.version);
	if (j.id > jobs_made)
		jobs_made = j.id;
}

static void
put_notice(void)
{
	int64_t id = 1 + (int64_t)rnd((uint32_t)jobs_made + 1);
	enum job_state state = JOB_SUCCEEDED + rnd(JOB_STATES - JOB_SUCCEEDED);
	struct job_row j;

	if (st[0]->ops->job_get(st[0], id, &j) != E_OK)
		return;
	for (int k = 0; k < 2; k++)
		CHECK_EQ(st[k]->ops->notice_put(st[k], id, state), E_OK);
}

static void
tell_notice(void)
{
	uint64_t next[2], now = NOW + rnd(100);
	struct notice_row n[2];
	enum notice_end end = rnd(2) == 0 ? NOTICE_DONE : (enum notice_end)rnd(3);
	uint64_t again = NOW + rnd(100);
	enum err e = st[0]->ops->notice_next(st[0], now, &n[0], &next[0]);

	same(e, st[1]->ops->notice_next(st[1], now, &n[1], &next[1]));
	CHECK_EQ(next[0], next[1]);
	if (e != E_OK)
		return;
	CHECK_EQ(n[0].job, n[1].job);
	CHECK_EQ(n[0].state, n[1].state);
	CHECK_EQ(n[0].attempts, n[1].attempts);
	CHECK_EQ(n[0].refusals, n[1].refusals);
	for (int k = 0; k < 2; k++)
		CHECK_EQ(st[k]->ops->notice_settle(st[k], n[k].id, end, again), E_OK);
}

/* Everything that a walk tells, as one number. */
static enum err
hash_job(void *ctx, const struct job_row *j)
{
	uint64_t *h = ctx, v[] = { (uint64_t)j->id, j->version, (uint64_t)j->probe, j->trace_lo,
		(uint64_t)j->state, j->queued_real_ns, j->ended_real_ns };

	*h = *h << 32 | wire_crc32c((uint32_t)*h, v, sizeof v);
	*h ^= wire_crc32c(0, j->prompt_id, strlen(j->prompt_id));
	*h ^= (uint64_t)wire_crc32c(1, j->reason, strlen(j->reason)) << 16;
	return E_OK;
}

static void
compare_jobs(void)
{
	const struct job_filter filters[] = { { .oldest_first = true }, { .limit = 1 + rnd(50) },
		{ .states = 1 + rnd((1u << JOB_STATES) - 1), .oldest_first = rnd(2) != 0 },
		{ .probe = 1 + (int64_t)rnd(2), .states = 3, .oldest_first = true },
		{ .since_real_ns = NOW - rnd(40) * DAY },
		{ .prompt_id = "a1", .oldest_first = rnd(2) != 0 },
		{ .prompt_id = "b", .prompt_begins = true } };
	uint64_t count[2][JOB_STATES], notices[2], after = rnd(4000), h[2];
	uint32_t limit = rnd(20);

	for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
		for (int k = 0; k < 2; k++) {
			h[k] = 0;
			CHECK_EQ(st[k]->ops->jobs(st[k], &filters[i], hash_job, &h[k]), E_OK);
		}
		CHECK_EQ(h[0], h[1]);
	}
	for (int k = 0; k < 2; k++) {
		h[k] = 0;
		CHECK_EQ(st[k]->ops->jobs_changed(st[k], after, limit, hash_job, &h[k]), E_OK);
		CHECK_EQ(st[k]->ops->jobs_count(st[k], count[k]), E_OK);
		CHECK_EQ(st[k]->ops->notice_count(st[k], &notices[k]), E_OK);
	}
	CHECK_EQ(h[0], h[1]);
	CHECK_EQ(notices[0], notices[1]);
	CHECK(memcmp(count[0], count[1], sizeof count[0]) == 0);
}

static void
compare(void)
{
	struct store_stats s[2];
	bool equal = false;

	for (int k = 0; k < 2; k++) {
		CHECK_EQ(st[k]->ops->stats(st[k], &s[k]), E_OK);
		CHECK(s[k].identity[SIGNAL_TRACE]);
		s[k].bytes = s[k].cap_bytes = s[k].oldest_queued_real_ns = 0;
		s[k].volatile_ = false;
	}
	CHECK(memcmp(&s[0], &s[1], sizeof s[0]) == 0);
	CHECK_EQ(store_recount(st[0], &equal), E_OK);
	CHECK(equal);
	compare_jobs();
}

static void
step(void)
{
	bool back = rnd(5) == 0;
	struct probe_row kept[2] = { probes[0], probes[1] };

	for (int k = 0; k < 2; k++)
		CHECK_EQ(st[k]->ops->begin(st[k]), E_OK);
	for (uint32_t i = 1 + rnd(5); i > 0; i--) {
		uint32_t what = rnd(27);

		if (what < 6)
			put_raw();
		else if (what < 10)
			put_chunk();
		else if (what < 16)
			deliver();
		else if (what < 19)
			take();
		else if (what < 20)
			destinations();
		else if (what < 24)
			put_job();
		else if (what < 25)
			put_notice();
		else
			tell_notice();
	}
	for (int k = 0; k < 2; k++) {
		if (back) {
			st[k]->ops->rollback(st[k]);
			for (int32_t d = 1; d <= 3; d++)
				st[k]->ops->unlease(st[k], d);
			probes[k] = kept[k];
		} else {
			CHECK_EQ(st[k]->ops->commit(st[k]), E_OK);
		}
	}
}

TEST(both_stores_agree_after_every_transaction)
{
	char dir[64], command[96];
	struct store_open_report report;
	const struct store_limits limits = { .jobs_max = JOBS };

	snprintf(dir, sizeof dir, "/tmp/store_model.%d", (int)getpid());
	REQUIRE(store_sqlite_open(dir, &limits, &st[0], &report) == E_OK);
	REQUIRE(store_ram_new(&limits, &st[1]) == E_OK);
	for (int k = 0; k < 2; k++) {
		probes[k].probe_id[0] = 1;
		CHECK_EQ(st[k]->ops->probe_put(st[k], &probes[k]), E_OK);
	}
	for (int i = 0; i < STEPS && t_failed_checks == 0; i++) {
		clock_step = (uint64_t)i;
		step();
		for (int k = 0; k < 2 && i % 100 == 99; k++)
			for (int32_t d = 1; d <= 3; d++)
				st[k]->ops->unlease(st[k], d);
		if (i % 100 == 99)
			for (int k = 0; k < 2; k++)
				/* a minute later, so that both look at the jobs again */
				CHECK_EQ(st[k]->ops->maintain(
					     st[k], NOW + (uint64_t)i * 1000000000, i % 200 == 199),
				    E_OK);
		compare();
		if (t_failed_checks != 0)
			fprintf(stderr, "at step %d\n", i);
	}
	for (int k = 0; k < 2; k++)
		st[k]->ops->close(st[k]);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	CHECK_EQ(system(command), 0);
}

int
main(void)
{
	RUN(both_stores_agree_after_every_transaction);
	return t_done();
}
