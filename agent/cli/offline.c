/*
 * offline.c - answers from the buffer when no collector runs.  The file is
 * locked, read and let go before anything is printed; a collector may start then.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/cli/files.h"
#include "agent/cli/offline.h"
#include "agent/control/views.h"
#include "agent/service/service.h"
#include "agent/store/store.h"
#include "agent/supervisor/state.h"

#define LOCK_WAIT_MS 1000u

struct span_defaults
defaults_of(const struct cli *c)
{
	return (struct span_defaults){ config_string(c->config, OPT_SERVICE),
		config_string(c->config, OPT_ENV), config_string(c->config, OPT_VERSION),
		config_string(c->config, OPT_HOSTNAME), config_string(c->config, OPT_TAGS),
		config_string(c->config, OPT_SERVICE_MAPPING) };
}

int
lock_data(const struct cli *c, int *lock)
{
	const char *dir = config_string(c->config, OPT_DATA_DIR);
	struct service_holder holder = { 0 };
	enum err rv = files_is_directory(dir) ? service_lock_data(dir, LOCK_WAIT_MS, &holder, lock)
					      : E_NOTFOUND;

	if (rv == E_OK)
		return CLI_OK;
	if (rv == E_NOTFOUND) {
		fprintf(stderr, "comfymon: no agent runs and there is no buffer in %s\n", dir);
		return CLI_NO_AGENT;
	}
	if (rv == E_BUSY)
		fprintf(stderr,
		    "comfymon: an agent runs (pid %" PRIu64 ") with %s, and not in %s: which "
		    "COMFYMON_RUN_DIR has it? or stop it\n",
		    holder.pid, dir, config_string(c->config, OPT_RUN_DIR));
	else
		fprintf(stderr, "comfymon: %s: %s\n", dir, err_text(rv));
	return CLI_FAILED;
}

int
open_snapshot(const struct cli *c, struct store **st, int *lock)
{
	const char *dir = config_string(c->config, OPT_DATA_DIR);
	char error[STORE_ERROR_BYTES] = "";
	int code = lock_data(c, lock);

	if (code != CLI_OK)
		return code;

	enum err rv = store_snapshot(dir, st, error);

	if (rv == E_OK)
		return CLI_OK;
	close(*lock);
	if (rv == E_NOTFOUND) {
		fprintf(stderr, "comfymon: no agent runs and there is no buffer in %s\n", dir);
		return CLI_NO_AGENT;
	}
	fprintf(stderr, "comfymon: %s: %s\n", dir, error[0] != '\0' ? error : err_text(rv));
	return CLI_FAILED;
}

static void
copy(char *to, size_t cap, const char *from)
{
	snprintf(to, cap, "%s", from);
}

static enum err
status_of(const struct cli *c, struct store *st, struct outbuf *out)
{
	struct status_snapshot *s = calloc(1, sizeof *s);
	struct probe_row *p = calloc(1, sizeof *p);
	enum err rv = s != NULL && p != NULL ? st->ops->stats(st, &s->store) : E_NOMEM;
	int64_t id = 0;

	while (rv == E_OK && st->ops->probe_next(st, &id, p) == E_OK) {
		struct status_probe *to = s->probes;

		/* Rows come oldest first, the newest are shown first. */
		if (s->probe_count < STATUS_PROBES)
			s->probe_count++;
		memmove(to + 1, to, (s->probe_count - 1) * sizeof *to);
		memset(to, 0, sizeof *to);
		s->probe_total++;
		memcpy(to->probe_id, p->probe_id, sizeof to->probe_id);
		to->pid = p->pid;
		to->spans = p->spans;
		to->closed = p->closed;
		to->seen_real_ns = p->seen_real_ns;
		memcpy(to->losses, p->losses, sizeof to->losses);
		to->attrs_bytes = p->attrs_bytes;
		memcpy(to->attrs, p->attrs, p->attrs_bytes);
	}
	if (rv == E_OK)
		rv = st->ops->jobs_count(st, s->jobs);
	if (rv == E_OK) {
		s->state = AGENT_OFFLINE;
		/* The copy is in memory and without limits; what it was copied from is not. */
		s->store.volatile_ = false;
		s->store.cap_bytes = config_number(c->config, OPT_STORE_CAP);
		copy(s->reason, sizeof s->reason,
		    "no agent runs; this is the buffer as it was left");
		copy(s->version, sizeof s->version, COMFYMON_VERSION);
		copy(s->run_dir, sizeof s->run_dir, config_string(c->config, OPT_RUN_DIR));
		copy(s->data_dir, sizeof s->data_dir, config_string(c->config, OPT_DATA_DIR));
		s->supervisor_count = state_list(s->run_dir, s->supervisors, STATUS_SUPERVISORS);
		rv = view_status(s, out);
	}
	free(s);
	free(p);
	return rv;
}

/* One argument of "/traces?a=b&c=d"; the CLI encodes nothing, so neither do we decode. */
static bool
argument(const char *target, const char *name, char *value, size_t cap)
{
	const char *p = strchr(target, '?');
	size_t n = strlen(name);

	for (; p != NULL; p = strchr(p, '&')) {
		p++;
		if (strncmp(p, name, n) != 0 || p[n] != '=')
			continue;

		size_t m = strcspn(p + n + 1, "&");

		if (m >= cap)
			return false;
		memcpy(value, p + n + 1, m);
		value[m] = '\0';
		return true;
	}
	value[0] = '\0';
	return false;
}

