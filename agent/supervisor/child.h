/*
 * child.h - starts the supervised process: a group of its own, signals as at
 * birth, its cgroup joined before the first instruction, its output in our
 * hands.  Main thread; the caller has no other threads.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "agent/base/err.h"
#include "agent/supervisor/cgroup.h"
#include "agent/supervisor/output.h"

struct child_options {
	char *const *command;       /* NULL-terminated; the first is looked up in PATH */
	char *const *environment;   /* "KEY=VALUE" to add or replace, NULL-terminated */
	const struct cgroup *group; /* joined when its version is not 0 */
	bool dies_with_us;          /* SIGKILL when the parent dies */
};

struct child {
	pid_t pid;  /* leader of its process group */
	int master; /* of its terminal, -1 when we have none */
};

/*
 * A standard stream that is a terminal becomes a terminal of its own (a pty, so
 * that colours and progress bars stay as they were), another becomes a pipe;
 * both are copied by `out`.  With dies_with_us false the streams are inherited as
 * they are: they must outlive us.  Standard input is inherited, a terminal
 * is replaced by the pty (child_type hands lines on).
 * An exec that fails: E_NOTFOUND or E_PERM, nothing runs.
 */
MUST_CHECK enum err child_start(
    const struct child_options *o, struct output *out, struct child *child);

/* The terminal has another size. */
void child_resize(const struct child *c);
/* May we read what is typed? Not in the background of our terminal. */
bool child_may_type(void);
/* Hand on what was typed, an end of input too; what it does not take is dropped, as a terminal does
 * with what nobody reads. False when the terminal has hung up. */
bool child_type(const struct child *c);
