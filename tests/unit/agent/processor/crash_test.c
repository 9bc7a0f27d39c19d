/*
 * crash_test.c - the same spans, whatever dies on the way: an abort or a crash
 * at any step ends in the same chunks, and the rows add up at every commit.
 */
#include "tests/unit/agent/processor/feeder.h"

#define ROOT WIRE_SPAN_LOCAL_ROOT
#define S    1000000000ull

enum fate { FATE_COMMIT, FATE_ABORT, FATE_CRASH_BEFORE, FATE_CRASH_AFTER };

struct world {
	struct feeder f;
	struct ledger l;
	struct processor *p;
	struct processor_options o;
	uint64_t issued; /* spans in committed batches */
};

/* One step with this fate. The batches fed since the last commit come again after a crash. */
static void
turn(struct world *w, struct raw_row *raw, enum fate fate, uint64_t now)
{
	const struct step *s;

	CHECK_EQ(processor_feed(w->p, raw), E_OK);
	if (fate == FATE_ABORT) {
		CHECK_EQ(processor_step(w->p, now, now, &s), E_OK);
		processor_abort(w->p);
	}
	if (fate == FATE_CRASH_BEFORE) {
		CHECK_EQ(processor_step(w->p, now, now, &s), E_OK);
		processor_free(w->p);
		w->p = processor_with(&w->o);
		ledger_restore(&w->l, w->p);
		CHECK_EQ(processor_feed(w->p, raw), E_OK);
	}
	CHECK_EQ(processor_step(w->p, now, now, &s), E_OK);
	ledger_apply(&w->l, s);
	processor_commit(w->p);
	w->issued += raw->spans;
	if (fate == FATE_CRASH_AFTER) {
		processor_free(w->p);
		w->p = processor_with(&w->o);
		ledger_restore(&w->l, w->p);
		ledger_restore(&w->l, w->p); /* a walk that began again changes nothing */
	}
	free(raw->blob);
	CHECK_EQ(w->l.chunk_spans + w->l.sampled_out + ledger_held(&w->l), w->issued);
}

static uint64_t
next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

/* Forty traces, interleaved, some with open children, in small batches. */
static void
play(struct world *w, uint64_t seed, int fate)
{
	uint64_t state = seed, now = S, span = 1;
	enum { TRACES = 40 };
	uint64_t roots[TRACES], children[TRACES] = { 0 };

	feeder_init(&w->f, 3);
	w->p = processor_with(&w->o);
	for (int i = 0; i < TRACES; i++) {
		roots[i] = span++;
		PUT(&w->f, .trace = 100 + i, .span = roots[i], .flags = ROOT, .open = true);
	}
	for (int round = 0; round < 60; round++, now += S) {
		for (int k = 0; k < 10; k++) {
			int i = (int)(next(&state) % TRACES);
			uint64_t what = next(&state) % 8;

			if (roots[i] == 0)
				continue;
			if (what == 0 && children[i] == 0) {
				children[i] = span;
				PUT(&w->f, .trace = 100 + i, .span = span++, .parent = roots[i],
				    .open = true);
			} else if (what == 1 && children[i] != 0) {
				PUT(&w->f, .trace = 100 + i, .span = children[i],
				    .parent = roots[i], .flags = WIRE_SPAN_OPENED, .tags = 3);
				children[i] = 0;
			} else if (what == 2 && round > 20 && children[i] == 0) {
				PUT(&w->f, .trace = 100 + i, .span = roots[i],
				    .flags = ROOT | WIRE_SPAN_OPENED);
				roots[i] = 0;
			} else {
				PUT(&w->f, .trace = 100 + i, .span = span++, .parent = roots[i],
				    .tags = 2);
			}
		}

		struct raw_row raw = feeder_batch(&w->f);

		turn(w, &raw, fate < 0 ? (enum fate)(next(&seed) % 4) : (enum fate)fate, now);
	}
	for (int i = 0; i < TRACES; i++) {
		if (children[i] != 0)
			PUT(&w->f, .trace = 100 + i, .span = children[i],
			    .flags = WIRE_SPAN_OPENED);
		if (roots[i] != 0)
			PUT(&w->f, .trace = 100 + i, .span = roots[i],
			    .flags = ROOT | WIRE_SPAN_OPENED);
	}

	struct raw_row raw = feeder_batch(&w->f);

	turn(w, &raw, FATE_COMMIT, now);
	ledger_step(&w->l, w->p, now + 2 * S); /* rejected ones had a moment's patience */
	CHECK_EQ(ledger_held(&w->l), 0);
	CHECK_EQ(w->l.segment_count, 0);
	CHECK_EQ(w->l.repeats, 0);
	processor_free(w->p);
}

