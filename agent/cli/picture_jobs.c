/*
 * picture_jobs.c - below a curve: what it is made of.  Names came from outside
 * and reach the terminal through term_put.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/members.h"
#include "agent/cli/picture.h"

#define JOBS  10
#define LINES 30 /* of nodes, of all jobs together */
#define LEAST 3  /* of each job */

/* ---- what nobody accounts for --------------------------------------------------- */

/* Told at the end of each job, it holds until the next, or the end of the process. */
static struct curve
unaccounted(const struct picture *p, json_t *jobs, int64_t until_ns, bool *known)
{
	struct curve c = { .high = 0 };
	int at = 0;
	json_t *job;
	size_t i;

	for (int b = 0; b < p->bars; b++)
		c.v[b] = -1;
	json_array_foreach(jobs, i, job)
	{
		int64_t v = number_of(job, "unaccounted_bytes");
		int b = picture_bar(p, number_of(job, "to_ns"));

		if (!picture_knows(job, "unaccounted_bytes"))
			continue;
		for (; *known && at < b; at++)
			if (c.v[at] < 0)
				c.v[at] = c.last;
		c.v[b] = v > c.v[b] ? v : c.v[b];
		c.high = v > c.high ? v : c.high;
		c.last = v;
		at = b;
		*known = true;
	}
	for (; *known && at <= picture_bar(p, until_ns); at++)
		if (c.v[at] < 0)
			c.v[at] = c.last;
	return c;
}

static void
print_trend(const struct picture *p, json_t *trend)
{
	const char *state = text_of(trend, "state");
	double slope = json_number_value(json_object_get(trend, "bytes_per_job"));
	char text[200], a[32], b[32];

	if (strcmp(state, "unknown") == 0)
		snprintf(text, sizeof text, "too few jobs for a trend (%" PRId64 " so far)",
		    number_of(trend, "jobs"));
	else if (strcmp(state, "steady") == 0)
		snprintf(text, sizeof text,
		    "steady over the last %" PRId64 " jobs, %s after the first",
		    number_of(trend, "jobs"), picture_size(number_of(trend, "first_bytes"), a));
	else
		snprintf(text, sizeof text,
		    "%s by %s a job over the last %" PRId64 ", %s after the first", state,
		    picture_size((int64_t)fabs(slope), b), number_of(trend, "jobs"),
		    picture_size(number_of(trend, "first_bytes"), a));
	picture_line(p, strcmp(state, "grows") == 0 ? "red" : "dim", 2, text);
}

