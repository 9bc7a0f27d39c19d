/*
 * death.h - why a process ended, from evidence.  Pure.
 *
 * An exit status alone proves little: 137 is what a shell says of any SIGKILL,
 * and `docker stop` gives it as well as the kernel's OOM killer.  So every
 * verdict carries its evidence as sentences, and says how sure it is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Names are a promise (cause_name); they are only ever added. */
enum cause {
	CAUSE_OOM_CGROUP,
	CAUSE_OOM_KERNEL,
	CAUSE_LIMIT_WATCH,
	CAUSE_KILLED,
	CAUSE_CRASH_SEGV,
	CAUSE_CRASH_ABORT,
	CAUSE_EXIT_ERROR,
	CAUSE_EXIT_CLEAN,
	CAUSE_PORT_IN_USE,
	CAUSE_MANAGER_RESTART,
	CAUSE_STOPPED,
	CAUSE_ZOMBIE,        /* its worker was dead, the collector asked for a restart */
	CAUSE_HANG,          /* no answer or no progress, likewise */
	CAUSE_CUDA_POISONED, /* its device failed job after job, likewise */
	CAUSE_LIMIT_SOFT,    /* over the soft limit, ended between two jobs */
	CAUSE_LOST,          /* nobody was there who could have seen it */
	CAUSE_COUNT
};

enum certainty { CERTAIN, LIKELY, UNSURE };

enum oom_log { OOM_LOG_SILENT, OOM_LOG_CGROUP, OOM_LOG_HOST };

enum asked { ASKED_NOTHING, ASKED_STOP, ASKED_LIMIT, ASKED_ORDER };

#define DEATH_LINES      8
#define DEATH_LINE_BYTES 256

struct evidence {
	int status;       /* of waitpid */
	enum asked asked; /* what we did to it */
	enum cause order; /* ASKED_ORDER: what for, and in whose words */
	char order_text[DEATH_LINE_BYTES];
	/* Of kernel counters: what they rose by shortly before the end. One that rose and let it
	 * live told of somebody else. */
	bool has_cgroup;           /* the next ones were readable */
	uint64_t cgroup_oom_kills; /* in its cgroup */
	uint64_t oom_age_ms;       /* ... seen so long before the end, 0: since the last look */
	bool limit_not_reached;    /* nothing in it had to wait for its limit meanwhile */
	uint64_t outer_oom_kills;  /* in the group around it, where it has none of its own */
	bool outer_limit_reached;
	uint64_t host_oom_kills; /* of the host (/proc/vmstat) */
	enum oom_log log;        /* what the kernel's log says of this pid */
	bool reboot_file;        /* ComfyUI-Manager left its mark: restart wanted */
	bool port_line;          /* the last lines speak of an address in use */
	bool port_taken;         /* somebody listened on its port before it began */
	bool listened;           /* its server was seen to listen */
	uint16_t port;           /* 0: nobody looked */
	uint64_t uptime_ms;
	uint64_t limit_bytes, last_bytes, peak_bytes; /* 0 unknown */
};

struct death {
	enum cause cause;
	enum certainty certainty;
	int signal, exit_code; /* one of them, the other -1 */
	unsigned lines;        /* the first is what decided */
	char text[DEATH_LINES][DEATH_LINE_BYTES];
};

void death_of(const struct evidence *e, struct death *out);
/* Nobody saw it: its supervisor had gone before. */
void death_unseen(uint64_t supervisor_pid, struct death *out);
const char *cause_name(enum cause v);
/* False: no cause has this name, *out is as it was. */
bool cause_from_name(const char *name, enum cause *out);
const char *certainty_name(enum certainty c);
bool certainty_from_name(const char *name, enum certainty *out);
/* It did not end as somebody wanted it to. */
bool cause_is_failure(enum cause v);
