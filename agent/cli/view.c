/*
 * view.c - ask the running agent; when none runs, read the buffer ourselves.
 * Either way the answer is the same JSON, made by the same code.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/offline.h"

json_t *
cli_parse(const char *text)
{
	json_error_t e;
	json_t *root = json_loads(text, JSON_ALLOW_NUL, &e);

	if (root == NULL)
		fprintf(stderr, "comfymon: the answer is no JSON: %s\n", e.text);
	return root;
}

json_t *
cli_string(const char *text)
{
	json_t *s = json_string(text);
	char *plain = s == NULL ? strdup(text) : NULL;

	for (char *p = plain; p != NULL && *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	if (plain != NULL)
		s = json_string(plain);
	free(plain);
	return s;
}

int
cli_print_json(json_t *root)
{
	int rv = root != NULL && json_dumpf(root, stdout, JSON_COMPACT) == 0 ? CLI_OK : CLI_FAILED;

	putchar('\n');
	json_decref(root);
	return rv;
}

/* {"error":"..."} of a refusal, for people. */
static void
print_refusal(int status, const char *body)
{
	json_error_t e;
	json_t *root = json_loads(body, JSON_ALLOW_NUL, &e); /* an empty body is no answer either */
	const char *why = json_string_value(json_object_get(root, "error"));

	fprintf(stderr, "comfymon: %s\n", why != NULL ? why : "the agent refused");
	if (why == NULL)
		fprintf(stderr, "  status %d\n", status);
	json_decref(root);
}

int
view_ask(const struct cli *c, const char *target, char **body, bool *nobody)
{
	int status = 0;
	size_t n = 0;
	enum err rv = client_get(c, "GET", target, &status, body, &n);

	*nobody = rv == E_NOTFOUND;
	if (rv == E_NOTFOUND)
		return CLI_NO_AGENT;
	if (rv != E_OK) {
		fprintf(stderr, "comfymon: the agent at %s: %s\n",
		    config_string(c->config, OPT_RUN_DIR), err_text(rv));
		return CLI_FAILED;
	}
	if (status == 206)
		fputs(
		    "comfymon: the buffer is large: only the newest traces were searched; --since "
		    "narrows it\n",
		    stderr);
	if (status == 200 || status == 206)
		return CLI_OK;
	print_refusal(status, *body);
	free(*body);
	*body = NULL;
	return status == 404 || status == 409 ? CLI_PROBLEM
	       : status == 400                ? CLI_USAGE
					      : CLI_FAILED;
}

int
view_get(const struct cli *c, const char *target, char **body)
{
	bool nobody;
	int code = view_ask(c, target, body, &nobody);

	return nobody ? offline_get(c, target, body) : code;
}
