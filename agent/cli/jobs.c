/*
 * jobs.c - `comfymon jobs` and `comfymon job ID`: the journal for people.  What
 * came from outside (workflow, node, ids) goes through term_put.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/cli/cli.h"
#include "agent/cli/members.h"
#include "agent/cli/offline.h"
#include "agent/control/views.h"

#define WIDE  110 /* columns from which the day and the prompt are shown */
#define LABEL 10

static const char *
state_style(const char *state)
{
	if (strcmp(state, "succeeded") == 0)
		return "green";
	if (strcmp(state, "failed") == 0 || strcmp(state, "lost") == 0)
		return "red";
	return strcmp(state, "running") == 0  ? "cyan"
	       : strcmp(state, "queued") == 0 ? "dim"
					      : "yellow";
}

/* From `since` to its end, or to now where it has none yet; "" where it never began. */
static const char *
span_text(const struct term *t, int64_t since, int64_t until, char *buf, size_t cap)
{
	buf[0] = '\0';
	if (until == 0)
		until = (int64_t)clock_real_ns();
	if (since > 0 && until >= since)
		term_duration(t, (double)(until - since), buf, cap);
	return buf;
}

/* ---- the list -------------------------------------------------------------------- */

static void
put_styled(const struct term *t, const char *style, const char *text, int width)
{
	fputs(term_style(t, style), t->f);

	int used = term_put(t, text, width > 0 ? width : -1);

	fputs(term_style(t, "off"), t->f);
	term_pad(t, width - used);
}

/* A padded column on the right. */
static void
put_right(const struct term *t, const char *text, int width)
{
	term_pad(t, width - term_columns(t, text));
	term_put(t, text, width);
	fputs("  ", t->f);
}

/* "oom_cgroup at node 12 KSampler" */
static void
blame(json_t *job, char *buf, size_t cap)
{
	const char *node = text_of(job, "node_id"), *class = text_of(job, "node_class");

	snprintf(buf, cap, "%s%s%s%s%s%s", text_of(job, "reason"),
	    node[0] != '\0' || class[0] != '\0' ? " at node" : "", node[0] != '\0' ? " " : "", node,
	    class[0] != '\0' ? " " : "", class);
}

static bool
is_wide(const struct term *t)
{
	return t->width == 0 || t->width >= WIDE;
}

#define WORKFLOW 24

static void
print_head(const struct term *t)
{
	bool wide = is_wide(t);

	fprintf(t->f, "%s%6s  ", term_style(t, "bold"), "job");
	if (wide)
		fprintf(t->f, "%-8s  ", "prompt");
	fprintf(t->f, "%-11s  %-*s  %8s  %9s  ", "state", wide ? 19 : 11, "queued", "took", "peak");
	if (wide)
		fprintf(t->f, "%-*s  ", WORKFLOW, "workflow");
	fprintf(t->f, "%s%s\n", wide ? "reason" : "workflow, or why", term_style(t, "off"));
}

/* Workflow and reason side by side, or where there is no room the one that matters. */
static void
print_what(const struct term *t, json_t *job, int used)
{
	const char *workflow = text_of(job, "workflow");
	int room = t->width == 0 ? -1 : t->width > used ? t->width - used : 1;
	char why[400];

	blame(job, why, sizeof why);
	if (why[0] == '\0') {
		fputs(term_style(t, "bold"), t->f);
		term_put(t, workflow, room);
		fputs(term_style(t, "off"), t->f);
	} else if (is_wide(t)) {
		put_styled(t, "bold", workflow, WORKFLOW);
		fputs("  ", t->f);
		term_put(t, why, room < 0 ? -1 : room - WORKFLOW - 2);
	} else {
		term_put(t, why, room);
	}
	fputc('\n', t->f);
}