static enum err
traces_of(const struct cli *c, struct store *st, const char *target, struct outbuf *out)
{
	struct trace_filter f = { .limit = 50 };
	bool cut;
	struct span_defaults d = defaults_of(c);
	char number[32];

	if (argument(target, "limit", number, sizeof number))
		f.limit = (uint32_t)strtoul(number, NULL, 10);
	(void)argument(target, "state", f.state, sizeof f.state);
	copy(f.text, sizeof f.text, c->text != NULL ? c->text : "");
	if (argument(target, "since_ns", number, sizeof number))
		f.since_real_ns = strtoull(number, NULL, 10);
	if (argument(target, "min_duration_ns", number, sizeof number))
		f.min_duration_ns = strtoull(number, NULL, 10);
	return view_traces(st, NULL, &d, &f, out, &cut);
}

static enum err
trace_of(const struct cli *c, struct store *st, const char *id, struct outbuf *out)
{
	struct span_defaults d = defaults_of(c);
	uint64_t hi, lo;

	return view_parse_trace_id(id, &hi, &lo) ? view_trace(st, NULL, &d, hi, lo, out) : E_INVAL;
}

static enum err
jobs_of(struct store *st, const char *target, struct outbuf *out)
{
	struct job_filter f = { .limit = 50 };
	char text[120];

	if (argument(target, "limit", text, sizeof text))
		f.limit = (uint32_t)strtoul(text, NULL, 10);
	if (argument(target, "since_ns", text, sizeof text))
		f.since_real_ns = strtoull(text, NULL, 10);
	if (argument(target, "state", text, sizeof text) && !view_parse_states(text, &f.states))
		return E_INVAL;
	return view_jobs(st, &f, out);
}

static enum err
answer(const struct cli *c, struct store *st, const char *target, struct outbuf *out)
{
	if (strncmp(target, "/traces", 7) == 0)
		return traces_of(c, st, target, out);
	if (strncmp(target, "/trace/", 7) == 0)
		return trace_of(c, st, target + 7, out);
	if (strncmp(target, "/jobs", 5) == 0)
		return jobs_of(st, target, out);
	if (strncmp(target, "/job/", 5) == 0)
		return view_job(st, target + 5, out);
	return status_of(c, st, out);
}

static const char *
complaint(enum err rv, const char *target)
{
	bool job = strncmp(target, "/job", 4) == 0;

	switch (rv) {
	case E_NOTFOUND:
		return job ? "no such job (see comfymon jobs)"
			   : "no such trace (see comfymon traces)";
	case E_EXISTS:
		return "several prompt ids begin so";
	case E_INVAL:
		return "expected a trace id of 16 or 32 hex digits";
	default:
		return err_text(rv != E_OK ? rv : E_NOMEM);
	}
}

int
offline_get(const struct cli *c, const char *target, char **body)
{
	struct outbuf out = { 0 };
	struct store *st = NULL;
	enum err rv;
	int lock = -1, code = open_snapshot(c, &st, &lock);

	if (code != CLI_OK)
		return code;
	rv = answer(c, st, target, &out);
	st->ops->close(st);
	close(lock);
	outbuf_put(&out, "", 1);
	if (rv == E_OK && !out.failed) {
		*body = (char *)out.p;
		return CLI_OK;
	}
	outbuf_free(&out);
	fprintf(stderr, "comfymon: %s\n", complaint(rv, target));
	return rv == E_NOTFOUND || rv == E_EXISTS ? CLI_PROBLEM
	       : rv == E_INVAL                    ? CLI_USAGE
						  : CLI_FAILED;
}

bool
duration_arg(const char *name, const char *text, uint64_t *ns)
{
	char why[160];
	uint64_t ms;

	if (config_parse(OPT_HISTORY_AGE, text, &ms, why, sizeof why) != E_OK) {
		fprintf(stderr, "comfymon: %s: %s\n", name, why);
		return false;
	}
	*ns = ms * 1000000u;
	return true;
}

static bool
known_state(const char *state)
{
	static const char *const states[] = { "open", "queued", "sent", "sampled_out", "rejected",
		"error", "unfinished" };

	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
		if (strcmp(state, states[i]) == 0)
			return true;
	return false;
}

/* Percent-encode what may not stand in a query. */
static void
encode(char *out, size_t cap, const char *text)
{
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0' && n + 4 < cap; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9') || strchr("-._~", *p) != NULL;

		n += (size_t)snprintf(out + n, cap - n, plain ? "%c" : "%%%02X", *p);
	}
	out[n] = '\0';
}

bool
filter_query(const struct cli *c, char *query, size_t cap)
{
	uint64_t since = 0, min = 0;
	char text[400] = "", state[64] = "";

	if (c->state != NULL && !known_state(c->state)) {
		fprintf(stderr,
		    "comfymon: --state: expected open, queued, sent, sampled_out, rejected, error "
		    "or unfinished, got \"%.60s\"\n",
		    c->state);
		return false;
	}
	if (c->limit > (long)VIEW_TRACES_MAX) {
		fprintf(stderr, "comfymon: --limit: at most %u\n", VIEW_TRACES_MAX);
		return false;
	}
	if (c->text != NULL && strlen(c->text) >= sizeof((struct trace_filter *)0)->text) {
		fprintf(stderr, "comfymon: --text: too long\n");
		return false;
	}
	if (c->since != NULL && !duration_arg("--since", c->since, &since))
		return false;
	if (c->min_duration != NULL && !duration_arg("--min-duration", c->min_duration, &min))
		return false;
	if (since != 0)
		since = clock_real_ns() - since;
	encode(text, sizeof text, c->text != NULL ? c->text : "");
	encode(state, sizeof state, c->state != NULL ? c->state : "");
	snprintf(query, cap, "?limit=%ld&since_ns=%" PRIu64 "&min_duration_ns=%" PRIu64 "%s%s%s%s",
	    c->limit, since, min, state[0] != '\0' ? "&state=" : "", state,
	    text[0] != '\0' ? "&text=" : "", text);
	return true;
}
