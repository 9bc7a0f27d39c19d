/*
 * journal.h - every job from queued to its end, kept from the records of its
 * spans.  A plain object without threads or locks: the pipeline's thread
 * drives it beside the processor.
 *
 *	journal_see(...)	while batches are fed: a record of a wait, a job, a node
 *	journal_gone(...)	a probe has ended for good
 *	journal_write(...)	rows that changed, into the transaction that is open
 *	journal_commit(...)	it is durable
 *	journal_abort(...)	it failed: nothing of it happened, write again later
 *	journal_reset(...)	the processor begins again: what is on disk is the truth
 *
 * Memory: at most JOURNAL_ROWS_MAX rows are at hand, those that are not dirty
 * may be let go and are read again from the store.
 */
#pragma once

#include "agent/core/job.h"
#include "agent/core/process.h"

#define JOURNAL_ROWS_MAX 64u /* kept between two transactions; within one, what it needs */

struct journal;

/* How the process of a probe ended, as far as somebody knows. */
struct journal_death {
	bool known;
	char reason[32];    /* "oom_cgroup" ... */
	char certainty[16]; /* "certain", "likely", "unsure" */
	int signal;         /* 0: none */
	uint64_t at_real_ns, peak_bytes;
	char id[96]; /* of its black box, "" none */
};
typedef void (*journal_death_fn)(void *ctx, int64_t probe, struct journal_death *out);

struct journal_options {
	struct store *store; /* read at any time, written by journal_write alone */
	bool notices;        /* final states are told to a webhook */
	/* Asked when records say that a process did not live to finish them. NULL: nobody knows. */
	journal_death_fn death;
	void *death_ctx;
};

MUST_CHECK enum err journal_new(const struct journal_options *o, struct journal **out);
void journal_free(struct journal *j);

/*
 * A record.  Its probe's row must be in the store.  What fails here (memory, a read) is
 * remembered: journal_write returns it, and the transaction must not be committed.
 */
void journal_see(struct journal *j, const struct span_seen *s);
/* The probe's ring is gone: its jobs that are still open end now. Harmless when repeated. */
void journal_gone(
    struct journal *j, int64_t probe, const uint8_t boot_id[16], uint64_t now_real_ns);
/*
 * Somebody has put a waiting job of a dead process into the queue again
 * (JOB_RESUBMITTED), or has given that up (JOB_LOST).  E_NOTFOUND: no such job;
 * E_STATE: it does not wait for that.  Harmless when repeated until it is durable.
 */
MUST_CHECK enum err journal_resolve(
    struct journal *j, int64_t job, enum job_state state, const char *reason, uint64_t now_real_ns);
/*
 * The job that this probe's process was running when it ended, as far as records
 * have told: the one that began last.  False: none.  The row may not be in the store yet.
 */
bool journal_ended_with(struct journal *j, int64_t probe, struct job_row *out);
/* Is there something to write? */
bool journal_dirty(const struct journal *j);
MUST_CHECK enum err journal_write(struct journal *j);
/* It has missed something: only a reset, and what follows it, makes it whole. */
bool journal_failed(const struct journal *j);
void journal_commit(struct journal *j);
void journal_abort(struct journal *j);
void journal_reset(struct journal *j);

struct journal_counts {
	uint64_t seen, written, orphans; /* orphans: records that no job could be found for */
	uint64_t ended[JOB_STATES];      /* by the state that ended them */
};
void journal_counts(const struct journal *j, struct journal_counts *out);
