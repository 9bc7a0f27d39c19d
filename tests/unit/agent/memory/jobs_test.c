/*
 * jobs_test.c - records of jobs and nodes become what the picture shows: which
 * matter, in which order, and how many.
 */
#include "agent/memory/jobs.h"

#include "tests/unit/agent/memory/saw.h"

#define MS  1000000ull
#define MIB (1ull << 20)

static struct jobs jobs;

static void
see(void *ctx, const struct span_seen *s)
{
	struct ran r;

	(void)ctx;
	if (!ran_from(&r, s))
		return;
	if (ran_matters(s->kind, &r))
		jobs_put(&jobs, s->kind, &r);
	else
		jobs_drop(&jobs, s->kind, &r);
}

static void
begin(void)
{
	jobs_fini(&jobs);
	CHECK_EQ(jobs_init(&jobs), E_OK);
}

TEST(a_node_tells_its_peak_its_outputs_and_its_name)
{
	const struct ran *r;

	begin();
	SAW(see, NULL, SPAN_NODE, 7, .span = 3, .from_ns = 5 * MS, .took_ns = 200 * MS,
	    .resource = "KSampler",
	    .tags = { { "prompt.id", "a prompt", 0 }, { "node.id", "12", 0 },
		{ "node.class_type", "KSampler (Advanced)", 0 }, { "node.status", "success", 0 },
		{ "memory.rss.before_bytes", NULL, 5e9 }, { "memory.rss.after_bytes", NULL, 4e9 },
		{ "memory.rss.peak_bytes", NULL, 3e9 }, { "memory.gpu.0.peak_bytes", NULL, 1e9 },
		{ "memory.gpu.11.peak_bytes", NULL, 2e9 }, { "memory.gpu.x.peak_bytes", NULL, 9e9 },
		{ "memory.gpu.111.peak_bytes", NULL, 9e9 }, { "memory.gpu..peak_bytes", NULL, 9e9 },
		{ "memory.gpu.1.allocated_bytes", NULL, 9e9 }, { "node.output_bytes", NULL, 100 },
		{ "node.output_bytes.gpu", NULL, 60 } });
	REQUIRE(jobs.nodes.count == 1);
	r = ran_at(&jobs.nodes, 0);
	CHECK(ran_of(r, 7, JOB_TICKS, false));
	CHECK(!ran_of(r, 7, JOB_TICKS + 1, false));
	CHECK(!ran_of(r, 7, JOB_TICKS, true));
	CHECK_STR(r->id, "12");
	CHECK_STR(r->name, "KSampler (Advanced)");
	CHECK_STR(r->status, "success");
	CHECK_EQ(r->from_ns, 5 * MS);
	CHECK_EQ(r->to_ns, 205 * MS);
	CHECK_EQ(r->bytes[RAN_PEAK], 5000000000);
	CHECK_EQ(r->bytes[RAN_GPU_PEAK], 2000000000);
	CHECK_EQ(r->gpu, 11);
	CHECK_EQ(r->bytes[RAN_OUTPUTS], 100);
	CHECK_EQ(r->bytes[RAN_OUTPUTS_GPU], 60);
	CHECK(r->bytes[RAN_UNACCOUNTED] == RAN_UNKNOWN);
}

TEST(a_job_tells_what_it_left_held)
{
	char top[400];
	const struct ran *r;

	memset(top, 'x', sizeof top);
	memcpy(top + RAN_TOP_BYTES - 2, "\xe2\x82\xac", 3); /* would be cut in its midst */
	top[sizeof top - 1] = '\0';
	begin();
	SAW(see, NULL, SPAN_WORKFLOW, 7, .span = 3, .took_ns = 1, .resource = "SaveImage 3fa91c02",
	    .tags = { { "prompt.id", "p", 0 }, { "workflow.status", "error", 0 },
		{ "memory.held.outputs_bytes", NULL, 10 },
		{ "memory.held.outputs_bytes.gpu", NULL, 1 },
		{ "memory.held.models_bytes", NULL, 20 },
		{ "memory.held.models_bytes.gpu", NULL, 2 },
		{ "memory.unaccounted_bytes", NULL, 30 }, { "memory.held.partial", "true", 0 },
		{ "memory.held.top", top, 0 }, { "memory.rss.after_bytes", NULL, -1 } });
	r = ran_at(&jobs.jobs, 0);
	CHECK_EQ(jobs.jobs.count, 1);
	CHECK_STR(r->id, "p");
	CHECK_STR(r->name, "SaveImage 3fa91c02");
	CHECK_STR(r->status, "error");
	CHECK_EQ(r->bytes[RAN_OUTPUTS], 10);
	CHECK_EQ(r->bytes[RAN_OUTPUTS_GPU], 1);
	CHECK_EQ(r->bytes[RAN_MODELS], 20);
	CHECK_EQ(r->bytes[RAN_MODELS_GPU], 2);
	CHECK_EQ(r->bytes[RAN_UNACCOUNTED], 30);
	CHECK(r->bytes[RAN_PEAK] == RAN_UNKNOWN); /* nothing is negative */
	CHECK(r->partial);
	CHECK_EQ(strlen(r->top), RAN_TOP_BYTES - 2);
}

