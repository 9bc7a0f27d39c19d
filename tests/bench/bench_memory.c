/*
 * bench_memory.c - what the sampler of memory costs: CPU at its two paces, with two
 * devices of a library of our own, and what a day of it keeps in memory.
 *
 *	bench_memory LIBRARY [SECONDS]	tests/support/fake_nvml.c, built; of each pace (20)
 *
 * It follows this very process, which does nothing else: the CPU time of all its
 * threads is the sampler's.  The baseline is the second itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/memory/internal.h"
#include "tests/bench/report.h"

#define DAY_S 86400

static uint64_t
own_ticks(void)
{
	struct stat_text s = { 0 };
	char *text;
	size_t n;

	if (file_read_all("/proc/self/stat", 65536, &text, &n) != E_OK)
		return 0;
	if (!text_stat(text, &s))
		s.start_ticks = 0;
	free(text);
	return s.start_ticks;
}

static double
cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double
resident_kib(void)
{
	struct status_text s = { 0 };
	char *text;
	size_t n;

	if (file_read_all("/proc/self/status", 65536, &text, &n) != E_OK)
		return 0;
	(void)text_status(text, &s);
	free(text);
	return (double)s.rss_bytes / 1024;
}

/* Microseconds of CPU a second. */
static double
pace(struct memory *m, unsigned seconds, double *samples)
{
	struct memory_now *now = malloc(sizeof *now);
	struct timespec nap = { (time_t)seconds, 0 }, settle = { 2, 0 };
	uint64_t before, began;
	double cpu;

	if (now == NULL)
		exit(1);
	nanosleep(&settle, NULL); /* the library is opened */
	memory_now(m, now);
	before = now->samples;
	began = clock_mono_ns();
	cpu = cpu_us();
	nanosleep(&nap, NULL);
	cpu = (cpu_us() - cpu) / ((double)(clock_mono_ns() - began) / 1e9);
	memory_now(m, now);
	*samples = (double)(now->samples - before) / seconds;
	if (now->gpu_count != 2 || now->process_count != 1)
		exit(1); /* it does not do what is measured */
	free(now);
	return cpu;
}

/* One process and two devices, ten samples a second, and as many jobs as have a place. */
static void
live_a_day(struct memory *m)
{
	struct point p = { .span_ms = 100 }, minute;
	struct ran r = { .pid = 1 };
	struct slot *s = slot_take(m, 1, 1, false);

	if (s == NULL)
		exit(1);
	for (int64_t i = 1; i <= (int64_t)DAY_S * 10; i++) {
		p.t_ns = i * 100 * (int64_t)NS_PER_MS;
		(void)series_add(&s->series, &p, &minute);
		for (unsigned d = 0; d < 2 && i % 10 == 0; d++)
			(void)series_add(&m->devices[d].series, &p, &minute);
	}
	for (r.span_id = 1; r.span_id <= 10000; r.span_id++) {
		jobs_put(&m->jobs, SPAN_WORKFLOW, &r);
		jobs_put(&m->jobs, SPAN_NODE, &r);
	}
}

static void
day(void)
{
	struct memory *m = NULL;
	double before;

	if (memory_new(&(struct memory_options){ .nvml = "" }, &m) != E_OK)
		exit(1);
	for (unsigned d = 0; d < 2; d++)
		if (device_take(m, d == 0 ? "a" : "b", d) == NULL)
			exit(1);
	before = resident_kib();
	live_a_day(m);
	report("sampler of memory, kept of a day with 2 GPUs and 10,000 jobs",
	    resident_kib() - before, "KiB", "this program before", before, REPORT_AT_MOST, 4096);
	memory_free(m);
}

int
main(int argc, char **argv)
{
	unsigned seconds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 20;
	uint64_t pid = (uint64_t)getpid(), ticks = own_ticks();
	struct memory *m = NULL;
	double slow, fast, slow_samples, fast_samples;
	char text[24];

	if (argc < 2 || seconds == 0) {
		fprintf(stderr, "usage: bench_memory LIBRARY [SECONDS]\n");
		return 2;
	}
	snprintf(text, sizeof text, "%d", (int)getpid());
	setenv("FAKE_NVML_GPUS", "2", 1);
	setenv("FAKE_NVML_PID", text, 1);
	if (memory_new(&(struct memory_options){ .nvml = argv[1] }, &m) != E_OK ||
	    memory_start(m) != E_OK)
		return 1;
	memory_follow(m, pid, ticks);
	slow = pace(m, seconds, &slow_samples);
	memory_job(m, pid, ticks, 1, true);
	fast = pace(m, seconds, &fast_samples);
	memory_free(m);
	if (slow_samples < 0.5 || fast_samples < 5)
		return 1; /* it slept */
	report("sampler of memory, each second, 2 GPUs: CPU", slow, "us/s", "a core's second", 1e6,
	    REPORT_AT_MOST, 500);
	report("sampler of memory, each 100 ms, 2 GPUs: CPU", fast, "us/s", "a core's second", 1e6,
	    REPORT_AT_MOST, 3000);
	day();
	return 0;
}
