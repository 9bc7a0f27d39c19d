/*
 * view_test.c - memory over time as JSON.
 */
#include "tests/unit/agent/memory/sampled.h"
#include "tests/unit/agent/memory/saw.h"

TEST(the_view_tells_series_in_as_many_points_as_are_asked_for)
{
	struct outbuf out = { 0 };
	struct memory *m;
	unsigned points = 0;

	put_process(101, 5000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir);
	CHECK_EQ(memory_view(m, &(struct memory_query){ .points = 10 }, &out), E_OK);
	outbuf_put(&out, "", 1);
	CHECK(strstr((char *)out.p, "\"processes\":[],\"gpus\":[]") != NULL);
	outbuf_reset(&out, 0);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 20);
	CHECK_EQ(memory_view(m, &(struct memory_query){ .points = 4 }, &out), E_OK);
	outbuf_put(&out, "", 1);
	CHECK(strstr((char *)out.p, "\"columns\":[\"t_ns\",\"rss_bytes\",") != NULL);
	for (const char *p = strstr((char *)out.p, "\"points\":[["); p != NULL && points < 100;
	     p = strchr(p + 1, '['))
		points++;
	CHECK(
	    points >= 3 + 4 && points <= 4 + 4); /* and the brackets around, of jobs, of devices */
	CHECK(strstr((char *)out.p, ",5120000,5120000,0,0,0,0]") != NULL);
	outbuf_free(&out);
	memory_free(m);
}

static void
see(void *m, const struct span_seen *s)
{
	memory_saw(m, s);
}

/* A leak of a megabyte a job. */
static void
see_jobs(struct memory *m, unsigned count)
{
	uint64_t from = clock_mono_ns() - count * 2 * NS_PER_MS;

	for (unsigned i = 0; i < count; i++)
		SAW(see, m, SPAN_WORKFLOW, 101, .span = 100 + i, .from_ns = from + i * NS_PER_MS,
		    .took_ns = NS_PER_MS / 2, .resource = "Save \"it\"",
		    .tags = { { "prompt.id", "p", 0 }, { "workflow.status", "success", 0 },
			{ "memory.held.outputs_bytes", NULL, 300 },
			{ "memory.held.outputs_bytes.gpu", NULL, 100 },
			{ "memory.held.models_bytes", NULL, 70 },
			{ "memory.held.models_bytes.gpu", NULL, 50 },
			{ "memory.unaccounted_bytes", NULL, (double)(i + 1) * MIB * 2 } });
}

static const char *
view(struct memory *m, struct outbuf *out)
{
	outbuf_reset(out, 0);
	CHECK_EQ(memory_view(m, &(struct memory_query){ .points = 4 }, out), E_OK);
	outbuf_put(out, "", 1);
	return (const char *)out->p;
}
#define SHOWS(text) CHECK(strstr(view(m, &out), text) != NULL)

TEST(jobs_have_their_nodes_and_a_trend_when_there_are_enough)
{
	struct outbuf out = { 0 };
	struct memory *m;
	char path[120];

	put_process(101, 5000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 3);
	SHOWS("\"jobs\":[],\"trend\":{\"state\":\"unknown\",\"jobs\":0,\"bytes_per_job\":null,"
	      "\"first_bytes\":null,\"last_bytes\":null}");
	CHECK(!now.processes[0].held_known);
	see_jobs(m, 7);
	SHOWS("\"trend\":{\"state\":\"unknown\",\"jobs\":7,");
	SHOWS("\"workflow\":\"Save \\\"it\\\"\"");
	memory_now(m, &now);
	CHECK(now.processes[0].held_known);
	CHECK_EQ(now.processes[0].accounted_bytes, 220);
	CHECK_EQ(now.processes[0].unaccounted_bytes, 14 * MIB);
	see_jobs(m, 12); /* the first seven once more, and five new */
	SHOWS("\"trend\":{\"state\":\"grows\",\"jobs\":12,\"bytes_per_job\":2097152,"
	      "\"first_bytes\":2097152,\"last_bytes\":25165824}");
	SAW(see, m, SPAN_NODE, 101, .span = 1, .from_ns = clock_mono_ns(), .open = true,
	    .tags = { { "prompt.id", "q", 0 }, { "node.id", "3", 0 } });
	CHECK(strstr(view(m, &out), "\"id\":\"3\"") == NULL); /* of no job yet */
	SAW(see, m, SPAN_WORKFLOW, 101, .span = 2, .from_ns = clock_mono_ns() - NS_PER_S,
	    .open = true, .tags = { { "prompt.id", "q", 0 } });
	SHOWS("\"prompt_id\":\"q\"");
	SHOWS("\"id\":\"3\"");
	SHOWS("\"to_ns\":null,\"status\":\"\",\"unfinished\":false");
	/* It ends: with it what it had not finished. */
	snprintf(path, sizeof path, "%s/101/status", proc_dir);
	CHECK_EQ(truncate(path, 0), 0);
	WAIT_FOR(m, now.process_count == 0);
	SHOWS("\"status\":\"\",\"unfinished\":true");
	CHECK(strstr(view(m, &out), "\"to_ns\":null") == NULL);
	outbuf_free(&out);
	memory_free(m);
}

TEST(a_process_is_dated_by_the_kernels_clock)
{
	struct outbuf out = { 0 };
	struct timespec boot;
	struct memory *m;
	uint64_t began;

	put_process(101, 5000); /* a thousand ticks after the boot: ten seconds */
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.process_count == 1);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	began = clock_real_ns() - (uint64_t)boot.tv_sec * NS_PER_S - (uint64_t)boot.tv_nsec +
		1000 / (uint64_t)sysconf(_SC_CLK_TCK) * NS_PER_S;
	CHECK(now.processes[0].started_real_ns / NS_PER_S + 1 >= began / NS_PER_S);
	CHECK(now.processes[0].started_real_ns / NS_PER_S <= began / NS_PER_S + 1);
	SHOWS("\"ended_ns\":0,\"alive\":true");
	outbuf_free(&out);
	memory_free(m);
}

TEST(when_the_clock_is_set_the_past_moves_with_it)
{
	const int64_t day = 24 * 3600 * (int64_t)NS_PER_S;
	struct outbuf out = { 0 };
	struct memory *m;
	unsigned long long at[3];
	char text[40];

	put_process(101, 5000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 3);
	see_jobs(m, 1);
	for (int i = 0; i < 3; i++) {
		const char *p;

		clock_test_shift(0, (i - 1) * day); /* a day back, as it is, a day ahead */
		p = strstr(view(m, &out), "\"from_ns\":");
		REQUIRE(p != NULL);
		at[i] = strtoull(p + strlen("\"from_ns\":"), NULL, 10);
		snprintf(text, sizeof text, "\"points\":[[%llu", at[i] / 1000000000000000);
		CHECK(strstr((char *)out.p, text) != NULL);
	}
	clock_test_shift(0, 0);
	CHECK(llabs((long long)(at[1] - at[0]) - day) < (long long)NS_PER_MS);
	CHECK(llabs((long long)(at[2] - at[1]) - day) < (long long)NS_PER_MS);
	outbuf_free(&out);
	memory_free(m);
}

int
main(void)
{
	if (!folders_make())
		return 1;
	RUN(the_view_tells_series_in_as_many_points_as_are_asked_for);
	RUN(jobs_have_their_nodes_and_a_trend_when_there_are_enough);
	RUN(a_process_is_dated_by_the_kernels_clock);
	RUN(when_the_clock_is_set_the_past_moves_with_it);
	if (!folders_remove())
		return 1;
	return t_done();
}
