/*
 * run.c - `comfymon run -- COMMAND`: configuration into the supervisor's
 * options.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/cli/cli.h"
#include "agent/cli/offline.h"
#include "agent/supervisor/cgroup.h"
#include "agent/supervisor/memory.h"
#include "agent/supervisor/run.h"

#define LIMIT_DEFAULT (UINT64_C(64) << 30)
#define LIMIT_LEAST   (UINT64_C(64) << 20) /* nothing that imports Python lives in less */

/* What there is: the host's memory or the limit that we are in ourselves. 0: unknown. */
static uint64_t
all_memory(void)
{
	uint64_t total = 0, available, enclosing = cgroup_enclosing_limit();

	if (!memory_of_host(&total, &available))
		total = UINT64_MAX;
	total = enclosing < total ? enclosing : total;
	return total == UINT64_MAX ? 0 : total;
}

static int
bad_size(const char *key, const char *text, const char *why)
{
	fprintf(stderr, "comfymon: %s: %s, got \"%.60s\"\n", key, why, text);
	return CLI_USAGE;
}

/* "2G", "80%" of `whole` (0: nothing is known to take a share of), "none": 0. */
static int
take_size(const char *key, const char *text, uint64_t whole, uint64_t *out)
{
	char why[160], *end;
	double percent;

	if (strcmp(text, "none") == 0) {
		*out = 0;
		return CLI_OK;
	}
	if (strchr(text, '%') == NULL) {
		if (config_parse(OPT_HISTORY_CAP, text, out, why, sizeof why) != E_OK)
			return bad_size(
			    key, text, "expected a size such as 2G, a share such as 80%, or none");
	} else {
		percent = strtod(text, &end);
		if (strcmp(end, "%") != 0 || !(percent > 0 && percent <= 100))
			return bad_size(key, text, "expected more than 0% and at most 100%");
		*out = (uint64_t)((double)whole * percent / 100);
	}
	return CLI_OK;
}

/* Empty: the default; 0: no limit. */
static int
take_limit(const char *text, uint64_t *limit)
{
	static const char key[] = "run.memory_limit";
	int rv;

	if (text[0] == '\0') {
		uint64_t most = all_memory() / 10 * 9;

		*limit = most != 0 && most < LIMIT_DEFAULT ? most : LIMIT_DEFAULT;
		return CLI_OK;
	}
	rv = take_size(key, text, all_memory(), limit);
	if (rv == CLI_OK && strcmp(text, "none") != 0 && *limit < LIMIT_LEAST)
		rv = all_memory() == 0 && strchr(text, '%') != NULL
			 ? bad_size(key, text, "the host does not say how much memory it has")
			 : bad_size(key, text, "expected at least 64M, or none");
	return rv;
}

/* A limit below the limit; a share of none is none. */
static int
take_lower(const char *key, const char *text, uint64_t limit, uint64_t *out)
{
	int rv = take_size(key, text, limit, out);

	if (rv == CLI_OK && *out > 0 && *out < LIMIT_LEAST && strchr(text, '%') == NULL)
		rv = bad_size(key, text, "expected at least 64M");
	if (rv == CLI_OK && limit > 0 && *out > limit)
		rv = bad_size(key, text, "expected at most run.memory_limit");
	return rv;
}

static int
take_restart(const char *text, enum restart_when *when)
{
	static const char *const names[] = { "always", "on-failure", "never" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(text, names[i]) == 0) {
			*when = (enum restart_when)i;
			return CLI_OK;
		}
	fprintf(stderr,
	    "comfymon: run.restart: expected always, on-failure or never, got \"%.60s\"\n", text);
	return CLI_USAGE;
}

/* It is ours alone: who we start is not asked. */
static const char *
take_notify(char *out, size_t cap)
{
	const char *socket = getenv("NOTIFY_SOCKET");

	snprintf(out, cap, "%s", socket != NULL ? socket : "");
	unsetenv("NOTIFY_SOCKET");
	return out;
}

int
verb_run(struct cli *c)
{
	const struct config *g = c->config;
	struct destination_options destinations[STATUS_DESTINATIONS];
	char program[PATH_MAX], notify[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
	struct run_options o = { .command = c->command,
		.run_dir = config_string(g, OPT_RUN_DIR),
		.data_dir = config_string(g, OPT_DATA_DIR),
		.notify = take_notify(notify, sizeof notify),
		.crash_limit = (uint32_t)config_number(g, OPT_CRASH_LIMIT),
		.grace_ms = config_number(g, OPT_GRACE),
		.drain_ms = config_number(g, OPT_RUN_DRAIN),
		.soft_wait_ms = (uint32_t)config_number(g, OPT_MEMORY_SOFT_WAIT),
		.resubmit = config_number(g, OPT_RESUBMIT) != 0,
		.survive = c->survive };
	size_t count;
	int rv = take_limit(config_string(g, OPT_MEMORY_LIMIT), &o.limit_bytes);

	if (rv == CLI_OK)
		rv = take_lower("run.memory_soft_limit", config_string(g, OPT_MEMORY_SOFT_LIMIT),
		    o.limit_bytes, &o.soft_bytes);
	if (rv == CLI_OK)
		rv = take_lower("run.memory_high", config_string(g, OPT_MEMORY_HIGH), o.limit_bytes,
		    &o.high_bytes);
	if (rv == CLI_OK)
		rv = take_restart(config_string(g, OPT_RESTART), &o.restart);
	if (rv == CLI_OK && !c->no_agent) /* the agent beside it would refuse them, unseen */
		rv = destinations_of(c, destinations, &count);
	if (rv != CLI_OK)
		return rv;
	if (n > 0 && !c->no_agent) {
		program[n] = '\0';
		o.program = program;
	}
	return run_command(&o);
}
