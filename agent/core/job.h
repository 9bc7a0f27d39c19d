/*
 * job.h - one job of ComfyUI as the journal keeps it.  A plain value.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/err.h"
#include "schema/frame.h"

/* Numbers are kept in databases: only ever added. Names: job_state_name. */
enum job_state {
	JOB_QUEUED = 0,
	JOB_RUNNING = 1,
	JOB_SUCCEEDED = 2,
	JOB_FAILED = 3,
	JOB_INTERRUPTED = 4,
	JOB_CANCELLED = 5,
	JOB_LOST = 6,
	JOB_RESUBMITTED = 7,
	JOB_STATES
};
/* As in schema/names.def; "unknown" for what is no state. */
const char *job_state_name(enum job_state s);
/* False when it is the name of none. */
bool job_state_find(const char *name, enum job_state *out);
/* It stays: all but queued and running. */
bool job_state_is_final(enum job_state s);

struct job_row {
	int64_t id;       /* 0: new */
	uint64_t version; /* set by job_put: grows with every change of any job, never repeats */
	int64_t probe;    /* row of the probe */
	uint8_t boot_id[FRAME_PROBE_ID_BYTES]; /* the probe's id: one life of ComfyUI */
	uint64_t trace_hi, trace_lo;
	uint64_t wait_span, run_span; /* ids of its spans, 0 not seen */
	int64_t item;                 /* of ComfyUI's queue, -1 unknown */
	uint64_t thread;              /* that runs it, 0 unknown */
	enum job_state state;
	int32_t signal;    /* that ended its process, 0 none */
	bool device_error; /* it failed by an error of the device (CUDA) */
	uint64_t queued_real_ns, started_real_ns, ended_real_ns; /* 0: not, or not yet */
	uint64_t peak_rss_bytes;                                 /* 0 unknown */
	uint32_t nodes, executed, cached;

	/* UTF-8, terminated; "" unknown or none */
	char prompt_id[65];
	char reason[64];    /* of a final state other than succeeded */
	char certainty[16]; /* of a reason that is a verdict: certain, likely, unsure */
	char node_id[65];   /* that failed, or was at work when the process died */
	char node_class[128];
	char error_type[64]; /* class of its exception */
	char workflow[192];
	char death[96]; /* name of the black box */
	char body[96];  /* file with the prompt, for resubmission; local */
};

/* Which jobs; all fields 0: every one, newest first. */
struct job_filter {
	uint32_t states;        /* bit 1 << state; 0: all */
	uint64_t since_real_ns; /* queued at or after */
	const char *prompt_id;  /* NULL: any */
	bool prompt_begins;     /* prompt_id is how it begins; newest first only */
	int64_t probe;          /* 0: any */
	bool oldest_first;      /* by id */
	uint32_t limit;         /* 0: none */
};

/* Anything but E_OK ends the walk and is its result. The row is good during the call only. */
typedef enum err (*job_fn)(void *ctx, const struct job_row *job);

/* How an attempt to tell a webhook has ended. */
enum notice_end {
	NOTICE_DONE,    /* told, or given up: it goes */
	NOTICE_AGAIN,   /* the far end could not */
	NOTICE_REFUSED, /* it would not; yet it is asked again */
};

/* A final state that a webhook has not been told yet. */
struct notice_row {
	int64_t id;
	int64_t job;
	enum job_state state;
	uint32_t attempts; /* that failed */
	uint32_t refusals; /* of them: the far end said no */
};
