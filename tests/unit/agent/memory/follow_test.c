/*
 * follow_test.c - processes that are followed: real ones, their peaks and their
 * ends, and as many as there are places.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/unit/agent/memory/sampled.h"

static uint64_t
ticks_of(pid_t pid)
{
	char path[64], *text;
	struct stat_text s = { 0 };
	size_t n;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (file_read_all(path, 65536, &text, &n) != E_OK)
		return 0;
	CHECK(text_stat(text, &s));
	free(text);
	return s.start_ticks;
}

TEST(follows_this_process_and_knows_its_peak)
{
	struct memory *m = SAMPLER(.nvml = "");
	uint64_t ticks = ticks_of(getpid()), from = clock_mono_ns();
	struct memory_peak peak;

	memory_now(m, &now);
	CHECK_EQ(now.process_count, 0);
	memory_follow(m, (uint64_t)getpid(), ticks);
	WAIT_FOR(m, now.samples >= 3);
	CHECK_EQ(now.process_count, 1);
	CHECK_EQ(now.processes[0].pid, getpid());
	CHECK(now.processes[0].rss_bytes > MIB / 2);
	CHECK(now.processes[0].threads >= 3);
	CHECK(now.processes[0].descriptors >= 3);
	CHECK(now.host_total_bytes > now.host_available_bytes);
	CHECK(now.host_available_bytes > 0);
	CHECK(memory_peak(m, (uint64_t)getpid(), ticks, from, clock_mono_ns(), &peak));
	CHECK(peak.rss_bytes >= now.processes[0].rss_bytes / 2);
	CHECK_EQ(peak.gpu_bytes[0], 0);
	CHECK(!memory_peak(m, (uint64_t)getpid(), ticks + 1, from, clock_mono_ns(), &peak));
	CHECK(!memory_peak(m, (uint64_t)getpid(), ticks, 0, 1, &peak));
	CHECK_EQ(peak.rss_bytes, 0);
	CHECK(!memory_peak(m, (uint64_t)getpid(), ticks, 1, UINT64_MAX, &peak));
	memory_follow(m, (uint64_t)getpid(), ticks); /* a second hello */
	memory_now(m, &now);
	CHECK_EQ(now.process_count, 1);
	memory_free(m);
}

TEST(what_is_allocated_and_freed_between_two_samples_is_seen)
{
	struct memory *m = SAMPLER(.nvml = "", .slow_ms = 300);
	uint64_t ticks = ticks_of(getpid()), from, rss, samples;
	struct memory_peak peak;
	char *p;

	memory_follow(m, (uint64_t)getpid(), ticks);
	WAIT_FOR(m, now.samples >= 1);
	from = clock_mono_ns() - 250 * NS_PER_MS;
	WAIT_FOR(m, now.samples >= 2);
	rss = now.processes[0].rss_bytes;
	samples = now.samples;
	/* Mapped, not allocated: a sanitizer keeps what is freed. */
	p = mmap(NULL, 96 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(p != MAP_FAILED);
	memset(p, 1, 96 * MIB);
	__asm__ volatile("" : : "r"(p) : "memory");
	munmap(p, 96 * MIB);
	WAIT_FOR(m, now.samples > samples + 1);
	CHECK(now.processes[0].rss_bytes < rss + 48 * MIB);
	CHECK(memory_peak(m, (uint64_t)getpid(), ticks, from, clock_mono_ns(), &peak));
	CHECK(peak.rss_bytes >= rss + 90 * MIB);
	memory_free(m);
}

TEST(a_process_that_has_gone_keeps_its_past)
{
	struct memory *m = SAMPLER(.nvml = "");
	uint64_t from = clock_mono_ns(), ticks;
	struct memory_peak peak;
	pid_t child = fork();

	if (child == 0) {
		pause();
		_exit(0);
	}
	ticks = ticks_of(child);
	memory_follow(m, (uint64_t)child, ticks);
	WAIT_FOR(m, now.samples >= 3);
	kill(child, SIGKILL);
	WAIT_FOR(m, now.process_count == 0); /* a zombie is none any more */
	waitpid(child, NULL, 0);
	CHECK(memory_peak(m, (uint64_t)child, ticks, from, clock_mono_ns(), &peak));
	CHECK(peak.rss_bytes > 0);
	memory_free(m);
}

TEST(a_pid_that_was_given_anew_is_not_followed)
{
	struct memory *m = SAMPLER(.nvml = "");

	memory_follow(m, (uint64_t)getpid(), ticks_of(getpid()) + 1);
	memory_follow(m, 0, 0);
	WAIT_FOR(m, now.not_followed == 1);
	CHECK_EQ(now.process_count, 0);
	CHECK_EQ(now.samples, 0);
	memory_free(m);
}

/* Voluntary switches of our threads of that name. */
static uint64_t
switches_of(const char *name)
{
	uint64_t sum = 0;

	for (int tid = getpid(); tid < getpid() + 4000; tid++) {
		char path[80], *text;
		const char *at;
		size_t n;

		snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
		if (file_read_all(path, 65536, &text, &n) != E_OK)
			continue;
		at = strstr(text, "\nvoluntary_ctxt_switches:");
		if (at != NULL && strncmp(text + 6, name, strlen(name)) == 0)
			sum += strtoull(at + 25, NULL, 10);
		free(text);
	}
	return sum;
}

TEST(sleeps_without_a_timer_while_nobody_lives)
{
	struct memory *m = SAMPLER(.nvml = "");
	uint64_t before;
	pid_t child;

	nap_ms(50);
	before = switches_of("memory") + switches_of("devices");
	nap_ms(300);
	CHECK_EQ(switches_of("memory") + switches_of("devices") - before, 0);
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	memory_follow(m, (uint64_t)child, ticks_of(child));
	WAIT_FOR(m, now.samples >= 3);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	WAIT_FOR(m, now.process_count == 0);
	nap_ms(1200); /* the devices' thread looks once more */
	before = switches_of("memory") + switches_of("devices");
	nap_ms(300);
	CHECK_EQ(switches_of("memory") + switches_of("devices") - before, 0);
	memory_free(m);
}

TEST(a_job_is_looked_at_more_closely_until_it_ends)
{
	struct memory *m;
	uint64_t samples;

	put_process(101, 1000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir, .slow_ms = 60000, .fast_ms = 5);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples == 1);
	CHECK_EQ(now.processes[0].rss_bytes, 1000 * 1024);
	CHECK_EQ(now.processes[0].major_faults, 55);
	CHECK_EQ(now.processes[0].descriptors, 1);
	CHECK_EQ(now.host_total_bytes, 2000 * 1024);
	CHECK_EQ(now.host_some_x100, 150);
	CHECK_EQ(now.host_full_x100, 25);
	memory_job(m, 101, 1000, 77, true);
	WAIT_FOR(m, now.samples >= 5); /* not in a minute, at once */
	CHECK(now.processes[0].job_runs);
	memory_job(m, 101, 1000, 78, false); /* another's end */
	memory_job(m, 102, 1000, 77, false);
	memory_now(m, &now);
	CHECK(now.processes[0].job_runs);
	memory_job(m, 101, 1000, 77, false);
	memory_now(m, &now);
	CHECK(!now.processes[0].job_runs);
	nap_ms(30);
	memory_now(m, &now);
	samples = now.samples;
	nap_ms(100);
	memory_now(m, &now);
	CHECK_EQ(now.samples, samples);
	memory_free(m);
}

