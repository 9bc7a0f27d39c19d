/*
 * deaths.c - `comfymon deaths` and `comfymon death ID`: the black boxes, and the
 * job that was running, from the unfinished spans of that process.  The files
 * are read directly: no agent is needed.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/cli/cli.h"
#include "agent/cli/members.h"
#include "agent/cli/term.h"
#include "agent/supervisor/blackbox.h"

#define BOX_MAX_BYTES (1024u * 1024)

static json_t *
read_box(const char *dir, const char *name)
{
	char path[700], *text;
	json_error_t e;
	json_t *box;
	size_t n;

	if (path_join(path, sizeof path, dir, name) != E_OK ||
	    file_read_all(path, BOX_MAX_BYTES, &text, &n) != E_OK)
		return NULL;
	box = json_loadb(text, n, JSON_ALLOW_NUL, &e); /* it may have written NULs */
	free(text);
	if (box == NULL)
		fprintf(stderr, "comfymon: %s: no black box: %s\n", path, e.text);
	return box;
}

/* ---- the jobs that it took with it -------------------------------------------- */

/* From the journal: what ended with a death, newest first; NULL where nobody can be asked. */
static json_t *
dead_jobs(struct cli *c)
{
	char *body = NULL, *save = NULL;
	json_t *jobs;

	if (view_get(c, "/jobs?state=failed,lost,resubmitted&limit=1000", &body) != CLI_OK)
		return NULL;
	jobs = json_array();
	for (char *line = strtok_r(body, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		json_t *job = cli_parse(line);

		if (job != NULL && text_of(job, "death")[0] != '\0')
			json_array_append(jobs, job);
		json_decref(job);
	}
	free(body);
	return jobs;
}

/* The one that ran, and how many waited behind it. False: the journal knows of none. */
static bool
find_in_journal(json_t *box, json_t *jobs)
{
	json_int_t waiting = 0;
	bool found = false;
	json_t *job;
	size_t i;

	json_array_foreach(jobs, i, job)
	{
		if (strcmp(text_of(job, "death"), text_of(box, "id")) != 0)
			continue;
		if (number_of(job, "started_ns") == 0) {
			waiting++;
			continue;
		}
		found = true;
		json_object_set(box, "prompt_id", json_object_get(job, "prompt_id"));
		json_object_set(box, "workflow", json_object_get(job, "workflow"));
		if (text_of(job, "node_id")[0] != '\0') {
			json_object_set(box, "node_id", json_object_get(job, "node_id"));
			json_object_set(box, "node_class", json_object_get(job, "node_class"));
		}
	}
	json_object_set_new(box, "jobs_waiting", json_integer(waiting));
	return found;
}

/* Node first: its span names the job too. */
static bool
take_job(json_t *box, json_t *span)
{
	json_t *meta = json_object_get(span, "meta");
	const char *prompt = text_of(meta, "prompt.id"), *node = text_of(meta, "node.id");

	if (prompt[0] == '\0' && node[0] == '\0')
		return false;
	if (prompt[0] != '\0')
		json_object_set_new(box, "prompt_id", json_string(prompt));
	if (node[0] != '\0') {
		json_object_set_new(box, "node_id", json_string(node));
		json_object_set_new(
		    box, "node_class", json_string(text_of(meta, "node.class_type")));
	}
	return node[0] != '\0';
}

static void
look_in_trace(struct cli *c, json_t *box, const char *id)
{
	char target[80], *body = NULL;
	json_error_t e;
	json_t *trace, *span;
	size_t i;

	snprintf(target, sizeof target, "/trace/%.40s", id);
	if (view_get(c, target, &body) != CLI_OK)
		return;
	trace = json_loads(body, 0, &e);
	free(body);
	json_array_foreach(json_object_get(trace, "spans"), i, span)
	{
		json_t *meta = json_object_get(span, "meta");

		if (text_of(meta, "comfymon.unfinished")[0] != '\0' &&
		    number_of(json_object_get(span, "metrics"), "process_id") ==
			number_of(box, "pid") &&
		    take_job(box, span))
			break;
	}
	json_decref(trace);
}

/* Without a journal: unfinished traces that began while the process lived. */
static void
find_in_traces(struct cli *c, json_t *box)
{
	json_int_t born = number_of(box, "time_ns") - number_of(box, "uptime_ms") * 1000000;
	char target[120], *body = NULL, *save = NULL;
	json_error_t e;

	snprintf(target, sizeof target, "/traces?state=unfinished&limit=20&since_ns=%lld",
	    (long long)born);
	if (view_get(c, target, &body) != CLI_OK)
		return;
	for (char *line = strtok_r(body, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		json_t *trace = json_loads(line, 0, &e);

		if (trace != NULL && json_is_null(json_object_get(box, "node_id")))
			look_in_trace(c, box, text_of(trace, "trace_id"));
		json_decref(trace);
	}
	free(body);
}

static void
find_job(struct cli *c, json_t *box, json_t *jobs)
{
	json_object_set_new(box, "prompt_id", json_null());
	json_object_set_new(box, "node_id", json_null());
	json_object_set_new(box, "node_class", json_null());
	if (jobs != NULL && !find_in_journal(box, jobs))
		find_in_traces(c, box);
}

/* ---- the list -------------------------------------------------------------------- */

#define WIDE 106 /* columns of a whole row */

/* It is known to the millisecond. */
static const char *
lived_text(const struct term *t, json_t *box, char *out, size_t cap)
{
	json_int_t ms = number_of(box, "uptime_ms");

	if (ms >= 1000)
		return term_duration(t, (double)ms * 1e6, out, cap);
	snprintf(out, cap, "%lld ms", (long long)ms);
	return out;
}

static bool
is_wide(const struct term *t)
{
	return t->width == 0 || t->width >= WIDE;
}

static void
print_head(const struct term *t)
{
	bool wide = is_wide(t);

	printf("%s%-25s  %-*s  %-15s %s%9s %9s%s%s\n", term_style(t, "bold"), "death",
	    wide ? 19 : 11, "when", "verdict", wide ? "        " : "", "lived", "peak",
	    wide ? "  then" : "", term_style(t, "off"));
}

static void
print_row(const struct term *t, json_t *box)
{
	const char *verdict = text_of(box, "verdict");
	bool fine = strcmp(verdict, "exit_clean") == 0 || strcmp(verdict, "stopped") == 0 ||
		    strcmp(verdict, "manager_restart") == 0;
	bool wide = is_wide(t);
	char when[32], lived[32], size[32];

	printf("%s%-25s%s  %-*s  %s%-15s%s ", term_style(t, "dim"), text_of(box, "id"),
	    term_style(t, "off"), wide ? 19 : 11,
	    term_when(number_of(box, "time_ns"), wide, when, sizeof when),
	    term_style(t, fine ? "green" : "red"), verdict, term_style(t, "off"));
	if (wide)
		printf("%-8s", text_of(box, "certainty"));
	printf("%9s %9s", lived_text(t, box, lived, sizeof lived),
	    config_size_text((uint64_t)number_of(box, "peak_rss_bytes"), size, sizeof size));
	if (wide && json_is_true(json_object_get(box, "restarted")))
		fputs("  started again", stdout);
	else if (wide)
		fputs("  stayed down", stdout);
	putchar('\n');
}

/* The long parts stay in the file. */
static void
print_json(json_t *box, bool whole)
{
	char *text;

	if (!whole) {
		json_object_del(box, "memory");
		json_object_del(box, "output");
	}
	text = json_dumps(box, JSON_COMPACT);
	if (text != NULL)
		puts(text);
	free(text);
}

static int
is_box(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 5 && e->d_name[0] != '.' && strcmp(e->d_name + n - 5, ".json") == 0;
}

/* Names of the black boxes, oldest first; none where nothing has died.  -1: it could not be told,
 * and why is printed. */
static int
list_boxes(const struct cli *c, char *dir, size_t cap, struct dirent ***names)
{
	enum err rv = path_join(dir, cap, config_string(c->config, OPT_DATA_DIR), BLACKBOX_DIR);
	int n = rv == E_OK ? scandir(dir, names, is_box, alphasort) : -1;

	if (n < 0 && rv == E_OK && errno == ENOENT)
		return 0;
	if (n < 0)
		fprintf(stderr, "comfymon: %s: %s\n",
		    rv == E_OK ? dir : config_string(c->config, OPT_DATA_DIR),
		    rv == E_OK ? strerror(errno) : err_text(rv));
	return n;
}

/* The same values under the same keys. */
static json_t *
in_short(json_t *box)
{
	static const char *const keys[] = { "id", "time_ns", "pid", "verdict", "certainty",
		"signal", "exit_code", "limit_bytes", "rss_bytes", "peak_rss_bytes", "restarted" };
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		json_object_set(o, keys[i], json_object_get(box, keys[i]));
	return o;
}

json_t *
deaths_since(const struct cli *c, int64_t since_real_ns)
{
	json_t *list = json_array();
	struct dirent **names = NULL;
	char dir[600];
	int n = list_boxes(c, dir, sizeof dir, &names);

	for (int i = 0; i < n; i++) {
		json_t *box = read_box(dir, names[i]->d_name);

		if (box != NULL && number_of(box, "time_ns") >= since_real_ns)
			json_array_append_new(list, in_short(box));
		json_decref(box);
		free(names[i]);
	}
	free(names);
	return list;
}

int
verb_deaths(struct cli *c)
{
	struct term t = term_of(c, stdout);
	struct dirent **names = NULL;
	json_t *jobs = NULL;
	char dir[600];
	int n = list_boxes(c, dir, sizeof dir, &names), shown = 0;

	if (n < 0)
		return CLI_FAILED;
	if (n > 0 && c->json)
		jobs = dead_jobs(c);
	for (int i = n - 1; i >= 0; i--) {
		json_t *box = shown < c->limit ? read_box(dir, names[i]->d_name) : NULL;

		if (box != NULL && c->json) {
			find_job(c, box, jobs);
			print_json(box, false);
		} else if (box != NULL) {
			if (shown == 0)
				print_head(&t);
			print_row(&t, box);
		}
		shown += box != NULL;
		json_decref(box);
		free(names[i]);
	}
	free(names);
	json_decref(jobs);
	if (shown == 0 && !c->json)
		printf("no deaths in %s\n", dir);
	return CLI_OK;
}

/* ---- one ------------------------------------------------------------------------- */

#define CURVE_CELLS 60
#define LAST_LINES  12

/* The memory curve as one line of blocks, scaled to the limit or the peak. */
static void
print_curve(const struct term *t, json_t *box)
{
	static const char *const blocks[][2] = { { " ", " " }, { "▁", "." }, { "▂", "." },
		{ "▃", "-" }, { "▄", "-" }, { "▅", "=" }, { "▆", "=" }, { "▇", "#" },
		{ "█", "#" } };
	json_t *memory = json_object_get(box, "memory");
	size_t n = json_array_size(memory);
	double top = (double)number_of(box, "limit_bytes");
	size_t first = n > CURVE_CELLS ? n - CURVE_CELLS : 0;

	if (n < 2)
		return;
	if (top <= 0)
		top = (double)number_of(box, "peak_rss_bytes");
	printf("  memory     ");
	for (size_t i = first; i < n; i++) {
		double v = (double)json_integer_value(json_array_get(json_array_get(memory, i), 1));
		int level = top > 0 ? (int)(v / top * 8 + 0.5) : 0;

		level = level < 0 ? 0 : level > 8 ? 8 : level;
		fputs(term_glyph(t, blocks[level][0], blocks[level][1]), stdout);
	}
	printf("  last %.0f s\n",
	    (double)json_integer_value(json_array_get(json_array_get(memory, first), 0)) / 1000);
}

/* Behind a sequence that steers a terminal (a colour, most likely), or behind the ESC alone. */
static const char *
skip_sequence(const char *p, const char *end)
{
	const char *at = p + 1;

	if (at == end || *at != '[')
		return p + 1;
	for (at++; at < end && (unsigned char)*at >= 0x20 && (unsigned char)*at < 0x40; at++)
		;
	return at < end && *at != '\n' ? at + 1 : at;
}

/* At most the last lines that fit on a screen. */
static void
print_output(const struct term *t, json_t *output)
{
	const char *text = json_string_value(output), *from, *end;

	if (text == NULL || json_string_length(output) == 0)
		return;
	end = text + json_string_length(output);
	from = end;
	for (int lines = 0; from > text; from--)
		if (from[-1] == '\n' && lines++ == LAST_LINES)
			break;
	printf("\n%slast lines%s\n", term_style(t, "bold"), term_style(t, "off"));
	for (const char *p = from; p < end;) {
		if (*p == '\x1b') {
			p = skip_sequence(p, end);
			continue;
		}
		if ((unsigned char)*p >= 32 || *p == '\n' || *p == '\t')
			putchar(*p);
		p++;
	}
	if (end[-1] != '\n')
		putchar('\n');
}

/* The job that it took with it; what it says of itself came from outside. */
static void
print_job(const struct term *t, json_t *box)
{
	const char *node = text_of(box, "node_id"), *workflow = text_of(box, "workflow");

	if (json_is_string(json_object_get(box, "prompt_id"))) {
		printf("  %-10s ", "running");
		term_put(t, text_of(box, "prompt_id"), -1);
		if (node[0] != '\0') {
			fputs(", node ", t->f);
			term_put(t, node, -1);
			fputc(' ', t->f);
			term_put(t, text_of(box, "node_class"), -1);
		}
		fputc('\n', t->f);
	}
	if (workflow[0] != '\0') {
		printf("  %-10s ", "workflow");
		term_put(t, workflow, -1);
		fputc('\n', t->f);
	}
	if (number_of(box, "jobs_waiting") > 0)
		printf("  %-10s %lld more waited: comfymon jobs --state lost,resubmitted\n",
		    "queue", (long long)number_of(box, "jobs_waiting"));
}

/* Behind a label, in as many lines as it takes. */
static void
print_text(const struct term *t, const char *label, const char *text)
{
	printf("  %-10s ", label);
	term_wrap(t, text, 13);
}

static void
print_limit(const struct term *t, json_t *box)
{
	uint64_t bytes = (uint64_t)number_of(box, "limit_bytes");
	const char *why = text_of(box, "method_why");
	char limit[32], peak[32], text[400];

	config_size_text((uint64_t)number_of(box, "peak_rss_bytes"), peak, sizeof peak);
	if (bytes == 0)
		snprintf(text, sizeof text, "none, peak %s", peak);
	else
		snprintf(text, sizeof text, "%s by %s, peak %s%s%.250s",
		    config_size_text(bytes, limit, sizeof limit), text_of(box, "method"), peak,
		    why[0] != '\0' ? "; no cgroup: " : "", why);
	print_text(t, "limit", text);
}

static void
print_down(const struct term *t, json_t *box)
{
	char text[300];

	snprintf(text, sizeof text, "stayed down: %s", text_of(box, "restart_why"));
	print_text(t, "then", text);
}

static void
print_death(const struct term *t, json_t *box)
{
	json_t *line;
	size_t i;
	char when[32], lived[32];

	printf("%s%s%s (%s)  pid %lld  %s  after %s\n", term_style(t, "bold"),
	    text_of(box, "verdict"), term_style(t, "off"), text_of(box, "certainty"),
	    (long long)number_of(box, "pid"),
	    term_when(number_of(box, "time_ns"), true, when, sizeof when),
	    lived_text(t, box, lived, sizeof lived));
	json_array_foreach(json_object_get(box, "evidence"), i, line) print_text(
	    t, i == 0 ? "because" : "", json_is_string(line) ? json_string_value(line) : "");
	print_job(t, box);
	print_limit(t, box);
	print_curve(t, box);
	if (json_is_true(json_object_get(box, "restarted")))
		printf("  %-10s started again %lld ms later\n", "then",
		    (long long)number_of(box, "restart_delay_ms"));
	else
		print_down(t, box);
	print_output(t, json_object_get(box, "output"));
}

/* The black box of an id, or of the word last. */
static int
find_box(const struct cli *c, json_t **box)
{
	struct dirent **names = NULL;
	char dir[600], name[128];
	int n = list_boxes(c, dir, sizeof dir, &names);

	if (n < 0)
		return CLI_FAILED;
	snprintf(name, sizeof name, "%.100s.json", c->argument);
	if (n > 0 && strcmp(c->argument, "last") == 0)
		*box = read_box(dir, names[n - 1]->d_name);
	else if (n > 0 && strchr(c->argument, '/') == NULL)
		*box = read_box(dir, name);
	while (n > 0)
		free(names[--n]);
	free(names);
	return CLI_OK;
}

int
verb_death(struct cli *c)
{
	struct term t = term_of(c, stdout);
	json_t *box = NULL, *jobs;

	if (find_box(c, &box) != CLI_OK)
		return CLI_FAILED;
	if (box == NULL) {
		fprintf(stderr, "comfymon: no death %s (see comfymon deaths)\n", c->argument);
		return CLI_PROBLEM;
	}
	jobs = dead_jobs(c);
	find_job(c, box, jobs);
	json_decref(jobs);
	if (c->json)
		print_json(box, true);
	else
		print_death(&t, box);
	json_decref(box);
	return CLI_OK;
}
