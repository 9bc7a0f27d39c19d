/*
 * answer.c - `comfymon status --ready` and `--healthy`, for the probes of a
 * container: one line and an exit code, 0 or 1 and no other.
 */
#include <stdlib.h>

#include "agent/cli/cli.h"

static const char *
text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static int
answer(const struct cli *c, const char *target, const char *word, const char *reason)
{
	char *body = NULL;
	int status = 0;
	size_t n;
	enum err e = client_get(c, "GET", target, &status, &body, &n);
	json_t *root = e == E_OK ? cli_parse(body) : NULL;
	const char *why = e == E_NOTFOUND ? "no agent runs" : err_text(e);
	bool yes = e == E_OK && status == 200;

	if (root != NULL)
		why = text(root, reason)[0] != '\0' ? text(root, reason) : text(root, "error");
	if (c->json && root != NULL)
		puts(body);
	else if (c->json)
		cli_print_json(json_pack("{s:b, s:s}", word, false, reason, why));
	else
		printf("%s%s%s%s\n", yes ? "" : "not ", word, yes ? "" : ": ", yes ? "" : why);
	json_decref(root);
	free(body);
	return yes ? CLI_OK : CLI_PROBLEM;
}

int
answer_yes_or_no(const struct cli *c)
{
	int rv = CLI_OK;

	if (c->healthy)
		rv = answer(c, "/healthz", "healthy", "wrong");
	if (c->ready && rv == CLI_OK)
		rv = answer(c, "/readyz", "ready", "why");
	return rv;
}