/* "3 GiB of models (2 GiB on devices)" */
static size_t
held_part(char *out, size_t cap, json_t *job, const char *what, const char *all, const char *gpu)
{
	int64_t on_gpu = number_of(job, gpu);
	char a[32], b[32];
	int n;

	n = on_gpu == 0 ? snprintf(out, cap, "%s %s", what, picture_size(number_of(job, all), a))
			: snprintf(out, cap, "%s %s, %s of it on devices", what,
			      picture_size(number_of(job, all), a), picture_size(on_gpu, b));
	return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

static void
print_held(const struct picture *p, json_t *job)
{
	char text[400];
	size_t n;

	n = (size_t)snprintf(text, sizeof text, "held: ");
	n += held_part(text + n, sizeof text - n, job, "results of nodes", "outputs_bytes",
	    "outputs_gpu_bytes");
	n += (size_t)snprintf(text + n, sizeof text - n, "; ");
	n +=
	    held_part(text + n, sizeof text - n, job, "models", "models_bytes", "models_gpu_bytes");
	if (json_is_true(json_object_get(job, "partial")))
		snprintf(text + n, sizeof text - n, " (not all was looked at)");
	picture_line(p, "off", 2, text);
	if (text_of(job, "top")[0] == '\0')
		return;
	snprintf(text, sizeof text, "most by: %s", text_of(job, "top"));
	picture_line(p, "off", 2, text);
}

static void
print_accounts(const struct picture *p, json_t *process)
{
	json_t *jobs = json_object_get(process, "jobs"), *last = NULL, *job;
	bool known = false;
	int64_t ended = number_of(process, "ended_ns");
	struct curve c = unaccounted(p, jobs, ended != 0 ? ended : p->to_ns, &known);
	char size[32];
	size_t i;

	json_array_foreach(jobs, i, job) if (picture_knows(job, "unaccounted_bytes")) last = job;
	if (!known)
		return;
	picture_label(p, "off", "  RSS minus accounted");
	curve_line(p, &c, c.high);
	picture_figure(p, picture_size(c.last, size));
	print_trend(p, json_object_get(process, "trend"));
	print_held(p, last);
}

/* ---- jobs and nodes ------------------------------------------------------------------ */

static void
print_bar(const struct picture *p, json_t *ran, const char *style)
{
	int64_t to = number_of(ran, "to_ns");
	bool runs = !picture_knows(ran, "to_ns");
	int first = picture_bar(p, number_of(ran, "from_ns"));
	int last = runs ? p->bars - 1 : picture_bar(p, to);

	term_pad(p->t, first);
	fputs(term_style(p->t, style), p->t->f);
	for (int b = first; b <= last; b++)
		fputs(runs && b == last ? term_glyph(p->t, "▶", ">") : term_glyph(p->t, "━", "="),
		    p->t->f);
	fputs(term_style(p->t, "off"), p->t->f);
	term_pad(p->t, p->bars - 1 - last);
}

/* How it ended, when that was not well. */
static const char *
outcome(json_t *ran)
{
	const char *status = text_of(ran, "status");

	if (!picture_knows(ran, "to_ns"))
		return "runs";
	if (json_is_true(json_object_get(ran, "unfinished")))
		return "died";
	return strcmp(status, "success") == 0 ? "" : status;
}

static void
print_ran(const struct picture *p, json_t *ran, const char *label, const char *plain)
{
	const char *end = outcome(ran);
	bool bad = strcmp(end, "error") == 0 || strcmp(end, "died") == 0;
	bool runs = strcmp(end, "runs") == 0;
	char text[128], a[32], b[48] = "", gpu[32];

	picture_label(p, "off", label);
	print_bar(p, ran, bad ? "red" : plain);
	if (p->narrow && end[0] != '\0')
		end = runs ? term_glyph(p->t, "▶", ">") : term_glyph(p->t, "✗", "x");
	if (picture_knows(ran, "gpu_peak_bytes") && p->figure > 20)
		snprintf(b, sizeof b, ", cuda:%" PRId64 " %s", number_of(ran, "gpu"),
		    picture_size(number_of(ran, "gpu_peak_bytes"), gpu));
	snprintf(text, sizeof text, "%s%s%s%s",
	    picture_knows(ran, "peak_bytes") ? picture_size(number_of(ran, "peak_bytes"), a) : "-",
	    b, end[0] != '\0' ? " " : "", end);
	picture_figure(p, text);
}

static int
by_peak(const void *a, const void *b)
{
	int64_t x = number_of(*(json_t *const *)a, "peak_bytes");
	int64_t y = number_of(*(json_t *const *)b, "peak_bytes");

	return x < y ? 1 : x > y ? -1 : 0;
}

static int
by_time(const void *a, const void *b)
{
	int64_t x = number_of(*(json_t *const *)a, "from_ns");
	int64_t y = number_of(*(json_t *const *)b, "from_ns");

	return x < y ? -1 : x > y;
}

/* In the order of time; where there is no room, those with the highest peaks. */
static void
print_nodes(const struct picture *p, json_t *nodes, size_t room)
{
	size_t n = json_array_size(nodes), shown = n < room ? n : room;
	json_t **order = calloc(n + 1, sizeof order[0]);
	char text[160];

	if (order == NULL)
		return;
	for (size_t i = 0; i < n; i++)
		order[i] = json_array_get(nodes, i);
	qsort(order, n, sizeof order[0], by_peak);
	qsort(order, shown, sizeof order[0], by_time);
	for (size_t i = 0; i < shown; i++) {
		snprintf(text, sizeof text, "    %s %s", text_of(order[i], "id"),
		    text_of(order[i], "class"));
		print_ran(p, order[i], text, "off");
	}
	if (shown < n) {
		snprintf(text, sizeof text, "and %zu more, none with a higher peak", n - shown);
		picture_line(p, "dim", 4, text);
	}
	free(order);
}

void
picture_jobs(const struct picture *p, json_t *process)
{
	json_t *jobs = json_object_get(process, "jobs"), *job;
	size_t n = json_array_size(jobs), first = n > JOBS ? n - JOBS : 0, i;
	size_t room = n > first ? LINES / (n - first) : LINES;
	char text[160];

	print_accounts(p, process);
	if (first > 0) {
		snprintf(text, sizeof text, "%zu earlier jobs are in --json", first);
		picture_line(p, "dim", 2, text);
	}
	json_array_foreach(jobs, i, job)
	{
		if (i < first)
			continue;
		snprintf(text, sizeof text, "  %.8s %s", text_of(job, "prompt_id"),
		    text_of(job, "workflow"));
		print_ran(p, job, text, "cyan");
		print_nodes(p, json_object_get(job, "nodes"), room > LEAST ? room : LEAST);
	}
}
