/*
 * journal_test.c - records become states: each end once, and never a better one
 * than what happened.
 */
#include "agent/journal/journal.h"

#include <stdio.h>

#include "agent/base/clock.h"
#include "agent/store/store.h"
#include "tests/t.h"

#define S      1000000000ull
#define OFFSET 1700000000000000000ll
#define UUID   "0f6ac0de-0000-4000-8000-000000000001"
#define OTHER  "0f6ac0de-0000-4000-8000-000000000002"

/* Strings of a record by their id: what a test says, in order. */
struct strings {
	const char *of[64];
	uint32_t count;
};

const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	const struct strings *t = s->strings;

	*n = 0;
	if (id == 0 || id > t->count)
		return NULL;
	*n = (uint32_t)strlen(t->of[id - 1]);
	return t->of[id - 1];
}

struct tag {
	const char *key, *text;
	double number;
};

struct rec {
	enum span_kind kind;
	uint64_t trace, span, start_s, seconds;
	uint16_t flags;
	bool open;
	const char *workflow, *prompt_id;
	struct tag tags[8];
};

struct desk {
	struct store *store;
	struct journal *journal;
	struct journal_death death;
	struct probe_row probe;
	unsigned deaths_asked;
};

static void
tell_death(void *ctx, int64_t probe, struct journal_death *out)
{
	struct desk *d = ctx;

	CHECK_EQ(probe, d->probe.id);
	d->deaths_asked++;
	*out = d->death;
}

static void
open_journal(struct desk *d)
{
	struct journal_options o = {
		.store = d->store, .notices = true, .death = tell_death, .death_ctx = d
	};

	CHECK_EQ(journal_new(&o, &d->journal), E_OK);
}

static struct desk
desk_open(void)
{
	struct store_limits limits = { 0 };
	struct desk d = { .probe = { .pid = 42 } };

	memset(d.probe.probe_id, 7, sizeof d.probe.probe_id);
	CHECK_EQ(store_ram_new(&limits, &d.store), E_OK);
	CHECK_EQ(d.store->ops->probe_put(d.store, &d.probe), E_OK);
	return d;
}

static void
desk_close(struct desk *d)
{
	journal_free(d->journal);
	d->store->ops->close(d->store);
}

static uint32_t
intern(struct strings *t, const char *s)
{
	t->of[t->count++] = s;
	return t->count;
}

static void
see(struct desk *d, const struct rec *r)
{
	uint8_t buf[2048];
	struct strings strings = { .count = 0 };
	struct wire_tags tags = { .buf = buf, .cap = sizeof buf };
	struct wire_span w = { .trace_lo = r->trace,
		.span_id = r->span,
		.start_ns = r->start_s * S,
		.duration_ns = r->seconds * S,
		.flags = r->flags };

	if (r->workflow != NULL)
		w.resource = intern(&strings, r->workflow);
	if (r->prompt_id != NULL)
		wire_tag_text(
		    &tags, intern(&strings, "prompt.id"), r->prompt_id, strlen(r->prompt_id));
	for (size_t i = 0; i < 8 && r->tags[i].key != NULL; i++) {
		uint32_t key = intern(&strings, r->tags[i].key);

		if (r->tags[i].text != NULL)
			wire_tag_str(&tags, key, intern(&strings, r->tags[i].text));
		else
			wire_tag_f64(&tags, key, r->tags[i].number);
	}
	w.tags = buf;
	w.tag_bytes = tags.used;
	w.tag_count = tags.count;
	journal_see(d->journal, &(struct span_seen){ .probe = d->probe.id,
				    .kind = r->kind,
				    .open = r->open,
				    .offset_ns = OFFSET,
				    .span = &w,
				    .strings = &strings });
}
#define SEE(d, ...) see((d), &(struct rec){ __VA_ARGS__ })

