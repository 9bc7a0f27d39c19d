/*
 * exam.h - inside of `comfymon doctor`: the findings, and the stations that lie
 * outside of the agent.
 */
#pragma once

#include "agent/cli/cli.h"

enum finding {
	FINE,
	NOT_SEEN, /* could not be looked at, and why */
	WORTH_KNOWING,
	BROKEN,
};

struct exam {
	struct cli *cli;
	struct term term;
	json_t *stations, *status; /* status: of the agent, NULL when none answered */
	char advice[400];          /* of the first broken station */
	int broken;
};

/* One line of the report; `advice` says what to do when it is BROKEN. */
void station(struct exam *x, enum finding f, const char *name, const char *advice,
    const char *format, ...) __attribute__((format(printf, 5, 6)));

/* exam_host.c: the node's folder, its extension for ComfyUI's Python, switches, the clock. */
void examine_node(struct exam *x);
void examine_python(struct exam *x);
void examine_switches(struct exam *x);
void examine_clock(struct exam *x);
/* exam_guard.c: who holds ComfyUI to its memory limit, and how. */
void examine_guard(struct exam *x);

/* reach.c: can http://host:port or unix:///path be connected to within two seconds? "" or why
 * not. */
const char *reach(const char *url, char *why, size_t cap);