static void
same_as_without_faults(int fate, struct processor_options o)
{
	for (uint64_t seed = 1; seed <= 5; seed++) {
		struct world calm = { .o = o }, w = { .o = o };

		play(&calm, seed, FATE_COMMIT);
		play(&w, seed, fate);
		CHECK(calm.l.chunk_spans + calm.l.sampled_out > 100);
		CHECK_EQ(w.l.chunk_spans, calm.l.chunk_spans);
		CHECK_EQ(w.l.id_sum, calm.l.id_sum);
		CHECK_EQ(w.l.sampled_out, calm.l.sampled_out);
		ledger_free(&calm.l);
		ledger_free(&w.l);
	}
}

TEST(an_aborted_step_is_done_again_with_the_same_result)
{
	same_as_without_faults(FATE_ABORT, (struct processor_options){ .partial_spans = 12 });
}

TEST(a_crash_before_the_commit_loses_and_repeats_nothing)
{
	same_as_without_faults(
	    FATE_CRASH_BEFORE, (struct processor_options){ .partial_spans = 12 });
}

TEST(a_crash_after_the_commit_loses_and_repeats_nothing)
{
	same_as_without_faults(FATE_CRASH_AFTER, (struct processor_options){ .partial_spans = 12 });
}

TEST(a_random_mix_of_all_of_them_loses_and_repeats_nothing)
{
	same_as_without_faults(-1, (struct processor_options){ 0 });
	same_as_without_faults(-1, (struct processor_options){ .partial_spans = 5 });
}

TEST(rejected_traces_are_held_through_crashes_too)
{
	same_as_without_faults(
	    -1, (struct processor_options){ .sample_rate = "0", .partial_spans = 5 });
}

TEST(a_part_that_left_is_not_forgotten_by_a_crash)
{
	struct world w = { .o = { .partial_spans = 2, .sample_rate = "1", .rate_limit = 100 } };
	const struct step *s;

	feeder_init(&w.f, 3);
	w.p = processor_with(&w.o);
	PUT(&w.f, .trace = 9, .span = 1, .flags = ROOT);
	PUT(&w.f, .trace = 9, .span = 2, .parent = 1, .open = true);
	PUT(&w.f, .trace = 9, .span = 3, .parent = 1);

	struct raw_row raw = feeder_batch(&w.f);

	turn(&w, &raw, FATE_CRASH_AFTER, S);
	CHECK_EQ(w.l.chunk_spans, 2);
	PUT(&w.f, .trace = 9, .span = 2, .parent = 1, .flags = WIRE_SPAN_OPENED);
	raw = feeder_batch(&w.f);
	turn(&w, &raw, FATE_COMMIT, 2 * S);
	CHECK_EQ(w.l.chunk_spans, 3);
	CHECK_EQ(w.l.last.priority, 2);
	CHECK_EQ(w.l.last.mechanism, 3);
	CHECK(w.l.last.has & BUNDLE_HAS_RULE_PSR);
	CHECK_EQ(processor_step(w.p, S, S, &s), E_OK);
	CHECK_EQ(s->chunk_count + s->segment_count + s->dead_count, 0);
	ledger_free(&w.l);
	processor_free(w.p);
}

TEST(a_damaged_segment_is_refused_whole)
{
	struct world w = { .o = { 0 } };
	struct raw_row raw;

	feeder_init(&w.f, 3);
	w.p = processor_with(&w.o);
	PUT(&w.f, .trace = 9, .span = 2, .parent = 1);
	raw = feeder_batch(&w.f);
	turn(&w, &raw, FATE_COMMIT, S);
	processor_free(w.p);
	w.p = processor_with(&w.o);
	w.l.segments[0].blob[40] ^= 1;
	CHECK_EQ(processor_restore(w.p, &w.l.segments[0]), E_CORRUPT);
	CHECK_EQ(processor_open_spans(w.p), 0);
	ledger_free(&w.l);
	processor_free(w.p);
}

int
main(void)
{
	RUN(an_aborted_step_is_done_again_with_the_same_result);
	RUN(a_crash_before_the_commit_loses_and_repeats_nothing);
	RUN(a_crash_after_the_commit_loses_and_repeats_nothing);
	RUN(a_random_mix_of_all_of_them_loses_and_repeats_nothing);
	RUN(rejected_traces_are_held_through_crashes_too);
	RUN(a_part_that_left_is_not_forgotten_by_a_crash);
	RUN(a_damaged_segment_is_refused_whole);
	return t_done();
}
