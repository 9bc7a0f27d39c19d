/*
 * memory.c - `comfymon memory`: what ComfyUI and the devices held over time, a
 * bar for each part of it, and the jobs that ran meanwhile.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/cli/cli.h"
#include "agent/cli/offline.h"

#define LABEL    22
#define BARS     60u
#define JOBS_MAX 12
#define SINCE_NS (3600 * NS_PER_S)

struct scale {
	int64_t from_ns, to_ns;
	unsigned bars;
};

static int64_t
number_of(json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static unsigned
bar_of(const struct scale *s, int64_t t_ns)
{
	int64_t span = s->to_ns - s->from_ns;

	if (t_ns <= s->from_ns || span <= 0)
		return 0;
	if (t_ns >= s->to_ns)
		return s->bars - 1;
	return (unsigned)((double)(t_ns - s->from_ns) / (double)span * s->bars);
}

static void
print_label(const struct term *t, const char *text)
{
	int used = term_put(t, text, LABEL);

	term_pad(t, LABEL + 1 - used);
}

/* The highest of column 1 in each part of the time, against `full`. */
static void
print_bars(const struct term *t, const struct scale *s, json_t *points, int64_t full)
{
	static const char *const blocks[] = { " ", "\u2581", "\u2582", "\u2583", "\u2584", "\u2585",
		"\u2586", "\u2587", "\u2588" };
	int64_t highest[BARS] = { 0 };
	unsigned last = 0;
	size_t i;
	json_t *point;

	json_array_foreach(points, i, point)
	{
		unsigned bar = bar_of(s, json_integer_value(json_array_get(point, 0)));
		int64_t v = json_integer_value(json_array_get(point, 1));

		if (v > highest[bar])
			highest[bar] = v;
		last = bar > last ? bar : last;
	}
	for (unsigned b = 0; b < s->bars; b++) {
		/* Between two looks it is taken to be as it was. */
		int64_t v = highest[b] == 0 && b > 0 && b <= last ? highest[b - 1] : highest[b];
		int64_t level = full > 0 ? (v * 8 + full - 1) / full : 0;

		highest[b] = v;
		fputs(blocks[level > 8 ? 8 : level], t->f);
	}
}

static int64_t
highest_of(json_t *points)
{
	int64_t high = 0;
	size_t i;
	json_t *point;

	json_array_foreach(points, i, point)
	{
		int64_t v = json_integer_value(json_array_get(point, 1));

		high = v > high ? v : high;
	}
	return high;
}

static void
print_series(const struct term *t, const struct scale *s, const char *label, json_t *one,
    const char *now_key, const char *limit_key)
{
	json_t *points = json_object_get(one, "points");
	int64_t high = highest_of(points), limit = number_of(one, limit_key);
	char a[32], b[32], c[32];

	print_label(t, label);
	print_bars(t, s, points, high);
	fprintf(t->f, "  now %s, peak %s",
	    config_size_text((uint64_t)number_of(one, now_key), a, sizeof a),
	    config_size_text((uint64_t)high, b, sizeof b));
	if (limit > 0)
		fprintf(t->f, " of %s", config_size_text((uint64_t)limit, c, sizeof c));
	fputs("\n", t->f);
}

static void
print_job(const struct term *t, const struct scale *s, json_t *job)
{
	int64_t from = number_of(job, "started_ns"), to = number_of(job, "ended_ns");
	const char *workflow = json_string_value(json_object_get(job, "workflow"));
	const char *state = json_string_value(json_object_get(job, "state"));
	unsigned first, last;
	char size[32];

	if (from == 0 || (to != 0 && to < s->from_ns))
		return;
	first = bar_of(s, from);
	last = to == 0 ? s->bars - 1 : bar_of(s, to);
	print_label(t, workflow != NULL ? workflow : "");
	for (unsigned b = 0; b < s->bars; b++)
		fputs(b >= first && b <= last ? "\u2501" : " ", t->f);
	fprintf(t->f, "  job %" PRId64 " %s, peak %s\n", number_of(job, "id"),
	    state != NULL ? state : "",
	    config_size_text((uint64_t)number_of(job, "peak_rss_bytes"), size, sizeof size));
}

static void
print_jobs(struct cli *c, const struct term *t, const struct scale *s)
{
	char target[64], *body = NULL;

	snprintf(target, sizeof target, "/jobs?limit=%d", JOBS_MAX);
	if (view_get(c, target, &body) != CLI_OK)
		return;
	for (char *line = body, *next; line != NULL && *line != '\0'; line = next) {
		json_t *job;

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		job = json_loads(line, 0, NULL);
		if (job != NULL)
			print_job(t, s, job);
		json_decref(job);
	}
	free(body);
}

static void
print_all(struct cli *c, const struct term *t, json_t *all)
{
	struct scale s = { number_of(all, "since_ns"), number_of(all, "now_ns"), BARS };
	int64_t known = number_of(all, "known_since_ns");
	size_t i;
	json_t *one;
	char label[64], duration[32];

	if (known > s.from_ns)
		s.from_ns = known;
	term_duration(t, (double)(s.to_ns - s.from_ns), duration, sizeof duration);
	print_label(t, "");
	fprintf(t->f, "%sthe last %s, %u parts%s\n", term_style(t, "dim"), duration, s.bars,
	    term_style(t, "off"));
	json_array_foreach(json_object_get(all, "processes"), i, one)
	{
		snprintf(label, sizeof label, "ComfyUI %" PRId64, number_of(one, "pid"));
		print_series(t, &s, label, one, "rss_bytes", "limit_bytes");
	}
	json_array_foreach(json_object_get(all, "gpus"), i, one)
	{
		const char *name = json_string_value(json_object_get(one, "name"));

		print_series(
		    t, &s, name != NULL ? name : "device", one, "used_bytes", "total_bytes");
	}
	if (json_array_size(json_object_get(all, "processes")) == 0)
		fputs("no ComfyUI has been seen in this time\n", t->f);
	print_jobs(c, t, &s);
}

int
verb_memory(struct cli *c)
{
	struct term t = term_of(c, stdout);
	uint64_t since = SINCE_NS, now = clock_real_ns();
	char target[96], *body = NULL;
	size_t n = 0;
	int rv = CLI_OK, status = 0;
	json_t *all;
	enum err e;

	if (c->since != NULL && !duration_arg("--since", c->since, &since))
		return CLI_USAGE;
	snprintf(target, sizeof target, "/memory?points=%u&since_ns=%" PRIu64, 4 * BARS,
	    since < now ? now - since : 0);
	e = client_get(c, "GET", target, &status, &body, &n);
	if (e == E_NOTFOUND) {
		fputs("comfymon: no agent runs, and only a running one knows of memory\n", stderr);
		return CLI_NO_AGENT;
	}
	if (e != E_OK || status != 200) {
		fprintf(stderr, "comfymon: the agent at %s: %s\n",
		    config_string(c->config, OPT_RUN_DIR), e != E_OK ? err_text(e) : "it refused");
		free(body);
		return CLI_FAILED;
	}
	all = cli_parse(body);
	if (all == NULL)
		rv = CLI_FAILED;
	else if (c->json)
		puts(body);
	else
		print_all(c, &t, all);
	json_decref(all);
	free(body);
	return rv;
}