static void
keep(struct desk *d)
{
	CHECK_EQ(d->store->ops->begin(d->store), E_OK);
	CHECK_EQ(journal_write(d->journal), E_OK);
	CHECK_EQ(d->store->ops->commit(d->store), E_OK);
	journal_commit(d->journal);
	CHECK(!journal_dirty(d->journal));
}

struct shelf {
	struct job_row rows[16];
	size_t count;
};

static enum err
shelve(void *ctx, const struct job_row *job)
{
	struct shelf *s = ctx;

	CHECK(s->count < 16);
	s->rows[s->count++] = *job;
	return E_OK;
}

/* All jobs of the store, oldest first. */
static struct shelf
shelf(const struct desk *d)
{
	struct job_filter f = { .oldest_first = true };
	struct shelf s = { .count = 0 };

	CHECK_EQ(d->store->ops->jobs(d->store, &f, shelve, &s), E_OK);
	return s;
}

static unsigned
notices(struct desk *d)
{
	struct notice_row n;
	uint64_t next;
	unsigned count = 0;

	while (d->store->ops->notice_next(d->store, UINT64_MAX / 2, &n, &next) == E_OK) {
		count++;
		CHECK_EQ(d->store->ops->notice_settle(d->store, n.id, NOTICE_DONE, 0), E_OK);
	}
	return count;
}

#define WAIT_OPENS(d, t)                                                                \
	SEE((d), .kind = SPAN_QUEUE_WAIT, .trace = (t), .span = (t)*10, .start_s = (t), \
	    .open = true, .prompt_id = UUID)
#define RUN_OPENS(d, t)                                                                       \
	SEE((d), .kind = SPAN_WORKFLOW, .trace = (t), .span = (t)*10 + 1, .start_s = (t) + 1, \
	    .open = true, .prompt_id = UUID, .workflow = "SaveImage 3fa91c02",                \
	    .tags = { { "queue.item", NULL, (double)(t) }, { "thread.id", NULL, 99 },         \
		{ "workflow.node_count", NULL, 3 } })
#define RUN_ENDS(d, t, how)                                                                    \
	SEE((d), .kind = SPAN_WORKFLOW, .trace = (t), .span = (t)*10 + 1, .start_s = (t) + 1,  \
	    .seconds = 2, .prompt_id = UUID, .workflow = "SaveImage 3fa91c02",                 \
	    .tags = { { "workflow.status", (how), 0 }, { "workflow.nodes_executed", NULL, 2 }, \
		{ "workflow.nodes_cached", NULL, 1 }, { "memory.rss.peak_bytes", NULL, 5e9 } })

TEST(a_job_goes_from_queued_to_succeeded)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	WAIT_OPENS(&d, 5);
	CHECK(journal_dirty(d.journal));
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 1);
	CHECK_EQ(s.rows[0].state, JOB_QUEUED);
	CHECK_EQ(s.rows[0].queued_real_ns, (uint64_t)OFFSET + 5 * S);
	CHECK_EQ(s.rows[0].item, -1);
	CHECK_EQ(s.rows[0].boot_id[3], 7);
	RUN_OPENS(&d, 5);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 1);
	CHECK_EQ(s.rows[0].state, JOB_RUNNING);
	CHECK_EQ(s.rows[0].item, 5);
	CHECK_EQ(s.rows[0].nodes, 3);
	CHECK_EQ(notices(&d), 0);
	RUN_ENDS(&d, 5, "success");
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 1);
	CHECK_EQ(s.rows[0].state, JOB_SUCCEEDED);
	CHECK_STR(s.rows[0].prompt_id, UUID);
	CHECK_STR(s.rows[0].workflow, "SaveImage 3fa91c02");
	CHECK_STR(s.rows[0].reason, "");
	CHECK_EQ(s.rows[0].executed, 2);
	CHECK_EQ(s.rows[0].cached, 1);
	CHECK_EQ(s.rows[0].peak_rss_bytes, 5000000000u);
	CHECK_EQ(s.rows[0].started_real_ns, (uint64_t)OFFSET + 6 * S);
	CHECK_EQ(s.rows[0].ended_real_ns, (uint64_t)OFFSET + 8 * S);
	CHECK_EQ(notices(&d), 1);
	CHECK_EQ(d.deaths_asked, 0);
	desk_close(&d);
}

