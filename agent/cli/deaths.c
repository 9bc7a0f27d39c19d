/*
 * deaths.c - `comfymon deaths` and `comfymon death ID`: the black boxes, and the
 * job that was running, from the unfinished spans of that process.  The files
 * are read directly: no agent is needed.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/base/file.h"
#include "agent/cli/cli.h"
#include "agent/cli/term.h"
#include "agent/supervisor/blackbox.h"

#define BOX_MAX_BYTES (1024u * 1024)

static const char *
text_of(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static json_int_t
number_of(json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

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

/* ---- the job that was running ------------------------------------------------ */

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

/* Unfinished traces that began while the process lived. */
static void
find_job(struct cli *c, json_t *box)
{
	json_int_t born = number_of(box, "time_ns") - number_of(box, "uptime_ms") * 1000000;
	char target[120], *body = NULL, *save = NULL;
	json_error_t e;

	json_object_set_new(box, "prompt_id", json_null());
	json_object_set_new(box, "node_id", json_null());
	json_object_set_new(box, "node_class", json_null());
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

/* ---- the list -------------------------------------------------------------------- */

static void
print_when(json_t *box, char *out, size_t cap)
{
	time_t seconds = (time_t)(number_of(box, "time_ns") / 1000000000);
	struct tm tm;

	out[0] = '\0';
	if (localtime_r(&seconds, &tm) != NULL)
		strftime(out, cap, "%m-%d %H:%M:%S", &tm);
}

static void
print_row(const struct term *t, json_t *box)
{
	const char *verdict = text_of(box, "verdict");
	bool fine = strcmp(verdict, "exit_clean") == 0 || strcmp(verdict, "stopped") == 0 ||
		    strcmp(verdict, "manager_restart") == 0;
	char when[32], up[32], size[32];

	print_when(box, when, sizeof when);
	printf("%s%-24s%s  %s  %s%-15s%s %-7s %9s %9s  %s\n", term_style(t, "dim"),
	    text_of(box, "id"), term_style(t, "off"), when, term_style(t, fine ? "green" : "red"),
	    verdict, term_style(t, "off"), text_of(box, "certainty"),
	    term_duration(t, (double)number_of(box, "uptime_ms") * 1e6, up, sizeof up),
	    config_size_text((uint64_t)number_of(box, "peak_rss_bytes"), size, sizeof size),
	    json_is_true(json_object_get(box, "restarted")) ? "started again" : "stayed down");
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

int
verb_deaths(struct cli *c)
{
	struct term t = term_of(c, stdout);
	struct dirent **names = NULL;
	char dir[600];
	int n, shown = 0;

	if (path_join(dir, sizeof dir, config_string(c->config, OPT_DATA_DIR), BLACKBOX_DIR) !=
	    E_OK)
		return CLI_FAILED;
	n = scandir(dir, &names, is_box, alphasort);
	for (int i = n - 1; i >= 0; i--) {
		json_t *box = shown < c->limit ? read_box(dir, names[i]->d_name) : NULL;

		if (box != NULL && c->json) {
			find_job(c, box);
			print_json(box, false);
		} else if (box != NULL) {
			if (shown == 0)
				printf("%s%-24s  %-14s  %-15s %-7s %9s %9s%s\n",
				    term_style(&t, "bold"), "death", "when", "verdict", "", "lived",
				    "peak", term_style(&t, "off"));
			print_row(&t, box);
		}
		shown += box != NULL;
		json_decref(box);
		free(names[i]);
	}
	free(names);
	if (shown == 0 && !c->json)
		puts("no deaths");
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
	for (const char *p = from; p < end; p++)
		if ((unsigned char)*p >= 32 || *p == '\n' || *p == '\t')
			putchar(*p);
	if (end[-1] != '\n')
		putchar('\n');
}

static void
print_death(const struct term *t, json_t *box)
{
	json_t *line;
	size_t i;
	char when[32], up[32], limit[32], peak[32];

	print_when(box, when, sizeof when);
	printf("%s%s%s (%s)  pid %lld  %s  after %s\n", term_style(t, "bold"),
	    text_of(box, "verdict"), term_style(t, "off"), text_of(box, "certainty"),
	    (long long)number_of(box, "pid"), when,
	    term_duration(t, (double)number_of(box, "uptime_ms") * 1e6, up, sizeof up));
	json_array_foreach(json_object_get(box, "evidence"), i, line)
	    printf("  %-10s %s\n", i == 0 ? "because" : "", json_string_value(line));
	if (json_is_string(json_object_get(box, "prompt_id")))
		printf("  %-10s %s%s%s%s%s\n", "running", text_of(box, "prompt_id"),
		    text_of(box, "node_id")[0] != '\0' ? ", node " : "", text_of(box, "node_id"),
		    text_of(box, "node_id")[0] != '\0' ? " " : "", text_of(box, "node_class"));
	printf("  %-10s %s by %s%s%s, peak %s\n", "limit",
	    number_of(box, "limit_bytes") > 0
		? config_size_text((uint64_t)number_of(box, "limit_bytes"), limit, sizeof limit)
		: "none",
	    text_of(box, "method"), text_of(box, "method_why")[0] != '\0' ? ": " : "",
	    text_of(box, "method_why"),
	    config_size_text((uint64_t)number_of(box, "peak_rss_bytes"), peak, sizeof peak));
	print_curve(t, box);
	if (json_is_true(json_object_get(box, "restarted")))
		printf("  %-10s started again %lld ms later\n", "then",
		    (long long)number_of(box, "restart_delay_ms"));
	else
		printf("  %-10s stayed down: %s\n", "then", text_of(box, "restart_why"));
	print_output(t, json_object_get(box, "output"));
}

int
verb_death(struct cli *c)
{
	struct term t = term_of(c, stdout);
	char dir[600], name[128];
	json_t *box = NULL;

	if (strchr(c->argument, '/') == NULL &&
	    path_join(dir, sizeof dir, config_string(c->config, OPT_DATA_DIR), BLACKBOX_DIR) ==
		E_OK) {
		snprintf(name, sizeof name, "%.100s.json", c->argument);
		box = read_box(dir, name);
	}
	if (box == NULL) {
		fprintf(stderr, "comfymon: no death %s (see comfymon deaths)\n", c->argument);
		return CLI_PROBLEM;
	}
	find_job(c, box);
	if (c->json)
		print_json(box, true);
	else
		print_death(&t, box);
	json_decref(box);
	return CLI_OK;
}
