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
bad_limit(const char *text, const char *why)
{
	fprintf(stderr, "comfymon: run.memory_limit: %s, got \"%.60s\"\n", why, text);
	return CLI_USAGE;
}

static int
take_percent(const char *text, uint64_t *limit)
{
	char *end;
	double percent = strtod(text, &end);

	if (strcmp(end, "%") != 0 || !(percent > 0 && percent <= 100))
		return bad_limit(text, "expected 1% to 100%");
	if (all_memory() == 0)
		return bad_limit(text, "the host does not say how much memory it has");
	*limit = (uint64_t)((double)all_memory() * percent / 100);
	return CLI_OK;
}

/* "2G", "80%", "none", or empty for the default; 0: no limit. */
static int
take_limit(const char *text, uint64_t *limit)
{
	char why[160];

	if (text[0] == '\0') {
		uint64_t most = all_memory() / 10 * 9;

		*limit = most != 0 && most < LIMIT_DEFAULT ? most : LIMIT_DEFAULT;
		return CLI_OK;
	}
	if (strcmp(text, "none") == 0) {
		*limit = 0;
		return CLI_OK;
	}
	if (strchr(text, '%') != NULL) {
		int rv = take_percent(text, limit);

		if (rv != CLI_OK)
			return rv;
	} else if (config_parse(OPT_HISTORY_CAP, text, limit, why, sizeof why) != E_OK) {
		return bad_limit(text, "expected a size such as 2G, a share such as 80%, or none");
	}
	return *limit >= LIMIT_LEAST ? CLI_OK : bad_limit(text, "expected at least 64M");
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

int
verb_run(struct cli *c)
{
	const struct config *g = c->config;
	char program[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
	struct run_options o = { .command = c->command,
		.run_dir = config_string(g, OPT_RUN_DIR),
		.data_dir = config_string(g, OPT_DATA_DIR),
		.crash_limit = (uint32_t)config_number(g, OPT_CRASH_LIMIT),
		.grace_ms = config_number(g, OPT_GRACE),
		.drain_ms = config_number(g, OPT_RUN_DRAIN),
		.survive = c->survive };
	int rv = take_limit(config_string(g, OPT_MEMORY_LIMIT), &o.limit_bytes);

	if (rv == CLI_OK)
		rv = take_restart(config_string(g, OPT_RESTART), &o.restart);
	if (rv != CLI_OK)
		return rv;
	if (n > 0 && !c->no_agent) {
		program[n] = '\0';
		o.program = program;
	}
	return run_command(&o);
}
