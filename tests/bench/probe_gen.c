/*
 * probe_gen.c - a native source of spans for fault tests and benchmarks: the
 * probe's core in a process of its own, one thread of traffic.
 *
 *   probe_gen --traces N --spans M --tags K --rate R --seed S --ledger FILE
 *             [--jobs] [--leave-open] [--kill-self-after N] [--drain-ms MS]
 *             [--ring-bytes N]
 *
 * Each trace is a root and M - 1 children; with --jobs the root and every third
 * child are opened first, as jobs and nodes are.  The ledger
 * (tests/support/ledger.py) hears of a span before the probe does ("open",
 * "issued") and again when the probe has taken it ("held", "acked"): from there
 * on it must be delivered, whoever dies.  What the probe did not take is
 * "lost".  Rate is spans a second, 0 for no pause.  Without --ledger nothing is
 * written.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "probe/core/probe.h"

#define TAGS_MAX 32
#define LINE_MAX 8192

static struct {
	uint64_t traces, spans, tags, rate, seed, kill_after, drain_ms, ring_bytes;
	const char *ledger;
	int jobs, leave_open;
} o = { .traces = 100, .spans = 21, .tags = 5, .seed = 1, .drain_ms = 5000 };

static int ledger = -1;
static uint64_t taken, dropped, random_state;

struct tag {
	char key[24], text[48];
	enum wire_tag kind;
	double number;
};

struct item {
	struct wire_span span;
	char name[32], resource[48], service[32], type[16];
	struct tag tags[TAGS_MAX];
	uint8_t tag_bytes[TAGS_MAX * 64];
};

static uint64_t
draw(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint32_t
intern(const char *s)
{
	return comfymon_intern(s, strlen(s));
}

static void
draw_tag(struct tag *t, unsigned i, struct wire_tags *into)
{
	snprintf(t->key, sizeof t->key, "gen.tag%u", i);
	t->kind = (enum wire_tag)(i % 4);
	switch (t->kind) {
	case WIRE_TAG_STR:
		snprintf(t->text, sizeof t->text, "value %u", (unsigned)(draw() % 50));
		wire_tag_str(into, intern(t->key), intern(t->text));
		break;
	case WIRE_TAG_TEXT:
		snprintf(t->text, sizeof t->text, "text %016" PRIx64, draw());
		wire_tag_text(into, intern(t->key), t->text, strlen(t->text));
		break;
	case WIRE_TAG_I32:
		t->number = (double)(int32_t)(draw() % 100000);
		wire_tag_i32(into, intern(t->key), (int32_t)t->number);
		break;
	case WIRE_TAG_F64:
		t->number = (double)(draw() % 1000000) / 1024.0 + 0.5;
		wire_tag_f64(into, intern(t->key), t->number);
		break;
	}
}

static void
draw_span(struct item *it, uint64_t hi, uint64_t lo, uint64_t parent, unsigned n)
{
	struct wire_tags tags = { .buf = it->tag_bytes, .cap = sizeof it->tag_bytes };

	snprintf(it->name, sizeof it->name, n == 0 ? "gen.root" : "gen.child%u", n % 7);
	snprintf(it->resource, sizeof it->resource, "resource %u", (unsigned)(draw() % 100));
	snprintf(it->service, sizeof it->service, "probe-gen");
	snprintf(it->type, sizeof it->type, "%s", n % 2 == 0 ? "custom" : "http");
	for (unsigned i = 0; i < o.tags; i++)
		draw_tag(&it->tags[i], i, &tags);
	it->span = (struct wire_span){
		.trace_hi = hi,
		.trace_lo = lo,
		.span_id = comfymon_random_id(),
		.parent_id = parent,
		.start_ns = comfymon_now_ns(),
		.service = intern(it->service),
		.name = intern(it->name),
		.resource = intern(it->resource),
		.type = intern(it->type),
		.flags = n == 0 ? WIRE_SPAN_LOCAL_ROOT : 0,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE,
		.tag_count = tags.count,
		.tag_bytes = tags.used,
		.tags = it->tag_bytes,
	};
	if (n == 0 && o.jobs)
		it->span.flags |= WIRE_SPAN_JOB;
	if (draw() % 20 == 0)
		it->span.flags |= WIRE_SPAN_ERROR;
}

__attribute__((format(printf, 3, 4))) static size_t
add(char *line, size_t at, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line + at, LINE_MAX - at, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= LINE_MAX - at) {
		fprintf(stderr, "probe_gen: a ledger line is too long\n");
		exit(2);
	}
	return at + (size_t)n;
}

/* Every text here is of our own making and needs no escape. */
static size_t
add_tags(char *line, size_t at, const struct item *it, bool numbers)
{
	const char *comma = "";

	for (unsigned i = 0; i < o.tags; i++) {
		const struct tag *t = &it->tags[i];
		bool number = t->kind == WIRE_TAG_I32 || t->kind == WIRE_TAG_F64;

		if (number != numbers)
			continue;
		if (number)
			at = add(line, at, "%s\"%s\":%.17g", comma, t->key, t->number);
		else
			at = add(line, at, "%s\"%s\":\"%s\"", comma, t->key, t->text);
		comma = ",";
	}
	return at;
}

