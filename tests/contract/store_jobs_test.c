/*
 * store_jobs_test.c - the journal of jobs in both stores: one suite.  What
 * survives a closing is asked of the durable one.
 */
#include <time.h>

#include "tests/contract/jobs.h"

TEST(every_field_comes_back)
{
	struct job_row j, back;

	reopen();
	memset(&j, 0, sizeof j);
	j = (struct job_row){ .probe = 3,
		.trace_hi = UINT64_MAX,
		.trace_lo = 2,
		.wait_span = 3,
		.run_span = 4,
		.item = 5,
		.state = JOB_FAILED,
		.signal = 9,
		.device_error = true,
		.queued_real_ns = 6,
		.started_real_ns = 7,
		.ended_real_ns = 8,
		.peak_rss_bytes = UINT64_C(1) << 40,
		.nodes = UINT32_MAX,
		.executed = 10,
		.cached = 11,
		.thread = UINT64_C(1) << 33,
		.prompt_id = UUID,
		.reason = "oom_cgroup",
		.certainty = "certain",
		.node_id = "12",
		.node_class = "K\xc3\xa9",
		.error_type = "E",
		.workflow = "SaveImage 3fa91c02",
		.death = "d",
		.body = "b" };
	memset(j.boot_id, 0xee, sizeof j.boot_id);
	memset(j.workflow, 'w', sizeof j.workflow - 1); /* as long as it may be */
	CHECK_EQ(OPS->job_put(st, &j), E_OK);
	CHECK_EQ(j.id, 1);
	CHECK_EQ(j.version, 1);
	memset(&back, 0x55, sizeof back);
	CHECK_EQ(OPS->job_get(st, j.id, &back), E_OK);
	CHECK_EQ(back.trace_hi, j.trace_hi);
	CHECK_EQ(back.item, 5);
	CHECK_EQ(back.signal, 9);
	CHECK(back.device_error);
	CHECK_EQ(back.peak_rss_bytes, j.peak_rss_bytes);
	CHECK_EQ(back.nodes, j.nodes);
	CHECK_EQ(back.cached, 11);
	CHECK_EQ(back.thread, j.thread);
	CHECK_STR(back.workflow, j.workflow);
	CHECK_STR(back.node_class, "K\xc3\xa9");
	CHECK_STR(back.body, "b");
	CHECK_EQ(memcmp(back.boot_id, j.boot_id, sizeof j.boot_id), 0);
	CHECK_EQ(OPS->job_get(st, 2, &back), E_NOTFOUND);
	j.state = JOB_STATES;
	CHECK_EQ(OPS->job_put(st, &j), E_INVAL);
	done();
}

TEST(filters_choose_and_order)
{
	uint64_t count[JOB_STATES];
	struct list l;

	reopen();
	job(JOB_QUEUED, UUID, NOW);
	job(JOB_RUNNING, "other", NOW + 1);
	job(JOB_FAILED, UUID, NOW + 2);
	l = LIST(.limit = 0);
	CHECK_EQ(l.n, 3);
	CHECK_EQ(l.ids[0], 3);
	l = LIST(.oldest_first = true, .limit = 2);
	CHECK_EQ(l.n, 2);
	CHECK_EQ(l.ids[0], 1);
	l = LIST(.prompt_id = UUID);
	CHECK_EQ(l.n, 2);
	CHECK_EQ(l.ids[0], 3);
	l = LIST(.prompt_id = "0f6ac0de-", .prompt_begins = true);
	CHECK_EQ(l.n, 2);
	CHECK_EQ(l.ids[0], 3);
	CHECK_EQ(LIST(.prompt_id = "0f6ac0df", .prompt_begins = true).n, 0);
	CHECK_EQ(LIST(.prompt_id = "", .prompt_begins = true).n, 3);
	CHECK_EQ(LIST(.prompt_id = "0f6ac0de-").n, 0);
	l = LIST(.prompt_id = UUID, .oldest_first = true, .limit = 1);
	CHECK_EQ(l.ids[0], 1);
	l = LIST(.probe = 3, .states = 1u << JOB_QUEUED | 1u << JOB_RUNNING, .oldest_first = true);
	CHECK_EQ(l.n, 2);
	l = LIST(.probe = 4);
	CHECK_EQ(l.n, 0);
	l = LIST(.since_real_ns = NOW + 1);
	CHECK_EQ(l.n, 2);
	l = LIST(.states = 1u << JOB_FAILED);
	CHECK_EQ(l.n, 1);
	CHECK_EQ(OPS->jobs_count(st, count), E_OK);
	CHECK_EQ(count[JOB_QUEUED], 1);
	CHECK_EQ(count[JOB_FAILED], 1);
	CHECK_EQ(count[JOB_LOST], 0);
	done();
}

