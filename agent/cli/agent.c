/*
 * agent.c - `comfymon agent`: configuration into service options, and the
 * control socket beside it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/cli/cli.h"
#include "agent/cli/offline.h"
#include "agent/cli/unattended.h"
#include "agent/control/control.h"
#include "agent/health/judge.h"
#include "agent/metrics/metrics.h"
#include "agent/resubmit/resubmit.h"
#include "agent/service/service.h"
#include "schema/frame.h"

#define UIDS_MAX 16

struct host {
	struct cli *cli;
	struct control *control;
	struct resubmit *resubmit;
	bool replaced;
};

/* "1000,1001" */
static int
parse_uids(const char *text, uint32_t *uids, size_t *n)
{
	char *end;

	for (*n = 0; *text != '\0'; text = *end == ',' ? end + 1 : end) {
		unsigned long v = strtoul(text, &end, 10);

		if (end == text || (*end != ',' && *end != '\0') || v > UINT32_MAX ||
		    *n == UIDS_MAX) {
			fprintf(stderr,
			    "comfymon: allow_uids: expected user ids separated by comma, "
			    "at most %d\n",
			    UIDS_MAX);
			return CLI_USAGE;
		}
		uids[(*n)++] = (uint32_t)v;
	}
	return CLI_OK;
}

static int
set_up_log(const struct config *c, bool autostarted)
{
	enum log_level level;

	if (log_level_parse(config_string(c, OPT_LOG_LEVEL), &level) != E_OK) {
		fputs("comfymon: log.level: expected error, warn, info or debug\n", stderr);
		return CLI_USAGE;
	}
	log_set_level(level);
	if (config_string(c, OPT_LOG_FILE)[0] == '\0') {
		if (autostarted)
			unattended_log(config_string(c, OPT_RUN_DIR));
		return CLI_OK;
	}

	enum err rv = log_open(config_string(c, OPT_LOG_FILE));

	if (rv == E_OK)
		return CLI_OK;
	fprintf(
	    stderr, "comfymon: log.file %s: %s\n", config_string(c, OPT_LOG_FILE), err_text(rv));
	return CLI_FAILED;
}

static void
probe_gone(void *ctx)
{
	resubmit_wake(((struct host *)ctx)->resubmit);
}

static void
stop_control(void *ctx)
{
	struct host *h = ctx;

	resubmit_stop(h->resubmit);
	control_free(h->control);
	h->control = NULL;
}

static enum err
start_control(void *ctx, const struct agent_view *view)
{
	struct host *h = ctx;
	struct control_options o = { .run_dir = config_string(h->cli->config, OPT_RUN_DIR),
		.view = *view,
		.defaults = defaults_of(h->cli),
		.port = (uint16_t)config_number(h->cli->config, OPT_HEALTH_PORT) };
	enum err rv;

	if (config_string(h->cli->config, OPT_HEALTH_BIND)[0] != '\0')
		o.bind = config_string(h->cli->config, OPT_HEALTH_BIND);
	rv = control_new(&o, &h->control);
	if (rv == E_OK)
		rv = control_start(h->control);
	if (rv != E_OK)
		log_error("control_failed error=%s", err_text(rv));
	else if ((rv = resubmit_start(h->resubmit, view)) != E_OK)
		log_error("resubmit_not_started error=\"%s\"", err_text(rv));
	if (rv != E_OK)
		stop_control(h); /* it must not answer for a service that is taken down */
	return rv;
}

static enum err
listen_again(void *ctx)
{
	return control_listen_again(((struct host *)ctx)->control);
}

static bool
is_replaced(void *ctx)
{
	struct host *h = ctx;

	h->replaced = unattended_check(h->cli, config_string(h->cli->config, OPT_RUN_DIR));
	return h->replaced;
}

/* SIGHUP: the log may have been rotated away. */
static void
reopen_log(void *ctx)
{
	const struct host *h = ctx;
	const char *path = config_string(h->cli->config, OPT_LOG_FILE);

	if (path[0] == '\0')
		return;

	enum err rv = log_open(path);

	if (rv == E_OK)
		log_info("log_reopened path=%s", path);
	else
		log_error("log_not_reopened path=%s error=\"%s\"", path, err_text(rv));
}

static void
copy(char *to, size_t cap, const char *from)
{
	snprintf(to, cap, "%s", from);
}

