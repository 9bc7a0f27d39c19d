/*
 * common.h - what both stores share: the head of the object, counters, leases,
 * the set of destinations, limits.  Pure bookkeeping in memory, the owner's
 * thread only.
 *
 * Always true between two calls: now.v[s][QUEUED] is the sum of spans of all
 * raw, segment and unfinished chunk rows; a lease that is not settled belongs
 * to a chunk with an open delivery row.
 */
#pragma once

#include "agent/core/store.h"
#include "agent/store/store.h"

#define STORE_DESTINATIONS_MAX 32
#define STORE_REJECTED_MAX     48
#define STORE_LEASES_MAX       4096
#define STORE_META_JOBS_DB     "jobs.db" /* which buffer this is, for jobs.db */
#define STORE_BLOB_MAX         (8u * 1024 * 1024)

/* Counters of a signal; dropped reasons follow at COUNT_DROPPED + reason. */
enum count_name {
	COUNT_RECEIVED,
	COUNT_SENT,
	COUNT_SAMPLED_OUT,
	COUNT_QUEUED,
	COUNT_DROPPED,
	COUNT_NAMES = COUNT_DROPPED + DROP_REASONS,
};

/* Figures of the whole store. */
enum total_name {
	TOTAL_RAW_ROWS,
	TOTAL_SEGMENT_ROWS,
	TOTAL_CHUNK_ROWS,
	TOTAL_HISTORY_BYTES,
	TOTAL_QUARANTINED,
	TOTAL_NAMES,
};

struct counters {
	uint64_t v[SIGNAL_COUNT][COUNT_NAMES];
	uint64_t total[TOTAL_NAMES];
	struct {
		int64_t signal, status;
		uint64_t spans;
	} rejected[STORE_REJECTED_MAX]; /* the last four take what does not fit, as status 0 */
	uint64_t open[STORE_DESTINATIONS_MAX]; /* open delivery rows, by destination id - 1 */
};

struct lease_entry {
	int64_t chunk;
	int32_t destination;
	uint32_t spans;
	enum signal signal;
	bool settled; /* in the running transaction */
};

struct lease_table {
	struct lease_entry *entries;
	size_t n, cap;
};

struct destination_set {
	char names[STORE_DESTINATIONS_MAX][64];
	bool active[STORE_DESTINATIONS_MAX];
	size_t n; /* known; id is index + 1 */
};

struct store_common {
	struct store base;
	char error[STORE_ERROR_BYTES];
	struct store_limits limits;
	struct counters now, saved;
	struct destination_set dests, dests_saved;
	struct lease_table leases;
	bool in_txn;
	uint64_t clock_real_ns, clock_boot_ns; /* of the last age check */
	int64_t clock_skew_ns;
};

/* A delivery row in memory. */
struct delivery_row {
	int32_t destination;
	enum delivery_state state;
	uint32_t attempts;
	uint64_t next_try;
	int32_t status;
};

/* Fill in defaults and make the limits agree with one another. */
void limits_settle(struct store_limits *l, const struct store_limits *given, uint64_t cap_default);

/* Remember a line for store_last_error; returns e. */
enum err common_fail(struct store_common *c, enum err e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

void common_begin(struct store_common *c);
void common_commit(struct store_common *c);
void common_rollback(struct store_common *c);
void common_fini(struct store_common *c);

void count_rejected(struct counters *n, enum signal s, int32_t status, uint64_t spans);
uint64_t counters_rejected(const struct counters *n, enum signal s);
/* received = sent + sampled_out + queued + dropped + rejected */
bool counters_identity(const struct counters *n, enum signal s);
/*
 * A chunk has ended: take its spans out of `queued` and count what its rows
 * say (sent if any was sent, else rejected, else dropped for the given reason,
 * or for the reason in a row).  No rows: history was its destination, sent.
 */
enum delivery_state counters_end(struct counters *n, enum signal s, enum chunk_class class,
    uint32_t spans, const struct delivery_row *rows, size_t row_count);
/* The state a chunk's rows add up to; *open: some destination awaits it. */
enum delivery_state delivery_outcome(
    const struct delivery_row *rows, size_t n, bool *open, int32_t *status);

bool lease_held(const struct lease_table *t, int64_t chunk, int32_t destination);
/* How many destinations hold it now. */
size_t lease_count(const struct lease_table *t, int64_t chunk);
MUST_CHECK enum err lease_add(struct lease_table *t, const struct chunk_row *c, int32_t dest);
void lease_settled(struct lease_table *t, int64_t chunk, int32_t destination);
/* ... whoever holds it: the chunk is no more. */
void lease_settled_all(struct lease_table *t, int64_t chunk);
void lease_forget(struct lease_table *t, int32_t destination);
void lease_in_flight(const struct lease_table *t, uint64_t out[SIGNAL_COUNT]);

/*
 * Give each name its id (new names are appended, not active yet) and say which
 * of all known are wanted. E_INVAL: too many, a name too long, empty or twice.
 */
MUST_CHECK enum err destinations_plan(struct destination_set *d, const char *const *names, size_t n,
    int32_t *ids, bool wanted[STORE_DESTINATIONS_MAX]);

/* Can this batch follow what is stored? E_OK, E_EXISTS or E_GAP (agent/core/store.h, raw_put). */
enum err batch_follows(uint64_t stored_end, const struct wire_batch *b, bool strict);
/* Move a probe's end, losses, clocks and spans past a batch. */
void probe_advance(struct probe_row *p, const struct wire_batch *b);
/* Merge what a caller knows of a probe into its stored row (probe_put). */
void probe_merge(struct probe_row *stored, const struct probe_row *given);

/* Fill the part of the statistics that is in memory. */
void common_stats(const struct store_common *c, struct store_stats *out);

/* Tell of every status that rejected spans. */
void common_rejected(const struct store_common *c, store_rejected_fn fn, void *ctx);

/* May a row with this next try be leased now (agent/core/store.h, lease)? */
static inline bool
store_due(uint64_t next_real_ns, uint64_t now_real_ns)
{
	return next_real_ns <= now_real_ns || next_real_ns - now_real_ns > STORE_REST_MAX_NS;
}

/* ---- job_blob.c: a job as bytes, and back; what a later version adds is skipped. ---- */
#define JOB_BLOB_MAX 1280u
/* Everything but id, version, probe and state. Returns bytes, always at most JOB_BLOB_MAX. */
size_t job_encode(uint8_t p[JOB_BLOB_MAX], const struct job_row *j);
/* E_CORRUPT: no such bytes were ever written. */
MUST_CHECK enum err job_decode(const uint8_t *p, size_t n, struct job_row *out);
/* Does a filter want it (its limit aside)? */
bool job_wanted(const struct job_filter *f, const struct job_row *j);

/*
 * The time that ages are measured against.  A wall clock that leaps more than
 * 30 days against CLOCK_BOOTTIME was set, not lived through: such a leap is
 * taken out, so that a wrong clock evicts nothing.
 */
uint64_t common_age_clock(struct store_common *c, uint64_t now_real_ns);
