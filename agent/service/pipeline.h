/*
 * pipeline.h - inside of the service: the one thread that owns store and
 * processor, and moves everything between receiver, store, processor and
 * exporter.
 *
 * One turn is one transaction: batches in, step of the processor out,
 * settlements.  Replies go after its commit, never before.  When it fails, all
 * of it is kept in memory and tried again; nothing was promised.
 */
#pragma once

#include "agent/base/thread.h"
#include "agent/core/salvage.h"
#include "agent/core/status.h"
#include "agent/core/webhook.h"
#include "agent/health/health.h"
#include "agent/journal/journal.h"
#include "agent/memory/memory.h"
#include "agent/service/upkeep.h"
#include "agent/store/projection.h"
#include "agent/supervisor/exits.h"

#define PIPELINE_GROUP_BYTES  (1u << 20) /* of batches in one transaction */
#define PIPELINE_GROUP_ITEMS  256u
#define PIPELINE_RESULTS      EXPORT_CHUNKS_MAX
#define PIPELINE_KNOWN        32u /* probes whose rows are at hand */
#define PIPELINE_BACKLOG_ROWS 64u
#define PIPELINE_ENDS         64u /* of processes that nobody supervised, waiting to be told */
#define PIPELINE_SAMPLES      13u /* of the counters, one with each look at the rings */

/* What a transaction has learnt; counted with its commit, as it may be tried again. */
struct learnt {
	uint64_t batches, repeats, gaps, malformed;
	uint64_t lost[WIRE_LOSS_COUNT]; /* inside probes */
};

/* A frame taken from the inbox; stays until the transaction with it is durable. */
struct pending {
	struct intake_item item;
	bool fed;   /* the processor has it already (an earlier try failed later) */
	bool reply; /* to be sent after the commit */
	struct wire_stored stored;
};

struct rate_sample {
	uint64_t mono_ns, received, sent;
};

struct known_probe {
	struct probe_row row;
	uint64_t used; /* turn */
	bool valid;
};

/* The end of a process that only its ring tells of. */
struct due_end {
	int64_t probe;
	uint64_t end_real_ns, uptime_ms;
};

/* Ends of processes: up to where they are told, and the one whose turn it is. */
struct ends {
	char told[LIFE_BYTES]; /* of the exits, the last one */
	struct due_end due[PIPELINE_ENDS];
	size_t due_count;
	uint64_t told_now;            /* since the start */
	uint64_t counts[CAUSE_COUNT]; /* of them, those that were ends */
	enum cause cause;             /* END_FED: of this one; CAUSE_COUNT: it was none */
	bool noted;                   /* the last of `due` came with the transaction that is open */

	enum { END_NONE, END_FOUND, END_READY, END_FED } state;
	bool is_due; /* due[at], else `exit` */
	size_t at;
	enum due_verdict { DUE_LATER, DUE_NOTHING, DUE_LOST, DUE_REPLACED } verdict;
	bool pointless; /* too old, or no end at all: only to be passed */
	int64_t probe;  /* END_READY: whose process it was */
	struct exit_record exit;
	uint64_t patience_ns; /* until then its ring is waited for */
	uint64_t seen[3];     /* of the file of exits, when there was no more in it */
};

struct query {
	agent_query_fn fn; /* one of the two */
	agent_journal_fn journal_fn;
	void *ctx;
	enum err result;
	enum { QUERY_NONE, QUERY_ASKED, QUERY_RUNS, QUERY_DONE } state;
};

struct pipeline {
	/* owned by the service, set before pipeline_start */
	struct store *store;
	struct processor *processor;
	struct journal *journal;
	struct memory *memory;         /* NULL: nobody samples */
	struct projection *projection; /* NULL: none is made */
	struct health *health;
	struct receiver *receiver;
	struct exporter *exporter; /* NULL: no destination, history is the end */
	struct webhook *webhook;   /* NULL: nobody is told of jobs */
	uint64_t notice_age_s;     /* older ones are of no use to anybody; 0: any is */
	uint64_t end_age_s;        /* the same of ends of processes */
	const struct destination_options *destinations;
	int32_t destination_ids[STATUS_DESTINATIONS];
	size_t destination_count;
	const char *run_dir, *data_dir;
	void (*told_gone)(void *ctx); /* NULL: nobody asked */
	void *told_ctx;
	void (*missing)(void *ctx); /* a file of ours is gone; NULL: nobody would make it anew */
	void *missing_ctx;

	struct thread thread;
	struct waker waker;
	uint64_t started_mono_ns;

