/*
 * seen_test.c - who follows the jobs hears of each of their records once, in
 * order, and of nothing else.
 */
#include "tests/unit/agent/processor/feeder.h"

#define S 1000000000ull

struct heard {
	unsigned count;
	struct {
		enum span_kind kind;
		bool open;
		uint64_t span;
		int64_t offset_ns;
	} of[16];
	bool named_well;
};

static void
hear(void *ctx, const struct span_seen *s)
{
	struct heard *h = ctx;
	uint32_t n;
	const char *service = span_seen_text(s, s->span->service, &n);

	CHECK(h->count < 16);
	h->named_well = service != NULL && n == 5 && memcmp(service, "comfy", 5) == 0;
	CHECK(span_seen_text(s, 4711, &n) == NULL || n == 0);
	CHECK_EQ(s->probe, 3);
	h->of[h->count].kind = s->kind;
	h->of[h->count].open = s->open;
	h->of[h->count].span = s->span->span_id;
	h->of[h->count++].offset_ns = s->offset_ns;
}

static struct processor *
follow(struct heard *h)
{
	memset(h, 0, sizeof *h);
	return NEW(.seen = hear, .seen_ctx = h);
}

TEST(spans_of_jobs_are_told_and_others_are_not)
{
	struct heard h;
	struct processor *p = follow(&h);
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	PUT(&f, .trace = 9, .span = 1, .flags = WIRE_SPAN_LOCAL_ROOT, .open = true);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	CHECK_EQ(h.count, 0);

	processor_reset(p);
	feeder_init(&f, 3);
	f.strings[STR_RESOURCE] = "comfyui.node.execute"; /* only a name counts */
	f.strings[STR_NAME] = "comfyui.workflow.execute";
	PUT(&f, .trace = 9, .span = 1, .open = true);
	PUT(&f, .trace = 9, .span = 1, .flags = WIRE_SPAN_OPENED | WIRE_SPAN_LOCAL_ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	CHECK_EQ(h.count, 2);
	CHECK(h.named_well);
	CHECK_EQ(h.of[0].kind, SPAN_WORKFLOW);
	CHECK(h.of[0].open && !h.of[1].open);
	CHECK_EQ(h.of[1].span, 1);
	CHECK_EQ(h.of[1].offset_ns, 1700000000000000000 - 1000000000);

	/* A repeat is none of its own, also when its trace has left. */
	PUT(&f, .trace = 9, .span = 1, .flags = WIRE_SPAN_OPENED | WIRE_SPAN_LOCAL_ROOT);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	CHECK_EQ(h.count, 2);
	ledger_step(&l, p, 10 * S);
	ledger_free(&l);
	processor_free(p);
}

TEST(what_segments_bring_back_is_not_told_again)
{
	struct heard h, later;
	struct processor *p = follow(&h), *q;
	struct feeder f;
	struct ledger l = { 0 };

	feeder_init(&f, 3);
	f.strings[STR_NAME] = "comfyui.queue.wait";
	PUT(&f, .trace = 9, .span = 1, .open = true);
	CHECK_EQ(feeder_feed(&f, p), E_OK);
	ledger_step(&l, p, S);
	CHECK_EQ(h.count, 1);
	CHECK_EQ(h.of[0].kind, SPAN_QUEUE_WAIT);
	CHECK_EQ(l.segment_count, 1);
	q = follow(&later);
	CHECK_EQ(processor_restore(q, &l.segments[0]), E_OK);
	CHECK_EQ(later.count, 0);
	ledger_free(&l);
	processor_free(p);
	processor_free(q);
}

int
main(void)
{
	RUN(spans_of_jobs_are_told_and_others_are_not);
	RUN(what_segments_bring_back_is_not_told_again);
	return t_done();
}