TEST(peaks_are_of_their_own_time)
{
	struct memory *m;
	uint64_t high_from, high_to, low_from;
	struct memory_peak peak;

	put_process(101, 1000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir);
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 2);
	put_rss(101, 900000);
	high_from = clock_mono_ns();
	WAIT_FOR(m, now.processes[0].rss_bytes == 900000 * 1024ull);
	high_to = clock_mono_ns();
	put_rss(101, 2000);
	WAIT_FOR(m, now.processes[0].rss_bytes == 2000 * 1024);
	low_from = clock_mono_ns();
	nap_ms(60);
	CHECK(memory_peak(m, 101, 1000, high_from, high_to, &peak));
	CHECK_EQ(peak.rss_bytes, 900000 * 1024ull);
	CHECK(memory_peak(m, 101, 1000, low_from, clock_mono_ns(), &peak));
	CHECK_EQ(peak.rss_bytes, 2000 * 1024);
	memory_free(m);
}

TEST(sixteen_are_followed_and_the_longest_gone_makes_room)
{
	struct memory *m;
	struct memory_peak peak;
	char path[120];

	for (uint64_t pid = 201; pid <= 218; pid++)
		put_process(pid, pid);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir);
	for (uint64_t pid = 201; pid <= 217; pid++)
		memory_follow(m, pid, 1000);
	WAIT_FOR(m, now.process_count == 16 && now.not_followed == 1);
	/* One ends: as the kernel says it of an open descriptor, there is nothing to read. */
	snprintf(path, sizeof path, "%s/203/status", proc_dir);
	CHECK_EQ(truncate(path, 0), 0);
	WAIT_FOR(m, now.process_count == 15);
	CHECK(memory_peak(m, 203, 1000, 0, clock_mono_ns(), &peak));
	memory_follow(m, 218, 1000);
	WAIT_FOR(m, now.process_count == 16);
	CHECK(!memory_peak(m, 203, 1000, 0, clock_mono_ns(), &peak));
	memory_free(m);
}

int
main(void)
{
	if (!folders_make())
		return 1;
	RUN(follows_this_process_and_knows_its_peak);
	RUN(what_is_allocated_and_freed_between_two_samples_is_seen);
	RUN(a_process_that_has_gone_keeps_its_past);
	RUN(a_pid_that_was_given_anew_is_not_followed);
	RUN(sleeps_without_a_timer_while_nobody_lives);
	RUN(a_job_is_looked_at_more_closely_until_it_ends);
	RUN(peaks_are_of_their_own_time);
	RUN(sixteen_are_followed_and_the_longest_gone_makes_room);
	if (!folders_remove())
		return 1;
	return t_done();
}
