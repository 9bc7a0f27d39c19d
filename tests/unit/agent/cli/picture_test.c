/*
 * picture_test.c - the page of `comfymon memory`, to the letter: at three widths,
 * in ASCII, and what there may be too little or too much of.  The pages are in
 * picture_golden.h.
 */
#include "agent/cli/picture.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/t.h"
#include "tests/unit/agent/cli/picture_golden.h"

#define S     1000000000ll
#define SINCE (1700000000 * S) /* 22:13:20 */
#define NOW   (SINCE + 3600 * S)
#define MIB   (1ll << 20)
#define GIB   (1ll << 30)

static char *
drawn(json_t *all, int width, bool utf8, bool color)
{
	struct term t = { .color = color, .utf8 = utf8, .width = width };
	char *text = NULL;
	size_t n = 0;

	t.f = open_memstream(&text, &n);
	if (t.f == NULL)
		exit(2);
	picture_draw(&t, all);
	fclose(t.f);
	json_decref(all);
	return text;
}

static json_t *
page(json_t *processes, json_t *gpus, json_t *deaths)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:s,s:o,s:o,s:o}", "now_ns", (json_int_t)NOW, "since_ns",
	    (json_int_t)SINCE, "known_since_ns", (json_int_t)(SINCE - 86400 * S),
	    "host_total_bytes", (json_int_t)(64 * GIB), "gpu_problem", "", "processes", processes,
	    "gpus", gpus, "deaths", deaths);
}

/* A point each minute from one minute to another; values of columns 1, 2 and 6 by line. */
static json_t *
points(int from_min, int to_min, int64_t first, int64_t step, int64_t ours)
{
	json_t *list = json_array();

	for (int m = from_min; m <= to_min; m++) {
		int64_t v = first + (m - from_min) * step;

		json_array_append_new(
		    list, json_pack("[I,I,I,i,i,i,I]", (json_int_t)(SINCE + m * 60 * S),
			      (json_int_t)v, (json_int_t)v, 0, 0, 0, (json_int_t)ours));
	}
	return list;
}

static json_t *
ran(const char *id, const char *name, double from_min, double to_min, int64_t peak)
{
	json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:I,s:s,s:b,s:I,s:n,s:i,s:i,s:i}", "prompt_id", id,
	    "id", id, "workflow", name, "class", name, "from_ns",
	    (json_int_t)(SINCE + (int64_t)(from_min * 60e9)), "status", "success", "unfinished", 0,
	    "peak_bytes", (json_int_t)peak, "gpu_peak_bytes", "gpu", 0, "outputs_bytes", 0,
	    "outputs_gpu_bytes", 0);

	json_object_set_new(
	    o, "to_ns", to_min < 0 ? json_null() : json_integer(SINCE + (int64_t)(to_min * 60e9)));
	return o;
}

static json_t *
job(const char *id, const char *name, double from_min, double to_min, int64_t peak,
    int64_t unaccounted, json_t *nodes)
{
	json_t *o = ran(id, name, from_min, to_min, peak);

	json_object_set_new(
	    o, "unaccounted_bytes", unaccounted < 0 ? json_null() : json_integer(unaccounted));
	json_object_set_new(o, "models_bytes", json_integer(3 * GIB));
	json_object_set_new(o, "models_gpu_bytes", json_integer(2 * GIB));
	json_object_set_new(o, "partial", json_false());
	json_object_set_new(o, "top", json_string(""));
	json_object_set_new(o, "nodes", nodes);
	return o;
}

static json_t *
process(int pid, int began_min, int ended_min, int64_t limit, json_t *its_points, json_t *jobs,
    json_t *trend)
{
	return json_pack("{s:i,s:I,s:I,s:b,s:I,s:I,s:o,s:o,s:o}", "pid", pid, "started_ns",
	    (json_int_t)(SINCE + began_min * 60 * S), "ended_ns",
	    (json_int_t)(ended_min < 0 ? 0 : SINCE + ended_min * 60 * S), "alive", ended_min < 0,
	    "rss_bytes", (json_int_t)(ended_min < 0 ? 5 * GIB : 0), "limit_bytes",
	    (json_int_t)limit, "points", its_points, "jobs", jobs, "trend", trend);
}

static json_t *
no_trend(int jobs)
{
	return json_pack("{s:s,s:i,s:n,s:n,s:n}", "state", "unknown", "jobs", jobs, "bytes_per_job",
	    "first_bytes", "last_bytes");
}

