/*
 * bench_collector.c - the collector as a whole, seen from outside: the real
 * program, a real probe, a sink as its Datadog agent.  One scenario a call,
 * each with directories of its own:
 *
 *   start          ready, resident memory and wake-ups without load
 *   handoff        ring -> socket -> durable, against bare SQLite
 *   pipeline       the same to the posted request, CPU per million spans
 *   rate SECONDS   10,000 spans a second
 *   outage SECONDS 5,000 a second with the destination away, kill -9, its return
 *
 * CPU is that of the collector's process, all threads; probe and sink run in
 * this one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/bench/bare.h"
#include "tests/bench/collector.h"
#include "tests/bench/load.h"
#include "tests/bench/report.h"
#include "tests/bench/sink.h"

#define STARTS         15
#define IDLE_S         10
#define HANDOFF_SPANS  300000u
#define HANDOFF_ROUNDS 7
#define PIPE_SPANS     2000000u
#define LIMIT_S        120.0

static struct collector c;

static void
nap(double s)
{
	struct timespec t = { .tv_sec = (time_t)s };

	t.tv_nsec = (long)((s - (double)t.tv_sec) * 1e9);
	nanosleep(&t, NULL);
}

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_collector: %s\n", what);
	collector_fini(&c);
	exit(1);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void
start(void)
{
	double ms[STARTS], cpu_ms[STARTS];
	struct collector_memory m;
	uint64_t before;

	sink_start();
	collector_init(&c, sink_url());
	for (int i = 0; i < STARTS; i++) {
		collector_spawn(&c);
		ms[i] = collector_ready(&c) * 1e3;
		cpu_ms[i] = collector_cpu(&c) * 1e3;
		if (i < STARTS - 1)
			collector_stop(&c);
	}
	nap(1);
	before = collector_wakeups(&c);
	nap(IDLE_S);
	m = collector_memory(&c);
	qsort(ms, STARTS, sizeof ms[0], by_value);
	qsort(cpu_ms, STARTS, sizeof cpu_ms[0], by_value);
	report("collector_ready", ms[STARTS / 2], "ms", NULL, 0, REPORT_AT_MOST, 8);
	/* What a busy machine disturbs least. */
	report("collector_ready_least", ms[0], "ms", NULL, 0, REPORT_AT_MOST, 8);
	report("collector_ready_cpu", cpu_ms[0], "ms", NULL, 0, REPORT_NONE, 0);
	report("collector_idle_rss", m.rss_mb, "MB", NULL, 0, REPORT_AT_MOST, 13);
	report("collector_idle_private", m.private_mb, "MB", NULL, 0, REPORT_AT_MOST, 4);
	report("collector_idle_wakeups", (double)(collector_wakeups(&c) - before) / IDLE_S, "1/s",
	    NULL, 0, REPORT_AT_MOST, 1);
	collector_stop(&c);
}

/* Rounds in turn with bare SQLite, the median round and the median ratio: a disk has its moods. */
static void
handoff(void)
{
	double rate[HANDOFF_ROUNDS], share[HANDOFF_ROUNDS], s, cpu, each;
	uint64_t taken = 0, bytes;

	collector_init(&c, NULL);
	collector_spawn(&c);
	collector_ready(&c);
	load_start(c.run);
	cpu = collector_cpu(&c);
	for (int i = 0; i < HANDOFF_ROUNDS; i++) {
		bytes = load_bytes();
		taken += load_run(HANDOFF_SPANS, 0);
		s = load_settle(LIMIT_S);
		must(s > 0, "the hand-off did not end in time");
		rate[i] = HANDOFF_SPANS / s;
		share[i] = bare_insert(c.data, load_bytes() - bytes) / s;
	}
	cpu = collector_cpu(&c) - cpu;
	must(collector_counter(&c, "received") == taken, "received is not what was taken");
	qsort(rate, HANDOFF_ROUNDS, sizeof rate[0], by_value);
	qsort(share, HANDOFF_ROUNDS, sizeof share[0], by_value);
	s = rate[HANDOFF_ROUNDS / 2];
	each = (double)load_bytes() / (double)taken / 1e6;
	report("handoff_durable", s, "spans/s", "bare SQLite insert", s / share[HANDOFF_ROUNDS / 2],
	    REPORT_AT_LEAST, 1e6);
	report("handoff_durable_bytes", s * each, "MB/s", "bare SQLite insert",
	    s * each / share[HANDOFF_ROUNDS / 2], REPORT_RATIO_LEAST, 0.8);
	report("handoff_cpu", cpu / (double)taken * 1e6, "CPU-s/M spans", NULL, 0, REPORT_NONE, 0);
	collector_stop(&c);
}