TEST(versions_only_grow_and_say_what_changed)
{
	struct job_row a, b;
	struct list l = { .n = 0 };

	reopen();
	a = job(JOB_QUEUED, UUID, NOW);
	b = job(JOB_QUEUED, UUID, NOW);
	a.state = JOB_RUNNING;
	CHECK_EQ(OPS->job_put(st, &a), E_OK);
	CHECK_EQ(a.version, 3);
	CHECK_EQ(OPS->jobs_changed(st, 1, 0, note, &l), E_OK);
	CHECK_EQ(l.n, 2);
	CHECK_EQ(l.ids[0], b.id);
	CHECK_EQ(l.ids[1], a.id);
	l.n = 0;
	CHECK_EQ(OPS->jobs_changed(st, 1, 1, note, &l), E_OK);
	CHECK_EQ(l.n, 1);
	if (durable) {
		OPS->close(st);
		reopen();
		CHECK_EQ(OPS->job_put(st, &b), E_OK);
		CHECK_EQ(b.version, 4);
		CHECK_EQ(job(JOB_QUEUED, UUID, NOW).id, 3);
	}
	done();
}

TEST(a_rollback_takes_jobs_and_notices_back)
{
	struct job_row a, back;
	struct notice_row n;
	uint64_t next;

	reopen();
	a = job(JOB_QUEUED, UUID, NOW);
	CHECK_EQ(OPS->begin(st), E_OK);
	a.state = JOB_LOST;
	CHECK_EQ(OPS->job_put(st, &a), E_OK);
	CHECK_EQ(OPS->notice_put(st, a.id, JOB_LOST), E_OK);
	job(JOB_RUNNING, UUID, NOW);
	OPS->rollback(st);
	CHECK_EQ(OPS->job_get(st, a.id, &back), E_OK);
	CHECK_EQ(back.state, JOB_QUEUED);
	CHECK_EQ(LIST(.limit = 0).n, 1);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_NOTFOUND);
	done();
}

TEST(notices_wait_come_once_and_go)
{
	struct job_row a, b;
	struct notice_row n;
	uint64_t next;

	reopen();
	a = job(JOB_FAILED, UUID, NOW);
	b = job(JOB_LOST, UUID, NOW);
	CHECK_EQ(OPS->notice_put(st, a.id, JOB_FAILED), E_OK);
	CHECK_EQ(OPS->notice_put(st, a.id, JOB_FAILED), E_OK);
	CHECK_EQ(OPS->notice_put(st, b.id, JOB_LOST), E_OK);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_OK);
	CHECK_EQ(n.job, a.id);
	CHECK_EQ(n.state, JOB_FAILED);
	CHECK_EQ(n.attempts, 0);
	CHECK_EQ(OPS->notice_settle(st, n.id, NOTICE_AGAIN, NOW + 5), E_OK);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_OK);
	CHECK_EQ(n.job, b.id);
	CHECK_EQ(OPS->notice_settle(st, n.id, NOTICE_DONE, 0), E_OK);
	CHECK_EQ(OPS->notice_settle(st, n.id, NOTICE_DONE, 0), E_NOTFOUND);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_NOTFOUND);
	CHECK_EQ(next, NOW + 5);
	CHECK_EQ(OPS->notice_next(st, NOW + 5, &n, &next), E_OK);
	CHECK_EQ(n.attempts, 1);
	CHECK_EQ(n.refusals, 0);
	/* Written by a clock that was set back since: due. */
	CHECK_EQ(OPS->notice_settle(st, n.id, NOTICE_REFUSED, NOW + 400 * DAY), E_OK);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_OK);
	CHECK_EQ(n.attempts, 2);
	CHECK_EQ(n.refusals, 1);
	done();
}