TEST(one_prompt_id_used_twice_is_two_jobs_in_order)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	/* Both in one trace of the client's. */
	SEE(&d, .kind = SPAN_QUEUE_WAIT, .trace = 5, .span = 1, .start_s = 1, .open = true,
	    .prompt_id = UUID);
	SEE(&d, .kind = SPAN_QUEUE_WAIT, .trace = 5, .span = 2, .start_s = 2, .open = true,
	    .prompt_id = UUID);
	keep(&d);
	RUN_OPENS(&d, 5);
	RUN_ENDS(&d, 5, "success");
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 2);
	CHECK_EQ(s.rows[0].wait_span, 1);
	CHECK_EQ(s.rows[0].state, JOB_SUCCEEDED);
	CHECK_EQ(s.rows[1].state, JOB_QUEUED);
	desk_close(&d);
}

TEST(a_failed_node_gives_its_name_and_the_first_one_counts)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	WAIT_OPENS(&d, 5);
	RUN_OPENS(&d, 5);
	SEE(&d, .kind = SPAN_NODE, .trace = 5, .span = 60, .start_s = 7, .flags = WIRE_SPAN_ERROR,
	    .prompt_id = UUID,
	    .tags = { { "node.id", "12", 0 }, { "node.class_type", "VAEDecode", 0 },
		{ "error.type", "torch.OutOfMemoryError", 0 }, { "oom", "gpu", 0 } });
	SEE(&d, .kind = SPAN_NODE, .trace = 5, .span = 59, .start_s = 6, .flags = WIRE_SPAN_ERROR,
	    .prompt_id = UUID,
	    .tags = { { "node.id", "11", 0 }, { "node.class_type", "Expands", 0 } });
	RUN_ENDS(&d, 5, "error");
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 1);
	CHECK_EQ(s.rows[0].state, JOB_FAILED);
	CHECK_STR(s.rows[0].reason, "oom_gpu");
	CHECK_STR(s.rows[0].node_id, "12");
	CHECK_STR(s.rows[0].node_class, "VAEDecode");
	CHECK_STR(s.rows[0].error_type, "torch.OutOfMemoryError");
	desk_close(&d);
}

TEST(interrupted_cancelled_and_worker_died_are_told_apart)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	WAIT_OPENS(&d, 1);
	RUN_OPENS(&d, 1);
	RUN_ENDS(&d, 1, "interrupted");
	WAIT_OPENS(&d, 2);
	SEE(&d, .kind = SPAN_QUEUE_WAIT, .trace = 2, .span = 20, .start_s = 2, .seconds = 9,
	    .prompt_id = UUID, .tags = { { "workflow.status", "cancelled", 0 } });
	WAIT_OPENS(&d, 3);
	RUN_OPENS(&d, 3);
	SEE(&d, .kind = SPAN_WORKFLOW, .trace = 3, .span = 31, .start_s = 4, .prompt_id = UUID,
	    .flags = WIRE_SPAN_ERROR,
	    .tags = { { "workflow.status", "error", 0 }, { "workflow.worker_died", "true", 0 } });
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 3);
	CHECK_EQ(s.rows[0].state, JOB_INTERRUPTED);
	CHECK_EQ(s.rows[1].state, JOB_CANCELLED);
	CHECK_EQ(s.rows[2].state, JOB_FAILED);
	CHECK_STR(s.rows[2].reason, "worker_died");
	desk_close(&d);
}

