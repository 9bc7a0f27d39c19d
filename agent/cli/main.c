/*
 * main.c - the program: arguments, configuration, verb, exit code.
 */
#include <string.h>

#include "agent/cli/cli.h"

static int
run(struct cli *c, int argc, char **argv)
{
	char error[CONFIG_ERROR_BYTES] = "";
	const struct verb *verb = NULL;
	int rv = args_parse(c, argc, argv, &verb);

	if (rv != CLI_OK)
		return rv;
	if (c->help) {
		args_help(c, stdout, verb);
		return CLI_OK;
	}
	if (verb->run == verb_help) /* a broken configuration must not take it away */
		return verb_help(c);

	enum err e = config_load(c->config_file, c->sets, c->set_count, &c->config, error);

	if (e != E_OK) {
		fprintf(stderr, "comfymon: %s\n", error[0] != '\0' ? error : err_text(e));
		return CLI_USAGE;
	}
	rv = verb->run(c);
	config_free(c->config);
	return rv;
}

int
main(int argc, char **argv)
{
	struct cli c = { .argv = argv, .limit = 50, .color = "auto" };
	int rv;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("comfymon " COMFYMON_VERSION);
		return CLI_OK;
	}
	rv = run(&c, argc, argv);
	args_free(&c);
	if (fflush(stdout) != 0 && rv == CLI_OK)
		rv = CLI_FAILED;
	return rv;
}
