/*
 * store_fault_test.c - receive, process, send on a disk that fails: for every N
 * the N-th call to the disk is refused, cut short or the last before a power
 * cut, over the whole life of a small buffer (cycle.h).  At the end every span has been
 * delivered: exactly once unless the power went, then at most one request repeats;
 * so has the end of every job been told.
 */
#include "tests/contract/badvfs.h"

#include "tests/contract/cycle.h"

#define TRIES 40

/* Every call in the release build; a sample in builds for the inner loop and sanitizers. */
#ifdef NDEBUG
#define STRIDE 1
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 29
#else
#define STRIDE 7
#endif

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