static json_t *
device(int index, const char *name, bool answers, int64_t used, int64_t ours)
{
	return json_pack("{s:i,s:s,s:b,s:I,s:I,s:o}", "index", index, "name", name, "answers",
	    answers, "used_bytes", (json_int_t)used, "total_bytes", (json_int_t)(80 * GIB),
	    "points", used > 0 ? points(0, 60, used / 2, used / 120, ours) : json_array());
}

/* One died at its limit and began anew, leaks, and has a job at work; two devices. */
static json_t *
scene(void)
{
	json_t *first = process(4711, -100, 20, 12 * GIB, points(0, 20, 2 * GIB, GIB / 2, 0),
	    json_pack("[o]", job("aaaaaaaa-1", "SaveImage 3fa91c02", 5, 20, 12 * GIB, -1,
				 json_pack("[o]", ran("7", "KSampler", 6, 20, 12 * GIB)))),
	    no_trend(0));
	json_t *leak = json_pack("{s:s,s:i,s:f,s:I,s:I}", "state", "grows", "jobs", 12,
	    "bytes_per_job", 12.0 * 1024 * 1024, "first_bytes", (json_int_t)(300 * MIB),
	    "last_bytes", (json_int_t)(500 * MIB));
	json_t *sampler = ran("12", "KSamplerAdvanced", 33, 38, 5 * GIB);
	json_t *done = job("bbbbbbbb-2", "SaveImage 3fa91c02", 30, 40, 5 * GIB, 400 * MIB,
	    json_pack("[o,o,o]", ran("3", "CheckpointLoaderSimple", 30, 32, 3 * GIB), sampler,
		ran("2.0.0.1", "VAEDecode", 39, 40, 4 * GIB)));
	json_t *failed =
	    job("cccccccc-3", "SaveImage 3fa91c02", 45, 46, 4 * GIB, 500 * MIB, json_array());
	json_t *runs = job("dddddddd-4", "PreviewImage 00112233", 55, -1, 5 * GIB, -1,
	    json_pack("[o]", ran("5", "LoraLoader", 55, -1, 5 * GIB)));

	json_object_set_new(
	    json_array_get(json_object_get(first, "jobs"), 0), "unfinished", json_true());
	json_object_set_new(sampler, "gpu_peak_bytes", json_integer(20 * GIB));
	json_object_set_new(failed, "status", json_string("error"));
	json_object_set_new(failed, "outputs_bytes", json_integer(40 * MIB));
	json_object_set_new(failed, "top", json_string("12 KSamplerAdvanced 30M; 3 Loader 10M"));
	return page(json_pack("[o,o]",
			process(4720, 21, -1, 12 * GIB, points(21, 60, GIB, GIB / 10, 0),
			    json_pack("[o,o,o]", done, failed, runs), leak),
			first),
	    json_pack("[o,o]", device(0, "NVIDIA H100", true, 40 * GIB, 10 * GIB),
		device(1, "NVIDIA H100", false, 0, 0)),
	    json_pack("[{s:s,s:I,s:i,s:s,s:s,s:b}]", "id", "20231114-223320-4711", "time_ns",
		(json_int_t)(SINCE + 1200 * S), "pid", 4711, "verdict", "oom_cgroup", "certainty",
		"certain", "restarted", 1));
}

/* The text as it must be; else both, to be compared. */
static void
same(char *text, const char *golden, const char *name)
{
	if (strcmp(text, golden) != 0)
		fprintf(stderr, "---- %s is\n%s---- and not\n%s----\n", name, text, golden);
	CHECK(strcmp(text, golden) == 0);
	free(text);
}

TEST(a_page_at_each_width)
{
	same(drawn(scene(), 120, true, false), page_120, "120 columns");
	same(drawn(scene(), 80, true, false), page_80, "80 columns");
	same(drawn(scene(), 40, true, false), page_40, "40 columns");
	same(drawn(scene(), 80, false, false), page_ascii, "ASCII");
}

/* No line is wider than the terminal, whatever its width; color changes no column. */
static int
widest(const char *text)
{
	struct term t = { .utf8 = true };
	char line[2000];
	int most = 0;

	for (const char *p = text, *end; (end = strchr(p, '\n')) != NULL; p = end + 1) {
		snprintf(line, sizeof line, "%.*s", (int)(end - p), p);
		most = term_columns(&t, line) > most ? term_columns(&t, line) : most;
	}
	return most;
}

TEST(no_line_is_wider_than_the_terminal)
{
	for (int width = 40; width <= 240; width++) {
		char *text = drawn(scene(), width, true, false);

		CHECK(widest(text) <= (width < 200 ? width : 200));
		CHECK(widest(text) >= 39);
		free(text);
	}
}

