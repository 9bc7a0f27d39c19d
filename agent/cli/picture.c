/*
 * picture.c - the page: its columns, each ComfyUI and each device, and what
 * happened meanwhile.
 */
#include "agent/cli/picture.h"
#include "agent/cli/members.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/base/clock.h"
#include "agent/config/config.h"

#define PROCESSES  4 /* the newest; more would not fit a screen */
#define EVENTS     6
#define WIDTH_LESS 40
#define WIDTH_MOST PICTURE_BARS

/* ---- columns -------------------------------------------------------------------- */

static struct picture
layout(const struct term *t, json_t *all)
{
	int width = t->width > 0 ? t->width : PICTURE_PIPED;
	struct picture p = { .t = t, .all = all };

	width = width < WIDTH_LESS ? WIDTH_LESS : width > WIDTH_MOST ? WIDTH_MOST : width;
	p.label = width >= 100 ? 32 : width >= 70 ? 26 : 13;
	p.narrow = width < 70;
	p.figure = width >= 100 ? 26 : p.narrow ? 9 : 18;
	p.bars = width - p.label - p.figure - 2;
	return p;
}

int
picture_bars(const struct term *t)
{
	return layout(t, NULL).bars;
}

bool
picture_knows(json_t *o, const char *key)
{
	return json_is_integer(json_object_get(o, key));
}

const char *
picture_size(int64_t bytes, char *buf)
{
	return config_size_text(bytes > 0 ? (uint64_t)bytes : 0, buf, 32);
}

int
picture_bar(const struct picture *p, int64_t t_ns)
{
	int64_t span = p->to_ns - p->from_ns;

	if (t_ns <= p->from_ns || span <= 0)
		return 0;
	if (t_ns >= p->to_ns)
		return p->bars - 1;
	return (int)((double)(t_ns - p->from_ns) / (double)span * p->bars);
}

void
picture_label(const struct picture *p, const char *style, const char *text)
{
	fputs(term_style(p->t, style), p->t->f);
	term_pad(p->t, p->label + 1 - term_put(p->t, text, p->label));
	fputs(term_style(p->t, "off"), p->t->f);
}

void
picture_figure(const struct picture *p, const char *text)
{
	if (text[0] != '\0') {
		fputc(' ', p->t->f);
		term_put(p->t, text, p->figure);
	}
	fputc('\n', p->t->f);
}

void
picture_line(const struct picture *p, const char *style, int indent, const char *text)
{
	term_pad(p->t, indent);
	fputs(term_style(p->t, style), p->t->f);
	term_put(p->t, text, p->label + p->bars + p->figure + 2 - indent);
	fputs(term_style(p->t, "off"), p->t->f);
	fputc('\n', p->t->f);
}

static void
clock_text(int64_t t_ns, char out[16])
{
	time_t seconds = (time_t)(t_ns / (int64_t)NS_PER_S);
	struct tm tm;

	out[0] = '\0';
	if (localtime_r(&seconds, &tm) != NULL)
		strftime(out, 16, "%H:%M:%S", &tm);
}

/* ---- one ComfyUI ------------------------------------------------------------------ */

/* The axis with a mark where it began and where it ended. */
static void
print_axis(const struct picture *p, json_t *process)
{
	int64_t began = number_of(process, "started_ns");
	int64_t ended = number_of(process, "ended_ns");
	bool alive = json_is_true(json_object_get(process, "alive"));
	char from[16], to[16];

	picture_label(p, "off", "");
	for (int b = 0; b < p->bars; b++) {
		const char *mark = term_glyph(p->t, "─", "-");

		if (!alive && ended >= p->from_ns && picture_bar(p, ended) == b)
			mark = term_glyph(p->t, "✗", "x");
		else if (began >= p->from_ns && picture_bar(p, began) == b)
			mark = term_glyph(p->t, "▲", "^");
		fputs(mark, p->t->f);
	}
	fputc('\n', p->t->f);
	clock_text(p->from_ns, from);
	clock_text(p->to_ns, to);
	picture_label(p, "off", "");
	if (p->bars >= 20)
		fprintf(p->t->f, "%s%s%*s%s\n", term_style(p->t, "dim"), from,
		    p->bars - (int)strlen(from), to, term_style(p->t, "off"));
	else
		fprintf(p->t->f, "%s%*s%s\n", term_style(p->t, "dim"), p->bars, to,
		    term_style(p->t, "off"));
}