/* What salvage makes of a process killed while one job ran and two waited. */
static void
die(struct desk *d)
{
	const uint16_t cut = WIRE_SPAN_ERROR | WIRE_SPAN_UNFINISHED | WIRE_SPAN_OPENED;

	SEE(d, .kind = SPAN_WORKFLOW, .trace = 5, .span = 51, .start_s = 6, .seconds = 3,
	    .flags = cut, .prompt_id = UUID, .tags = { { "error.type", "killed.signal", 0 } });
	SEE(d, .kind = SPAN_NODE, .trace = 5, .span = 60, .start_s = 7, .seconds = 2, .flags = cut,
	    .prompt_id = UUID,
	    .tags = { { "node.id", "3", 0 }, { "node.class_type", "KSampler", 0 } });
	SEE(d, .kind = SPAN_NODE, .trace = 5, .span = 59, .start_s = 6, .seconds = 3, .flags = cut,
	    .prompt_id = UUID,
	    .tags = { { "node.id", "2", 0 }, { "node.class_type", "Expands", 0 } });
	SEE(d, .kind = SPAN_QUEUE_WAIT, .trace = 8, .span = 80, .start_s = 8, .seconds = 1,
	    .flags = cut, .prompt_id = UUID, .tags = { { "error.type", "killed.signal", 0 } });
}

TEST(a_death_ends_what_ran_and_what_waited_with_its_reason)
{
	struct desk d = desk_open();
	struct shelf s;

	d.death = (struct journal_death){ .known = true,
		.reason = "oom_cgroup",
		.certainty = "certain",
		.signal = 9,
		.at_real_ns = (uint64_t)OFFSET + 50 * S,
		.peak_bytes = 2u << 30,
		.id = "20261125T070000.000-42" };
	open_journal(&d);
	WAIT_OPENS(&d, 5);
	RUN_OPENS(&d, 5);
	WAIT_OPENS(&d, 8);
	keep(&d);
	die(&d);
	keep(&d);
	journal_gone(d.journal, d.probe.id, d.probe.probe_id, (uint64_t)OFFSET + 100 * S);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 2);
	CHECK_EQ(s.rows[0].state, JOB_FAILED);
	CHECK_STR(s.rows[0].reason, "oom_cgroup");
	CHECK_STR(s.rows[0].certainty, "certain");
	CHECK_STR(s.rows[0].death, "20261125T070000.000-42");
	CHECK_EQ(s.rows[0].signal, 9);
	CHECK_EQ(s.rows[0].peak_rss_bytes, 2u << 30);
	CHECK_STR(s.rows[0].node_id, "3"); /* the innermost: begun last */
	CHECK_STR(s.rows[0].node_class, "KSampler");
	/* when the process did, not at its last sign or when we heard of it */
	CHECK_EQ(s.rows[0].ended_real_ns, (uint64_t)OFFSET + 50 * S);
	CHECK_EQ(s.rows[1].ended_real_ns, (uint64_t)OFFSET + 50 * S);
	CHECK_EQ(s.rows[1].state, JOB_LOST);
	CHECK_STR(s.rows[1].reason, "oom_cgroup");
	CHECK_EQ(notices(&d), 2);
	/* Said again, nothing changes. */
	journal_gone(d.journal, d.probe.id, d.probe.probe_id, (uint64_t)OFFSET + 200 * S);
	CHECK(!journal_dirty(d.journal));
	desk_close(&d);
}

TEST(a_death_that_was_before_the_job_began_does_not_date_its_end)
{
	struct desk d = desk_open();
	struct shelf s;

	d.death = (struct journal_death){
		.known = true, .reason = "killed", .at_real_ns = (uint64_t)OFFSET + 2 * S
	};
	open_journal(&d);
	WAIT_OPENS(&d, 5);
	RUN_OPENS(&d, 5);
	keep(&d);
	die(&d);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.rows[0].ended_real_ns, (uint64_t)OFFSET + 9 * S); /* the clock was set back */
	desk_close(&d);
}