static char *
without_color(char *text)
{
	char *to = text;

	for (const char *p = text; *p != '\0'; p++)
		if (*p == '\033')
			p = strchr(p, 'm');
		else
			*to++ = *p;
	*to = '\0';
	return text;
}

TEST(color_changes_no_character)
{
	char *text = drawn(scene(), 80, true, true);

	CHECK(strstr(text, "\033[31m") != NULL);
	same(without_color(text), page_80, "colored");
}

TEST(with_nothing_to_show_it_says_so)
{
	char *text = drawn(page(json_array(), json_array(), json_array()), 80, true, false);

	CHECK_STR(text, "memory of the last 60m00s, 106 s a column\n"
			"no ComfyUI has been seen in this time\n");
	free(text);
}

TEST(one_sample_and_a_clock_that_was_set_back_are_a_page)
{
	json_t *all = page(json_pack("[o]", process(1, 60, -1, 0, points(60, 60, GIB, 0, 0),
						json_array(), no_trend(0))),
	    json_array(), json_array());
	char *text;

	json_object_set_new(all, "known_since_ns", json_integer(NOW + 5 * S));
	text = drawn(all, 80, true, false);
	CHECK(strstr(text, "ComfyUI 1: now 5 GiB, peak 1 GiB, host 64 GiB\n") != NULL);
	CHECK(strstr(text, "█") != NULL);
	free(text);
}

TEST(what_was_not_looked_at_is_a_gap)
{
	json_t *list = points(0, 10, GIB, 0, 0), *later = points(50, 60, GIB, 0, 0);
	char *text, *line, *gap;

	json_array_extend(list, later);
	json_decref(later);
	text = drawn(page(json_pack("[o]", process(1, -9, -1, 0, list, json_array(), no_trend(0))),
			 json_array(), json_array()),
	    80, true, false);
	line = strstr(text, "1 GiB ");
	gap = line != NULL ? strstr(line, "█              ") : NULL; /* about half of the hour */
	CHECK(gap != NULL && gap < strchr(line, '\n'));
	free(text);
}

TEST(a_far_limit_is_told_and_not_drawn)
{
	char *text =
	    drawn(page(json_pack("[o]", process(1, -9, -1, 48 * GIB, points(0, 60, GIB, 0, 0),
					    json_array(), no_trend(0))),
		      json_array(), json_array()),
		80, true, false);

	CHECK(strstr(text, "limit 48 GiB\n") != NULL);
	CHECK(strstr(text, "┄") == NULL);
	free(text);
}

TEST(where_there_is_no_room_the_nodes_with_the_highest_peaks_are_shown_in_time)
{
	json_t *nodes = json_array(), *jobs = json_array();
	char id[16], *text;

	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof id, "n%d", i);
		json_array_append_new(nodes,
		    ran(id, "Node", 1 + i / 10.0, 2 + i / 10.0, (i % 10 == 3 ? 9 : 1) * GIB + i));
	}
	json_array_append_new(jobs, job("eeeeeeee", "W", 1, 12, 9 * GIB, -1, nodes));
	for (int i = 0; i < 11; i++)
		json_array_append_new(
		    jobs, job("ffffffff", "W", 20 + i, 21 + i, GIB, -1, json_array()));
	json_array_append_new(jobs, json_deep_copy(json_array_get(jobs, 0)));
	text = drawn(page(json_pack("[o]",
			      process(1, -9, -1, 0, points(0, 60, GIB, 0, 0), jobs, no_trend(0))),
			 json_array(), json_array()),
	    80, true, false);
	CHECK(strstr(text, "  3 earlier jobs are in --json\n") != NULL);
	CHECK(strstr(text, "n73 Node") != NULL);
	CHECK(strstr(text, "n83 Node") != NULL &&
	      strstr(text, "n83 Node") < strstr(text, "n93 Node"));
	CHECK(strstr(text, "n63 Node") == NULL); /* three of each job */
	CHECK(strstr(text, "    and 97 more, none with a higher peak\n") != NULL);
	free(text);
}

TEST(eight_devices_have_a_line_each)
{
	json_t *gpus = json_array();
	char *text, name[32];
	int lines = 0;

	for (int i = 0; i < 8; i++)
		json_array_append_new(gpus, device(i, "NVIDIA H100", true, (i + 1) * GIB, 0));
	text = drawn(page(json_array(), gpus, json_array()), 120, true, false);
	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof name, "\nGPU %d NVIDIA H100", i);
		lines += strstr(text, name) != NULL;
	}
	CHECK_EQ(lines, 8);
	CHECK(strstr(text, "8 GiB of 80 GiB\n") != NULL);
	free(text);
}

