/*
 * kept_test.c - what a restart of the agent knows, and what its files cost.
 */
#include "tests/unit/agent/memory/sampled.h"
#include "tests/unit/agent/memory/saw.h"

static char *
kept(size_t *n)
{
	char path[120], *text = NULL;

	snprintf(path, sizeof path, "%s/memory", data_dir);
	CHECK_EQ(file_read_all(path, 4u << 20, &text, n), E_OK);
	return text;
}

static void
forget_kept(void)
{
	char path[120];

	snprintf(path, sizeof path, "%s/memory", data_dir);
	(void)unlink(path);
	snprintf(path, sizeof path, "%s/memory.1", data_dir);
	(void)unlink(path);
	snprintf(path, sizeof path, "%s/memory.jobs", data_dir);
	(void)unlink(path);
	snprintf(path, sizeof path, "%s/memory.jobs.1", data_dir);
	(void)unlink(path);
}

TEST(a_restart_knows_what_was_and_goes_on)
{
	struct memory *m;
	uint64_t from = clock_mono_ns(), to, since;
	struct memory_peak peak;

	forget_kept();
	put_process(101, 5000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir, .data_dir = data_dir);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 5);
	since = now.since_real_ns;
	memory_free(m);
	to = clock_mono_ns();
	put_rss(101, 100);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir, .data_dir = data_dir);
	memory_now(m, &now);
	CHECK_EQ(now.process_count, 0); /* until it says hello */
	CHECK(now.since_real_ns != 0);
	CHECK(now.since_real_ns + NS_PER_S > since && now.since_real_ns < since + NS_PER_S);
	CHECK(memory_peak(m, 101, 1000, from, to, &peak));
	CHECK_EQ(peak.rss_bytes, 5000 * 1024);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 2);
	CHECK(memory_peak(m, 101, 1000, from, clock_mono_ns(), &peak));
	CHECK_EQ(peak.rss_bytes, 5000 * 1024);
	memory_free(m);
}

TEST(a_damaged_file_loses_what_is_damaged)
{
	struct memory *m;
	struct point minute = { .span_ms = 60000, .v = { 10, 10 } };
	struct memory_peak peak;
	char path[120], *text;
	size_t n;
	int fd;

	forget_kept();
	CHECK_EQ(memory_new(&(struct memory_options){ .data_dir = data_dir }, &m), E_OK);
	CHECK_EQ(keep_start(m->keep), E_OK);
	for (int i = 1; i <= 3; i++) {
		minute.t_ns = (int64_t)clock_mono_ns() - (4 - i) * 60 * (int64_t)NS_PER_S;
		minute.v[0] = minute.v[1] = (uint32_t)i * 10;
		keep_minute(m->keep, KEEP_PROCESS, 5, 6, "", "", &minute);
	}
	keep_minute(m->keep, KEEP_DEVICE, 0, 0, "GPU-1", "Card", &minute);
	memory_free(m);
	text = kept(&n);
	CHECK_EQ(n, 4 * 144);
	free(text);
	snprintf(path, sizeof path, "%s/memory", data_dir);
	fd = open(path, O_WRONLY);
	CHECK_EQ(pwrite(fd, "x", 1, 2 * 144 + 50), 1); /* the third: the highest */
	CHECK_EQ(pwrite(fd, "half a record", 13, 4 * 144), 13);
	close(fd);
	m = SAMPLER(.data_dir = data_dir, .nvml = "");
	CHECK(memory_peak(m, 5, 6, 0, clock_mono_ns(), &peak));
	CHECK_EQ(peak.rss_bytes, 20 * 1024);
	memory_now(m, &now);
	CHECK_EQ(now.gpu_count, 1);
	CHECK_STR(now.gpus[0].id, "GPU-1");
	CHECK_STR(now.gpus[0].name, "Card");
	memory_free(m);
	text = kept(&n);
	CHECK_EQ(n, 4 * 144); /* the half one is cut off */
	free(text);
	fd = open(path, O_WRONLY | O_TRUNC); /* noise, also in the place of lengths and ids */
	for (int i = 0; i < 3000; i++) {
		uint32_t noise = (uint32_t)i * 2654435761u;

		CHECK_EQ(write(fd, &noise, 4), 4);
	}
	close(fd);
	m = SAMPLER(.data_dir = data_dir, .nvml = "");
	memory_now(m, &now);
	CHECK_EQ(now.since_real_ns, 0);
	memory_free(m);
}

TEST(two_files_hold_what_is_kept_and_no_more)
{
	struct point minute = { .span_ms = 60000 };
	struct memory *m;
	struct stat st;
	char path[120];

	forget_kept();
	CHECK_EQ(memory_new(&(struct memory_options){ .data_dir = data_dir }, &m), E_OK);
	CHECK_EQ(keep_start(m->keep), E_OK);
	for (int i = 0; i < 20000; i++)
		keep_minute(m->keep, KEEP_PROCESS, 5, 6, "", "", &minute);
	memory_free(m);
	snprintf(path, sizeof path, "%s/memory", data_dir);
	CHECK_EQ(stat(path, &st), 0);
	CHECK(st.st_size <= 1 << 20);
	CHECK_EQ(st.st_mode & 0777, 0600);
	snprintf(path, sizeof path, "%s/memory.1", data_dir);
	CHECK_EQ(stat(path, &st), 0);
	CHECK(st.st_size <= 1 << 20 && st.st_size > 1000000);
	forget_kept();
}