TEST(without_a_supervisor_the_ring_has_the_last_word)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	WAIT_OPENS(&d, 5);
	RUN_OPENS(&d, 5);
	die(&d);
	journal_gone(d.journal, d.probe.id, d.probe.probe_id, (uint64_t)OFFSET + 100 * S);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 2);
	CHECK_STR(s.rows[0].reason, "killed");
	CHECK_EQ(s.rows[1].state, JOB_LOST);
	CHECK_STR(s.rows[1].reason, "lost");
	desk_close(&d);
}

/* The job that runs when its process dies, by a death that is known or not. */
static void
check_ended_with(struct desk *d, const char *prompt_id)
{
	struct job_row job = { .id = 0 };

	CHECK_EQ(journal_ended_with(d->journal, d->probe.id, &job), prompt_id != NULL);
	CHECK_STR(job.prompt_id, prompt_id != NULL ? prompt_id : "");
}

TEST(tells_which_job_a_process_ended_with)
{
	static const bool known[] = { true, false };

	for (size_t i = 0; i < 2; i++) {
		struct desk d = desk_open();

		open_journal(&d);
		d.death = (struct journal_death){
			.known = known[i], .reason = "oom_cgroup", .certainty = "certain"
		};
		check_ended_with(&d, NULL);
		SEE(&d, SPAN_WORKFLOW, 5, 11, 100, 0, .open = true, .prompt_id = OTHER);
		check_ended_with(&d, OTHER); /* as far as records have told */
		SEE(&d, SPAN_WORKFLOW, 5, 11, 100, 3, .flags = WIRE_SPAN_ERROR, .prompt_id = OTHER,
		    .tags = { { "workflow.status", "error", 0 } });
		check_ended_with(&d, NULL);
		SEE(&d, SPAN_QUEUE_WAIT, 6, 12, 100, 0, .open = true, .prompt_id = UUID);
		check_ended_with(&d, NULL); /* it waited */
		SEE(&d, SPAN_WORKFLOW, 6, 13, 104, 3,
		    .flags = WIRE_SPAN_ERROR | WIRE_SPAN_UNFINISHED, .prompt_id = UUID,
		    .tags = { { "error.type", "lost", 0 } });
		check_ended_with(&d, UUID);
		CHECK_EQ(journal_write(d.journal), E_OK);
		journal_commit(d.journal);
		check_ended_with(&d, UUID);
		journal_free(d.journal);
		open_journal(&d); /* another collector */
		check_ended_with(&d, UUID);
		desk_close(&d);
	}
}

TEST(a_new_collector_finds_what_an_earlier_one_left)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	WAIT_OPENS(&d, 5);
	RUN_OPENS(&d, 5);
	WAIT_OPENS(&d, 8);
	keep(&d);
	journal_free(d.journal);
	open_journal(&d);
	die(&d);
	journal_gone(d.journal, d.probe.id, d.probe.probe_id, (uint64_t)OFFSET + 100 * S);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 2);
	CHECK_EQ(s.rows[0].state, JOB_FAILED);
	CHECK_STR(s.rows[0].node_id, "3");
	CHECK_EQ(s.rows[1].state, JOB_LOST);
	desk_close(&d);
}

TEST(what_a_failed_transaction_took_back_is_written_by_the_next)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	WAIT_OPENS(&d, 5);
	CHECK_EQ(d.store->ops->begin(d.store), E_OK);
	CHECK_EQ(journal_write(d.journal), E_OK);
	d.store->ops->rollback(d.store);
	journal_abort(d.journal);
	CHECK(journal_dirty(d.journal));
	s = shelf(&d);
	CHECK_EQ(s.count, 0);
	/* Another takes the id that was taken back. */
	struct job_row stranger = { .probe = d.probe.id, .prompt_id = OTHER, .item = -1 };
	CHECK_EQ(d.store->ops->job_put(d.store, &stranger), E_OK);
	RUN_OPENS(&d, 5);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 2);
	CHECK_STR(s.rows[0].prompt_id, OTHER);
	CHECK_EQ(s.rows[1].state, JOB_RUNNING);
	desk_close(&d);
}