static void
print_row(const struct term *t, json_t *job)
{
	int64_t started = number_of(job, "started_ns"), peak = number_of(job, "peak_rss_bytes");
	bool wide = is_wide(t);
	char text[24], when[32], took[32], size[32] = "";
	int clock = wide ? 19 : 11;

	snprintf(text, sizeof text, "%" PRId64, number_of(job, "id"));
	put_right(t, text, 6);
	if (wide) {
		snprintf(text, sizeof text, "%.8s", text_of(job, "prompt_id"));
		put_styled(t, "dim", text, 8);
		fputs("  ", t->f);
	}
	put_styled(t, state_style(text_of(job, "state")), text_of(job, "state"), 11);
	fprintf(t->f, "  %-*s  ", clock,
	    term_when(number_of(job, "queued_ns"), wide, when, sizeof when));
	put_right(t, span_text(t, started, number_of(job, "ended_ns"), took, sizeof took), 8);
	if (peak > 0)
		config_size_text((uint64_t)peak, size, sizeof size);
	put_right(t, size, 9);
	print_what(t, job, 6 + 2 + (wide ? 10 : 0) + 13 + clock + 2 + 10 + 11);
}

static int
print_rows(const struct term *t, char *body)
{
	char *save = NULL;
	int rows = 0;

	for (char *text = strtok_r(body, "\n", &save); text != NULL;
	     text = strtok_r(NULL, "\n", &save)) {
		json_t *job = cli_parse(text);

		if (job == NULL)
			return CLI_FAILED;
		if (rows++ == 0)
			print_head(t);
		print_row(t, job);
		json_decref(job);
	}
	if (rows == 0)
		puts("no jobs");
	return CLI_OK;
}

static bool
jobs_query(const struct cli *c, char *target, size_t cap)
{
	uint64_t since = 0;
	uint32_t states;

	if (c->state != NULL && !view_parse_states(c->state, &states)) {
		fprintf(stderr,
		    "comfymon: --state: expected queued, running, succeeded, failed, interrupted, "
		    "cancelled, lost or resubmitted, or several of them separated by comma; got "
		    "\"%.60s\"\n",
		    c->state);
		return false;
	}
	if (c->limit > (long)VIEW_JOBS_MAX) {
		fprintf(stderr, "comfymon: --limit: at most %u\n", VIEW_JOBS_MAX);
		return false;
	}
	if (c->since != NULL && !duration_arg("--since", c->since, &since))
		return false;
	if (since != 0)
		since = clock_real_ns() - since;
	/* names of states and commas may stand in a query as they are */
	snprintf(target, cap, "/jobs?limit=%ld&since_ns=%" PRIu64 "%s%s", c->limit, since,
	    c->state != NULL ? "&state=" : "", c->state != NULL ? c->state : "");
	return true;
}

int
verb_jobs(struct cli *c)
{
	struct term t = term_of(c, stdout);
	char target[400], *body = NULL;

	if (!jobs_query(c, target, sizeof target))
		return CLI_USAGE;

	int rv = view_get(c, target, &body);

	if (rv != CLI_OK)
		return rv;
	if (c->json)
		fputs(body, stdout);
	else
		rv = print_rows(&t, body);
	free(body);
	return rv;
}

/* ---- one ------------------------------------------------------------------------- */

static void
label(const struct term *t, const char *text)
{
	fprintf(t->f, "  %-*s ", LABEL, text);
}

static void
print_line(const struct term *t, const char *name, const char *text)
{
	if (text[0] == '\0')
		return;
	label(t, name);
	term_put(t, text, t->width > LABEL + 3 ? t->width - LABEL - 3 : -1);
	fputc('\n', t->f);
}

static void
print_why(const struct term *t, json_t *job)
{
	const char *name, *type = text_of(job, "error_type"), *sure = text_of(job, "certainty");
	char line[400];

	if (text_of(job, "reason")[0] != '\0') {
		snprintf(line, sizeof line, "%s%s%s%s", text_of(job, "reason"),
		    sure[0] != '\0' ? " (" : "", sure, sure[0] != '\0' ? ")" : "");
		print_line(t, "because", line);
	}
	if (number_of(job, "signal") > 0) {
		name = sigabbrev_np((int)number_of(job, "signal"));
		snprintf(line, sizeof line, "%" PRId64 "%s%s%s", number_of(job, "signal"),
		    name != NULL ? " (SIG" : "", name != NULL ? name : "", name != NULL ? ")" : "");
		print_line(t, "signal", line);
	}
	snprintf(line, sizeof line, "%s%s%s", text_of(job, "node_id"),
	    text_of(job, "node_id")[0] != '\0' ? " " : "", text_of(job, "node_class"));
	print_line(t, "node", line);
	if (json_is_true(json_object_get(job, "device_error")))
		snprintf(line, sizeof line, "%s, an error of the GPU", type);
	else
		snprintf(line, sizeof line, "%s", type);
	print_line(t, "exception", line);
}

