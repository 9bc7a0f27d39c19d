/*
 * store_fault_test.c - receive, process, send on a disk that fails: for every N
 * the N-th call to the disk is refused, cut short or the last before a power
 * cut, over the whole life of a small buffer.  Real store, real processor, the
 * pipeline's way of trying again.  At the end every span has been delivered:
 * exactly once unless the power went, then at most one request repeats.  Beside
 * them the journal: each job goes through its states in the transactions of its
 * records, none is skipped or repeated, and its end is told.
 */
#include "tests/contract/badvfs.h"

#include "agent/store/store.h"
#include "tests/unit/agent/processor/feeder.h"

#define ROUNDS       7
#define SPANS        (ROUNDS * 4)
#define TRIES        40
#define SECOND       1000000000ull
#define ID(round, k) (((round) + 1) * 8 + (k)) /* of a span; never 0 */
#define IDS          ((ROUNDS + 1) * 8)

/* Every call in the release build; a sample in builds for the inner loop and sanitizers. */
#ifdef NDEBUG
#define STRIDE 1
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 29
#else
#define STRIDE 7
#endif

struct cycle {
	struct store *st;
	struct processor *p;
	struct raw_row batches[ROUNDS + 2]; /* all that the probe will say */
	size_t batch_count, next;           /* to be sent */
	uint64_t acked;
	bool fed;
	int32_t destination;
	uint64_t clock;
	unsigned delivered[IDS];
	unsigned leased_now;           /* chunks delivered and not yet recorded */
	uint64_t version, version_put; /* of the newest job: durable; in the transaction */
	struct notice_row notice;
	bool telling; /* that notice: told and not yet recorded */
	unsigned told[ROUNDS];
	unsigned crashes, failures;
	char error[STORE_ERROR_BYTES];
};

static char dir[64];
static uint8_t probe_id[FRAME_PROBE_ID_BYTES];

