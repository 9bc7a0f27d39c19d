/*
 * assemble_test.c - traces come together, leave once, and survive a crash.
 */
#include "tests/unit/agent/processor/feeder.h"

#define ROOT WIRE_SPAN_LOCAL_ROOT
#define S    1000000000ull

TEST(sends_a_trace_when_its_local_root_has_finished)
{
	struct processor *p = NEW(0);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 2, .parent = 1, .start_ns = 5 * S, .duration_ns = S);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 10 * S);
	CHECK_EQ(l.chunk_spans, 0);
	CHECK_EQ(ledger_held(&l), 1);
	CHECK_EQ(processor_open_spans(p), 1);
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT, .start_ns = 4 * S, .duration_ns = 3 * S);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 10 * S);
	CHECK_EQ(l.chunk_spans, 2);
	CHECK_EQ(l.id_sum, 3);
	CHECK_EQ(l.segment_count, 0);
	CHECK_EQ(l.last.trace_hi, 7);
	CHECK_EQ(l.last.priority, 1);
	CHECK_EQ(l.last.mechanism, 0);
	CHECK_EQ(l.last.flags, BUNDLE_LAST);
	CHECK_EQ(l.last.offset_ns, 1700000000000000000 - 1000000000);
	CHECK_EQ(processor_open_spans(p), 0);
	ledger_free(&l);
	processor_free(p);
}

TEST(waits_for_an_open_child_after_the_root)
{
	struct processor *p = NEW(0);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT);
	PUT(&f, .trace = 9, .span = 2, .parent = 1, .open = true);
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT | WIRE_SPAN_OPENED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 0);
	CHECK_EQ(ledger_held(&l), 1);
	PUT(&f, .trace = 9, .span = 2, .parent = 1, .flags = WIRE_SPAN_OPENED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 2);
	CHECK_EQ(l.segment_count, 0);
	ledger_free(&l);
	processor_free(p);
}

TEST(a_span_ends_once_and_a_repeat_is_counted)
{
	struct processor *p = NEW(0);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 2, .parent = 1);
	PUT(&f, .trace = 9, .span = 2, .parent = 1);
	PUT(&f, .trace = 9, .span = 2, .parent = 1, .open = true);
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 2);
	CHECK_EQ(l.repeats, 1);
	ledger_step(&l, p, S);
	CHECK_EQ(l.repeats, 1);
	ledger_free(&l);
	processor_free(p);
}

TEST(traces_of_two_probes_with_one_id_stay_apart)
{
	struct processor *p = NEW(0);
	struct feeder a, b;
	struct ledger l = { 0 };

	feeder_init(&a, 3);
	feeder_init(&b, 4);
	PUT(&a, .trace = 9, .span = 1, .flags = ROOT);
	PUT(&b, .trace = 9, .span = 2, .parent = 1);
	CHECK_EQ(feeder_feed(&a, p), E_OK);
	CHECK_EQ(feeder_feed(&b, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 1);
	CHECK_EQ(ledger_held(&l), 1);
	ledger_free(&l);
	processor_free(p);
}

TEST(a_long_job_leaves_in_parts_and_the_open_spans_stay)
{
	struct processor *p = NEW(.partial_spans = 300);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT | WIRE_SPAN_JOB);
	for (uint64_t i = 2; i < 400; i++) {
		PUT(&f, .trace = 9, .span = i, .parent = 1);
		if (i % 50 == 0) {
			CHECK_EQ(feeder_feed(&f, p), E_OK);
			ledger_step(&l, p, S);
			CHECK_EQ(l.chunk_spans + ledger_held(&l), i - 1);
		}
	}
	CHECK_EQ(l.chunk_spans, 349);
	CHECK(l.last.flags & BUNDLE_PARTIAL);
	CHECK(!(l.last.flags & BUNDLE_LAST));
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT | WIRE_SPAN_JOB | WIRE_SPAN_OPENED);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 399);
	CHECK_EQ(l.id_sum, 399 * 400 / 2);
	CHECK_EQ(l.last.flags, BUNDLE_PARTIAL | BUNDLE_LAST);
	CHECK_EQ(l.segment_count, 0);
	ledger_free(&l);
	processor_free(p);
}

TEST(finished_spans_leave_after_thirty_seconds)
{
	struct processor *p = NEW(0);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT);
	PUT(&f, .trace = 9, .span = 2, .parent = 1);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, 100 * S);
	CHECK_EQ(l.next_ms, 30001);
	ledger_step(&l, p, 129 * S);
	CHECK_EQ(l.chunk_spans, 0);
	ledger_step(&l, p, 131 * S);
	CHECK_EQ(l.chunk_spans, 1);
	CHECK_EQ(l.segment_count, 1);
	CHECK_EQ(ledger_held(&l), 0);
	ledger_free(&l);
	processor_free(p);
}