TEST(names_do_not_steer_the_terminal)
{
	json_t *evil = job("\033[2Jaaaa", "\033]0;x\a\u202e", 1, 2, GIB, GIB,
	    json_pack("[o]", ran("\033[31m", "a\nb\tc", 1, 2, GIB)));
	char *text;

	json_object_set_new(evil, "top", json_string("\033[2J"));
	json_object_set_new(evil, "status", json_string("\033[2J"));
	text = drawn(page(json_pack("[o]", process(1, -9, -1, 0, points(0, 60, GIB, 0, 0),
					       json_pack("[o]", evil), no_trend(1))),
			 json_pack("[o]", device(0, "\033[2J", true, GIB, 0)), json_array()),
	    80, true, false);
	CHECK(strchr(text, '\033') == NULL && strchr(text, '\a') == NULL);
	CHECK(strstr(text, "\u202e") == NULL);
	CHECK(strstr(text, "too few jobs for a trend (1 so far)\n") != NULL);
	free(text);
}

TEST(an_answer_of_another_kind_is_a_page_too)
{
	static const char *const answers[] = { "{}", "{\"processes\":7,\"gpus\":[1],\"deaths\":{}}",
		"{\"processes\":[{\"jobs\":[[]],\"points\":[1,[],[\"x\"]],\"alive\":true}]}" };

	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		char *text = drawn(json_loads(answers[i], 0, NULL), 80, true, false);

		CHECK(strstr(text, "memory of the last") == text);
		free(text);
	}
}

TEST(a_job_that_died_has_the_peak_of_the_death)
{
	json_t *node = ran("7", "KSampler", 5, 6, 1 * GIB), *died, *well, *deaths, *all;

	json_object_set_new(node, "unfinished", json_true());
	well = job("a", "Well", 1, 2, 1 * GIB, 0, json_array());
	died = job("b", "Died", 5, 6, 1 * GIB, 0, json_pack("[o]", node));
	json_object_set_new(died, "unfinished", json_true());
	deaths = json_pack("[{s:i,s:I,s:I,s:s,s:s},{s:i,s:I,s:I,s:s,s:s}]", "pid", 7, "time_ns",
	    (json_int_t)(SINCE + 360 * S), "peak_rss_bytes", (json_int_t)(2 * GIB), "id", "x",
	    "verdict", "oom_cgroup", "pid", 8, "time_ns", (json_int_t)(SINCE + 360 * S),
	    "peak_rss_bytes", (json_int_t)(9 * GIB), "id", "y", "verdict", "killed");
	all = page(json_pack("[o]", process(7, 0, 6, 12 * GIB, points(0, 6, GIB, 0, 0),
					json_pack("[oo]", well, died), no_trend(2))),
	    json_array(), deaths);
	picture_raise_peaks(all);
	CHECK_EQ(json_integer_value(json_object_get(well, "peak_bytes")), 1 * GIB);
	CHECK_EQ(json_integer_value(json_object_get(died, "peak_bytes")), 2 * GIB);
	CHECK_EQ(json_integer_value(json_object_get(node, "peak_bytes")), 2 * GIB);

	char *text = drawn(all, 120, true, false);

	CHECK(strstr(text, "ComfyUI 7: ended 22:19:20, peak 2 GiB, limit 12 GiB") != NULL);
	free(text);
}

int
main(void)
{
	setenv("TZ", "UTC", 1);
	tzset();
	CHECK(setlocale(LC_CTYPE, "C.UTF-8") != NULL);
	RUN(a_page_at_each_width);
	RUN(no_line_is_wider_than_the_terminal);
	RUN(color_changes_no_character);
	RUN(with_nothing_to_show_it_says_so);
	RUN(one_sample_and_a_clock_that_was_set_back_are_a_page);
	RUN(what_was_not_looked_at_is_a_gap);
	RUN(a_far_limit_is_told_and_not_drawn);
	RUN(where_there_is_no_room_the_nodes_with_the_highest_peaks_are_shown_in_time);
	RUN(eight_devices_have_a_line_each);
	RUN(names_do_not_steer_the_terminal);
	RUN(a_job_that_died_has_the_peak_of_the_death);
	RUN(an_answer_of_another_kind_is_a_page_too);
	return t_done();
}
