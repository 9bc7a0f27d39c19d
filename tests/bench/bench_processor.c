/*
 * bench_processor.c - what a span costs between its batch and its chunk: feed
 * and step, traces of 21 spans with 10 tags; then the same with many traces
 * open beside.  CPU time of this thread.  Baseline: one copy and one crc32c of
 * the same bytes, which is the least that a stored chunk needs.
 *
 *   bench_processor [--json FILE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/core/process.h"
#include "schema/tables.h"

#define SPANS   21
#define TRACES  40
#define TAGS    10
#define ROUNDS  200
#define GOAL_NS 250.0

static uint8_t batch[1 << 20], spare[1 << 20];
static size_t batch_bytes;

static double
cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint32_t
put_span(uint8_t *rec, uint64_t at, uint64_t trace, uint64_t span, uint16_t flags, bool open)
{
	struct wire_tags tags = { .buf = rec + RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES,
		.cap = 4096 };
	struct wire_span s = { .trace_lo = trace,
		.span_id = span,
		.parent_id = 1,
		.start_ns = 1000000000 + trace,
		.duration_ns = 1000,
		.service = 1,
		.name = 2,
		.resource = 3,
		.flags = flags,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE };

	for (uint32_t i = 0; i < TAGS; i++)
		wire_tag_str(&tags, 4 + i, 14 + (uint32_t)(trace * 7 + span + i) % 50);
	s.tag_bytes = tags.used;
	s.tag_count = tags.count;
	wire_span_put(rec + RECORD_HEADER_BYTES, &s);

	uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + tags.used;

	wire_record_seal(rec, at, length, open ? EVENT_OPEN : EVENT_SPAN, RECORD_PUBLISHED);
	return length;
}

/* A batch of whole traces, or of open roots with one finished child. */
static void
make_batch(uint64_t first_trace, unsigned traces, bool whole)
{
	static uint64_t at;
	struct wire_batch b = { .first = at, .mono_ns = 1, .real_ns = 1700000000000000000 };
	uint8_t *p = batch + BATCH_FIXED_BYTES;
	char text[32];

	for (unsigned t = 0; t < traces; t++) {
		unsigned spans = whole ? SPANS : 2;

		for (unsigned i = 0; i < spans; i++) {
			bool root = whole ? i == spans - 1 : i == 0;
			uint32_t n = put_span(p, at, first_trace + t, root ? 1 : i + 2,
			    root ? WIRE_SPAN_LOCAL_ROOT : 0, root && !whole);

			p += n;
			at += n;
			b.record_count++;
			b.span_count += whole || !root;
		}
	}
	b.records_bytes = (uint32_t)(p - batch - BATCH_FIXED_BYTES);
	for (uint32_t id = 1; id < 64; id++) {
		snprintf(text, sizeof text, "string.number.%u", id);
		b.dict_bytes +=
		    (uint32_t)wire_dict_put(p + b.dict_bytes, id, text, (uint32_t)strlen(text));
	}
	b.end = at;
	wire_batch_seal(batch, &b);
	batch_bytes = BATCH_FIXED_BYTES + b.records_bytes + b.dict_bytes;
}

static void
turn(struct processor *p)
{
	struct raw_row raw = { .probe = 1, .blob = batch, .blob_bytes = batch_bytes };
	static int64_t id;
	const struct step *s;

	if (processor_feed(p, &raw) != E_OK || processor_step(p, 1, 1, &s) != E_OK)
		exit(1);
	for (size_t i = 0; i < s->segment_count; i++)
		s->segments[i].id = ++id;
	processor_commit(p);
}

/* Nanoseconds a span with `open` other traces in memory. */
static double
measure(unsigned open)
{
	struct processor_options o = {
		.service = "bench", .rate_limit = -1, .memory_cap_bytes = 1u << 30
	};
	struct processor *p;
	double sum = 0;

	if (processor_new(&o, &p) != E_OK)
		exit(1);
	for (unsigned i = 0; i < open; i += 500) {
		make_batch(1000000000u + i, 500, false);
		turn(p);
	}
	for (unsigned r = 0; r < ROUNDS; r++) {
		double began;

		make_batch(1 + r * TRACES, TRACES, true);
		began = cpu_ns();
		turn(p);
		sum += cpu_ns() - began;
	}
	processor_free(p);
	return sum / (ROUNDS * TRACES * SPANS);
}

static double
baseline(void)
{
	double began;
	uint32_t crc = 0;

	make_batch(1, TRACES, true);
	began = cpu_ns();
	for (unsigned r = 0; r < ROUNDS; r++) {
		memcpy(spare, batch, batch_bytes);
		crc ^= wire_crc32c(crc, spare, batch_bytes);
	}
	if (crc == 1)
		putchar('\n'); /* its value is used */
	return (cpu_ns() - began) / (ROUNDS * TRACES * SPANS);
}

int
main(int argc, char **argv)
{
	static const unsigned opens[] = { 0, 1000, 10000, 50000 };
	FILE *json = argc == 3 && strcmp(argv[1], "--json") == 0 ? fopen(argv[2], "a") : NULL;
	double base = baseline(), first = 0;

	for (size_t i = 0; i < sizeof opens / sizeof opens[0]; i++) {
		double ns = measure(opens[i]);
		double goal = i == 0 ? GOAL_NS : first * 1.2;

		if (i == 0)
			first = ns;
		printf("%-28s %6u open %8.1f ns/span  goal %.0f  %s\n", "processor feed+step",
		    opens[i], ns, goal, ns <= goal ? "met" : "missed");
		if (json != NULL)
			fprintf(json,
			    "{\"name\":\"processor_feed_step_open_%u\",\"value\":%.1f,"
			    "\"unit\":\"ns/span\",\"baseline\":\"copy and crc32c\","
			    "\"baseline_value\":%.1f,\"ratio\":%.2f,\"goal\":%.1f,\"met\":%s}\n",
			    opens[i], ns, base, ns / base, goal, ns <= goal ? "true" : "false");
	}
	printf("%-28s             %8.1f ns/span\n", "baseline copy and crc32c", base);
	if (json != NULL)
		fclose(json);
	return 0;
}