	/* the turn; pipeline's thread only */
	struct pending pending[PIPELINE_GROUP_ITEMS];
	size_t pending_count, stored_count; /* the first stored_count are in this transaction */
	struct export_result results[PIPELINE_RESULTS];
	size_t result_count;
	struct webhook_result told; /* of the webhook, until it is committed */
	bool has_told;
	int64_t backlog_ids[PIPELINE_BACKLOG_ROWS]; /* fed, to be deleted */
	size_t backlog_count;
	int64_t backlog_after; /* highest raw id fed from the store */
	bool memo;             /* what health knows is in this transaction */
	bool backlog;          /* raw rows wait in the store: new batches queue behind them */
	unsigned salvages;     /* of the store, as the processor knows it */
	bool begin_again;      /* the processor is reset and restored before the next turn */
	bool transaction;
	struct known_probe known[PIPELINE_KNOWN];
	struct learnt learnt;
	bool told_newer; /* of a ring that only a newer collector can read */
	bool gone; /* a probe was closed: the processor hears of it when the backlog is empty */
	uint64_t turn;
	bool full;                /* intake is paused */
	bool room;                /* something has left the store since it was found full */
	uint64_t retry_mono_ns;   /* after a failure: not before; 0 none */
	uint64_t step_mono_ns;    /* the processor wants a call then; 0 none */
	uint64_t lease_mono_ns;   /* a delivery is due then; 0 none */
	uint64_t notice_mono_ns;  /* a notice is due then; 0 none */
	uint64_t notices_expired; /* let go for their age, since the start */
	int64_t real_ahead_ns;    /* most that the wall clock was ahead of the monotonic one */
	int64_t real_least_ns;    /* and the least */
	uint64_t scan_mono_ns;    /* next look at the rings */
	uint64_t scan_again_ns;   /* a probe has left: looked at again after this, 0 not */
	uint64_t probes_left;     /* as the receiver counts them */
	uint64_t patience_ns;     /* until then a supervisor's word is waited for, 0 nobody's */
	uint64_t project_mono_ns; /* jobs.db is to be brought up to date then, 0 not */
	struct projection_state projected;
	struct ends ends;
	struct upkeep upkeep;
	struct status_upkeep upkept;
	uint64_t maintain_mono_ns;                    /* next store_maintain */
	bool draining;                                /* stop asked: no more input */
	struct rate_sample samples[PIPELINE_SAMPLES]; /* a ring, sample_count in all */
	uint64_t sample_count;

	/* shared; lock */
	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct query *query;
	struct status_work work;
	bool stopped;
	bool quiet;              /* no connection, nothing queued that can be sent */
	uint64_t quiet_since_ns; /* monotonic */
};

/* Before the receiver starts: segments into the processor, destinations, dead rings. */
MUST_CHECK enum err pipeline_init(struct pipeline *p);
MUST_CHECK enum err pipeline_start(struct pipeline *p);
/* Take what is in the inbox, step once more, end. Idempotent. */
void pipeline_stop(struct pipeline *p);
void pipeline_fini(struct pipeline *p);
void pipeline_wake(void *p);
/* Before a stop, while all still runs: who has died by now is told of, within the time. */
void pipeline_last_look(struct pipeline *p, uint64_t timeout_ms);
/* For how long nothing has happened that keeps an autostarted agent alive; 0: it is needed. */
uint64_t pipeline_quiet_ns(struct pipeline *p);
MUST_CHECK enum err pipeline_query(
    struct pipeline *p, agent_query_fn fn, void *ctx, uint64_t timeout_ms);
/* What fn has changed is durable when this returns E_OK; else it may become so later. */
MUST_CHECK enum err pipeline_act(
    struct pipeline *p, agent_journal_fn fn, void *ctx, uint64_t timeout_ms);
MUST_CHECK enum err pipeline_status(struct pipeline *p, struct status_snapshot *out);
/* The same after pipeline_stop. */
MUST_CHECK enum err pipeline_last_status(struct pipeline *p, struct status_snapshot *out);
/* Into a snapshot what the store has counted over all runs. The store's thread. */
MUST_CHECK enum err snapshot_counters(struct store *st, struct status_snapshot *s);

/* Of the processor, for those who follow the jobs (processor_seen_fn; ctx is the pipeline). */
void pipeline_saw(void *ctx, const struct span_seen *s);

/* ---- parts of a turn (intake.c, deliver.c, notices.c, rings.c) --------------------- */

MUST_CHECK enum err pipeline_begin(struct pipeline *p); /* once a turn, when first needed */
/* Rows of probes. The pointer is good until the end of the turn. */
MUST_CHECK enum err pipeline_probe(
    struct pipeline *p, const uint8_t probe_id[FRAME_PROBE_ID_BYTES], struct probe_row **out);