/* Until the sink has seen n spans. */
static bool
delivered(uint64_t n, double limit_s)
{
	struct sink_counts k;

	for (double left = limit_s; left > 0; left -= 0.01) {
		sink_count(&k);
		if (k.spans >= n)
			return true;
		nap(0.01);
	}
	return false;
}

static void
pipeline(void)
{
	double s, cpu;
	uint64_t taken, during;
	struct sink_counts k;

	sink_start();
	collector_init(&c, sink_url());
	collector_spawn(&c);
	collector_ready(&c);
	load_start(c.run);
	taken = load_run(LOAD_TRACE * 2000, 0); /* warm */
	must(load_settle(LIMIT_S) > 0 && delivered(taken, LIMIT_S), "the warm-up did not arrive");
	cpu = collector_cpu(&c);
	taken += load_run(PIPE_SPANS, 0);
	s = load_settle(LIMIT_S);
	must(s > 0, "the hand-over did not end in time");
	sink_count(&k);
	during = k.spans;
	must(delivered(taken, LIMIT_S), "not all was delivered in time");
	cpu = collector_cpu(&c) - cpu;
	nap(0.2);
	sink_count(&k);
	must(k.spans == taken && k.malformed == 0, "delivered is not what was taken");
	report(
	    "pipeline_cpu", cpu / PIPE_SPANS * 1e6, "CPU-s/M spans", NULL, 0, REPORT_AT_MOST, 1.5);
	report("pipeline_accepted", PIPE_SPANS / s, "spans/s", NULL, 0, REPORT_NONE, 0);
	report("pipeline_delivered_during_load", (double)during / (double)taken, "share", NULL, 0,
	    REPORT_AT_LEAST, 0.5);
	report("pipeline_requests", (double)k.requests, "", NULL, 0, REPORT_NONE, 0);
	report("pipeline_peak_rss", collector_memory(&c).peak_mb, "MB", NULL, 0, REPORT_NONE, 0);
	collector_stop(&c);
}

static void
rate(double seconds)
{
	struct collector_memory m;
	double cpu;
	uint64_t n = (uint64_t)(10000 * seconds), taken;

	sink_start();
	collector_init(&c, sink_url());
	collector_spawn(&c);
	collector_ready(&c);
	load_start(c.run);
	cpu = collector_cpu(&c);
	taken = load_run(n, 10000);
	m = collector_memory(&c);
	must(taken >= n && load_settle(LIMIT_S) > 0 && delivered(taken, LIMIT_S),
	    "spans were lost at 10,000 a second");
	cpu = collector_cpu(&c) - cpu;
	report("rate_10k_rss", m.peak_mb, "MB", NULL, 0, REPORT_AT_MOST, 18);
	report("rate_10k_private", m.private_mb, "MB", NULL, 0, REPORT_NONE, 0);
	report("rate_10k_cpu", cpu / (double)taken * 1e6, "CPU-s/M spans", NULL, 0, REPORT_NONE, 0);
	collector_stop(&c);
}

static void
outage(double seconds)
{
	struct collector_memory before, after;
	uint64_t n = (uint64_t)(5000 * seconds), taken;
	struct sink_counts k;

	sink_start();
	collector_init(&c, sink_url());
	collector_spawn(&c);
	collector_ready(&c);
	load_start(c.run);
	taken = load_run(5000, 5000);
	must(load_settle(LIMIT_S) > 0 && delivered(taken, LIMIT_S), "the warm-up did not arrive");
	before = collector_memory(&c);
	sink_close();
	taken += load_run(n, 5000);
	must(load_settle(LIMIT_S) > 0, "the collector did not take what came");
	after = collector_memory(&c);
	collector_kill(&c);
	sink_open();
	collector_spawn(&c);
	collector_ready(&c);
	must(delivered(taken, LIMIT_S), "spans were lost");
	nap(1);
	sink_count(&k);
	report("outage_lost", (double)taken - (double)k.spans, "spans", NULL, 0, REPORT_AT_MOST, 0);
	report("outage_rss_growth", after.rss_mb - before.rss_mb, "MB", NULL, 0, REPORT_AT_MOST, 5);
	collector_stop(&c);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	double s = argc > 2 ? strtod(argv[2], NULL) : 10;

	if (strcmp(what, "start") == 0)
		start();
	else if (strcmp(what, "handoff") == 0)
		handoff();
	else if (strcmp(what, "pipeline") == 0)
		pipeline();
	else if (strcmp(what, "rate") == 0)
		rate(s);
	else if (strcmp(what, "outage") == 0)
		outage(s);
	else
		return fprintf(stderr, "bench_collector: which scenario?\n"), 2;
	collector_fini(&c);
	return 0;
}
