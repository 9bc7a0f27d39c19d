/*
 * status.h - what the agent says about itself, and how another room asks it.
 * control and cli render it; the service fills it.  No third party, no locks
 * here: a snapshot is a plain value, taken at one moment on the pipeline's
 * thread, so that its counters belong together.
 */
#pragma once

#include "agent/core/export.h"
#include "agent/core/intake.h"
#include "agent/core/metrics.h"
#include "agent/core/process.h"
#include "agent/core/supervised.h"
#include "agent/core/webhook.h"

#define STATUS_DESTINATIONS 8u
#define STATUS_PROBES       64u /* newest first; probe_total says how many there are */
#define STATUS_REJECTED     32u
#define STATUS_SUPERVISORS  8u

enum agent_state {
	AGENT_OK,
	AGENT_LOCAL,    /* never reached a Datadog agent and nobody asked for one */
	AGENT_OFFLINE,  /* a destination cannot be reached or holds */
	AGENT_DEGRADED, /* the store is volatile, failing or full */
};
/* How one ComfyUI is; the worst that holds, worst last. */
enum health_state {
	HEALTH_UNKNOWN,  /* its process cannot be looked at */
	HEALTH_STARTING, /* HTTP has not answered yet */
	HEALTH_WELL,
	HEALTH_NO_PROGRESS,   /* the running job says nothing for too long */
	HEALTH_HTTP_SILENT,   /* it lives and does not answer */
	HEALTH_CUDA_POISONED, /* every job fails by an error of the device */
	HEALTH_ZOMBIE,        /* the thread that runs jobs is dead, the process is not */
	HEALTH_STATES,
};
/* "unknown" "starting" "well" "no_progress" "http_silent" "cuda_poisoned" "zombie". */
const char *health_state_name(enum health_state s);
/* It will not come back to work by itself; a job without progress may be a long one. */
bool health_state_is_broken(enum health_state s);
/* "ok" "local" "offline" "degraded". */
const char *agent_state_name(enum agent_state s);
/* "ok" "unknown" "offline" "hold" "local". */
const char *destination_state_name(enum destination_state s);
/* "trace" "profile" "metric" "log". */
const char *signal_name(enum signal s);
/* "too_large" "malformed" "store_full" ... */
const char *drop_reason_name(enum drop_reason r);
/* "ring_full" "arena_full" "open_full" "torn" "too_large" "fork" "off" "other". */
const char *loss_name(enum wire_loss l);

struct status_destination {
	char name[64];
	char url[512]; /* without user and password */
	enum destination_kind kind;
	struct destination_status now;
	uint64_t queued;          /* chunks */
	uint64_t oldest_queued_s; /* age, 0 when nothing is queued */
};

struct status_probe {
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint64_t pid;
	bool alive; /* a connection is open */
	bool closed;
	bool ringless; /* it lives, and its ring was removed: a kill would cost what it holds */
	uint64_t spans, end;
	uint64_t losses[WIRE_LOSS_COUNT];
	uint64_t seen_real_ns;
	bool hooks_known;
	struct processor_hooks hooks;
	uint32_t attrs_bytes; /* what it said of itself (wire_attr_next) */
	uint8_t attrs[FRAME_ATTRS_MAX_BYTES];
};

/* Over the last minute, or since the start. */
struct status_rates {
	uint64_t window_ms; /* 0: too early to say */
	double received_per_s, sent_per_s;
};

/* The journal's copy for strangers. */
struct status_jobs_db {
	uint64_t behind;   /* jobs that it does not show as they are; counted up to 1,000 */
	char problem[128]; /* why, "" when it is not behind */
};

/* Files of ours that somebody took away, since the start. */
struct status_upkeep {
	uint64_t run_dir_remade;   /* times that a socket was made anew */
	uint64_t buffer_rewritten; /* times that the buffer was */
	char problem[160];         /* what is still missing, and why */
};

struct status_rejected {
	enum signal signal;
	int status;
	uint64_t spans;
};

/* Since the agent's start, unless the store keeps them. */
struct status_work {
	uint64_t turns, commits, commit_failures;
	uint64_t batches, repeats, gaps, malformed, bytes;
	uint64_t salvaged_rings, salvaged_spans, unfinished_spans, salvage_torn;
	uint64_t lost[WIRE_LOSS_COUNT]; /* inside probes, as far as they have told us */
	uint64_t raw_backlog;           /* batches stored and not yet thought about */
	uint64_t open_spans;
	uint64_t cpu_ns; /* of the pipeline's thread */
	bool paused;     /* intake waits: the store is full or failing */
};

/* Of the agent's own process. */
struct status_self {
	uint64_t rss_bytes; /* 0: the kernel does not say */
	uint64_t cpu_ns;
};

#define STATUS_PROCESSES 16u