MUST_CHECK enum err pipeline_probe_known(
    struct pipeline *p, const struct probe_row *row, struct probe_row **out);
/* A transaction failed: what the rows say is not what the store says. */
void pipeline_forget_probes(struct pipeline *p);

/* A probe's row has changed: what it has lost since. */
void pipeline_lost(
    struct pipeline *p, const uint64_t before[WIRE_LOSS_COUNT], const struct probe_row *row);
/* The transaction has ended: what it has learnt is counted, or forgotten. */
void pipeline_count(struct pipeline *p, bool committed);

MUST_CHECK enum err intake_collect(struct pipeline *p); /* inbox -> pending */
MUST_CHECK enum err intake_store(struct pipeline *p);   /* pending -> rows and processor */
MUST_CHECK enum err intake_backlog(struct pipeline *p); /* raw rows -> processor */
void intake_reply(struct pipeline *p);
void intake_done(struct pipeline *p); /* committed: forget what is stored */

void deliver_collect(struct pipeline *p); /* results -> memory */
MUST_CHECK enum err deliver_settle(struct pipeline *p);
void deliver_done(struct pipeline *p);
void deliver_lease(struct pipeline *p);
/*
 * The wall clock as it would be had it never been set back: a rest that was
 * written with the later time ends when it should.  That a rest is not cut
 * short either is the exporter's, which counts on the monotonic clock.
 */
uint64_t deliver_clock(struct pipeline *p);
/* As it would be had it never been set forward: what waits is not old for a leap. */
uint64_t deliver_age_clock(struct pipeline *p);

/* What the webhook said of the notice it had, into the transaction. */
MUST_CHECK enum err notices_settle(struct pipeline *p);
/* After a turn that went well: the next notice that is due, to the webhook. */
void notices_next(struct pipeline *p);
/* Before the start, where no webhook is configured: those of an earlier run would wait, and keep
 * their jobs, for ever. */
void notices_forget(struct pipeline *p);

/* Remember the counters now and then; what they say of the last minute (rates.c). */
void rates_sample(struct pipeline *p);
void rates_now(const struct pipeline *p, const struct store_stats *now, struct status_rates *out);

/* What this process itself takes (self.c). Any thread. */
void self_now(struct status_self *out);

/* The observer of health: who lives at the start, and what must outlive us (wellbeing.c). */
void wellbeing_begin(struct pipeline *p);
MUST_CHECK enum err wellbeing_keep(struct pipeline *p);
void wellbeing_kept(struct pipeline *p); /* committed */

/* Look at the run directory: salvage the dead, tell the processor who is gone. True: one of them
 * is left alone until its supervisor has spoken. */
bool rings_scan(struct pipeline *p);

/* Is there a ring of that probe in the run directory? */
bool rings_has(const struct pipeline *p, const uint8_t id[FRAME_PROBE_ID_BYTES]);

/*
 * A span for each end of a process (ends.c), once: what is told is remembered in the transaction
 * that holds the span.  Find one before a look at the rings, settle whose it is after it, tell
 * it in a turn.
 */
void ends_begin(struct pipeline *p);
void ends_find(struct pipeline *p);
bool ends_settle(struct pipeline *p); /* true: look again soon */
MUST_CHECK enum err ends_tell(struct pipeline *p);
void ends_told(struct pipeline *p); /* committed */
/* The span of the one that is READY, into the processor (end_span.c); an id of its key. */
MUST_CHECK enum err ends_feed(struct pipeline *p);
uint64_t ends_id(char seed, const char *key);
/* In the transaction that salvages a ring: its end is to be told, unless the exits tell of it. */
/* A probe that never was: of a process that died before it could speak. */
bool ends_made(const struct probe_row *row);
bool ends_ready(const struct pipeline *p); /* a ring may be salvaged now */
MUST_CHECK enum err ends_note(
    struct pipeline *p, const struct probe_row *row, uint64_t last_mono_ns, bool retired);
void ends_noted(struct pipeline *p, bool committed);

/* The life that a probe belongs to; false: nobody supervises it. */
bool deaths_life(const struct probe_row *row, char *life, size_t cap);
/* What is known about the end of a dead ring's process. True: more will be known in a moment. */
MUST_CHECK bool deaths_wait(
    struct pipeline *p, const struct probe_row *row, struct salvage_evidence *out);
/* The same for the journal (journal_death_fn; ctx is the pipeline). */
void deaths_ask(void *ctx, int64_t probe, struct journal_death *out);
