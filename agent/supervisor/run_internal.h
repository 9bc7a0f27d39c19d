/* run_internal.h - what the files of the supervisor's loop share; nobody else includes it. */
#pragma once

#include <sys/types.h>

#include "agent/supervisor/blackbox.h"
#include "agent/supervisor/cgroup.h"
#include "agent/supervisor/child.h"
#include "agent/supervisor/exits.h"
#include "agent/supervisor/kills.h"
#include "agent/supervisor/order.h"
#include "agent/supervisor/output.h"
#include "agent/supervisor/run.h"
#include "agent/supervisor/soft.h"
#include "agent/supervisor/state.h"

#define SESSION_BYTES 600
#define UNSAID_ENDS   8u /* lines kept for a disk that takes none; then the oldest goes */

struct run {
	const struct run_options *o;
	struct policy policy;

	/* the command */
	struct child child; /* pid 0: it does not run */
	char life[LIFE_BYTES];
	uint32_t chance; /* in all of its lives: what tells us from another one of our pid */
	uint64_t start_ticks;
	bool order_refused;   /* and said so */
	struct listen listen; /* where its server can be asked */
	struct output out;
	uint64_t started_ns, restart_ns; /* restart_ns: when it starts again, 0 not */
	enum asked asked;
	unsigned starts;
	bool port_taken, listened; /* by somebody before it; by it */
	struct supervised said;    /* RUN_DIR/supervisor-PID */
	int said_fd;
	bool said_failed;            /* and said so */
	bool notify_failed;          /* and said so */
	char session[SESSION_BYTES]; /* ComfyUI-Manager's mark is this and ".reboot" */

	struct exit_record unsaid[UNSAID_ENDS]; /* lines that the disk did not take, oldest first */
	unsigned unsaid_count;

	/* its memory */
	struct cgroup group;
	const char *method; /* cgroup1, cgroup2, watch, none */
	char why[CGROUP_WHY_BYTES];
	uint64_t sample_ns, second_ns;
	unsigned samples;
	struct walked {
		uint64_t bytes;        /* of all of it, at the last walk */
		uint64_t shared_bytes; /* counted more than once, as far as known */
		uint64_t shares_ns;    /* when that is looked at again */
		pid_t largest;
		uint64_t largest_bytes;
		bool over; /* the limit, at the last look */
	} tree;
	struct kills kills;
	struct blackbox *box;

	/* the soft limit */
	struct soft soft;
	pid_t relief;         /* a helper that asks */
	unsigned relief_life; /* and in whose life */
	uint64_t held_bytes;  /* what no kernel takes back */
	bool stalled;         /* by memory.high, for too long */
	uint64_t stall_us, stall_seen_ns, stall_ns;

	/* stopping */
	bool stopping;
	uint64_t stop_ns; /* when we were told */
	pid_t drainer;
	uint64_t kill_ns; /* when patience ends, 0 never */

	/* the agent */
	pid_t agent;
	uint64_t agent_ns, agent_started_ns; /* agent_ns: when to look again, 0 never */

	bool typing; /* standard input is a terminal that is handed on */
	bool done;
	int code;
};

/* said.c */
void said_open(struct run *r);
/* Made anew when somebody has removed it, each second. */
void said_keep(struct run *r);
/* Whenever something of it has changed. */
void said_write(struct run *r);
void said_close(struct run *r);

/* ending.c */
void life_ended(struct run *r, int status);
/* Lines that the disk has not taken yet: each second, and at our end. */
void life_say_again(struct run *r);

/* life.c */
void life_start(struct run *r);
void life_finish(struct run *r, int code);
uint32_t life_chance(void);
/* Is it to be restarted, as the collector sees it? Each second. */
void life_look_for_order(struct run *r);
/* It is to end, and by the policy to start again. */
void life_obey(struct run *r, const struct order *order);
/* One that was given while nobody could have answered. */
void life_ignore_order(struct run *r);
/* Begin to stop it; when somebody insists, without patience. */
void life_stop(struct run *r, int signal);
void life_drained(struct run *r);
/* Patience has ended. */
void life_kill(struct run *r, enum asked why);

/* watch.c */
void watch_open(struct run *r);
void watch_begin(struct run *r); /* a new process */
void watch_sample(struct run *r, uint64_t now_ns);
void watch_evidence(struct run *r, struct evidence *e);

/* relief.c */
void relief_set_high(struct run *r);
void relief_begin(struct run *r); /* a new process */
void relief_look(struct run *r, uint64_t now_ns);
void relief_answered(struct run *r, int status);

/* beside.c */
void beside_start(struct run *r, uint64_t now_ns);
void beside_ended(struct run *r, uint64_t now_ns);
void beside_stop(struct run *r);