static void
write_line(const char *line, size_t n)
{
	if (write(ledger, line, n) != (ssize_t)n) {
		perror("probe_gen: ledger");
		exit(2);
	}
}

static void
promise(const char *kind, const struct item *it)
{
	const struct wire_span *s = &it->span;
	char line[LINE_MAX];
	size_t n = 0;

	if (ledger < 0)
		return;
	n = add(line, n,
	    "{\"k\":\"%s\",\"spans\":[{\"trace_id\":\"%016" PRIx64 "%016" PRIx64
	    "\",\"span_id\":\"%016" PRIx64 "\",\"parent_id\":\"%016" PRIx64 "\",\"name\":\"%s\","
	    "\"resource\":\"%s\",\"service\":\"%s\",\"type\":\"%s\",\"error\":%d,\"meta\":{",
	    kind, s->trace_hi, s->trace_lo, s->span_id, s->parent_id, it->name, it->resource,
	    it->service, it->type, (s->flags & WIRE_SPAN_ERROR) != 0);
	n = add_tags(line, n, it, false);
	n = add(line, n, "},\"metrics\":{");
	n = add_tags(line, n, it, true);
	n = add(line, n, "}}]}\n");
	write_line(line, n);
}

static void
say(const char *kind, const struct wire_span *s)
{
	char line[160];

	if (ledger >= 0)
		write_line(line, (size_t)snprintf(line, sizeof line,
				     "{\"k\":\"%s\",\"keys\":[\"%016" PRIx64 "%016" PRIx64
				     "/%016" PRIx64 "\"]}\n",
				     kind, s->trace_hi, s->trace_lo, s->span_id));
}

static uint32_t
begin(struct item *it)
{
	uint32_t slot;

	promise("open", it);
	slot = comfymon_span_open(&it->span);
	if (slot != COMFYMON_NO_SLOT)
		say("held", &it->span);
	return slot;
}

static void
finish(struct item *it, uint32_t slot)
{
	const struct wire_span *s = &it->span;

	it->span.duration_ns = comfymon_now_ns() - s->start_ns;
	promise("issued", it);
	if (!comfymon_span_finish(s, slot)) {
		dropped++;
		say("lost", s);
		return;
	}
	taken++;
	say("acked", s);
	if (taken == o.kill_after)
		kill(getpid(), SIGKILL);
}

/* Keep to the rate: span number `n` is due at start + n / rate. */
static void
pace(uint64_t start_ns, uint64_t n)
{
	uint64_t due, now = comfymon_now_ns();
	struct timespec t;

	if (o.rate == 0)
		return;
	due = start_ns + (uint64_t)((double)n * 1e9 / (double)o.rate);
	/* A timer tick is coarser than a span: sleep for several at once. */
	if (due < now + 1000000)
		return;
	t.tv_sec = (time_t)((due - now) / 1000000000u);
	t.tv_nsec = (long)((due - now) % 1000000000u);
	nanosleep(&t, NULL);
}

