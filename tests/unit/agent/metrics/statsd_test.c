/*
 * Datagrams: what is told, what a far end that is away does to the counts, and
 * what hostile texts do not do.
 */
#include "agent/metrics/statsd.h"

#include "agent/metrics/table.h"
#include "agent/metrics/text.h"
#include "tests/unit/agent/metrics/snapshot.h"

#define LINES 2048u

/* A far end: keeps the lines of what came, refuses while it is away. */
struct far {
	bool away;
	unsigned datagrams, tried;
	size_t longest;
	char *lines[LINES];
	unsigned count;
};

static bool
take(void *ctx, const char *datagram, size_t n)
{
	struct far *f = ctx;

	f->tried++;
	if (f->away)
		return false;
	f->datagrams++;
	f->longest = n > f->longest ? n : f->longest;
	for (size_t at = 0; at < n;) {
		const char *end = memchr(datagram + at, '\n', n - at);
		size_t k = end != NULL ? (size_t)(end - (datagram + at)) : n - at;

		if (f->count < LINES)
			f->lines[f->count++] = strndup(datagram + at, k);
		at += k + 1;
	}
	return true;
}

static void
far_forget(struct far *f)
{
	for (unsigned i = 0; i < f->count; i++)
		free(f->lines[i]);
	memset(f, 0, sizeof *f);
}

/* The only line of a name, or NULL. */
static const char *
line_of(const struct far *f, const char *name)
{
	const char *found = NULL;

	for (unsigned i = 0; i < f->count; i++)
		if (strncmp(f->lines[i], name, strlen(name)) == 0 &&
		    f->lines[i][strlen(name)] == ':') {
			if (found != NULL)
				return "more than one";
			found = f->lines[i];
		}
	return found;
}

static struct statsd *
make(struct far *f, size_t bytes, const char *service, const char *tags)
{
	struct statsd_options o = { .datagram_bytes = bytes,
		.service = service,
		.env = "e",
		.tags = tags,
		.send = take,
		.ctx = f };
	struct statsd *d = NULL;

	if (statsd_new(&o, &d) != E_OK)
		abort();
	return d;
}

TEST(tells_gauges_as_they_are_and_counts_as_what_was_added)
{
	struct status_snapshot *s = snapshot_plain();
	struct far f = { 0 };
	struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", "");

	CHECK(statsd_flush(d, s));
	CHECK_STR(
	    line_of(&f, "comfymon.agent.uptime"), "comfymon.agent.uptime:17|g|#service:sv,env:e");
	CHECK_STR(line_of(&f, "comfymon.pipeline.received"),
	    "comfymon.pipeline.received:100|c|#signal:trace,service:sv,env:e");
	CHECK_STR(line_of(&f, "comfymon.pipeline.dropped"),
	    "comfymon.pipeline.dropped:3|c|#signal:trace,reason:too_old,service:sv,env:e");
	CHECK_STR(line_of(&f, "comfymon.pipeline.identity_difference"),
	    "comfymon.pipeline.identity_difference:0|g|#signal:trace,service:sv,env:e");
	CHECK_STR(line_of(&f, "comfymon.agent.cpu"),
	    "comfymon.agent.cpu:1.500000007|c|#service:sv,env:e");
	CHECK_STR(line_of(&f, "comfymon.jobs.ended"),
	    "comfymon.jobs.ended:2|c|#state:failed,service:sv,env:e");
	far_forget(&f);
	s->store.received[SIGNAL_TRACE] += 7;
	s->store.queued[SIGNAL_TRACE] += 5;
	CHECK(statsd_flush(d, s));
	CHECK_STR(line_of(&f, "comfymon.pipeline.received"),
	    "comfymon.pipeline.received:7|c|#signal:trace,service:sv,env:e");
	CHECK_STR(line_of(&f, "comfymon.pipeline.identity_difference"),
	    "comfymon.pipeline.identity_difference:2|g|#signal:trace,service:sv,env:e");
	CHECK(line_of(&f, "comfymon.pipeline.dropped") == NULL);
	CHECK(line_of(&f, "comfymon.agent.cpu") == NULL);
	far_forget(&f);
	statsd_free(d);
	free(s);
}

