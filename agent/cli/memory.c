/*
 * memory.c - `comfymon memory`: asks the agent what it knows of memory over time, adds
 * the deaths of that time, and has it drawn.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/cli/cli.h"
#include "agent/cli/offline.h"
#include "agent/cli/picture.h"

#define SINCE_NS     (3600 * NS_PER_S)
#define POINTS_A_BAR 4
#define POINTS_JSON  500

/* What the agent says; NULL and a message when it does not. */
static json_t *
ask(const struct cli *c, uint64_t since_ns, int points, int *rv)
{
	char target[128], *body = NULL;
	int status = 0;
	size_t n = 0;
	json_t *all = NULL;
	enum err e;

	snprintf(target, sizeof target, "/memory?points=%d&since_ns=%" PRIu64 "&pss=%d", points,
	    since_ns, c->pss);
	e = client_get(c, "GET", target, &status, &body, &n);
	*rv = CLI_FAILED;
	if (e == E_NOTFOUND) {
		fputs("comfymon: no agent runs, and only a running one knows of memory (see "
		      "comfymon doctor)\n",
		    stderr);
		*rv = CLI_NO_AGENT;
		return NULL;
	}
	if (e != E_OK || status != 200)
		fprintf(stderr, "comfymon: the agent at %s: %s\n",
		    config_string(c->config, OPT_RUN_DIR), e != E_OK ? err_text(e) : "it refused");
	else
		all = cli_parse(body);
	free(body);
	return all;
}

int
verb_memory(struct cli *c)
{
	struct term t = term_of(c, stdout);
	uint64_t since = SINCE_NS, now = clock_real_ns();
	int rv = CLI_OK;
	json_t *all;

	if (c->since != NULL && !duration_arg("--since", c->since, &since))
		return CLI_USAGE;
	since = since < now ? now - since : 0;
	all = ask(c, since, c->json ? POINTS_JSON : POINTS_A_BAR * picture_bars(&t), &rv);
	if (all == NULL)
		return rv;
	if (json_object_set_new(all, "deaths", deaths_since(c, (int64_t)since)) != 0) {
		json_decref(all);
		return CLI_FAILED;
	}
	picture_raise_peaks(all);
	if (c->json)
		return cli_print_json(all);
	picture_draw(&t, all);
	json_decref(all);
	return CLI_OK;
}
