/*
 * view.c - ask the running agent; when none runs, read the buffer ourselves.
 * Either way the answer is the same JSON, made by the same code.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/offline.h"

/* {"error":"..."} of a refusal, for people. */
static void
print_refusal(int status, const char *body)
{
	json_error_t e;
	json_t *root = json_loads(body, 0, &e);
	const char *why = json_string_value(json_object_get(root, "error"));

	fprintf(stderr, "comfymon: %s\n", why != NULL ? why : "the agent refused");
	if (why == NULL)
		fprintf(stderr, "  status %d\n", status);
	json_decref(root);
}

int
view_get(const struct cli *c, const char *target, char **body)
{
	int status = 0;
	size_t n = 0;
	enum err rv = client_get(c, "GET", target, &status, body, &n);

	if (rv == E_NOTFOUND)
		return offline_get(c, target, body);
	if (rv != E_OK) {
		fprintf(stderr, "comfymon: the agent at %s: %s\n",
		    config_string(c->config, OPT_RUN_DIR), err_text(rv));
		return CLI_FAILED;
	}
	if (status == 200)
		return CLI_OK;
	print_refusal(status, *body);
	free(*body);
	*body = NULL;
	return status == 404 ? CLI_PROBLEM : status == 400 ? CLI_USAGE : CLI_FAILED;
}