struct status_process {
	uint64_t pid;
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	char life[64]; /* "" when nobody supervises it */
	enum health_state state;
	char why[200];
	uint64_t since_s;    /* in this state */
	uint16_t port;       /* of its HTTP, 0 not found */
	char address[48];    /* of that port, "127.0.0.1" or "::1" and such */
	bool tls;            /* it speaks TLS: that it answers is known, not what */
	uint64_t answered_s; /* age of the newest question that was answered; when port != 0 */
	uint64_t silent_s;   /* for so long a question has waited for its answer, 0: none has */
	uint64_t worker;     /* thread id, 0 not known */
	bool worker_alive;
	bool busy; /* a job runs */
	char prompt_id[65];
	uint64_t quiet_s; /* since its last record */
	uint32_t device_failures;
	bool restart_asked;
};

/* What was observed of the ComfyUIs that live. */
struct status_health {
	bool healthy;    /* none of them is broken */
	char wrong[512]; /* those that are, and by what */
	bool ready;      /* one of them is up and takes jobs */
	char why[240];   /* not */
	struct status_process processes[STATUS_PROCESSES];
	size_t process_count;
	uint64_t unwatched;          /* beyond these */
	uint64_t ill[HEALTH_STATES]; /* times that a state was entered, since the start */
	uint64_t restarts_asked, restarts_failed;
	uint64_t looks, cpu_ns; /* of the observer */
};

/* Where health is answered beside the control socket. */
struct status_health_port {
	uint16_t port;     /* as configured, 0: off */
	bool open;         /* to others than this host's own */
	char at[128];      /* "127.0.0.1:8127, [::1]:8127", "" when it is nowhere */
	char problem[160]; /* why */
};

/* Ends of ComfyUI's processes that were told since the start. */
#define STATUS_VERDICTS 32
struct status_ends {
	const char *verdict; /* constant text */
	uint64_t count;
};

struct status_snapshot {
	char version[32];
	uint64_t pid, uptime_s;
	enum agent_state state;
	char reason[160]; /* of degraded or offline, "" otherwise */
	char run_dir[256], data_dir[256];
	struct store_stats store;
	struct status_destination destinations[STATUS_DESTINATIONS];
	size_t destination_count;
	struct status_probe probes[STATUS_PROBES];
	size_t probe_count, probe_total;
	struct status_rejected rejected[STATUS_REJECTED];
	size_t rejected_count;
	uint64_t oldest_queued_s; /* of all that waits, 0 when nothing does */
	struct receiver_stats receiver;
	uint64_t jobs[JOB_STATES];       /* in the journal */
	uint64_t jobs_ended[JOB_STATES]; /* since the start: that came to this end */
	struct webhook_status webhook;
	struct status_work work;
	struct status_jobs_db jobs_db;
	struct status_upkeep upkeep;
	struct status_rates rates;
	struct supervised supervisors[STATUS_SUPERVISORS];
	size_t supervisor_count;
	struct status_ends ends[STATUS_VERDICTS]; /* every verdict, in an order that stays */
	size_t verdict_count;
	struct status_health health;
	struct status_health_port health_port; /* filled in by control */
	struct memory_now memory;
	struct metrics_status metrics;
	struct status_self self;
};

/*
 * Runs on the pipeline's thread between two transactions; may read the store
 * and the processor, must not change them, must be quick (bounded rows).
 */
typedef enum err (*agent_query_fn)(void *ctx, struct store *st, struct processor *p);

/*
 * The same, and may change jobs by the journal's own calls; what it changed is
 * written by the transaction that follows.
 */
struct journal;
struct outbuf;
typedef enum err (*agent_journal_fn)(void *ctx, struct store *st, struct journal *j);

/* The running agent as other rooms see it: any thread, each call waits for the pipeline. */
struct agent_view {
	void *agent;
	/* Fill a snapshot. E_TIMEOUT: the pipeline did not answer in time; E_STATE: stopping. */
	enum err (*status)(void *agent, struct status_snapshot *out);
	/* Run fn; its result, E_TIMEOUT (fn will not be called later) or E_STATE. */
	enum err (*query)(void *agent, agent_query_fn fn, void *ctx, uint64_t timeout_ms);
	/* Memory over time, one JSON object; waits for nobody. */
	enum err (*memory)(void *agent, const struct memory_query *q, struct outbuf *out);
	/* All metrics for who scrapes them, as text. */
	enum err (*metrics)(void *agent, struct outbuf *out);
	enum err (*act)(void *agent, agent_journal_fn fn, void *ctx, uint64_t timeout_ms);
	/* How the ComfyUIs are, without waiting for anybody. */
	void (*health)(void *agent, struct status_health *out);
	/* Try all destinations now. */
	void (*retry_now)(void *agent);
};