static void
see(void *m, const struct span_seen *s)
{
	memory_saw(m, s);
}

TEST(jobs_and_nodes_are_known_after_a_restart_but_not_what_had_no_end)
{
	const struct memory_options o = { .data_dir = data_dir };
	uint64_t from = clock_mono_ns() - 10 * NS_PER_S;
	const struct ran *job, *node;
	struct memory *m;

	forget_kept();
	CHECK_EQ(memory_new(&o, &m), E_OK);
	CHECK_EQ(keep_start(m->keep), E_OK);
	SAW(see, m, SPAN_NODE, 101, .span = 2, .from_ns = from + 5, .took_ns = NS_PER_S,
	    .tags = { { "prompt.id", "p", 0 }, { "node.id", "12", 0 },
		{ "node.class_type", "KSampler", 0 }, { "memory.rss.peak_bytes", NULL, 7e9 },
		{ "memory.gpu.3.peak_bytes", NULL, 8e9 } });
	SAW(see, m, SPAN_WORKFLOW, 101, .span = 1, .from_ns = from, .took_ns = 2 * NS_PER_S,
	    .flags = WIRE_SPAN_UNFINISHED, .resource = "Save",
	    .tags = { { "prompt.id", "p", 0 }, { "workflow.status", "error", 0 },
		{ "memory.held.partial", "true", 0 }, { "memory.held.top", "12 KSampler 1G", 0 },
		{ "memory.unaccounted_bytes", NULL, 5 } });
	SAW(see, m, SPAN_NODE, 101, .span = 3, .from_ns = from, .open = true);
	SAW(see, m, SPAN_NODE, 101, .span = 4, .from_ns = from, .took_ns = 1); /* of no weight */
	CHECK_EQ(m->jobs.nodes.count, 2);
	memory_free(m);
	CHECK_EQ(memory_new(&o, &m), E_OK);
	CHECK_EQ(m->jobs.jobs.count, 1);
	CHECK_EQ(m->jobs.nodes.count, 1);
	job = ran_at(&m->jobs.jobs, 0);
	node = ran_at(&m->jobs.nodes, 0);
	CHECK(ran_of(job, 101, JOB_TICKS, false));
	CHECK(job->unfinished && job->partial && !node->unfinished && !node->partial);
	CHECK_STR(job->id, "p");
	CHECK_STR(job->name, "Save");
	CHECK_STR(job->status, "error");
	CHECK_STR(job->top, "12 KSampler 1G");
	CHECK_EQ(job->bytes[RAN_UNACCOUNTED], 5);
	CHECK(job->bytes[RAN_PEAK] == RAN_UNKNOWN);
	CHECK_EQ(job->to_ns - job->from_ns, 2 * NS_PER_S);
	CHECK(
	    job->from_ns > (int64_t)(from - NS_PER_S) && job->from_ns < (int64_t)(from + NS_PER_S));
	CHECK_STR(node->id, "12");
	CHECK_STR(node->name, "KSampler");
	CHECK_EQ(node->bytes[RAN_PEAK], 7000000000);
	CHECK_EQ(node->bytes[RAN_GPU_PEAK], 8000000000);
	CHECK_EQ(node->gpu, 3);
	CHECK_EQ(node->span_id, 2);
	memory_free(m);
}

TEST(a_damaged_job_is_left_out)
{
	const struct memory_options o = { .data_dir = data_dir };
	uint64_t from = clock_mono_ns() - 10 * NS_PER_S;
	char path[120];
	struct memory *m;
	int fd;

	forget_kept();
	CHECK_EQ(memory_new(&o, &m), E_OK);
	CHECK_EQ(keep_start(m->keep), E_OK);
	for (uint64_t i = 1; i <= 3; i++)
		SAW(see, m, SPAN_WORKFLOW, 101, .span = i, .from_ns = from, .took_ns = i);
	memory_free(m);
	snprintf(path, sizeof path, "%s/memory.jobs", data_dir);
	fd = open(path, O_WRONLY);
	CHECK_EQ(pwrite(fd, "x", 1, 512 + 130), 1);
	close(fd);
	CHECK_EQ(memory_new(&o, &m), E_OK);
	CHECK_EQ(m->jobs.jobs.count, 2);
	CHECK_EQ(ran_at(&m->jobs.jobs, 1)->span_id, 3);
	memory_free(m);
	forget_kept();
}

TEST(a_folder_that_cannot_be_written_costs_the_keeping_alone)
{
	struct memory *m;

	put_process(101, 5000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir, .data_dir = "/nowhere");
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 2);
	memory_free(m);
}

int
main(void)
{
	if (!folders_make())
		return 1;
	RUN(a_restart_knows_what_was_and_goes_on);
	RUN(a_damaged_file_loses_what_is_damaged);
	RUN(two_files_hold_what_is_kept_and_no_more);
	RUN(jobs_and_nodes_are_known_after_a_restart_but_not_what_had_no_end);
	RUN(a_damaged_job_is_left_out);
	RUN(a_folder_that_cannot_be_written_costs_the_keeping_alone);
	if (!folders_remove())
		return 1;
	return t_done();
}
