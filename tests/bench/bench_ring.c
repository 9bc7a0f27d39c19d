/*
 * bench_ring.c - what a span costs the host: from the caller's struct to a
 * published record in the ring, tags encoded, crc included.  The ring is
 * emptied between rounds, outside the clock; the median round counts, of two
 * threads the slower one's.
 *
 *   bench_ring [--json FILE]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/core/probe.h"
#include "probe/core/state.h"

#define ROUNDS    25
#define PER_ROUND 30000u
#define GOAL_NS   100.0

static const unsigned tag_counts[] = { 0, 5, 10 };
static uint32_t keys[16], values[16], name;
static pthread_barrier_t barrier;

static void
one_round(unsigned tags)
{
	uint64_t began = comfymon_now_ns();

	for (unsigned i = 0; i < PER_ROUND; i++) {
		uint8_t buf[256];
		struct wire_tags t = { .buf = buf, .cap = sizeof buf };
		struct wire_span s = { .trace_lo = 1,
			.span_id = i + 1,
			.name = name,
			.resource = name,
			.priority = 127,
			.mechanism = 127,
			.start_ns = began };

		for (unsigned k = 0; k < tags; k++)
			wire_tag_str(&t, keys[k], values[k]);
		s.tags = buf;
		s.tag_bytes = t.used;
		s.tag_count = t.count;
		comfymon_span_finish(&s, COMFYMON_NO_SLOT);
	}
}

struct job {
	unsigned tags;
	double median;
	bool leader;
};

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void *
rounds(void *arg)
{
	struct job *job = arg;
	double ns[ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		if (job->leader)
			atomic_store(probe.latest->acked, atomic_load(probe.latest->head));
		pthread_barrier_wait(&barrier);
		uint64_t began = comfymon_now_ns();

		one_round(job->tags);
		pthread_barrier_wait(&barrier);
		ns[r] = (double)(comfymon_now_ns() - began) / PER_ROUND;
	}
	qsort(ns, ROUNDS, sizeof ns[0], by_value);
	job->median = ns[ROUNDS / 2];
	return NULL;
}

static double
measure(unsigned threads, unsigned tags)
{
	struct job job[2] = { { tags, 0, true }, { tags, 0, false } };
	pthread_t t;

	pthread_barrier_init(&barrier, NULL, threads);
	if (threads == 2)
		pthread_create(&t, NULL, rounds, &job[1]);
	rounds(&job[0]);
	if (threads == 2)
		pthread_join(t, NULL);
	pthread_barrier_destroy(&barrier);
	return threads == 2 && job[1].median > job[0].median ? job[1].median : job[0].median;
}

int
main(int argc, char **argv)
{
	char dir[] = "/dev/shm/cm-bench-XXXXXX", reason[256] = "", text[32];
	struct comfymon_options o = { .run_dir = dir };
	struct comfymon_stats f;
	FILE *json = argc == 3 && strcmp(argv[1], "--json") == 0 ? fopen(argv[2], "a") : NULL;

	if (mkdtemp(dir) == NULL || comfymon_start(&o, reason, sizeof reason) != 0) {
		fprintf(stderr, "bench_ring: %s\n", reason);
		return 1;
	}
	name = comfymon_intern("bench.span", 10);
	for (unsigned i = 0; i < 16; i++) {
		keys[i] = comfymon_intern(text, (size_t)sprintf(text, "bench.key%u", i));
		values[i] = comfymon_intern(text, (size_t)sprintf(text, "bench value %u", i));
	}
	for (unsigned threads = 1; threads <= 2; threads++)
		for (unsigned k = 0; k < 3; k++) {
			double ns = measure(threads, tag_counts[k]);

			printf("ring put, %2u tags, %u thread%s %8.1f ns/span\n", tag_counts[k],
			    threads, threads == 1 ? ": " : "s:", ns);
			if (json != NULL)
				fprintf(json,
				    "{\"name\":\"ring_put_%utags_%uthreads\",\"value\":%.1f,"
				    "\"unit\":\"ns/span\",\"goal\":%.0f,\"met\":%s}\n",
				    tag_counts[k], threads, ns, GOAL_NS,
				    ns <= GOAL_NS ? "true" : "false");
		}
	comfymon_stats(&f);
	if (f.losses[WIRE_LOSS_RING_FULL] != 0) {
		fprintf(stderr, "bench_ring: the ring was full, the figures are void\n");
		return 1;
	}
	if (json != NULL)
		fclose(json);
	unlinkat(probe.dir_fd, probe.latest->name, 0);
	rmdir(dir);
	return 0;
}