static void
fill_options(const struct cli *c, struct service_options *o)
{
	const struct config *g = c->config;

	o->run_dir = config_string(g, OPT_RUN_DIR);
	o->data_dir = config_string(g, OPT_DATA_DIR);
	o->limits.cap_bytes = config_number(g, OPT_STORE_CAP);
	o->limits.cap_age_s = config_number(g, OPT_STORE_AGE) / 1000;
	o->limits.history_bytes = config_number(g, OPT_HISTORY_CAP);
	o->limits.history_age_s = config_number(g, OPT_HISTORY_AGE) / 1000;
	o->nvml = strcmp(config_string(g, OPT_NVML), "none") == 0 ? "" : config_string(g, OPT_NVML);
	o->limits.jobs_max = config_number(g, OPT_STORE_JOBS);
	o->limits.jobs_age_s = config_number(g, OPT_STORE_JOBS_AGE) / 1000;
	o->limits.free_floor_bytes = config_number(g, OPT_STORE_FREE);
	copy(o->webhook.url, sizeof o->webhook.url, config_string(g, OPT_WEBHOOK_URL));
	copy(o->webhook.secret, sizeof o->webhook.secret, config_string(g, OPT_WEBHOOK_SECRET));
	copy(o->webhook.ca_file, sizeof o->webhook.ca_file, config_string(g, OPT_CA_FILE));
	o->metrics.on = config_number(g, OPT_METRICS) != 0;
	metrics_url(g, o->metrics.url, sizeof o->metrics.url);
	o->metrics.interval_ms = config_number(g, OPT_METRICS_INTERVAL);
	o->metrics.service = config_string(g, OPT_SERVICE);
	o->metrics.env = config_string(g, OPT_ENV);
	o->metrics.version = config_string(g, OPT_VERSION);
	o->metrics.hostname = config_string(g, OPT_HOSTNAME);
	o->metrics.tags = config_string(g, OPT_TAGS);
	o->processor.service = config_string(g, OPT_SERVICE);
	o->processor.env = config_string(g, OPT_ENV);
	o->processor.version = config_string(g, OPT_VERSION);
	o->processor.hostname = config_string(g, OPT_HOSTNAME);
	o->processor.sample_rate = config_string(g, OPT_SAMPLE_RATE);
	o->processor.sampling_rules = config_string(g, OPT_SAMPLING_RULES);
	o->processor.rate_limit = (double)config_number(g, OPT_RATE_LIMIT);
	o->processor.partial_after_ms = config_number(g, OPT_PARTIAL_AFTER);
	o->processor.partial_spans = (uint32_t)config_number(g, OPT_PARTIAL_SPANS);
	o->health.http_silent_ns = config_number(g, OPT_HTTP_SILENT) * NS_PER_MS;
	o->health.no_progress_ns = config_number(g, OPT_NO_PROGRESS) * NS_PER_MS;
	o->max_connections = (uint32_t)config_number(g, OPT_CONNECTIONS);
	o->inbox_bytes = config_number(g, OPT_INBOX);
	o->drain_ms = config_number(g, OPT_DRAIN);
	o->linger_ms = config_number(g, OPT_IDLE_EXIT);
	o->autostarted = c->autostarted;
}

/* Whoever holds the directory listens where our probe sends. */
static bool
serves(const struct service_holder *holder, const char *run_dir)
{
	char socket[sizeof holder->socket];

	return path_join(socket, sizeof socket, run_dir, RUN_SOCKET_NAME) == E_OK &&
	       strcmp(socket, holder->socket) == 0;
}

int
verb_agent(struct cli *c)
{
	struct destination_options destinations[STATUS_DESTINATIONS];
	struct host host = { .cli = c };
	struct service_options o = { .ctx = &host,
		.ready = start_control,
		.stopping = stop_control,
		.gone = probe_gone,
		.listen_again = listen_again,
		.reload = reopen_log,
		.enough = is_replaced };
	struct service_holder holder = { 0 };
	uint32_t uids[UIDS_MAX];
	const char *kind = config_string(c->config, OPT_STORE_KIND);
	int rv = set_up_log(c->config, c->autostarted);

	if (rv == CLI_OK)
		rv = parse_uids(config_string(c->config, OPT_ALLOW_UIDS), uids, &o.allow_uid_count);
	if (rv == CLI_OK)
		rv = destinations_of(c, destinations, &o.destination_count);
	if (rv != CLI_OK)
		return rv;
	if (strcmp(kind, "sqlite") != 0 && strcmp(kind, "ram") != 0) {
		fputs("comfymon: store.kind: expected sqlite or ram\n", stderr);
		return CLI_USAGE;
	}
	fill_options(c, &o);
	if (o.metrics.on && metrics_url_check(o.metrics.url) != E_OK) {
		fprintf(stderr,
		    "comfymon: metrics: \"%.60s\": expected udp://host:port or unix:///path\n",
		    o.metrics.url);
		return CLI_USAGE;
	}
	if (health_policy_parse(config_string(c->config, OPT_HEALTH_RESTART), &o.health.restart) !=
	    E_OK)
		return CLI_USAGE; /* its value was checked when it was read */
	o.store = strcmp(kind, "ram") == 0 ? SERVICE_STORE_RAM : SERVICE_STORE_SQLITE;
	o.allow_uids = uids;
	o.destinations = destinations;
	for (size_t i = 0; i < o.destination_count; i++)
		o.processor.forward_rejected |= destinations[i].kind == DEST_DATADOG_AGENT;

	struct resubmit_options ro = { .run_dir = o.run_dir };
	enum err e = resubmit_new(&ro, &host.resubmit);

	if (e == E_OK)
		e = service_run(&o, &holder);
	resubmit_free(host.resubmit);
	if (e == E_OK && host.replaced)
		unattended_succeed(c);
	if (e == E_OK)
		return host.replaced ? CLI_FAILED : CLI_OK;
	if (e == E_BUSY) {
		fprintf(stderr, "comfymon: another agent runs: pid %" PRIu64 ", socket %s\n",
		    holder.pid, holder.socket);
		if (c->autostarted && !serves(&holder, o.run_dir))
			log_error("data_dir_taken path=%s by_pid=%" PRIu64 " socket=%s", o.data_dir,
			    holder.pid, holder.socket);
		/* Else an auto-started one has lost a race, which is as it should be. */
		return c->autostarted ? CLI_OK : CLI_FAILED;
	}
	fprintf(stderr, "comfymon: the agent could not run: %s\n", err_text(e));
	if (c->autostarted)
		log_error("agent_failed error=\"%s\"", err_text(e));
	return CLI_FAILED;
}
