/*
 * doctor.c - "no data in Datadog": walk from the node to Datadog, one line a
 * station, stop explaining at the first that is broken, end with what to do.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/cli/exam.h"
#include "agent/cli/unattended.h"
#include "schema/frame.h"

void
station(
    struct exam *x, enum finding f, const char *name, const char *advice, const char *format, ...)
{
	static const char *const marks[] = { "ok", "-", "note", "WRONG" };
	static const char *const styles[] = { "green", "dim", "yellow", "red" };
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (f == BROKEN && x->broken++ == 0)
		snprintf(x->advice, sizeof x->advice, "%s", advice);
	if (x->cli->json) {
		json_array_append_new(x->stations,
		    json_pack("{s:s, s:s, s:o, s:s}", "station", name, "finding", marks[f], "text",
			cli_string(text), "advice", f == BROKEN ? advice : ""));
		return;
	}
	printf("%s%-6s%s%-12s ", term_style(&x->term, styles[f]), marks[f],
	    term_style(&x->term, "off"), name);
	term_wrap(&x->term, text, 19);
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
	int rings = count_rings(dir);

	if (!S_ISDIR(st.st_mode))
		station(x, BROKEN, "run dir", "remove it: probe and agent make a folder of it",
		    "%s is %s, not a folder", dir, S_ISLNK(st.st_mode) ? "a link" : "a file");
	else if ((st.st_mode & 066) != 0) /* 0711 lets other users reach the socket */
		station(x, BROKEN, "run dir",
		    "remove it, or chmod 0700 it: the probe refuses it as it is",
		    "%s is open to other users (mode %03o)", dir, st.st_mode & 0777);
	else if (st.st_uid != geteuid())
		station(x, BROKEN, "run dir",
		    "run this as the user that ComfyUI runs as, or set "
		    "COMFYMON_RUN_DIR for this one",
		    "%s belongs to uid %u, you are %u", dir, (unsigned)st.st_uid,
		    (unsigned)geteuid());
	else
		station(x, FINE, "run dir", "", "%s, %d probe ring%s", dir, rings,
		    rings == 1 ? "" : "s");
}

/* The newest complaint in the log of an agent that the node started; "" when there is none. */
static void
last_words(const char *run_dir, char *words, size_t cap)
{
	char line[2048], path[256];
	FILE *f = NULL;

	words[0] = '\0';
	if (path_join(path, sizeof path, run_dir, UNATTENDED_LOG_NAME) == E_OK)
		f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		const char *said = strstr(line, " error ");

		line[strcspn(line, "\n")] = '\0';
		if (strstr(line, " info ready ") != NULL)
			words[0] = '\0';
		else if (said != NULL && (words[0] == '\0' || strstr(said, "agent_failed") == NULL))
			snprintf(words, cap, "%s", said + strlen(" error "));
	}
	if (f != NULL)
		fclose(f);
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
		const char *dir = config_string(x->cli->config, OPT_RUN_DIR);
		char words[300];

		last_words(dir, words, sizeof words);
		station(x, BROKEN, "agent",
		    words[0] == '\0'
			? "start ComfyUI (the node starts an agent), or run: comfymon agent"
			: "cure what ended it (" UNATTENDED_LOG_NAME
			  " in the run directory), then restart ComfyUI, or run: comfymon agent",
		    "no agent listens in %s%s%s", dir,
		    words[0] != '\0' ? "; the last one ended: " : "", words);
		return false;
	}
	if (rv == E_OK && status == 200)
		x->status = json_loads(body, JSON_ALLOW_NUL, &je);
	free(body);
	if (x->status == NULL) {
		station(x, BROKEN, "agent",
		    rv == E_PERM ? "run this as the user that the agent runs as"
				 : "look at the agent's log (agent.log in the run directory when "
				   "the node started "
				   "it); restart it",
		    "it listens%s: %s",
		    rv == E_PERM ? ", for another user" : " but does not answer",
		    rv != E_OK ? err_text(rv) : "odd reply");
		return false;
	}

	const char *state = json_string_value(json_object_get(x->status, "state"));
	const char *reason = json_string_value(json_object_get(x->status, "reason"));

	bool full = reason != NULL && strcmp(reason, "store_full") == 0;

	station(x, state != NULL && strcmp(state, "degraded") == 0 ? BROKEN : FINE, "agent",
	    full ? "free disk space, or raise COMFYMON_STORE_CAP: nothing new is taken until then"
		 : "look at the agent's log, and at the buffer: comfymon verify",
	    "pid %" JSON_INTEGER_FORMAT ", %s%s%s",
	    json_integer_value(json_object_get(x->status, "pid")), state != NULL ? state : "?",
	    reason != NULL && reason[0] != '\0' ? ": " : "", reason != NULL ? reason : "");
	return true;
}