TEST(counts_from_where_it_begins)
{
	struct status_snapshot *s = snapshot_plain();
	struct far f = { 0 };
	struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", "");

	statsd_begin(d, s);
	s->store.received[SIGNAL_TRACE]++;
	CHECK(statsd_flush(d, s));
	CHECK_STR(line_of(&f, "comfymon.pipeline.received"),
	    "comfymon.pipeline.received:1|c|#signal:trace,service:sv,env:e");
	CHECK(line_of(&f, "comfymon.pipeline.dropped") == NULL);
	far_forget(&f);
	statsd_free(d);
	free(s);
}

TEST(keeps_what_was_counted_while_the_far_end_is_away)
{
	struct status_snapshot *s = snapshot_plain();
	struct far f = { .away = true };
	struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", "");

	for (int i = 0; i < 50; i++) {
		s->store.received[SIGNAL_TRACE] += 2;
		CHECK(!statsd_flush(d, s));
	}
	CHECK(f.tried > 50 && f.datagrams == 0);
	f.away = false;
	CHECK(statsd_flush(d, s));
	CHECK_STR(line_of(&f, "comfymon.pipeline.received"),
	    "comfymon.pipeline.received:200|c|#signal:trace,service:sv,env:e");
	far_forget(&f);
	statsd_free(d);
	free(s);
}

TEST(takes_back_the_last_flush_and_no_other)
{
	struct status_snapshot *s = snapshot_plain();
	struct far f = { 0 };
	struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", "");
	unsigned last;

	CHECK(statsd_flush(d, s));
	s->store.received[SIGNAL_TRACE] += 10;
	far_forget(&f);
	CHECK(statsd_flush(d, s));
	last = f.datagrams;
	CHECK_EQ(statsd_take_back(d), last);
	CHECK_EQ(statsd_take_back(d), 0);
	far_forget(&f);
	s->store.received[SIGNAL_TRACE] += 1;
	CHECK(statsd_flush(d, s));
	CHECK_STR(line_of(&f, "comfymon.pipeline.received"),
	    "comfymon.pipeline.received:11|c|#signal:trace,service:sv,env:e");
	CHECK(line_of(&f, "comfymon.pipeline.dropped") == NULL);
	far_forget(&f);
	statsd_free(d);
	free(s);
}

TEST(does_not_tell_a_counter_that_began_anew_as_a_fall)
{
	struct status_snapshot *s = snapshot_plain();
	struct far f = { 0 };
	struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", "");

	CHECK(statsd_flush(d, s));
	far_forget(&f);
	s->store.received[SIGNAL_TRACE] = 4;
	CHECK(statsd_flush(d, s));
	CHECK(line_of(&f, "comfymon.pipeline.received") == NULL);
	s->store.received[SIGNAL_TRACE] = 9;
	CHECK(statsd_flush(d, s));
	CHECK_STR(line_of(&f, "comfymon.pipeline.received"),
	    "comfymon.pipeline.received:5|c|#signal:trace,service:sv,env:e");
	far_forget(&f);
	statsd_free(d);
	free(s);
}

TEST(does_not_tell_what_is_not_known)
{
	struct status_snapshot *s = snapshot_plain();
	struct far f = { 0 };
	struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", "");

	s->memory.host_total_bytes = 5; /* of when somebody lived */
	CHECK(statsd_flush(d, s));
	CHECK(line_of(&f, "comfymon.host.memory") == NULL);
	CHECK(line_of(&f, "comfymon.agent.rss") == NULL);
	snapshot_process(s, 17);
	s->memory.gpu_count = 1;
	strcpy(s->memory.gpus[0].id, "GPU-1");
	s->memory.processes[0].group_some_x100 = 1234;
	CHECK(statsd_flush(d, s));
	CHECK_STR(
	    line_of(&f, "comfymon.host.memory"), "comfymon.host.memory:5|g|#service:sv,env:e");
	CHECK(line_of(&f, "comfymon.process.cgroup_limit") == NULL);
	CHECK_STR(line_of(&f, "comfymon.process.pressure_some"),
	    "comfymon.process.pressure_some:12.34|g|#pid:17,service:sv,env:e");
	CHECK_STR(line_of(&f, "comfymon.gpu.answers"),
	    "comfymon.gpu.answers:0|g|#gpu:0,gpu_id:GPU-1,service:sv,env:e");
	CHECK(line_of(&f, "comfymon.gpu.used") == NULL);
	far_forget(&f);
	statsd_free(d);
	free(s);
}

