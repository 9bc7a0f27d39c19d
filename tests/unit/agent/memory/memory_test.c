/*
 * memory_test.c - the sampler with its threads: on this process and children of
 * its own, on a folder that looks like /proc, and on a library that looks like
 * NVIDIA's.
 */
#include "agent/memory/memory.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/memory/internal.h"
#include "tests/support/fake_nvml.h"
#include "tests/t.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static char dir[64], proc_dir[80], data_dir[80];

static void
nap_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

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

static struct memory *
sampler(const struct memory_options *o)
{
	struct memory_options all = *o;
	struct memory *m = NULL;

	if (all.slow_ms == 0)
		all.slow_ms = 20;
	if (all.fast_ms == 0)
		all.fast_ms = 5;
	CHECK_EQ(memory_new(&all, &m), E_OK);
	if (m == NULL || memory_start(m) != E_OK)
		exit(2);
	return m;
}
#define SAMPLER(...) sampler(&(struct memory_options){ __VA_ARGS__ })

static struct memory_now now;

/* Until the condition holds, ten seconds at most. */
#define WAIT_FOR(m, condition)                                 \
	do {                                                   \
		for (int w_ = 0; w_ < 2000; w_++, nap_ms(5)) { \
			memory_now((m), &now);                 \
			if (condition)                         \
				break;                         \
		}                                              \
		CHECK(condition);                              \
	} while (0)

/* ---- real processes ---------------------------------------------------------------- */

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

/* ---- a folder that looks like /proc --------------------------------------------------- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void
put(const char *name, const char *format, uint64_t v)
{
	char path[300], text[1000];
	int fd, n = snprintf(text, sizeof text, format, v);

	snprintf(path, sizeof path, "%s/%s", proc_dir, name);
	for (char *p = path + strlen(proc_dir) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		(void)mkdir(path, 0700);
		*p = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT, 0600); /* in place, as long as before */
	CHECK(fd >= 0 && pwrite(fd, text, (size_t)n, 0) == n);
	if (fd >= 0)
		close(fd);
}
#pragma GCC diagnostic pop

static void
put_rss(uint64_t pid, uint64_t kib)
{
	char name[40];

	snprintf(name, sizeof name, "%" PRIu64 "/status", pid);
	put(name, "Name:\tx\nState:\tS (sleeping)\nVmHWM:\t       4 kB\nVmRSS:\t%8" PRIu64 " kB\n",
	    kib);
}

static void
put_process(uint64_t pid, uint64_t kib)
{
	char name[40];

	put_rss(pid, kib);
	snprintf(name, sizeof name, "%" PRIu64 "/stat", pid);
	put(name, "1 (x) S 1 1 1 0 -1 1 1 1 55 1 1 1 1 1 1 1 1 0 %" PRIu64 " 1\n", 1000);
	snprintf(name, sizeof name, "%" PRIu64 "/fd/0", pid);
	put(name, "%" PRIu64, 0);
	put("meminfo", "MemTotal: 2000 kB\nMemAvailable: %" PRIu64 " kB\n", 900);
	put("pressure/memory", "some avg10=1.50 x\nfull avg10=0.25 %" PRIu64 "\n", 0);
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

/* ---- what is kept ---------------------------------------------------------------------- */

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

TEST(a_folder_that_cannot_be_written_costs_the_keeping_alone)
{
	struct memory *m;

	put_process(101, 5000);
	m = SAMPLER(.nvml = "", .proc_dir = proc_dir, .data_dir = "/nowhere");
	memory_follow(m, 101, 1000);
	WAIT_FOR(m, now.samples >= 2);
	memory_free(m);
}

/* ---- devices ----------------------------------------------------------------------------- */

static const char *
fake_library(struct fake_nvml **fake)
{
	static char path[500];
	char self[400];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	void *handle;

	self[n > 0 ? n : 0] = '\0';
	if (strrchr(self, '/') != NULL)
		*strrchr(self, '/') = '\0';
	snprintf(path, sizeof path, "%s/fake_nvml_fake.so", self);
	handle = dlopen(path, RTLD_NOW); /* for good */
	*fake = handle != NULL ? dlsym(handle, "fake_nvml") : NULL;
	if (*fake == NULL)
		exit(2);
	(*fake)->gpus = 2;
	(*fake)->pid = 101;
	(*fake)->slow_ms = 0;
	return path;
}

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

/* ---- the view ------------------------------------------------------------------------------ */

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
	CHECK(points >= 3 + 3 && points <= 4 + 3); /* and the brackets around, and of the devices */
	CHECK(strstr((char *)out.p, ",5120000,5120000,0,0,0,0]") != NULL);
	outbuf_free(&out);
	memory_free(m);
}

int
main(void)
{
	char command[100];

	snprintf(dir, sizeof dir, "/tmp/memory_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(proc_dir, sizeof proc_dir, "%s/proc", dir);
	snprintf(data_dir, sizeof data_dir, "%s/data", dir);
	if (mkdir(proc_dir, 0700) != 0 || mkdir(data_dir, 0700) != 0)
		return 1;
	RUN(follows_this_process_and_knows_its_peak);
	RUN(what_is_allocated_and_freed_between_two_samples_is_seen);
	RUN(a_process_that_has_gone_keeps_its_past);
	RUN(a_pid_that_was_given_anew_is_not_followed);
	RUN(sleeps_without_a_timer_while_nobody_lives);
	RUN(a_job_is_looked_at_more_closely_until_it_ends);
	RUN(peaks_are_of_their_own_time);
	RUN(sixteen_are_followed_and_the_longest_gone_makes_room);
	RUN(a_restart_knows_what_was_and_goes_on);
	RUN(a_damaged_file_loses_what_is_damaged);
	RUN(two_files_hold_what_is_kept_and_no_more);
	RUN(a_folder_that_cannot_be_written_costs_the_keeping_alone);
	RUN(a_device_counts_for_the_process_that_holds_it);
	RUN(nobody_waits_for_a_driver_that_is_slow);
	RUN(the_view_tells_series_in_as_many_points_as_are_asked_for);
	RUN(a_driver_that_never_returns_does_not_keep_us_from_stopping);
	snprintf(command, sizeof command, "rm -r %s", dir);
	if (system(command) != 0)
		return 1;
	return t_done();
}
