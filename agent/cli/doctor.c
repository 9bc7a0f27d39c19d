/*
 * doctor.c - "no data in Datadog": walk from the node to Datadog, one line a
 * station, stop explaining at the first that is broken, end with what to do.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "schema/frame.h"

enum finding { FINE, WORTH_KNOWING, BROKEN };

struct exam {
	struct cli *cli;
	struct term term;
	json_t *stations, *status;
	char advice[400]; /* of the first broken station */
	int broken;
};

static void station(struct exam *x, enum finding f, const char *name, const char *advice,
    const char *format, ...) __attribute__((format(printf, 5, 6)));

static void
station(
    struct exam *x, enum finding f, const char *name, const char *advice, const char *format, ...)
{
	static const char *const marks[] = { "ok", "note", "WRONG" };
	static const char *const styles[] = { "green", "yellow", "red" };
	char text[500];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	json_array_append_new(x->stations,
	    json_pack("{s:s, s:s, s:s}", "station", name, "finding", marks[f], "text", text));
	if (!x->cli->json)
		printf("%s%-6s%s %-12s %s\n", term_style(&x->term, styles[f]), marks[f],
		    term_style(&x->term, "off"), name, text);
	if (f == BROKEN && x->broken++ == 0)
		snprintf(x->advice, sizeof x->advice, "%s", advice);
}

static void
examine_node(struct exam *x)
{
	char path[4096];
	struct stat st;

	if (x->cli->comfyui == NULL)
		return;
	snprintf(
	    path, sizeof path, "%s/custom_nodes/comfymon/prestartup_script.py", x->cli->comfyui);
	if (access(path, R_OK) != 0)
		station(x, BROKEN, "node", "comfymon install --comfyui DIR, then restart ComfyUI",
		    "not installed: %s is not there", path);
	else if (stat(path, &st) == 0)
		station(x, FINE, "node", "", "installed in %s", x->cli->comfyui);
}

static int
count_rings(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
		n += strncmp(e->d_name, RUN_RING_PREFIX, strlen(RUN_RING_PREFIX)) == 0;
	if (d != NULL)
		closedir(d);
	return n;
}

static void
examine_run_dir(struct exam *x)
{
	const char *dir = config_string(x->cli->config, OPT_RUN_DIR);
	struct stat st;

	if (lstat(dir, &st) != 0) {
		station(x, BROKEN, "run dir",
		    "start ComfyUI with the node installed, as this user; or set COMFYMON_RUN_DIR "
		    "alike for both",
		    "%s does not exist: no probe and no agent has run as this user", dir);
		return;
	}
	if (!S_ISDIR(st.st_mode) || (st.st_mode & 077) != 0)
		station(x, BROKEN, "run dir",
		    "remove it, or chmod 0700 it: the probe refuses it as it is",
		    "%s is not a folder of its owner alone (mode %03o)", dir, st.st_mode & 0777);
	else if (st.st_uid != geteuid())
		station(x, WORTH_KNOWING, "run dir", "", "%s belongs to uid %u, you are %u", dir,
		    (unsigned)st.st_uid, (unsigned)geteuid());
	else
		station(x, FINE, "run dir", "", "%s, %d probe rings", dir, count_rings(dir));
}

/* True when the agent answered; its status is then in x->status. */
static bool
examine_agent(struct exam *x)
{
	char *body = NULL;
	json_error_t je;
	int status = 0;
	size_t n = 0;
	enum err rv = client_get(x->cli, "GET", "/status", &status, &body, &n);

	if (rv == E_NOTFOUND) {
		station(x, BROKEN, "agent",
		    "start ComfyUI (the node starts an agent), or run: comfymon agent",
		    "no collector listens in %s", config_string(x->cli->config, OPT_RUN_DIR));
		return false;
	}
	if (rv == E_OK && status == 200)
		x->status = json_loads(body, 0, &je);
	free(body);
	if (x->status == NULL) {
		station(x, BROKEN, "agent", "look at the agent's log; restart it",
		    "it listens but does not answer: %s", rv != E_OK ? err_text(rv) : "odd reply");
		return false;
	}

	const char *state = json_string_value(json_object_get(x->status, "state"));
	const char *reason = json_string_value(json_object_get(x->status, "reason"));

	station(x, state != NULL && strcmp(state, "degraded") == 0 ? BROKEN : FINE, "agent",
	    "free disk space or repair the buffer: comfymon verify",
	    "pid %" JSON_INTEGER_FORMAT ", %s%s%s",
	    json_integer_value(json_object_get(x->status, "pid")), state != NULL ? state : "?",
	    reason != NULL && reason[0] != '\0' ? ": " : "", reason != NULL ? reason : "");
	return true;
}