static void
wipe(void)
{
	static const char *const names[] = { "buffer.db", "buffer.db-wal", "buffer.db-journal",
		"ballast" };
	char path[128];

	snprintf(dir, sizeof dir, "%s/store_fault.%d",
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
	bad_reset();
}

/* Round r opens a root and finishes it two rounds later: segments live in between. */
static void
script(struct cycle *c)
{
	static struct feeder f;

	feeder_init(&f, 1);
	for (uint64_t r = 0; r < ROUNDS + 2; r++) {
		if (r < ROUNDS) {
			PUT(&f, .trace = 100 + r, .span = ID(r, 0), .flags = WIRE_SPAN_LOCAL_ROOT,
			    .open = true);
			for (uint64_t k = 1; k < 4; k++)
				PUT(&f, .trace = 100 + r, .span = ID(r, k), .parent = ID(r, 0),
				    .tags = 3);
		}
		if (r >= 2)
			PUT(&f, .trace = 100 + r - 2, .span = ID(r - 2, 0),
			    .flags = WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_OPENED);
		c->batches[c->batch_count++] = feeder_batch(&f);
	}
}

static enum err
restore(struct cycle *c)
{
	struct segment_row g;
	struct raw_row raw;
	int64_t after = 0;
	enum err e;

	while ((e = c->st->ops->segment_next(c->st, after, &g)) == E_OK) {
		after = g.id;
		e = processor_restore(c->p, &g);
		free(g.blob);
		if (e != E_OK)
			return e;
	}
	if (e != E_NOTFOUND)
		return e;
	/* in this script the processor takes every batch at once: no row may be left */
	e = c->st->ops->raw_next(c->st, 0, &raw);
	if (e == E_OK)
		free(raw.blob);
	return e == E_NOTFOUND ? E_OK : e == E_OK ? E_STATE : e;
}

struct seen_jobs {
	unsigned ended, other;
	uint64_t version;
};

static enum err
see_job(void *ctx, const struct job_row *j)
{
	struct seen_jobs *seen = ctx;

	CHECK(j->version > seen->version);
	seen->version = j->version;
	seen->ended += j->state == JOB_SUCCEEDED;
	seen->other += j->state != JOB_SUCCEEDED;
	return E_OK;
}

/* Open and bring up to date, as a start of the collector does. */
static enum err
start(struct cycle *c)
{
	const char *names[] = { "datadog" };
	struct store_open_report report;
	struct probe_row row = { .pid = 7 };
	const struct store_limits limits = { .cap_bytes = 64 << 20 };
	struct seen_jobs seen = { 0 };
	enum err e = store_sqlite_open(dir, &limits, &c->st, &report);

	if (e != E_OK) {
		CHECK(report.text[0] != '\0');
		snprintf(c->error, sizeof c->error, "%s", report.text);
		return e;
	}
	CHECK(!report.quarantined);
	memcpy(row.probe_id, probe_id, sizeof row.probe_id);
	e = c->st->ops->begin(c->st);
	if (e == E_OK)
		e = c->st->ops->destinations_set(c->st, names, 1, &c->destination);
	if (e == E_OK)
		e = c->st->ops->probe_put(c->st, &row);
	if (e == E_OK)
		e = c->st->ops->commit(c->st);
	if (e == E_OK)
		e = processor_new(
		    &(struct processor_options){ .service = "s", .rate_limit = 100 }, &c->p);
	if (e == E_OK)
		e = processor_probe(c->p, &row);
	if (e == E_OK)
		e = restore(c);
	if (e == E_OK) /* a commit that was refused may be there all the same */
		e = c->st->ops->jobs_changed(c->st, 0, 0, see_job, &seen);
	if (e != E_OK) {
		snprintf(c->error, sizeof c->error, "%s", store_last_error(c->st));
		CHECK(c->error[0] != '\0');
		c->st->ops->close(c->st);
		c->st = NULL;
		processor_free(c->p);
		c->p = NULL;
		return e;
	}
	CHECK(row.end >= c->acked); /* what was acknowledged is there */
	CHECK(seen.version >= c->version);
	c->version = seen.version;
	for (c->next = 0; c->next < c->batch_count && c->batches[c->next].end <= row.end;)
		c->next++;
	c->fed = false;
	return E_OK;
}

static void
stop(struct cycle *c)
{
	if (c->st != NULL)
		c->st->ops->close(c->st);
	processor_free(c->p);
	c->st = NULL;
	c->p = NULL;
}

/* The power goes: everything in memory with it. */
static void
crash(struct cycle *c)
{
	static uint32_t seed = 1;

	stop(c);
	bad_power_loss(seed += 7919);
	c->crashes++;
	c->leased_now = 0;
	c->telling = false;
}

static enum err
take_job(void *ctx, const struct job_row *j)
{
	*(struct job_row *)ctx = *j;
	return E_OK;
}

/* The job of a round comes to this state; it was in the one before. */
static enum err
move_job(struct cycle *c, uint64_t round, enum job_state state)
{
	struct job_row j = { .probe = 1, .item = (int64_t)round, .queued_real_ns = SECOND };
	struct job_filter f = { .prompt_id = j.prompt_id };
	enum err e;

	snprintf(j.prompt_id, sizeof j.prompt_id, "job-%u", (unsigned)round);
	e = c->st->ops->jobs(c->st, &f, take_job, &j);
	if (e != E_OK)
		return e;
	CHECK_EQ(j.id != 0, state != JOB_QUEUED);
	CHECK_EQ(j.state, state == JOB_QUEUED ? JOB_QUEUED : state - 1);
	CHECK_EQ(j.item, round);
	j.state = state;
	if (job_state_is_final(state))
		j.ended_real_ns = 2 * SECOND;
	e = c->st->ops->job_put(c->st, &j);
	if (e == E_OK) {
		CHECK(j.version > c->version);
		c->version_put = j.version;
	}
	if (e == E_OK && job_state_is_final(state))
		e = c->st->ops->notice_put(c->st, j.id, state);
	return e;
}

/* What batch n says of jobs: one comes, the one before begins, the one before that ends. */
static enum err
move_jobs(struct cycle *c, uint64_t n)
{
	enum err e = n < ROUNDS ? move_job(c, n, JOB_QUEUED) : E_OK;

	if (e == E_OK && n >= 1 && n - 1 < ROUNDS)
		e = move_job(c, n - 1, JOB_RUNNING);
	if (e == E_OK && n >= 2)
		e = move_job(c, n - 2, JOB_SUCCEEDED);
	return e;
}

/* One end told and recorded; E_NOTFOUND: none is to be told. */
static enum err
tell_one(struct cycle *c)
{
	const struct store_ops *ops = c->st->ops;
	enum err e = E_OK;
	uint64_t next;

	if (!c->telling) {
		struct job_row j;

		e = ops->notice_next(c->st, c->clock, &c->notice, &next);
		if (e != E_OK)
			return e;
		e = ops->job_get(c->st, c->notice.job, &j);
		if (e != E_OK)
			return e == E_NOTFOUND ? E_STATE : e;
		CHECK_EQ(j.state, JOB_SUCCEEDED);
		CHECK_EQ(c->notice.state, JOB_SUCCEEDED);
		c->told[(uint64_t)j.item % ROUNDS]++;
		c->telling = true;
	}
	e = ops->notice_settle(c->st, c->notice.id, NOTICE_DONE, 0);
	if (e == E_OK)
		c->telling = false;
	return e == E_NOTFOUND ? E_STATE : e; /* who goes on has not settled it yet */
}

static enum err
apply(struct cycle *c, const struct step *s)
{
	const struct store_ops *ops = c->st->ops;
	enum err e = E_OK;

	for (size_t i = 0; e == E_OK && i < s->dead_count; i++)
		e = ops->segment_delete(c->st, s->dead_segments[i]);
	for (size_t i = 0; e == E_OK && i < s->chunk_count; i++)
		e = ops->chunk_put(c->st, &s->chunks[i]);
	for (size_t i = 0; e == E_OK && i < s->segment_count; i++)
		e = ops->segment_put(c->st, &s->segments[i]);
	return e;
}

/* One batch in, one step out, one transaction. */
static enum err
receive(struct cycle *c)
{
	const struct store_ops *ops = c->st->ops;
	struct raw_row raw = c->batches[c->next];
	struct probe_row row = { .id = 0 };
	const struct step *s;
	struct wire_error why;
	struct wire_batch b;
	enum err e = ops->begin(c->st);

	if (e != E_OK)
		return e;
	if (wire_batch_peek(raw.blob, raw.blob_bytes, &b, &why) != 0)
		return E_INVAL;
	e = ops->probe_get(c->st, probe_id, &row);
	if (e == E_OK)
		e = ops->raw_put(c->st, &row, raw.blob, raw.blob_bytes, &b, true, &raw.id);
	CHECK(e != E_EXISTS); /* a commit that failed has not happened */
	if (e == E_EXISTS)
		return E_STATE;
	if (e == E_OK && !c->fed) {
		raw.probe = row.id;
		e = processor_feed(c->p, &raw);
		c->fed = e == E_OK;
	}
	if (e == E_OK)
		e = ops->raw_delete(c->st, raw.id);
	if (e == E_OK)
		e = processor_step(c->p, c->clock, c->clock, &s);
	if (e == E_OK)
		e = apply(c, s);
	if (e == E_OK)
		e = move_jobs(c, c->next);
	if (e == E_OK)
		e = ops->commit(c->st);
	if (e != E_OK)
		return e;
	processor_commit(c->p);
	c->version = c->version_put;
	c->acked = raw.end;
	c->next++;
	c->fed = false;
	return E_OK;
}

static void
deliver(struct cycle *c, const struct chunk_row *chunk)
{
	struct wire_bundle b;
	struct wire_trace t;
	struct wire_error why;
	size_t at = 0;

	CHECK(wire_bundle_get(chunk->blob, chunk->blob_bytes, &b, &why) == 0);
	while (wire_trace_next(&b, &at, &t, &why) == 1)
		for (uint32_t i = 0; i < t.records_bytes; i += wire_get32(t.records + i + 8)) {
			uint64_t id = wire_get64(t.records + i + RECORD_HEADER_BYTES + 16);

			CHECK(id < IDS);
			if (id < IDS)
				c->delivered[id]++;
		}
}

/* One chunk out and recorded; E_NOTFOUND: nothing due. */
static enum err
send_one(struct cycle *c)
{
	static struct settlement g;
	struct lease l;
	uint64_t next;
	enum err e = E_OK;

	if (c->leased_now == 0) {
		e = c->st->ops->lease(c->st, c->destination, false, c->clock, &l, &next);
		if (e != E_OK)
			return e;
		deliver(c, &l.chunk);
		g = (struct settlement){ .chunk = l.chunk.id,
			.destination = c->destination,
			.kind = SETTLE_SENT,
			.status = 200 };
		c->leased_now = 1;
		lease_free(&l);
	}
	e = c->st->ops->begin(c->st);
	if (e == E_OK)
		e = c->st->ops->settle(c->st, &g);
	if (e == E_OK)
		e = c->st->ops->commit(c->st);
	if (e == E_OK)
		c->leased_now = 0;
	return e;
}

/* What follows from an error, as in the pipeline; false: the run cannot go on. */
static bool
failed(struct cycle *c, enum err e)
{
	c->failures++;
	if (e != E_IO && e != E_FULL && e != E_BUSY) {
		fprintf(stderr, "%s: %s\n", err_text(e), store_last_error(c->st));
		CHECK(e == E_IO);
		return false;
	}
	CHECK(store_last_error(c->st)[0] != '\0');
	if (bad.how == BAD_POWER) {
		crash(c);
		return c->failures < TRIES && start(c) == E_OK;
	}
	c->st->ops->rollback(c->st);
	processor_abort(c->p);
	return c->failures < TRIES;
}

/* The whole life; false when it did not come to an end. */
static bool
live(struct cycle *c)
{
	enum err e;

	for (int i = 0; start(c) != E_OK; i++) {
		c->failures++;
		if (i == TRIES)
			return false;
		if (bad.off)
			crash(c);
	}
	while (c->next < c->batch_count) {
		c->clock += SECOND;
		if ((e = receive(c)) != E_OK && !failed(c, e))
			return false;
		for (int i = 0; i < 2; i++)
			if ((e = send_one(c)) != E_OK && e != E_NOTFOUND && !failed(c, e))
				return false;
		if ((e = tell_one(c)) != E_OK && e != E_NOTFOUND && !failed(c, e))
			return false;
		if (c->next % 4 == 3 && (e = c->st->ops->maintain(c->st, c->clock, true)) != E_OK &&
		    !failed(c, e))
			return false;
	}
	c->clock += 60 * SECOND;
	while ((e = send_one(c)) != E_NOTFOUND)
		if (e != E_OK && !failed(c, e))
			return false;
	while ((e = tell_one(c)) != E_NOTFOUND)
		if (e != E_OK && !failed(c, e))
			return false;
	return true;
}

/* Each job is there once and at its end, nobody waits to be told. */
static void
judge_jobs(struct cycle *c)
{
	struct seen_jobs seen = { 0 };
	uint64_t waiting;

	CHECK_EQ(c->st->ops->jobs_changed(c->st, 0, 0, see_job, &seen), E_OK);
	CHECK_EQ(seen.ended, ROUNDS);
	CHECK_EQ(seen.other, 0);
	CHECK_EQ(seen.version, c->version);
	CHECK_EQ(c->st->ops->notice_count(c->st, &waiting), E_OK);
	CHECK_EQ(waiting, 0);
}

/* Nothing lost, nothing invented, the counters right, now and after another start. */
static void
judge(struct cycle *c)
{
	unsigned missing = 0, repeated = 0;
	struct store_stats s;
	bool equal = false;

	for (uint64_t r = 0; r < ROUNDS; r++)
		for (uint64_t k = 0; k < 4; k++) {
			missing += c->delivered[ID(r, k)] == 0;
			repeated += c->delivered[ID(r, k)] > 1;
		}
	CHECK_EQ(missing, 0);
	CHECK(repeated <= c->crashes * 4); /* one request: one trace */
	missing = repeated = 0;
	for (int r = 0; r < ROUNDS; r++) {
		missing += c->told[r] == 0;
		repeated += c->told[r] > 1;
	}
	CHECK_EQ(missing, 0);
	CHECK(repeated <= c->crashes);
	for (int again = 0; again < 2; again++) {
		CHECK_EQ(c->st->ops->stats(c->st, &s), E_OK);
		CHECK_EQ(s.received[SIGNAL_TRACE], SPANS);
		CHECK_EQ(s.sent[SIGNAL_TRACE], SPANS);
		CHECK_EQ(s.queued[SIGNAL_TRACE], 0);
		CHECK(s.identity[SIGNAL_TRACE]);
		CHECK_EQ(s.quarantined, 0);
		CHECK_EQ(store_recount(c->st, &equal), E_OK);
		CHECK(equal);
		judge_jobs(c);
		stop(c);
		if (again == 0)
			REQUIRE(start(c) == E_OK);
	}
}

/* One life with the at-th call refused; how many calls it took. */
static unsigned
run(enum bad_how how, unsigned at)
{
	struct cycle c = { .clock = SECOND };
	int before = t_failed_checks;
	bool ended;

	wipe();
	script(&c);
	bad_arm(how, at);
	ended = live(&c);
	CHECK(ended);

	unsigned calls = bad.calls, refused = bad.failed;

	bad_arm(BAD_EIO_ONCE, 0);
	if (ended)
		judge(&c);
	else
		stop(&c);
	for (size_t i = 0; i < c.batch_count; i++)
		free(c.batches[i].blob);
	if (at > 0)
		CHECK(refused > 0);
	if (t_failed_checks != before)
		fprintf(
		    stderr, "... way %d, call %u, %u failures: %s\n", how, at, c.failures, c.error);
	return at > 0 ? refused : calls;
}

static void
every_call(enum bad_how how)
{
	unsigned calls = run(how, 0), before = (unsigned)t_failed_checks;

	unsigned stride = calls > 100 ? STRIDE : 1;

	CHECK(calls > 0);
	for (unsigned at = 1 + (unsigned)how % stride; at <= calls; at += stride) {
		run(how, at);
		if ((unsigned)t_failed_checks > before + 20)
			return; /* enough said */
	}
	printf("%u calls each\n", calls);
}

TEST(without_faults_every_span_arrives_once)
{
	run(BAD_EIO_ONCE, 0);
}

TEST(an_io_error_at_any_call_costs_nothing)
{
	every_call(BAD_EIO_ONCE);
}

TEST(io_errors_for_a_while_cost_nothing)
{
	every_call(BAD_EIO_FOR_A_WHILE);
}

TEST(a_full_disk_at_any_call_costs_nothing)
{
	every_call(BAD_FULL);
}

TEST(a_short_write_at_any_call_costs_nothing)
{
	every_call(BAD_SHORT);
}

TEST(a_lock_that_somebody_holds_costs_nothing)
{
	every_call(BAD_BUSY);
}

TEST(a_power_cut_at_any_call_loses_nothing_acknowledged)
{
	every_call(BAD_POWER);
}

TEST(every_kind_of_call_was_refused)
{
	for (int k = 0; k < BAD_KINDS; k++) {
		printf("kind %d: %u\n", k, bad.hits[k]);
		CHECK(bad.hits[k] > 0);
	}
}

int
main(void)
{
	memset(probe_id, 5, sizeof probe_id);
	bad_install();
	RUN(without_faults_every_span_arrives_once);
	RUN(an_io_error_at_any_call_costs_nothing);
	RUN(io_errors_for_a_while_cost_nothing);
	RUN(a_full_disk_at_any_call_costs_nothing);
	RUN(a_short_write_at_any_call_costs_nothing);
	RUN(a_lock_that_somebody_holds_costs_nothing);
	RUN(a_power_cut_at_any_call_loses_nothing_acknowledged);
	RUN(every_kind_of_call_was_refused);
	wipe();
	return t_done();
}