static void
examine_probes(struct exam *x)
{
	json_int_t spans = 0, lost = 0;
	int alive = 0, ringless = 0;
	size_t i;
	json_t *p, *v;
	const char *key;

	json_array_foreach(json_object_get(x->status, "probes"), i, p)
	{
		alive += json_is_true(json_object_get(p, "alive"));
		ringless += json_is_true(json_object_get(p, "ringless"));
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
	if (ringless > 0)
		station(x, WORTH_KNOWING, "ring", "",
		    "%d living without a ring file, somebody removed it: traced as before, but a "
		    "kill "
		    "would cost what is on its way; the next start of ComfyUI has one",
		    ringless);
	if (lost > 0)
		station(x, WORTH_KNOWING, "losses", "",
		    "%" JSON_INTEGER_FORMAT
		    " records were lost inside probes (comfymon status says why)",
		    lost);
}

/* Of the newest living probe that told. */
static void
examine_hooks(struct exam *x)
{
	char list[400] = "";
	size_t i, k, n = 0;
	json_t *p, *name;

	json_array_foreach(json_object_get(x->status, "probes"), i, p)
	{
		json_t *hooks = json_object_get(p, "hooks");
		json_int_t attached = json_integer_value(json_object_get(hooks, "attached")),
			   missing = json_integer_value(json_object_get(hooks, "missing"));

		if (hooks == NULL || !json_is_true(json_object_get(p, "alive")))
			continue;
		json_array_foreach(json_object_get(hooks, "names"), k, name)
		{
			const char *s = json_string_value(name);

			if (s != NULL && n < sizeof list)
				n += (size_t)snprintf(
				    list + n, sizeof list - n, "%s%s", k > 0 ? ", " : "", s);
		}
		if (attached == 0)
			station(x, BROKEN, "hooks",
			    "restart ComfyUI; its log says a line that begins with comfymon",
			    "pid %" JSON_INTEGER_FORMAT " watches nothing",
			    json_integer_value(json_object_get(p, "pid")));
		else if (missing > 0)
			station(x, WORTH_KNOWING, "hooks", "",
			    "%" JSON_INTEGER_FORMAT " functions watched, %" JSON_INTEGER_FORMAT
			    " not found in this ComfyUI: %s",
			    attached, missing, list);
		else
			station(x, FINE, "hooks", "", "%" JSON_INTEGER_FORMAT " functions watched",
			    attached);
		return;
	}
}

/* Of each ComfyUI that lives. */
static void
examine_health(struct exam *x)
{
	json_t *all = json_object_get(json_object_get(x->status, "health"), "processes"), *o;
	size_t i;

	json_array_foreach(all, i, o)
	{
		const char *state = json_string_value(json_object_get(o, "state"));
		const char *why = json_string_value(json_object_get(o, "why"));
		json_int_t pid = json_integer_value(json_object_get(o, "pid"));

		if (state == NULL || why == NULL)
			continue;
		if (strcmp(state, "well") == 0)
			station(
			    x, FINE, "ComfyUI", "", "pid %" JSON_INTEGER_FORMAT " is well", pid);
		else if (strcmp(state, "unknown") == 0 || strcmp(state, "starting") == 0 ||
			 strcmp(state, "no_progress") == 0)
			station(x, WORTH_KNOWING, "ComfyUI", "",
			    "pid %" JSON_INTEGER_FORMAT " is %s: %s", pid, state, why);
		else
			station(x, BROKEN, "ComfyUI",
			    "restart ComfyUI; under `comfymon run` COMFYMON_HEALTH_RESTART does it",
			    "pid %" JSON_INTEGER_FORMAT " is %s: %s", pid, state, why);
	}
}

static void
examine_health_port(struct exam *x)
{
	json_t *o = json_object_get(x->status, "health_port");
	const char *at = json_string_value(json_object_get(o, "at"));
	const char *problem = json_string_value(json_object_get(o, "problem"));

	if (json_integer_value(json_object_get(o, "port")) == 0 || at == NULL || problem == NULL)
		return;
	if (problem[0] != '\0')
		station(x, BROKEN, "health port",
		    "give COMFYMON_HEALTH_PORT a port that nobody has, and restart the agent",
		    "/healthz and /readyz are answered on the control socket alone: %s", problem);
	else if (json_is_true(json_object_get(o, "open")))
		station(x, WORTH_KNOWING, "health port", "",
		    "%s answers whoever reaches it (COMFYMON_HEALTH_BIND)", at);
	else
		station(x, FINE, "health port", "", "%s", at);
}

static void
examine_disk(struct exam *x)
{
	const char *dir = json_string_value(json_object_get(x->status, "data_dir"));
	uint64_t least = config_number(x->cli->config, OPT_STORE_FREE);
	char size[32];
	struct statvfs v;

	if (dir == NULL || statvfs(dir, &v) != 0)
		return;

	uint64_t left = (uint64_t)v.f_bavail * v.f_frsize;

	config_size_text(left, size, sizeof size);
	if (left < least)
		station(x, BROKEN, "disk",
		    "free disk space: nothing new is taken until there is some",
		    "%s has only %s left", dir, size);
	else if (left < 4 * least)
		station(x, WORTH_KNOWING, "disk", "", "%s has %s left", dir, size);
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
	examine_disk(x);
}

/* What a cleaner, or a person, has taken away and is there again. */
static void
examine_upkeep(struct exam *x)
{
	json_t *u = json_object_get(x->status, "upkeep");
	json_int_t sockets = json_integer_value(json_object_get(u, "run_dir_remade")),
		   buffers = json_integer_value(json_object_get(u, "buffer_rewritten"));

	if (sockets > 0)
		station(x, WORTH_KNOWING, "sockets", "",
		    "were removed and made anew, times: %" JSON_INTEGER_FORMAT
		    "; keep who cleans up there out of %s",
		    sockets, config_string(x->cli->config, OPT_RUN_DIR));
	if (buffers > 0)
		station(x, WORTH_KNOWING, "buffer file", "",
		    "was removed and written anew, times: %" JSON_INTEGER_FORMAT
		    "; whoever does it has to stop: %s",
		    buffers, config_string(x->cli->config, OPT_DATA_DIR));
}

static void
examine_history(struct exam *x)
{
	if (json_array_size(json_object_get(x->status, "destinations")) == 0)
		station(x, WORTH_KNOWING, "destination", "",
		    "none is configured: traces stay here (comfymon traces)");
}

static void
examine_destination(struct exam *x, json_t *d)
{
	const char *name = json_string_value(json_object_get(d, "name"));
	const char *url = json_string_value(json_object_get(d, "url"));
	const char *state = json_string_value(json_object_get(d, "state"));
	const char *error = json_string_value(json_object_get(d, "last_error"));
	json_int_t status = json_integer_value(json_object_get(d, "last_status"));
	char why[160];

	if (name == NULL || url == NULL || state == NULL || error == NULL)
		return;
	if (strcmp(state, "ok") == 0)
		station(x, FINE, name, "", "%s, last reply %" JSON_INTEGER_FORMAT, url, status);
	else if (strcmp(state, "hold") == 0)
		station(x, BROKEN, name,
		    "the far end refuses our credentials: check the Datadog agent's API key",
		    "%s replies %" JSON_INTEGER_FORMAT "; data waits", url, status);
	else if (strcmp(state, "offline") == 0)
		station(x, BROKEN, name,
		    "is the Datadog agent up, and its APM receiver on? data waits on disk until "
		    "it is",
		    "%s: %s", url, error);
	else if (reach(url, why, sizeof why)[0] == '\0')
		station(x, FINE, name, "", "%s listens; nothing was sent yet", url);
	else if (strcmp(state, "local") == 0)
		station(x, BROKEN, name,
		    "run a Datadog agent here, or set DD_TRACE_AGENT_URL=http://HOST:8126 for the "
		    "agent; without Datadog COMFYMON_DESTINATIONS=none is enough",
		    "%s was never reached (%s) and is only the default: traces stay here", url,
		    why);
	else
		station(x, BROKEN, name,
		    "is the Datadog agent up, and its APM receiver on? without Datadog "
		    "COMFYMON_DESTINATIONS=none is enough",
		    "%s: %s; nothing was sent yet", url, why);
}

/* Where they are switched on. */
static void
examine_metrics(struct exam *x)
{
	json_t *m = json_object_get(x->status, "metrics");
	const char *target = json_string_value(json_object_get(m, "target"));
	const char *error = json_string_value(json_object_get(m, "last_error"));

	if (target == NULL || error == NULL)
		return;
	if (error[0] != '\0')
		station(x, BROKEN, "metrics",
		    "is the Datadog agent up, and its DogStatsD on? DD_DOGSTATSD_URL says where; "
		    "counts wait until it is",
		    "%s: %s", target, error);
	else
		station(x, FINE, "metrics", "", "%s, %" JSON_INTEGER_FORMAT " datagrams sent%s",
		    target, json_integer_value(json_object_get(m, "sent_datagrams")),
		    strncmp(target, "udp:", 4) == 0 ? "; UDP does not say who took them" : "");
}

/* What to do now. */
static const char *
conclusion(const struct exam *x)
{
	json_t *s = json_object_get(json_object_get(x->status, "signals"), "trace");

	if (x->broken > 0)
		return x->advice;
	if (json_integer_value(json_object_get(s, "received")) == 0)
		return "nothing is wrong; submit a prompt in ComfyUI, then: comfymon traces";
	return "nothing is wrong";
}

static void
examine_all(struct exam *x)
{
	size_t i;
	json_t *d;

	examine_node(x);
	examine_switches(x);
	examine_run_dir(x);

	bool answered = examine_agent(x);

	examine_python(x);
	if (answered) {
		examine_probes(x);
		examine_hooks(x);
		examine_health(x);
		examine_health_port(x);
		examine_buffer(x);
		examine_upkeep(x);
		examine_history(x);
		json_array_foreach(json_object_get(x->status, "destinations"), i, d)
		    examine_destination(x, d);
		examine_metrics(x);
	}
	examine_guard(x);
	examine_clock(x);
}

int
verb_doctor(struct cli *c)
{
	struct exam x = { .cli = c, .term = term_of(c, stdout), .stations = json_array() };

	if (x.stations == NULL)
		return CLI_FAILED;
	examine_all(&x);
	if (c->json) {
		cli_print_json(json_pack("{s:b, s:s, s:O}", "well", x.broken == 0, "advice",
		    conclusion(&x), "stations", x.stations));
	} else {
		printf("\n%s", x.broken > 0 ? "What to do: " : "");
		term_wrap(&x.term, conclusion(&x), x.broken > 0 ? 12 : 0);
	}
	json_decref(x.stations);
	json_decref(x.status);
	return x.broken == 0 ? CLI_OK : CLI_PROBLEM;
}
