/*
 * load.c - see load.h.
 */
#include "tests/bench/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "probe/core/probe.h"

#define VALUES 50u

static uint32_t service, name[7], resource[VALUES], key[LOAD_TAGS], value[VALUES];
static uint64_t began, made;

static uint32_t
intern(const char *text_before, unsigned n)
{
	char text[64];
	int bytes = snprintf(text, sizeof text, "%s%u", text_before, n);

	return comfymon_intern(text, (size_t)bytes);
}

void
load_start(const char *run_dir)
{
	struct comfymon_options o = { .run_dir = run_dir, .sender = true };
	char reason[256] = "";

	if (comfymon_start(&o, reason, sizeof reason) != 0) {
		fprintf(stderr, "bench: the probe is off: %s\n", reason);
		exit(1);
	}
	service = intern("bench-service-", 1);
	for (unsigned i = 0; i < 7; i++)
		name[i] = intern("bench.operation.", i);
	for (unsigned i = 0; i < LOAD_TAGS; i++)
		key[i] = intern("bench.tag.number.", i);
	for (unsigned i = 0; i < VALUES; i++) {
		resource[i] = intern("Resource of a span ", i);
		value[i] = intern("the value of a tag, ", i);
	}
}

static bool
put(uint64_t hi, uint64_t lo, uint64_t span, uint64_t parent, unsigned n)
{
	uint8_t buf[512];
	struct wire_tags t = { .buf = buf, .cap = sizeof buf };
	struct wire_span s = { .trace_hi = hi,
		.trace_lo = lo,
		.span_id = span,
		.parent_id = parent,
		.start_ns = comfymon_now_ns(),
		.duration_ns = 1000 + n,
		.service = service,
		.name = name[n % 7],
		.resource = resource[(lo + n) % VALUES],
		.flags = parent == 0 ? WIRE_SPAN_LOCAL_ROOT : 0,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE };

	for (unsigned k = 0; k < LOAD_TAGS - 2; k++)
		wire_tag_str(&t, key[k], value[(lo + 7 * n + k) % VALUES]);
	wire_tag_i32(&t, key[LOAD_TAGS - 2], (int32_t)n);
	wire_tag_f64(&t, key[LOAD_TAGS - 1], 0.1 + n);
	s.tags = buf;
	s.tag_bytes = t.used;
	s.tag_count = t.count;
	return comfymon_span_finish(&s, COMFYMON_NO_SLOT);
}

static void
wait_for_room(void)
{
	struct timespec nap = { .tv_nsec = 200000 };
	struct comfymon_stats f;

	while (comfymon_stats(&f), f.head - f.acknowledged > f.area_bytes * 3 / 4)
		nanosleep(&nap, NULL);
}

static void
pace(double rate)
{
	double due = (double)made / rate * 1e9, now = (double)(comfymon_now_ns() - began);
	struct timespec nap = { .tv_sec = (time_t)((due - now) / 1e9) };

	if (due - now < 1e6)
		return;
	nap.tv_nsec = (long)(due - now - (double)nap.tv_sec * 1e9);
	nanosleep(&nap, NULL);
}

uint64_t
load_run(uint64_t spans, double rate)
{
	uint64_t taken = 0, hi, lo;

	began = comfymon_now_ns();
	for (made = 0; made < spans; made += LOAD_TRACE) {
		uint64_t root = comfymon_random_id();

		comfymon_new_trace_id(&hi, &lo);
		if (rate > 0)
			pace(rate);
		else
			wait_for_room();
		for (unsigned n = 1; n < LOAD_TRACE; n++)
			taken += put(hi, lo, comfymon_random_id(), root, n);
		taken += put(hi, lo, root, 0, 0);
	}
	return taken;
}

double
load_settle(double limit_s)
{
	struct timespec nap = { .tv_nsec = 200000 };
	struct comfymon_stats f;
	double s;

	while (comfymon_stats(&f), f.acknowledged < f.head) {
		s = (double)(comfymon_now_ns() - began) / 1e9;
		if (s > limit_s)
			return -1;
		nanosleep(&nap, NULL);
	}
	return (double)(comfymon_now_ns() - began) / 1e9;
}

uint64_t
load_bytes(void)
{
	struct comfymon_stats f;

	comfymon_stats(&f);
	return f.acknowledged;
}