static void
print_head(const struct picture *p, json_t *process, int64_t high, int64_t limit, bool group)
{
	char text[256], now[32], peak[32], most[32], when[16];
	size_t n;

	if (json_is_true(json_object_get(process, "alive"))) {
		n = (size_t)snprintf(text, sizeof text, "ComfyUI %" PRId64 ": now %s, peak %s",
		    number_of(process, "pid"), picture_size(number_of(process, "rss_bytes"), now),
		    picture_size(high, peak));
	} else {
		clock_text(number_of(process, "ended_ns"), when);
		n = (size_t)snprintf(text, sizeof text, "ComfyUI %" PRId64 ": ended %s, peak %s",
		    number_of(process, "pid"), when, picture_size(high, peak));
	}
	if (limit > 0)
		n += (size_t)snprintf(text + n, sizeof text - n, ", %s %s",
		    group ? "limit" : "host", picture_size(limit, most));
	if (picture_knows(process, "pss_bytes"))
		snprintf(text + n, sizeof text - n, ", PSS %s",
		    picture_size(number_of(process, "pss_bytes"), now));
	picture_line(p, "bold", 0, text);
}

/* The highest of the curve, or of a job that its samples missed. */
static int64_t
peak_of(const struct curve *c, json_t *process)
{
	int64_t high = c->high;
	json_t *job;
	size_t i;

	json_array_foreach(json_object_get(process, "jobs"), i,
	    job) if (number_of(job, "peak_bytes") > high) high = number_of(job, "peak_bytes");
	return high;
}

static void
print_process(const struct picture *p, json_t *process)
{
	bool alive = json_is_true(json_object_get(process, "alive"));
	struct curve c = curve_of(p, json_object_get(process, "points"), 2,
	    alive ? p->to_ns : number_of(process, "ended_ns"));
	int64_t limit = number_of(process, "limit_bytes");
	int64_t host = number_of(p->all, "host_total_bytes");
	bool group = limit > 0 && (host == 0 || limit <= host);

	limit = group ? limit : host;
	print_head(p, process, peak_of(&c, process), limit, group);
	if (c.high > 0) {
		curve_chart(p, &c, limit);
		print_axis(p, process);
	}
	picture_jobs(p, process);
}

static int
by_start(const void *a, const void *b)
{
	json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int64_t i = number_of(x, "started_ns"), k = number_of(y, "started_ns");

	return i < k ? -1 : i > k;
}

/* Those that there is something to see of. */
static void
print_processes(const struct picture *p)
{
	json_t *list = json_object_get(p->all, "processes"), *one;
	json_t *seen[64] = { NULL };
	size_t i, n = 0;
	char text[64];

	json_array_foreach(list, i, one)
	{
		bool any = json_array_size(json_object_get(one, "points")) > 0 ||
			   json_array_size(json_object_get(one, "jobs")) > 0 ||
			   json_is_true(json_object_get(one, "alive"));

		if (any && n < sizeof seen / sizeof seen[0])
			seen[n++] = one;
	}
	if (n == 0)
		picture_line(p, "off", 0, "no ComfyUI has been seen in this time");
	qsort(seen, n, sizeof seen[0], by_start);
	if (n > PROCESSES) {
		snprintf(text, sizeof text, "%zu earlier ComfyUIs are in --json", n - PROCESSES);
		picture_line(p, "dim", 0, text);
	}
	for (i = n > PROCESSES ? n - PROCESSES : 0; i < n; i++) {
		if (i > 0)
			fputc('\n', p->t->f);
		print_process(p, seen[i]);
	}
}

/* ---- devices ------------------------------------------------------------------------ */

static void
print_device(const struct picture *p, json_t *gpu)
{
	json_t *points = json_object_get(gpu, "points");
	struct curve used = curve_of(p, points, 2, p->to_ns);
	struct curve ours = curve_of(p, points, 6, p->to_ns);
	int64_t total = number_of(gpu, "total_bytes");
	int64_t full = total > 0 ? total : used.high;
	char text[128], a[32], b[32];

	snprintf(
	    text, sizeof text, "GPU %" PRId64 " %s", number_of(gpu, "index"), text_of(gpu, "name"));
	picture_label(p, "bold", text);
	curve_line(p, &used, full);
	if (json_is_true(json_object_get(gpu, "answers")) && p->narrow)
		picture_size(number_of(gpu, "used_bytes"), text);
	else if (json_is_true(json_object_get(gpu, "answers")))
		snprintf(text, sizeof text, "%s of %s",
		    picture_size(number_of(gpu, "used_bytes"), a), picture_size(total, b));
	else
		snprintf(text, sizeof text, p->narrow ? "silent" : "does not answer");
	picture_figure(p, text);
	if (ours.high == 0)
		return;
	picture_label(p, "off", "  of it ComfyUI's");
	curve_line(p, &ours, full);
	picture_figure(p, picture_size(ours.last, a));
}