TEST(notices_of_one_job_come_in_turn)
{
	struct notice_row n;
	uint64_t next, count;
	struct job_row a, b;
	int64_t lost;

	reopen();
	a = job(JOB_FAILED, UUID, NOW);
	b = job(JOB_FAILED, UUID, NOW);
	CHECK_EQ(OPS->notice_put(st, a.id, JOB_LOST), E_OK);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_OK);
	lost = n.id;
	CHECK_EQ(OPS->notice_settle(st, lost, NOTICE_AGAIN, NOW + 5), E_OK);
	CHECK_EQ(OPS->notice_put(st, a.id, JOB_FAILED), E_OK);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_NOTFOUND); /* behind one that rests */
	CHECK_EQ(next, NOW + 5);
	CHECK_EQ(OPS->notice_put(st, b.id, JOB_FAILED), E_OK);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_OK); /* which is nothing to another */
	CHECK_EQ(n.job, b.id);
	CHECK_EQ(OPS->notice_count(st, &count), E_OK);
	CHECK_EQ(count, 3);
	CHECK_EQ(OPS->notice_settle(st, n.id, NOTICE_DONE, 0), E_OK);
	CHECK_EQ(OPS->notice_settle(st, lost, NOTICE_DONE, 0), E_OK);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_OK);
	CHECK_EQ(n.state, JOB_FAILED);
	done();
}

TEST(retention_forgets_final_ones_oldest_first)
{
	struct job_row told;

	limits.jobs_max = 10;
	reopen();
	told = job(JOB_FAILED, UUID, NOW);
	CHECK_EQ(OPS->notice_put(st, told.id, JOB_FAILED), E_OK);
	job(JOB_RUNNING, UUID, NOW);
	for (int i = 0; i < 20; i++)
		job(JOB_SUCCEEDED, UUID, NOW);
	CHECK_EQ(OPS->maintain(st, NOW + DAY, true), E_OK);

	struct list l = LIST(.oldest_first = true);

	CHECK_EQ(l.n, 10);
	CHECK_EQ(l.ids[0], told.id); /* somebody is still to be told */
	CHECK_EQ(l.ids[1], 2);       /* it runs */
	CHECK_EQ(l.ids[2], 15);
	for (int i = 0; i < 70; i++) /* many changes: looked at again */
		job(JOB_SUCCEEDED, UUID, NOW + DAY);
	CHECK_EQ(OPS->maintain(st, NOW + 25 * DAY, true), E_OK);
	CHECK_EQ(OPS->maintain(st, NOW + 50 * DAY, true), E_OK);
	l = LIST(.oldest_first = true);
	CHECK_EQ(l.n, 3); /* and the newest, from which versions go on */
	CHECK_EQ(l.ids[2], 92);
	done();
}

TEST(one_that_was_forgotten_comes_back_under_its_id)
{
	struct job_row a, back;
	struct list l;

	limits.jobs_max = 10;
	reopen();
	a = job(JOB_SUCCEEDED, UUID, NOW);
	for (int i = 0; i < 20; i++)
		job(JOB_SUCCEEDED, UUID, NOW);
	CHECK_EQ(OPS->maintain(st, NOW + DAY, true), E_OK);
	CHECK_EQ(OPS->job_get(st, a.id, &back), E_NOTFOUND);
	a.state = JOB_FAILED; /* whoever had it at hand */
	CHECK_EQ(OPS->begin(st), E_OK);
	CHECK_EQ(OPS->job_put(st, &a), E_OK);
	OPS->rollback(st);
	CHECK_EQ(OPS->job_get(st, 1, &back), E_NOTFOUND);
	CHECK_EQ(OPS->job_put(st, &a), E_OK);
	CHECK_EQ(a.id, 1);
	CHECK_EQ(OPS->job_get(st, 1, &back), E_OK);
	CHECK_EQ(back.state, JOB_FAILED);
	l = LIST(.oldest_first = true);
	CHECK_EQ(l.ids[0], 1);
	CHECK_EQ(l.ids[1], 12);
	CHECK_EQ(job(JOB_QUEUED, UUID, NOW).id, 22);
	done();
}

TEST(changes_of_one_transaction_are_taken_back_to_the_first)
{
	struct job_row a, b;
	struct list l = { .n = 0 };

	reopen();
	a = job(JOB_QUEUED, UUID, NOW);
	b = job(JOB_QUEUED, UUID, NOW);
	CHECK_EQ(OPS->begin(st), E_OK);
	for (int i = 0; i < 5; i++) {
		a.state = i % 2 == 0 ? JOB_RUNNING : JOB_FAILED;
		memset(a.reason, 'r', (size_t)(1 + i)); /* each time of another size */
		CHECK_EQ(OPS->job_put(st, &a), E_OK);
		CHECK_EQ(OPS->job_put(st, &b), E_OK);
	}
	CHECK_EQ(OPS->notice_put(st, a.id, JOB_FAILED), E_OK);
	OPS->rollback(st);
	CHECK_EQ(OPS->jobs_changed(st, 0, 0, note, &l), E_OK);
	CHECK_EQ(l.n, 2);
	CHECK_EQ(l.ids[0], a.id);
	CHECK_EQ(l.ids[1], b.id);
	CHECK_EQ(OPS->job_get(st, a.id, &a), E_OK);
	CHECK_EQ(a.state, JOB_QUEUED);
	CHECK_STR(a.reason, "");
	CHECK_EQ(OPS->notice_put(st, a.id, JOB_FAILED), E_OK);
	CHECK_EQ(OPS->job_put(st, &a), E_OK);
	l.n = 0;
	CHECK_EQ(OPS->jobs_changed(st, 0, 0, note, &l), E_OK);
	CHECK_EQ(l.ids[0], b.id);
	CHECK_EQ(l.ids[1], a.id);
	done();
}