TEST(a_thread_that_runs_another_job_has_ended_the_first)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	RUN_OPENS(&d, 5);
	keep(&d);
	RUN_OPENS(&d, 6); /* the same thread: the ring was full when the first one ended */
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 2);
	CHECK_EQ(s.rows[0].state, JOB_FAILED);
	CHECK_STR(s.rows[0].reason, "record_lost");
	CHECK_EQ(s.rows[1].state, JOB_RUNNING);
	desk_close(&d);
}

static void
begin_again(struct desk *d)
{
	journal_free(d->journal);
	open_journal(d);
}

TEST(a_new_collector_knows_the_thread_of_a_job_too)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	RUN_OPENS(&d, 5);
	keep(&d);
	begin_again(&d); /* and meanwhile the ring was full */
	RUN_OPENS(&d, 6);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.count, 2);
	CHECK_STR(s.rows[0].reason, "record_lost");
	CHECK_EQ(s.rows[1].state, JOB_RUNNING);
	desk_close(&d);
}

TEST(one_prompt_id_used_a_hundred_times_is_a_hundred_jobs)
{
	struct desk d = desk_open();
	struct job_row job;
	unsigned jobs = 0;

	open_journal(&d);
	for (uint64_t t = 1; t <= 100; t++) {
		WAIT_OPENS(&d, t);
		keep(&d);
		begin_again(&d);
		RUN_OPENS(&d, t);
		keep(&d);
		begin_again(&d);
		RUN_ENDS(&d, t, "success");
		keep(&d);
	}
	for (; d.store->ops->job_get(d.store, jobs + 1, &job) == E_OK; jobs++)
		CHECK_EQ(job.state, JOB_SUCCEEDED);
	CHECK_EQ(jobs, 100);
	desk_close(&d);
}

TEST(a_body_keeps_a_waiting_job_for_resubmission)
{
	struct desk d = desk_open();
	struct shelf s;

	open_journal(&d);
	SEE(&d, .kind = SPAN_QUEUE_WAIT, .trace = 8, .span = 80, .start_s = 8, .open = true,
	    .prompt_id = UUID, .tags = { { "job.body", "a-1.json", 0 } });
	keep(&d);
	s = shelf(&d);
	CHECK_STR(s.rows[0].body, "a-1.json");
	/* It may run yet. */
	CHECK_EQ(journal_resolve(d.journal, s.rows[0].id, JOB_LOST, "late", S), E_STATE);
	CHECK_EQ(d.store->ops->probe_close(d.store, d.probe.id), E_OK);
	journal_gone(d.journal, d.probe.id, d.probe.probe_id, (uint64_t)OFFSET + 100 * S);
	CHECK(!journal_dirty(d.journal));
	CHECK_EQ(journal_resolve(d.journal, 4711, JOB_RESUBMITTED, "", S), E_NOTFOUND);
	CHECK_EQ(journal_resolve(d.journal, s.rows[0].id, JOB_SUCCEEDED, "", S), E_STATE);
	CHECK_EQ(journal_resolve(d.journal, s.rows[0].id, JOB_RESUBMITTED, "killed", 9 * S), E_OK);
	CHECK_EQ(journal_resolve(d.journal, s.rows[0].id, JOB_RESUBMITTED, "killed", 10 * S), E_OK);
	CHECK_EQ(journal_resolve(d.journal, s.rows[0].id, JOB_LOST, "late", 9 * S), E_STATE);
	keep(&d);
	s = shelf(&d);
	CHECK_EQ(s.rows[0].state, JOB_RESUBMITTED);
	CHECK_EQ(s.rows[0].ended_real_ns, 9 * S);
	CHECK_EQ(notices(&d), 1);
	CHECK_EQ(journal_resolve(d.journal, s.rows[0].id, JOB_LOST, "", S), E_STATE);
	desk_close(&d);
}