static void
print_devices(const struct picture *p)
{
	const char *problem = text_of(p->all, "gpu_problem");
	json_t *gpu;
	size_t i;

	if (json_array_size(json_object_get(p->all, "gpus")) > 0)
		fputc('\n', p->t->f);
	json_array_foreach(json_object_get(p->all, "gpus"), i, gpu) print_device(p, gpu);
	/* Most hosts without a device have no library either: nothing to tell. */
	if (problem[0] != '\0' && json_array_size(json_object_get(p->all, "gpus")) > 0)
		picture_line(p, "yellow", 0, problem);
}

/* ---- what happened -------------------------------------------------------------------- */

static void
print_deaths(const struct picture *p)
{
	json_t *deaths = json_object_get(p->all, "deaths"), *d;
	size_t i, n = json_array_size(deaths);
	char text[256], when[16];

	if (n > 0)
		fputc('\n', p->t->f);
	json_array_foreach(deaths, i, d)
	{
		if (i + EVENTS < n)
			continue;
		clock_text(number_of(d, "time_ns"), when);
		snprintf(text, sizeof text, "%s %s ComfyUI %" PRId64 " ended: %s (%s)%s  %s",
		    term_glyph(p->t, "✗", "x"), when, number_of(d, "pid"), text_of(d, "verdict"),
		    text_of(d, "certainty"),
		    json_is_true(json_object_get(d, "restarted")) ? ", started again" : "",
		    text_of(d, "id"));
		picture_line(p, "red", 0, text);
	}
}

/* Of what did not live to its end the last look may be long before it; the kernel, or the
 * supervisor, saw more. */
static void
raise_unfinished(json_t *list, json_int_t peak)
{
	json_t *ran;
	size_t i;

	json_array_foreach(list, i, ran)
	{
		if (!json_is_true(json_object_get(ran, "unfinished")))
			continue;
		if (json_integer_value(json_object_get(ran, "peak_bytes")) < peak)
			json_object_set_new(ran, "peak_bytes", json_integer(peak));
		raise_unfinished(json_object_get(ran, "nodes"), peak);
	}
}

void
picture_raise_peaks(json_t *all)
{
	json_t *death, *process;
	size_t i, k;

	json_array_foreach(json_object_get(all, "deaths"), i, death)
	{
		json_int_t at = json_integer_value(json_object_get(death, "time_ns"));

		json_array_foreach(json_object_get(all, "processes"), k, process)
		{
			json_int_t born =
			    json_integer_value(json_object_get(process, "started_ns"));

			if (json_integer_value(json_object_get(process, "pid")) ==
				json_integer_value(json_object_get(death, "pid")) &&
			    at >= born && !json_is_true(json_object_get(process, "alive")))
				raise_unfinished(json_object_get(process, "jobs"),
				    json_integer_value(json_object_get(death, "peak_rss_bytes")));
		}
	}
}

void
picture_draw(const struct term *t, json_t *all)
{
	struct picture p = layout(t, all);
	int64_t known = number_of(all, "known_since_ns");
	char text[128], whole[32], part[32];

	p.from_ns = number_of(all, "since_ns");
	p.to_ns = number_of(all, "now_ns");
	if (known > p.from_ns)
		p.from_ns = known;
	if (p.to_ns <= p.from_ns) /* the clock was set back meanwhile */
		p.to_ns = p.from_ns + 1;
	snprintf(text, sizeof text, "memory of the last %s, %s a column",
	    term_duration(t, (double)(p.to_ns - p.from_ns), whole, sizeof whole),
	    term_duration(t, (double)(p.to_ns - p.from_ns) / p.bars, part, sizeof part));
	picture_line(&p, "dim", 0, text);
	print_processes(&p);
	print_devices(&p);
	print_deaths(&p);
}
