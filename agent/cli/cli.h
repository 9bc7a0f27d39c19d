/*
 * cli.h - inside of the command line: arguments, the verbs' table, terminal,
 * and the client of the control socket.  One thread, one verb per process.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/base/err.h"
#include "agent/cli/term.h"
#include "agent/config/config.h"

/* Documented in comfymon(1). */
enum cli_exit {
	CLI_OK = 0,
	CLI_PROBLEM = 1,  /* the answer is no: something is wrong, not found, damaged */
	CLI_USAGE = 2,    /* arguments or configuration */
	CLI_NO_AGENT = 3, /* nothing to ask: no collector, no data */
	CLI_FAILED = 4,   /* could not: permission, disk, memory */
};

struct cli {
	char **argv; /* as main got it */
	struct config *config;
	const char *verb;
	const char *argument; /* trace id and the like, NULL for none */
	/* options of args.c */
	const char *config_file;
	const char *sets[32];
	size_t set_count;
	char *made[32]; /* those of sets that args.c made */
	size_t made_count;
	bool json, help, yes, copy, autostarted, print_default, print_schema, all, tags, man, pss;
	const char *color, *comfyui, *node, *state, *text, *since, *min_duration, *out;
	long limit, pid;
	bool survive, no_agent, ready, healthy;
	char **command; /* what stands behind "--", NULL-terminated; NULL: nothing */
};

struct verb {
	const char *name;
	const char *argument;    /* NULL none, "ID" required, "[FILE]" optional */
	const char *options;     /* letters of args.c besides the common ones */
	const char *text, *more; /* a line; a paragraph */
	int (*run)(struct cli *c);
};
extern const struct verb verb_table[];
extern const size_t verb_count;

struct exit_text {
	enum cli_exit code;
	const char *text;
};
extern const struct exit_text exit_table[];
extern const size_t exit_count;

/* args.c: fills c; a usage error prints one line on stderr and returns CLI_USAGE. */
int args_parse(struct cli *c, int argc, char **argv, const struct verb **verb);
void args_free(struct cli *c);
/* manual.c: verb NULL is the whole program. */
void args_help(const struct cli *c, FILE *f, const struct verb *verb);

/* client.c: one request to the control socket. E_NOTFOUND: nobody listens. */
MUST_CHECK enum err client_get(const struct cli *c, const char *method, const char *target,
    int *status, char **body, size_t *n);

/* view.c: ask the agent, or open the buffer when none runs. Heap text; prints why on failure. */
int view_get(const struct cli *c, const char *target, char **body);
/* The same of a running agent alone; *nobody: none runs, and nothing is printed. */
int view_ask(const struct cli *c, const char *target, char **body, bool *nobody);
/* answer.c: status --ready, --healthy. */
int answer_yes_or_no(const struct cli *c);
/* One JSON object of an answer; NULL and a message when it is none. */
json_t *cli_parse(const char *text);
/* A JSON string of any bytes: a path need not be UTF-8. */
json_t *cli_string(const char *text);
/* One line of JSON to standard output; takes the reference. */
int cli_print_json(json_t *root);

/* deaths.c: the black boxes since then, oldest first; of each some of what `deaths --json`
 * says. */
json_t *deaths_since(const struct cli *c, int64_t since_real_ns);

/* One function a verb. */
int verb_agent(struct cli *c);
int verb_run(struct cli *c);
int verb_deaths(struct cli *c);
int verb_death(struct cli *c);
int verb_status(struct cli *c);
int verb_traces(struct cli *c);
int verb_trace(struct cli *c);
int verb_memory(struct cli *c);
int verb_jobs(struct cli *c);
int verb_job(struct cli *c);
int verb_doctor(struct cli *c);
int verb_check(struct cli *c);
int verb_install(struct cli *c);
int verb_uninstall(struct cli *c);
int verb_purge(struct cli *c);
int verb_verify(struct cli *c);
int verb_export(struct cli *c);
int verb_help(struct cli *c);