static void
examine_probes(struct exam *x)
{
	json_int_t spans = 0, lost = 0;
	int alive = 0;
	size_t i;
	json_t *p, *v;
	const char *key;

	json_array_foreach(json_object_get(x->status, "probes"), i, p)
	{
		alive += json_is_true(json_object_get(p, "alive"));
		spans += json_integer_value(json_object_get(p, "spans"));
		json_object_foreach(json_object_get(p, "drops"), key, v) lost +=
		    strcmp(key, "open_full") == 0 ? 0 : json_integer_value(v);
	}
	if (i == 0)
		station(x, BROKEN, "probe",
		    "is the node installed and ComfyUI restarted? its log says a line that begins "
		    "with comfymon",
		    "no ComfyUI has ever spoken to this agent");
	else if (alive == 0)
		station(x, WORTH_KNOWING, "probe", "",
		    "none alive now, %zu known, %" JSON_INTEGER_FORMAT " spans", i, spans);
	else
		station(
		    x, FINE, "probe", "", "%d alive, %" JSON_INTEGER_FORMAT " spans", alive, spans);
	if (lost > 0)
		station(x, WORTH_KNOWING, "losses", "",
		    "%" JSON_INTEGER_FORMAT
		    " records were lost inside probes (comfymon status says why)",
		    lost);
}

static void
examine_buffer(struct exam *x)
{
	json_t *s = json_object_get(json_object_get(x->status, "signals"), "trace");
	json_int_t dropped = 0;
	const char *key;
	json_t *v;

	json_object_foreach(json_object_get(s, "dropped"), key, v) dropped += json_integer_value(v);
	if (!json_is_true(json_object_get(s, "identity")))
		station(x, BROKEN, "buffer",
		    "this is a defect of comfymon: please report it with comfymon status --json",
		    "the counters do not add up");
	else if (dropped > 0)
		station(x, WORTH_KNOWING, "buffer", "",
		    "%" JSON_INTEGER_FORMAT " spans dropped so far (comfymon status says why)",
		    dropped);
	else
		station(x, FINE, "buffer", "",
		    "%" JSON_INTEGER_FORMAT " received, %" JSON_INTEGER_FORMAT
		    " sent, %" JSON_INTEGER_FORMAT " sampled out, %" JSON_INTEGER_FORMAT " waiting",
		    json_integer_value(json_object_get(s, "received")),
		    json_integer_value(json_object_get(s, "sent")),
		    json_integer_value(json_object_get(s, "sampled_out")),
		    json_integer_value(json_object_get(s, "queued")));
}

static void
examine_destination(struct exam *x, json_t *d)
{
	const char *name = json_string_value(json_object_get(d, "name"));
	const char *state = json_string_value(json_object_get(d, "state"));
	const char *error = json_string_value(json_object_get(d, "last_error"));
	json_int_t status = json_integer_value(json_object_get(d, "last_status"));

	if (name == NULL || state == NULL || error == NULL)
		return;
	if (strcmp(state, "ok") == 0)
		station(x, FINE, name, "", "last reply %" JSON_INTEGER_FORMAT, status);
	else if (strcmp(state, "unknown") == 0)
		station(x, WORTH_KNOWING, name, "", "nothing was sent yet");
	else if (strcmp(state, "local") == 0)
		station(x, BROKEN, name,
		    "run a Datadog agent here, or set DD_AGENT_HOST or DD_TRACE_AGENT_URL for "
		    "ComfyUI and the agent",
		    "never reached and not configured: traces stay here (comfymon traces)");
	else if (strcmp(state, "hold") == 0)
		station(x, BROKEN, name,
		    "the far end refuses our credentials: check the Datadog agent's API key",
		    "replies %" JSON_INTEGER_FORMAT "; data waits", status);
	else
		station(x, BROKEN, name,
		    "is the Datadog agent up, and its APM receiver on? data waits on disk until it "
		    "is",
		    "cannot be reached: %s", error);
}

int
verb_doctor(struct cli *c)
{
	struct exam x = { .cli = c, .term = term_of(c, stdout), .stations = json_array() };
	size_t i;
	json_t *d;

	examine_node(&x);
	examine_run_dir(&x);
	if (examine_agent(&x)) {
		examine_probes(&x);
		examine_buffer(&x);
		json_array_foreach(json_object_get(x.status, "destinations"), i, d)
		    examine_destination(&x, d);
	}
	if (c->json) {
		json_t *root = json_pack("{s:b, s:s, s:O}", "well", x.broken == 0, "advice",
		    x.advice, "stations", x.stations);

		json_dumpf(root, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(root);
	} else {
		printf("\n%s\n", x.broken == 0 ? "nothing is wrong" : x.advice);
	}
	json_decref(x.stations);
	json_decref(x.status);
	return x.broken == 0 ? CLI_OK : CLI_PROBLEM;
}