TEST(names_a_process_as_its_own_environment_does)
{
	struct status_snapshot *s = snapshot_plain();
	struct far f = { 0 };
	struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", "a:b");

	snapshot_process(s, 17);
	snapshot_attr(&s->probes[0], "service", "of its own");
	snapshot_attr(&s->probes[0], "version", "9");
	CHECK(statsd_flush(d, s));
	CHECK_STR(line_of(&f, "comfymon.process.rss"),
	    "comfymon.process.rss:17408|g|#pid:17,service:of_its_own,version:9,env:e,a:b");
	far_forget(&f);
	statsd_free(d);
	free(s);
}

TEST(takes_tags_as_spans_do)
{
	static const struct {
		const char *tags, *all;
	} rows[] = {
		{ "a:b,c:d", "service:sv,env:e,a:b,c:d" },
		{ "a:b c:d", "service:sv,env:e,a:b,c:d" },
		{ "a:b c:d,e:f", "service:sv,env:e,a:b_c:d,e:f" },
		{ " , a:b:c ,, ", "service:sv,env:e,a:b:c_" },
		{ "env:other,a:b", "env:other,service:sv,a:b" },
		{ "service:x a:1 a:2", "service:x,env:e,a:1" },
		{ "alone,no:,:value,|#:x", "service:sv,env:e,alone,__:x" },
		{ "a:\xff\n", "service:sv,env:e,a:\xef\xbf\xbd_" },
		{ "", "service:sv,env:e" },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct status_snapshot *s = snapshot_plain();
		struct far f = { 0 };
		struct statsd *d = make(&f, STATSD_UDP_BYTES, "sv", rows[i].tags);
		char expected[300];

		snprintf(expected, sizeof expected, "comfymon.agent.uptime:17|g|#%s", rows[i].all);
		CHECK(statsd_flush(d, s));
		CHECK_STR(line_of(&f, "comfymon.agent.uptime"), expected);
		CHECK_EQ(statsd_tags_left_out(d), 0);
		far_forget(&f);
		statsd_free(d);
		free(s);
	}
}

/* "name:number|g|#tags", and nothing else in it that separates. */
static bool
well_formed(const char *line)
{
	const char *colon = strchr(line, ':'), *bar = strchr(line, '|'), *p;
	char *end;

	if (strncmp(line, "comfymon.", 9) != 0 || colon == NULL || bar == NULL || bar < colon)
		return false;
	for (p = line; p < colon; p++)
		if (strchr("abcdefghijklmnopqrstuvwxyz_.", *p) == NULL)
			return false;
	if (strchr("-0123456789", colon[1]) == NULL)
		return false; /* not nan, not inf */
	(void)strtod(colon + 1, &end);
	if (end != bar || (bar[1] != 'g' && bar[1] != 'c') || strncmp(bar + 2, "|#", 2) != 0)
		return false;
	for (p = bar + 4; *p != '\0'; p++)
		if (*p == '|' || *p == '#' || (unsigned char)*p <= ' ' || *p == 127)
			return false;
	return true;
}