static void
one_trace(uint64_t start_ns)
{
	static struct item root, child;
	uint32_t slot = COMFYMON_NO_SLOT;
	uint64_t hi, lo;

	comfymon_new_trace_id(&hi, &lo);
	draw_span(&root, hi, lo, 0, 0);
	if (o.jobs || o.leave_open)
		slot = begin(&root);
	for (unsigned n = 1; n < o.spans; n++) {
		uint32_t child_slot = COMFYMON_NO_SLOT;

		draw_span(&child, hi, lo, root.span.span_id, n);
		if (o.jobs && n % 3 == 0)
			child_slot = begin(&child);
		pace(start_ns, taken + dropped);
		finish(&child, child_slot);
	}
	if (!o.leave_open)
		finish(&root, slot);
	pace(start_ns, taken + dropped);
}

static int
options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "traces", required_argument, NULL, 't' },
		{ "spans", required_argument, NULL, 's' },
		{ "tags", required_argument, NULL, 'k' },
		{ "rate", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 'S' },
		{ "ledger", required_argument, NULL, 'l' },
		{ "kill-self-after", required_argument, NULL, 'K' },
		{ "drain-ms", required_argument, NULL, 'd' },
		{ "ring-bytes", required_argument, NULL, 'b' },
		{ "jobs", no_argument, &o.jobs, 1 },
		{ "leave-open", no_argument, &o.leave_open, 1 },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t *const to[128] = {
		['t'] = &o.traces,
		['s'] = &o.spans,
		['k'] = &o.tags,
		['r'] = &o.rate,
		['S'] = &o.seed,
		['K'] = &o.kill_after,
		['d'] = &o.drain_ms,
		['b'] = &o.ring_bytes,
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'l')
			o.ledger = optarg;
		else if (c > 0 && c < 128 && to[c] != NULL)
			*to[c] = strtoull(optarg, NULL, 10);
		else if (c != 0)
			return -1;
	}
	return optind != argc || o.tags > TAGS_MAX || o.spans == 0 ? -1 : 0;
}

int
main(int argc, char **argv)
{
	uint8_t attr_bytes[512];
	struct wire_attrs attrs = { .buf = attr_bytes, .cap = sizeof attr_bytes };
	struct comfymon_options start = { .sender = true };
	struct comfymon_stats figures;
	char reason[256] = "";

	if (options(argc, argv) != 0) {
		fprintf(stderr, "probe_gen: bad arguments, see the head of probe_gen.c\n");
		return 2;
	}
	random_state = o.seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	if (o.ledger != NULL &&
	    (ledger = open(o.ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0) {
		perror(o.ledger);
		return 2;
	}
	wire_attr_put(&attrs, "service", "probe-gen");
	wire_attr_put(&attrs, "language", "c");
	start.attrs = attr_bytes;
	start.attrs_bytes = attrs.used;
	start.ring_bytes = o.ring_bytes;
	if (comfymon_start(&start, reason, sizeof reason) != 0) {
		fprintf(stderr, "probe_gen: %s\n", reason);
		return 1;
	}
	for (uint64_t begin = comfymon_now_ns(), i = 0; i < o.traces; i++)
		one_trace(begin);
	comfymon_stats(&figures);
	comfymon_stop((uint32_t)o.drain_ms);
	printf("{\"taken\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"ring_full\":%" PRIu64
	       ",\"arena_full\":%" PRIu64 ",\"open_full\":%" PRIu64 "}\n",
	    taken, dropped, figures.losses[WIRE_LOSS_RING_FULL],
	    figures.losses[WIRE_LOSS_ARENA_FULL], figures.losses[WIRE_LOSS_OPEN_FULL]);
	return 0;
}
