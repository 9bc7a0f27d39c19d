/*
 * holders_test.c - who holds memory of which device, and a driver that takes its time.
 */
#include "tests/unit/agent/memory/sampled.h"
#include "tests/unit/agent/memory/saw.h"

TEST(a_device_counts_for_the_process_that_holds_it)
{
	struct fake_nvml *fake;
	const char *library = fake_library(&fake);
	struct memory *m;
	struct memory_peak peak;
	uint64_t from = clock_mono_ns();

	put_process(101, 5000);
	put_process(102, 5000);
	m = SAMPLER(.nvml = library, .proc_dir = proc_dir, .sys_dir = "/nowhere");
	memory_follow(m, 101, 1000);
	memory_follow(m, 102, 1000);
	/* The devices are read by another thread: seen by a look at the process after that. */
	WAIT_FOR(m,
	    now.gpu_count == 2 && now.process_count == 2 && now.processes[0].gpu_bytes == 2 * GIB &&
		memory_peak(m, 101, 1000, from, clock_mono_ns(), &peak) && peak.gpu_bytes[1] != 0);
	CHECK_STR(now.gpus[1].name, "Fake GPU 1");
	CHECK(now.gpus[1].answers);
	CHECK_EQ(now.gpus[1].used_bytes, 2 * GIB);
	CHECK_EQ(now.processes[0].gpu_bytes, 2 * GIB); /* one on each */
	CHECK_EQ(now.processes[1].gpu_bytes, 0);
	CHECK(memory_peak(m, 101, 1000, from, clock_mono_ns(), &peak));
	CHECK_EQ(peak.gpu_bytes[0], GIB);
	CHECK_EQ(peak.gpu_bytes[1], 2 * GIB);
	CHECK(memory_peak(m, 102, 1000, from, clock_mono_ns(), &peak));
	CHECK_EQ(peak.gpu_bytes[0] + peak.gpu_bytes[1], 0);
	memory_free(m);
	CHECK_EQ(fake->inits, fake->shutdowns);
}

static void
see(void *m, const struct span_seen *s)
{
	memory_saw(m, s);
}

/* The driver's first device holds one GiB, its second two. */
TEST(a_peak_is_told_by_the_index_that_the_process_means)
{
	struct fake_nvml *fake;
	const char *library = fake_library(&fake);
	struct memory *m;
	struct memory_peak peak;
	uint64_t from = clock_mono_ns();

	put_process(103, 5000);
	put("103/environ", "CUDA_VISIBLE_DEVICES=%" PRIu64, 1);
	fake->pid = 103;
	m = SAMPLER(.nvml = library, .proc_dir = proc_dir, .sys_dir = "/nowhere");
	memory_follow(m, 103, JOB_TICKS);
	WAIT_FOR(m,
	    memory_peak(m, 103, JOB_TICKS, from, clock_mono_ns(), &peak) && peak.gpu_bytes[0] != 0);
	CHECK_EQ(peak.gpu_bytes[0], 2 * GIB); /* it sees the second alone */
	CHECK_EQ(peak.gpu_bytes[1], 0);
	SAW(see, m, SPAN_WORKFLOW, 103, .span = 1, .from_ns = from, .open = true,
	    .tags = { { "memory.gpu.0.uuid", "fa4e0000-0000-4000-8000-000000000000", 0 },
		{ "memory.gpu.3.uuid", "GPU-fa4e0000-0000-4000-8000-000000000001", 0 } });
	CHECK(memory_peak(m, 103, JOB_TICKS, from, clock_mono_ns(), &peak));
	CHECK_EQ(peak.gpu_bytes[0], GIB); /* torch's word counts more */
	CHECK_EQ(peak.gpu_bytes[1], 0);
	CHECK_EQ(peak.gpu_bytes[3], 2 * GIB);
	memory_free(m);
}

TEST(nobody_waits_for_a_driver_that_is_slow)
{
	struct fake_nvml *fake;
	const char *library = fake_library(&fake);
	struct memory *m;
	struct memory_peak peak;
	uint64_t began, took, most = 0;

	fake->slow_ms = 300;
	put_process(101, 5000);
	m = SAMPLER(.nvml = library, .proc_dir = proc_dir, .sys_dir = "/nowhere");
	memory_follow(m, 101, 1000);
	for (int i = 0; i < 40; i++, nap_ms(10)) {
		began = clock_mono_ns();
		(void)memory_peak(m, 101, 1000, 0, began, &peak);
		memory_now(m, &now);
		took = clock_mono_ns() - began;
		most = took > most ? took : most;
	}
	CHECK(most < 200 * NS_PER_MS);
	CHECK(now.samples >= 10); /* the other thread went on */
	WAIT_FOR(m, now.gpu_reads == 1 && now.gpu_read_ns >= 600 * NS_PER_MS);
	nap_ms(1100); /* a read of 0.6 s is not repeated within a second */
	memory_now(m, &now);
	CHECK_EQ(now.gpu_reads, 1);
	memory_free(m);
}

TEST(a_driver_that_never_returns_does_not_keep_us_from_stopping)
{
	struct fake_nvml *fake;
	const char *library = fake_library(&fake);
	struct memory *m;
	uint64_t began;

	fake->slow_ms = 60000;
	put_process(101, 5000);
	m = SAMPLER(.nvml = library, .proc_dir = proc_dir, .sys_dir = "/nowhere");
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 2);
	nap_ms(50);
	began = clock_mono_ns();
	memory_free(m);
	CHECK(clock_mono_ns() - began < 5 * NS_PER_S);
}

int
main(void)
{
	if (!folders_make())
		return 1;
	RUN(a_device_counts_for_the_process_that_holds_it);
	RUN(a_peak_is_told_by_the_index_that_the_process_means);
	RUN(nobody_waits_for_a_driver_that_is_slow);
	RUN(a_driver_that_never_returns_does_not_keep_us_from_stopping);
	if (!folders_remove())
		return 1;
	return t_done();
}
