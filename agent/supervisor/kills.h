/*
 * kills.h - what the kernel has counted and logged about kills for memory, as
 * evidence of one end.  Main thread; a few small reads a second.
 *
 * A counter that rose proves little alone: a child may have been killed hours
 * ago, and the cgroup's own counter rises for whoever of it is killed, for the
 * limit of a group around it or the host's memory as well.  So it is looked at each
 * second while the process lives, and only what rose shortly before its end
 * counts.
 */
#pragma once

#include <sys/types.h>

#include "agent/supervisor/cgroup.h"
#include "agent/supervisor/death.h"

/* A counter: as it was last seen, and what it rose by before that within KILLS_RECENT_NS. */
struct rise {
	uint64_t seen, recent, recent_ns;
};

/* A process of many gigabytes dies slowly. */
#define KILLS_RECENT_NS (UINT64_C(60) * 1000 * 1000 * 1000)

void rise_begin(struct rise *c, uint64_t value);
/* Later, the process lives. */
void rise_look(struct rise *c, uint64_t value, uint64_t now_ns);
/* By the end: what it rose by, shortly before; *age_ms since that was seen, 0 when it was not yet.
 */
uint64_t rise_end(const struct rise *c, uint64_t value, uint64_t now_ns, uint64_t *age_ms);

struct kills {
	struct cgroup outer; /* the group that we were born in */
	struct rise own, around, host;
	uint64_t own_hits, around_hits; /* as the process began */
	int log;                        /* /dev/kmsg at its end, -1 */
};

/* Before cgroup_make, which may move us. */
void kills_open(struct kills *k);
void kills_close(struct kills *k);
/* A new process. */
void kills_begin(struct kills *k, const struct cgroup *g);
/* It lives: each second. */
void kills_look(struct kills *k, const struct cgroup *g, uint64_t now_ns);
void kills_evidence(
    struct kills *k, const struct cgroup *g, pid_t pid, uint64_t now_ns, struct evidence *e);