TEST(many_waiting_jobs_cost_bounded_memory_and_all_end)
{
	struct desk d = desk_open();
	struct journal_counts counts;
	unsigned jobs = 0;

	open_journal(&d);
	for (uint64_t t = 1; t <= 1000; t++) {
		WAIT_OPENS(&d, t);
		if (t % 50 == 0)
			keep(&d);
	}
	RUN_OPENS(&d, 3); /* not at hand any more */
	RUN_ENDS(&d, 3, "success");
	keep(&d);
	journal_gone(d.journal, d.probe.id, d.probe.probe_id, (uint64_t)OFFSET + 5000 * S);
	keep(&d);
	journal_counts(d.journal, &counts);
	CHECK_EQ(counts.orphans, 0);
	CHECK_EQ(counts.ended[JOB_SUCCEEDED], 1);
	CHECK_EQ(counts.ended[JOB_LOST], 999);
	CHECK_EQ(counts.ended[JOB_QUEUED] + counts.ended[JOB_RUNNING], 0);
	for (struct job_row job; d.store->ops->job_get(d.store, jobs + 1, &job) == E_OK; jobs++)
		CHECK_EQ(job.state, jobs + 1 == 3 ? JOB_SUCCEEDED : JOB_LOST);
	CHECK_EQ(jobs, 1000);
	desk_close(&d);
}

/* The pipeline's thread does nothing else meanwhile. */
TEST(a_long_queue_ends_in_time_that_grows_with_its_length)
{
	uint64_t took[2];

	for (int i = 0; i < 2; i++) {
		struct desk d = desk_open();
		struct journal_options o = {
			.store = d.store, .death = tell_death, .death_ctx = &d
		};
		struct journal_counts counts;
		uint64_t jobs = i == 0 ? 3000 : 24000, from;

		for (uint64_t n = 0; n < jobs; n++) {
			struct job_row job = { .probe = d.probe.id, .item = -1, .prompt_id = UUID };

			memcpy(job.boot_id, d.probe.probe_id, sizeof job.boot_id);
			CHECK_EQ(d.store->ops->job_put(d.store, &job), E_OK);
		}
		CHECK_EQ(journal_new(&o, &d.journal), E_OK);
		from = clock_thread_cpu_ns();
		journal_gone(d.journal, d.probe.id, d.probe.probe_id, 1);
		keep(&d);
		took[i] = clock_thread_cpu_ns() - from;
		journal_counts(d.journal, &counts);
		CHECK_EQ(counts.ended[JOB_LOST], jobs);
		desk_close(&d);
	}
	/* Eight times the jobs: by pairs it would be 64 times as long. */
	CHECK(took[1] < 24 * took[0]);
}

int
main(void)
{
	RUN(a_job_goes_from_queued_to_succeeded);
	RUN(one_prompt_id_used_twice_is_two_jobs_in_order);
	RUN(a_failed_node_gives_its_name_and_the_first_one_counts);
	RUN(interrupted_cancelled_and_worker_died_are_told_apart);
	RUN(a_death_ends_what_ran_and_what_waited_with_its_reason);
	RUN(a_death_that_was_before_the_job_began_does_not_date_its_end);
	RUN(without_a_supervisor_the_ring_has_the_last_word);
	RUN(tells_which_job_a_process_ended_with);
	RUN(a_new_collector_finds_what_an_earlier_one_left);
	RUN(what_a_failed_transaction_took_back_is_written_by_the_next);
	RUN(a_thread_that_runs_another_job_has_ended_the_first);
	RUN(a_new_collector_knows_the_thread_of_a_job_too);
	RUN(one_prompt_id_used_a_hundred_times_is_a_hundred_jobs);
	RUN(a_body_keeps_a_waiting_job_for_resubmission);
	RUN(many_waiting_jobs_cost_bounded_memory_and_all_end);
	RUN(a_long_queue_ends_in_time_that_grows_with_its_length);
	return t_done();
}