/* The volatile one: who is done goes first, who is to be told of or runs stays. */
TEST(jobs_have_a_share_of_the_cap_where_they_are_in_memory)
{
	struct store_stats s;
	struct job_row told, back;
	uint64_t count[JOB_STATES];
	struct list l;

	if (durable)
		return;
	limits.cap_bytes = 16 << 20;
	reopen();
	told = job(JOB_FAILED, UUID, NOW);
	CHECK_EQ(OPS->notice_put(st, told.id, JOB_FAILED), E_OK);
	job(JOB_RUNNING, UUID, NOW);
	for (int i = 0; i < 20000; i++)
		job(JOB_SUCCEEDED, UUID, NOW);
	CHECK_EQ(OPS->stats(st, &s), E_OK);
	CHECK(s.bytes <= limits.cap_bytes / 8);
	CHECK_EQ(OPS->jobs_count(st, count), E_OK);
	CHECK(count[JOB_SUCCEEDED] > limits.cap_bytes / 8 / 1024); /* less than 1 KiB each */
	CHECK_EQ(OPS->job_get(st, told.id, &back), E_OK);
	CHECK_EQ(OPS->job_get(st, 3, &back), E_NOTFOUND);
	l = LIST(.limit = 1);
	CHECK_EQ(l.ids[0], 20002);
	done();
}

/* CPU time, the least of three: twice as many cost about twice as much. */
static double
journal_seconds(uint32_t jobs)
{
	double best = 1e9;

	for (int run = 0; run < 3; run++) {
		struct timespec from, to;
		struct notice_row n;
		uint64_t next, after = 0;
		double seconds;

		reopen();
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		for (uint32_t i = 0; i < jobs; i++) {
			struct job_row j = job(JOB_RUNNING, UUID, NOW);

			j.state = JOB_SUCCEEDED;
			CHECK_EQ(OPS->job_put(st, &j), E_OK);
			CHECK_EQ(OPS->notice_put(st, j.id, j.state), E_OK);
			if (i % 16 == 0) {
				struct list l = { .n = 0 };

				CHECK_EQ(OPS->jobs_changed(st, after, 0, note, &l), E_OK);
				after = j.version;
			}
		}
		while (OPS->notice_next(st, NOW, &n, &next) == E_OK)
			CHECK_EQ(OPS->notice_settle(st, n.id, NOTICE_DONE, 0), E_OK);
		CHECK_EQ(OPS->maintain(st, NOW + DAY, true), E_OK);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		seconds =
		    (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
		best = seconds < best ? seconds : best;
		done();
	}
	return best;
}

TEST(many_jobs_cost_each_as_much_as_few)
{
	double few, many;

	if (durable)
		return;
	few = journal_seconds(2000);
	many = journal_seconds(16000);
	printf("# 2000 jobs %.4f s, 16000 jobs %.4f s\n", few, many);
	CHECK(many < 24 * few); /* 8 when each costs the same, 64 when each looks at all */
}

static void
suite(void)
{
	RUN(every_field_comes_back);
	RUN(filters_choose_and_order);
	RUN(versions_only_grow_and_say_what_changed);
	RUN(a_rollback_takes_jobs_and_notices_back);
	RUN(notices_wait_come_once_and_go);
	RUN(notices_of_one_job_come_in_turn);
	RUN(retention_forgets_final_ones_oldest_first);
	RUN(one_that_was_forgotten_comes_back_under_its_id);
	RUN(changes_of_one_transaction_are_taken_back_to_the_first);
	RUN(jobs_have_a_share_of_the_cap_where_they_are_in_memory);
	RUN(many_jobs_cost_each_as_much_as_few);
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