TEST(a_late_span_gets_the_decision_of_its_trace)
{
	struct processor *p = NEW(0);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT, .priority = 12);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	PUT(&f, .trace = 9, .span = 2, .parent = 1);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 2);
	CHECK_EQ(l.last.priority, 2);
	CHECK(l.last.flags & BUNDLE_PARTIAL);
	ledger_free(&l);
	processor_free(p);
}

TEST(the_open_spans_of_a_lost_probe_end_as_lost)
{
	struct processor *p = NEW(0);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	f.mono_ns = 50 * S;
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT | WIRE_SPAN_JOB, .start_ns = S);
	PUT(&f, .trace = 9, .span = 2, .parent = 1, .open = true, .start_ns = 60 * S);
	PUT(&f, .trace = 9, .span = 3, .parent = 2);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(processor_probe_gone(p, 3), E_OK);
	CHECK_EQ(processor_probe_gone(p, 3), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.received, 2);
	CHECK_EQ(l.chunk_spans, 3);
	CHECK_EQ(l.class_spans[CHUNK_ERROR], 3);
	CHECK(l.last.flags & BUNDLE_UNFINISHED);
	CHECK(l.last.flags & BUNDLE_ERROR);
	CHECK_EQ(l.segment_count, 0);
	ledger_free(&l);
	processor_free(p);
}

TEST(an_id_that_changes_its_string_makes_the_batch_malformed)
{
	struct processor *p = NEW(0);
	struct processor_stats stats;
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 2);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	f.strings[STR_NAME] = "another";
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_INVAL);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 0);
	processor_stats(p, &stats);
	CHECK_EQ(stats.malformed_batches, 1);
	CHECK_EQ(stats.traces_now, 1);
	ledger_free(&l);
	processor_free(p);
}

TEST(a_trace_larger_than_a_chunk_is_split_over_several)
{
	struct processor *p = NEW(.partial_spans = 100000);
	struct feeder f;
	struct ledger l = { 0 };
	static char text[8000];

	memset(text, 'x', sizeof text);
	feeder_init(&f, 3);
	for (uint64_t i = 2; i <= 100; i++) {
		PUT(&f, .trace = 9, .span = i, .parent = 1, .text = text, .text_bytes = 8000);
		if (i % 20 == 0)
			CHECK_EQ(feeder_feed(&f, p), E_OK);
	}
	PUT(&f, .trace = 9, .span = 1, .flags = ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(l.chunk_spans, 100);
	CHECK_EQ(l.chunks, 4);
	CHECK_EQ(l.last.flags, BUNDLE_PARTIAL | BUNDLE_LAST);
	ledger_free(&l);
	processor_free(p);
}

TEST(over_the_memory_cap_the_oldest_leave_in_parts)
{
	struct processor *p = NEW(.memory_cap_bytes = 64 * 1024);
	struct processor_stats stats;
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	for (uint64_t t = 1; t <= 100; t++) {
		PUT(&f, .trace = t, .span = 1, .open = true, .flags = ROOT);
		PUT(&f, .trace = t, .span = 2, .parent = 1, .tags = 10);
	}
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	processor_stats(p, &stats);
	CHECK(l.chunk_spans > 20);
	CHECK(stats.cap_flushes > 20);
	CHECK_EQ(l.chunk_spans + ledger_held(&l), 100);
	ledger_free(&l);
	processor_free(p);
}

TEST(views_see_open_traces_with_their_strings)
{
	struct processor *p = NEW(0);
	struct feeder f;

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .open = true, .flags = ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	CHECK_EQ(processor_open_spans(p), 1);
	processor_free(p);
}

int
main(void)
{
	RUN(sends_a_trace_when_its_local_root_has_finished);
	RUN(waits_for_an_open_child_after_the_root);
	RUN(a_span_ends_once_and_a_repeat_is_counted);
	RUN(traces_of_two_probes_with_one_id_stay_apart);
	RUN(a_long_job_leaves_in_parts_and_the_open_spans_stay);
	RUN(finished_spans_leave_after_thirty_seconds);
	RUN(a_late_span_gets_the_decision_of_its_trace);
	RUN(the_open_spans_of_a_lost_probe_end_as_lost);
	RUN(an_id_that_changes_its_string_makes_the_batch_malformed);
	RUN(a_trace_larger_than_a_chunk_is_split_over_several);
	RUN(over_the_memory_cap_the_oldest_leave_in_parts);
	RUN(views_see_open_traces_with_their_strings);
	return t_done();
}