TEST(splits_no_line_and_keeps_its_form_whatever_the_texts_are)
{
	static const size_t limits[] = { STATSD_UDP_BYTES, STATSD_UNIX_BYTES };
	char tags[4000];
	size_t n = 0;

	for (int i = 0; i < 60; i++) /* no tag alone is long, together they are too long */
		n += (size_t)snprintf(tags + n, sizeof tags - n, "tag%d:%0*d,", i, 40, i);
	for (size_t i = 0; i < 2; i++) {
		struct status_snapshot *s = snapshot_full();
		struct far f = { 0 };
		struct statsd *d = make(&f, limits[i], "sv", tags);
		unsigned processes = 0;

		CHECK(statsd_tags_left_out(d) > 0 && statsd_tags_left_out(d) < 60);
		CHECK(statsd_flush(d, s));
		CHECK(f.longest <= limits[i]);
		CHECK(f.datagrams > 1);
		CHECK(f.count > 400 && f.count < LINES);
		for (unsigned k = 0; k < f.count; k++) {
			if (!well_formed(f.lines[k])) {
				CHECK(!"well formed");
				fprintf(stderr, "%s\n", f.lines[k]);
			}
			processes += strncmp(f.lines[k], "comfymon.process.rss:", 21) == 0;
		}
		CHECK_EQ(processes, MEMORY_PROCESSES);
		far_forget(&f);
		statsd_free(d);
		free(s);
	}
}

TEST(replaces_what_separates_and_cuts_at_a_character)
{
	char out[TAG_VALUE_MAX + 1], text[300];

	CHECK_EQ(text_statsd(out, "a|b#c,d\ne f\x7fg:h", 15, false), 15);
	CHECK_STR(out, "a_b_c_d_e_f_g:h");
	CHECK_EQ(text_statsd(out, "a:b", 3, true), 3);
	CHECK_STR(out, "a_b");
	CHECK_EQ(text_statsd(out, "", 0, false), 0);
	for (size_t i = 0; i < sizeof text; i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	CHECK_EQ(text_statsd(out, text, sizeof text, false), 99);
	CHECK(memcmp(out + 96, "\xe2\x82\xac", 3) == 0);
}

TEST(keeps_its_form_for_any_bytes)
{
	uint32_t seed = 12345;

	for (int round = 0; round < 20000; round++) {
		char out[TAG_VALUE_MAX + 1], text[160];
		size_t n;

		for (size_t i = 0; i < sizeof text; i++) {
			seed = seed * 1664525u + 1013904223u;
			text[i] = (char)(seed >> 24);
		}
		n = text_statsd(out, text, seed % sizeof text, seed & 1);
		CHECK(n <= TAG_VALUE_MAX && out[n] == '\0');
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)out[i] <= ' ' || strchr("|,#\x7f", out[i]) != NULL ||
			    ((seed & 1) && out[i] == ':'))
				CHECK(!"legal");
	}
}

TEST(prints_numbers_without_an_exponent_where_they_are_whole)
{
	char out[METRIC_NUMBER_BYTES];

	metric_print_gauge(64e9, out);
	CHECK_STR(out, "64000000000");
	metric_print_gauge(-2, out);
	CHECK_STR(out, "-2");
	metric_print_gauge(0.25, out);
	CHECK_STR(out, "0.25");
	metric_print_count(KIND_TIME, 1000000001, out);
	CHECK_STR(out, "1.000000001");
	metric_print_count(KIND_COUNT, UINT64_MAX, out);
	CHECK_STR(out, "18446744073709551615");
}

int
main(void)
{
	RUN(tells_gauges_as_they_are_and_counts_as_what_was_added);
	RUN(counts_from_where_it_begins);
	RUN(keeps_what_was_counted_while_the_far_end_is_away);
	RUN(takes_back_the_last_flush_and_no_other);
	RUN(does_not_tell_a_counter_that_began_anew_as_a_fall);
	RUN(does_not_tell_what_is_not_known);
	RUN(names_a_process_as_its_own_environment_does);
	RUN(takes_tags_as_spans_do);
	RUN(splits_no_line_and_keeps_its_form_whatever_the_texts_are);
	RUN(replaces_what_separates_and_cuts_at_a_character);
	RUN(keeps_its_form_for_any_bytes);
	RUN(prints_numbers_without_an_exponent_where_they_are_whole);
	return t_done();
}
