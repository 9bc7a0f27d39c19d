/*
 * args.c - arguments by one table: every option once, each verb names the
 * letters that it takes.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/args.h"
#include "agent/cli/cli.h"

const struct arg arg_table[] = {
	{ '*', "--json", NULL, "machine-readable output", ARG_FLAG, offsetof(struct cli, json),
	    NULL },
	{ '*', "--help", NULL, "this text, or -h", ARG_FLAG, offsetof(struct cli, help), NULL },
	{ '*', "--config", "FILE", "configuration file", ARG_TEXT,
	    offsetof(struct cli, config_file), NULL },
	{ '*', "--set", "KEY=VALUE", "one option, wins over everything", ARG_SET, 0, NULL },
	{ '*', "--run-dir", "DIR", "socket and rings", ARG_KEY, 0, "run_dir" },
	{ '*', "--data-dir", "DIR", "the buffer", ARG_KEY, 0, "data_dir" },
	{ '*', "--color", "WHEN", "auto, always or never", ARG_TEXT, offsetof(struct cli, color),
	    NULL },
	{ 'a', "--autostarted", NULL, "end some minutes after the last probe", ARG_FLAG,
	    offsetof(struct cli, autostarted), NULL },
	{ 's', "--state", "STATE", "open, queued, sent, sampled_out, rejected, error or unfinished",
	    ARG_TEXT, offsetof(struct cli, state), NULL },
	{ 'j', "--state", "STATE",
	    "queued, running, succeeded, failed, interrupted, cancelled, lost or resubmitted; "
	    "several separated by comma",
	    ARG_TEXT, offsetof(struct cli, state), NULL },
	{ 'x', "--text", "TEXT", "only where a name, resource or error contains it", ARG_TEXT,
	    offsetof(struct cli, text), NULL },
	{ 't', "--since", "TIME", "only of the last 10m, 2h, 7d", ARG_TEXT,
	    offsetof(struct cli, since), NULL },
	{ 'd', "--min-duration", "TIME", "only at least as long, such as 2s", ARG_TEXT,
	    offsetof(struct cli, min_duration), NULL },
	{ 'l', "--limit", "N", "at most so many, the newest (default 50)", ARG_NUMBER,
	    offsetof(struct cli, limit), NULL },
	{ 'p', "--pid", "PID", "show what the probe of this process said of itself", ARG_NUMBER,
	    offsetof(struct cli, pid), NULL },
	{ 'D', "--print-default", NULL, "print the commented default file", ARG_FLAG,
	    offsetof(struct cli, print_default), NULL },
	{ 'S', "--print-schema", NULL, "print the JSON Schema of the file", ARG_FLAG,
	    offsetof(struct cli, print_schema), NULL },
	{ 'C', "--comfyui", "DIR", "ComfyUI's folder, or its base directory", ARG_TEXT,
	    offsetof(struct cli, comfyui), NULL },
	{ 'n', "--node", "DIR", "the node folder (default: beside this program)", ARG_TEXT,
	    offsetof(struct cli, node), NULL },
	{ 'K', "--copy", NULL, "copy instead of linking", ARG_FLAG, offsetof(struct cli, copy),
	    NULL },
	{ 'A', "--all", NULL, "draw every span of a large trace", ARG_FLAG,
	    offsetof(struct cli, all), NULL },
	{ 'g', "--tags", NULL, "with the tags of each span", ARG_FLAG, offsetof(struct cli, tags),
	    NULL },
	{ 'P', "--pss", NULL, "and the proportional set size: walks page tables", ARG_FLAG,
	    offsetof(struct cli, pss), NULL },
	{ 'M', "--man", NULL, "the whole manual page, in mdoc", ARG_FLAG, offsetof(struct cli, man),
	    NULL },
	{ 'y', "--yes", NULL, "do not ask", ARG_FLAG, offsetof(struct cli, yes), NULL },
	{ 'm', "--memory-limit", "SIZE",
	    "of ComfyUI and its children: 2G, 80% or none (default: 90% of what there is, at most "
	    "64G)",
	    ARG_KEY, 0, "run.memory_limit" },
	{ 'r', "--restart", "WHEN", "always, on-failure (the default) or never", ARG_KEY, 0,
	    "run.restart" },
	{ 'v', "--survive", NULL, "ComfyUI goes on when this program is killed", ARG_FLAG,
	    offsetof(struct cli, survive), NULL },
	{ 'N', "--no-agent", NULL, "start no agent beside it", ARG_FLAG,
	    offsetof(struct cli, no_agent), NULL },
	{ 'R', "--ready", NULL,
	    "exit 0 when a ComfyUI takes jobs now, else 1; one line says why not", ARG_FLAG,
	    offsetof(struct cli, ready), NULL },
	{ 'H', "--healthy", NULL,
	    "exit 0 when the agent works and no ComfyUI is broken, else 1; one line says what is "
	    "wrong",
	    ARG_FLAG, offsetof(struct cli, healthy), NULL },
	{ 'o', "--out", "FILE", "write there instead of standard output", ARG_TEXT,
	    offsetof(struct cli, out), NULL },
};
const size_t arg_count = sizeof arg_table / sizeof arg_table[0];

/* One line: what is wrong, and where more is said. */
static int usage(const struct verb *verb, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int
usage(const struct verb *verb, const char *format, ...)
{
	va_list args;

	fputs("comfymon: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " (see comfymon help%s%s)\n", verb != NULL ? " " : "",
	    verb != NULL ? verb->name : "");
	return CLI_USAGE;
}

static const struct arg *
find_arg(const char *text, size_t n, const struct verb *verb)
{
	for (size_t i = 0; i < arg_count; i++) {
		if (strlen(arg_table[i].name) != n || strncmp(arg_table[i].name, text, n) != 0)
			continue;
		if (arg_table[i].letter == '*' || verb == NULL ||
		    strchr(verb->options, arg_table[i].letter))
			return &arg_table[i];
	}
	return NULL;
}

static int
add_set(struct cli *c, const char *set)
{
	if (c->set_count == sizeof c->sets / sizeof c->sets[0])
		return usage(NULL, "too many --set");
	c->sets[c->set_count++] = set;
	return CLI_OK;
}

static int
add_key(struct cli *c, const char *key, const char *value)
{
	char *set;
	int rv;

	if (asprintf(&set, "%s=%s", key, value) < 0) {
		fprintf(stderr, "comfymon: %s\n", err_text(E_NOMEM));
		return CLI_FAILED;
	}
	rv = add_set(c, set);
	if (rv == CLI_OK)
		c->made[c->made_count++] = set;
	else
		free(set);
	return rv;
}

static int
apply(struct cli *c, const struct verb *verb, const struct arg *a, const char *value)
{
	char *field = (char *)c + a->at;
	char *end;
	long number;

	switch (a->kind) {
	case ARG_FLAG:
		*(bool *)field = true;
		return CLI_OK;
	case ARG_TEXT:
		*(const char **)field = value;
		return CLI_OK;
	case ARG_NUMBER:
		errno = 0;
		number = strtol(value, &end, 10);
		if (*end != '\0' || end == value || errno != 0 || number < 1)
			return usage(verb, "%s: expected a whole number from 1, got \"%.60s\"",
			    a->name, value);
		*(long *)field = number;
		return CLI_OK;
	case ARG_SET:
		return add_set(c, value);
	case ARG_KEY:
		return add_key(c, a->key, value);
	}
	return CLI_OK;
}

static int
take_option(struct cli *c, const struct verb *verb, int argc, char **argv, int *i)
{
	const char *text = argv[*i], *eq = strchr(text, '=');
	size_t n = eq != NULL ? (size_t)(eq - text) : strlen(text);
	const struct arg *a = find_arg(text, n, verb);

	if (a == NULL)
		return usage(verb, "unknown option: %s", text);
	if (a->value == NULL)
		return eq == NULL ? apply(c, verb, a, NULL)
				  : usage(verb, "%s takes no value", a->name);
	if (eq != NULL)
		return apply(c, verb, a, eq + 1);
	if (*i + 1 >= argc)
		return usage(verb, "%s needs a value: %s", a->name, a->value);
	return apply(c, verb, a, argv[++*i]);
}

const struct verb *
args_verb(const char *name)
{
	for (size_t i = 0; i < verb_count; i++)
		if (strcmp(verb_table[i].name, name) == 0)
			return &verb_table[i];
	return NULL;
}

static bool
takes_command(const struct verb *verb)
{
	return verb->argument != NULL && strncmp(verb->argument, "--", 2) == 0;
}

/* What can be said when all of them have been read. */
static int
check(const struct cli *c, const struct verb *verb)
{
	if (verb == NULL) {
		fputs("comfymon: which verb?\n\n", stderr);
		args_help(c, stderr, NULL);
		return CLI_USAGE;
	}
	if (verb->argument != NULL && verb->argument[0] != '[' && c->argument == NULL &&
	    c->command == NULL)
		return usage(verb, "%s needs an argument: %s", verb->name, verb->argument);
	if (strcmp(c->color, "auto") != 0 && strcmp(c->color, "always") != 0 &&
	    strcmp(c->color, "never") != 0)
		return usage(
		    verb, "--color: expected auto, always or never, got \"%.60s\"", c->color);
	return CLI_OK;
}

void
args_free(struct cli *c)
{
	while (c->made_count > 0)
		free(c->made[--c->made_count]);
}

int
args_parse(struct cli *c, int argc, char **argv, const struct verb **verb)
{
	int rv = CLI_OK;

	for (int i = 1; i < argc && rv == CLI_OK; i++) {
		if (strcmp(argv[i], "--") == 0 && *verb != NULL && takes_command(*verb)) {
			if (argv[i + 1] != NULL)
				c->command = argv + i + 1;
			break;
		}
		if (strcmp(argv[i], "-h") == 0)
			c->help = true;
		else if (argv[i][0] == '-')
			rv = take_option(c, *verb, argc, argv, &i);
		else if (*verb == NULL && (*verb = args_verb(argv[i])) == NULL)
			rv = usage(NULL, "unknown verb: %s", argv[i]);
		else if (c->verb == NULL)
			c->verb = argv[i];
		else if (c->argument == NULL && (*verb)->argument != NULL && !takes_command(*verb))
			c->argument = argv[i];
		else if (takes_command(*verb))
			rv = usage(*verb, "the command stands behind --: comfymon %s -- %s ...",
			    (*verb)->name, argv[i]);
		else
			rv = usage(*verb, "unexpected argument: %s", argv[i]);
	}
	return rv != CLI_OK || c->help ? rv : check(c, *verb);
}
