/*
 * jobs.h - jobs and nodes that ran, with what they held: what the picture shows
 * below its curve.  Not locked: its owner's lock.  The newest JOBS_MAX and
 * NODES_MAX; the memory is asked for once and touched as it fills.
 *
 * A node that was shorter than the time between two samples and returned less
 * than a megabyte is left out: a graph of hundreds would push out what matters.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/process.h"

#define JOBS_MAX      512u
#define NODES_MAX     2048u
#define RAN_UNKNOWN   UINT64_MAX
#define RAN_TOP_BYTES 240u

enum ran_number {
	RAN_PEAK,     /* highest RSS that was seen within its time */
	RAN_GPU_PEAK, /* of the device whose peak is the highest, whoever held it */
	RAN_OUTPUTS,  /* of a node: what it returned; of a job: what the executor kept at its end */
	RAN_OUTPUTS_GPU,
	RAN_MODELS,
	RAN_MODELS_GPU,
	RAN_UNACCOUNTED, /* resident at its end and none of these */
	RAN_NUMBERS
};

struct ran {
	uint64_t pid, start_ticks;
	bool earlier_boot, unfinished, cached;
	bool partial; /* not all that it held was looked at */
	uint64_t span_id;
	uint32_t prompt;             /* a job and its nodes have the same */
	uint32_t gpu;                /* of RAN_GPU_PEAK, torch's index */
	int64_t from_ns, to_ns;      /* CLOCK_MONOTONIC; to 0: it runs */
	uint64_t bytes[RAN_NUMBERS]; /* RAN_UNKNOWN */
	char id[65], name[64];       /* prompt id and workflow; node id and class */
	char status[16];             /* "success", "error" ... */
	char top[RAN_TOP_BYTES];     /* of a job: the largest results, as the probe says it */
};

struct jobs {
	struct ran_ring {
		struct ran *of;
		uint32_t cap, first, count;
	} jobs, nodes;
};

MUST_CHECK enum err jobs_init(struct jobs *j);
void jobs_fini(struct jobs *j);

/* What a record says. False: not of a job or node. */
bool ran_from(struct ran *r, const struct span_seen *s);
/* Worth a place? */
bool ran_matters(enum span_kind kind, const struct ran *r);
/* The newest; what is known of the same span is replaced. */
void jobs_put(struct jobs *j, enum span_kind kind, const struct ran *r);
/* It has ended and does not matter: nor does it that it had begun. */
void jobs_drop(struct jobs *j, enum span_kind kind, const struct ran *r);
/* By age, 0 the oldest. */
const struct ran *ran_at(const struct ran_ring *ring, uint32_t i);
bool ran_of(const struct ran *r, uint64_t pid, uint64_t start_ticks, bool earlier_boot);
/* Is this node of that job?  A client may repeat a prompt id. */
bool ran_within(const struct ran *node, const struct ran *job);