static void
print_times(const struct term *t, json_t *job)
{
	int64_t queued = number_of(job, "queued_ns"), started = number_of(job, "started_ns"),
		ended = number_of(job, "ended_ns");
	char when[32], took[32], line[160];

	if (queued > 0) {
		snprintf(line, sizeof line, "%s, waited %s",
		    term_when(queued, true, when, sizeof when),
		    span_text(t, queued, started != 0 ? started : ended, took, sizeof took));
		print_line(t, "queued", line);
	}
	if (started > 0) {
		snprintf(line, sizeof line, "%s, %s %s",
		    term_when(started, true, when, sizeof when), ended > 0 ? "took" : "runs for",
		    span_text(t, started, ended, took, sizeof took));
		print_line(t, "started", line);
	}
	print_line(t, "ended", term_when(ended, true, when, sizeof when));
}

/* What there is to look at, with the command that shows it. */
static void
print_more(const struct term *t, json_t *job)
{
	const char *trace = text_of(job, "trace_id"), *death = text_of(job, "death");
	char line[200];

	if (death[0] != '\0') {
		snprintf(line, sizeof line, "comfymon death %s", death);
		print_line(t, "death", line);
	}
	if (trace[0] != '\0') {
		snprintf(line, sizeof line, "comfymon trace %s", trace);
		print_line(t, "trace", line);
	}
}

static void
print_job(const struct term *t, json_t *job)
{
	int64_t nodes = number_of(job, "nodes"), peak = number_of(job, "peak_rss_bytes");
	const char *state = text_of(job, "state");
	char line[200], size[32];

	fputs(term_style(t, state_style(state)), t->f);
	term_put(t, state, -1);
	fprintf(t->f, "%s  job %" PRId64 "  %s", term_style(t, "off"), number_of(job, "id"),
	    term_style(t, "bold"));
	term_put(t, text_of(job, "workflow"), -1);
	fprintf(t->f, "%s\n", term_style(t, "off"));
	print_why(t, job);
	print_times(t, job);
	if (nodes > 0) {
		snprintf(line, sizeof line, "%" PRId64 ": %" PRId64 " executed, %" PRId64 " cached",
		    nodes, number_of(job, "executed"), number_of(job, "cached"));
		print_line(t, "nodes", line);
	}
	if (peak > 0) {
		snprintf(line, sizeof line, "peak %s",
		    config_size_text((uint64_t)peak, size, sizeof size));
		print_line(t, "memory", line);
	}
	print_line(t, "prompt", text_of(job, "prompt_id"));
	print_line(t, "boot id", text_of(job, "boot_id"));
	print_more(t, job);
}

static int
print_one(struct cli *c, const char *body)
{
	struct term t = term_of(c, stdout);
	json_t *job = c->json ? NULL : cli_parse(body);

	if (c->json) {
		puts(body);
		return CLI_OK;
	}
	if (job == NULL)
		return CLI_FAILED;
	print_job(&t, job);
	json_decref(job);
	return CLI_OK;
}

int
verb_job(struct cli *c)
{
	bool last = strcmp(c->argument, "last") == 0;
	char target[120], *body = NULL;

	if (!last && !view_parse_job_id(c->argument)) {
		fprintf(stderr,
		    "comfymon: expected the id of a prompt, how it begins, a number, or "
		    "last (see comfymon jobs)\n");
		return CLI_USAGE;
	}
	snprintf(target, sizeof target, last ? "/jobs?limit=1" : "/job/%s", c->argument);

	int rv = view_get(c, target, &body);

	if (rv != CLI_OK)
		return rv;
	body[strcspn(body, "\n")] = '\0';
	if (body[0] != '\0') {
		rv = print_one(c, body);
	} else {
		fputs("comfymon: no jobs\n", stderr);
		rv = CLI_PROBLEM;
	}
	free(body);
	return rv;
}