TEST(what_is_short_and_returns_little_is_left_out)
{
	begin();
	SAW(see, NULL, SPAN_NODE, 7, .span = 1, .took_ns = 99 * MS);
	CHECK_EQ(jobs.nodes.count, 0);
	SAW(see, NULL, SPAN_NODE, 7, .span = 2, .took_ns = 100 * MS);
	SAW(see, NULL, SPAN_NODE, 7, .span = 3, .tags = { { "node.output_bytes", NULL, 2e6 } });
	SAW(see, NULL, SPAN_NODE, 7, .span = 4, .flags = WIRE_SPAN_UNFINISHED);
	SAW(see, NULL, SPAN_NODE, 7, .span = 5, .took_ns = 900 * MS,
	    .tags = { { "node.cached", "true", 0 }, { "node.output_bytes", NULL, 2e6 } });
	SAW(see, NULL, SPAN_WORKFLOW, 7, .span = 6);
	CHECK_EQ(jobs.nodes.count, 3);
	CHECK_EQ(jobs.jobs.count, 1);
}

TEST(what_has_begun_is_replaced_by_its_end_or_forgotten)
{
	begin();
	SAW(see, NULL, SPAN_NODE, 7, .span = 1, .open = true);
	SAW(see, NULL, SPAN_NODE, 7, .span = 2, .open = true);
	SAW(see, NULL, SPAN_NODE, 8, .span = 2, .open = true); /* another process */
	CHECK_EQ(ran_at(&jobs.nodes, 1)->to_ns, 0);
	SAW(see, NULL, SPAN_NODE, 7, .span = 2, .took_ns = 200 * MS);
	CHECK_EQ(jobs.nodes.count, 3);
	CHECK_EQ(ran_at(&jobs.nodes, 1)->to_ns, 200 * MS);
	CHECK_EQ(ran_at(&jobs.nodes, 2)->to_ns, 0);
	SAW(see, NULL, SPAN_NODE, 8, .span = 2, .took_ns = 1); /* the newest: its place is free */
	CHECK_EQ(jobs.nodes.count, 2);
	SAW(see, NULL, SPAN_NODE, 7, .span = 1, .took_ns = 1);
	CHECK_EQ(jobs.nodes.count, 2);
	CHECK(!ran_of(ran_at(&jobs.nodes, 0), 7, JOB_TICKS, false));
	SAW(see, NULL, SPAN_NODE, 7, .span = 2, .took_ns = 300 * MS); /* fed again */
	CHECK_EQ(jobs.nodes.count, 2);
}

TEST(the_oldest_make_room)
{
	begin();
	for (uint64_t i = 0; i < NODES_MAX + 10; i++)
		SAW(see, NULL, SPAN_NODE, 7, .span = i + 1, .took_ns = 200 * MS);
	for (uint64_t i = 0; i < JOBS_MAX + 10; i++)
		SAW(see, NULL, SPAN_WORKFLOW, 7, .span = i + 1);
	CHECK_EQ(jobs.nodes.count, NODES_MAX);
	CHECK_EQ(jobs.jobs.count, JOBS_MAX);
	CHECK_EQ(ran_at(&jobs.nodes, 0)->span_id, 11);
	CHECK_EQ(ran_at(&jobs.nodes, NODES_MAX - 1)->span_id, NODES_MAX + 10);
}

TEST(a_node_is_of_the_job_with_its_prompt_and_time)
{
	const struct ran *first, *second, *node;

	begin();
	SAW(see, NULL, SPAN_WORKFLOW, 7, .span = 1, .from_ns = 10, .took_ns = 10,
	    .tags = { { "prompt.id", "p", 0 } });
	SAW(see, NULL, SPAN_WORKFLOW, 7, .span = 2, .from_ns = 30, .open = true,
	    .tags = { { "prompt.id", "p", 0 } });
	SAW(see, NULL, SPAN_NODE, 7, .span = 3, .from_ns = 15, .took_ns = 200 * MS,
	    .tags = { { "prompt.id", "p", 0 } });
	first = ran_at(&jobs.jobs, 0);
	second = ran_at(&jobs.jobs, 1);
	node = ran_at(&jobs.nodes, 0);
	CHECK(ran_within(node, first));
	CHECK(!ran_within(node, second));
	SAW(see, NULL, SPAN_NODE, 7, .span = 3, .from_ns = 35, .took_ns = 200 * MS,
	    .tags = { { "prompt.id", "p", 0 } });
	CHECK(!ran_within(node, first));
	CHECK(ran_within(node, second));
	SAW(see, NULL, SPAN_NODE, 7, .span = 3, .from_ns = 35, .took_ns = 200 * MS,
	    .tags = { { "prompt.id", "q", 0 } });
	CHECK(!ran_within(node, second));
}

TEST(other_records_and_absurd_times_are_none)
{
	begin();
	SAW(see, NULL, SPAN_QUEUE_WAIT, 7, .span = 1);
	SAW(see, NULL, SPAN_WORKFLOW, 0, .span = 1); /* who never said who it is */
	SAW(see, NULL, SPAN_WORKFLOW, 7, .span = 1, .from_ns = UINT64_MAX);
	SAW(see, NULL, SPAN_WORKFLOW, 7, .span = 1, .from_ns = 5, .took_ns = INT64_MAX);
	CHECK_EQ(jobs.jobs.count, 0);
}

int
main(void)
{
	RUN(a_node_tells_its_peak_its_outputs_and_its_name);
	RUN(a_job_tells_what_it_left_held);
	RUN(what_is_short_and_returns_little_is_left_out);
	RUN(what_has_begun_is_replaced_by_its_end_or_forgotten);
	RUN(the_oldest_make_room);
	RUN(a_node_is_of_the_job_with_its_prompt_and_time);
	RUN(other_records_and_absurd_times_are_none);
	jobs_fini(&jobs);
	return t_done();
}
