/*
 * store.h - the contract of the durable buffer.  Two implementations (SQLite,
 * RAM), one contract test.  All calls come from the pipeline's thread, the only
 * one that touches a store.
 *
 * What is in it: probes (who spoke, how far they are stored), raw batches (as
 * they came), segments (bundles of open traces), chunks (bundles ready to be
 * sent, and history), deliveries (chunk x destination), counters, and the journal
 * of jobs with what a webhook is still to be told.
 *
 * Every change happens between begin and commit; commit returns only when the change
 * is durable (power loss included, SQLite) or held (RAM: gone with the process, and
 * with it what was acknowledged on its word).  E_STATE: a begin inside of a
 * transaction, or a commit or maintain in the wrong place.
 * Any error inside a transaction: call rollback, nothing of it happened; only
 * E_EXISTS, E_GAP, E_NOTFOUND, E_INVAL and E_BUSY leave it usable as it was, and
 * E_FULL of raw_put when commit then says E_OK.  A call outside a transaction is
 * a transaction of its own.  A commit that failed has not happened for whoever
 * goes on with the store; for who opens it anew it may have, as with any death
 * before the answer.  After E_CORRUPT the next begin moves the file aside and
 * salvages it; ids of rows stay what they were, some rows may be gone.
 *
 * Identity, per signal, in one snapshot: received = sent + sampled_out + queued
 * + in_flight + dropped{} + rejected{}; the unit is finished or unfinished
 * spans.  The store adds up `queued` from its rows (raw + segments + chunks not
 * yet ended); the callers add the rest as counters in the same transaction as
 * the rows they change.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"
#include "agent/core/job.h"
#include "schema/wire.h"

struct store; /* begins with its ops */

/* No rest between two tries is longer. */
#define STORE_REST_MAX_NS (3600 * UINT64_C(1000000000))

/* jobs.db against the jobs of the buffer. What it lacks yet, or still has, is no damage. */
enum projection_is {
	PROJECTION_NOT_ASKED, /* there is none of this store */
	PROJECTION_ABSENT,
	PROJECTION_READ,
	PROJECTION_HELD, /* by somebody who writes to it */
	PROJECTION_UNREADABLE,
	PROJECTION_OF_ANOTHER, /* buffer */
};
struct store_check_projection {
	enum projection_is is;
	uint64_t equal, behind, differ; /* jobs; behind: changed since it was written last */
};

/* How far a check of all rows is and what it found; all zero begins. */
struct store_check {
	uint32_t table; /* the store's own: where to go on */
	int64_t after;
	uint64_t rows, bad; /* with a blob: good; checksum differs or not readable */
	bool done;
	bool identity; /* when done: received = sent + ... holds for each signal */
	bool recount;  /* when done: counters equal what the rows add up to */
	uint64_t jobs, notices, orphans; /* when done; orphans: notices of no job */
	struct store_check_projection jobs_db;
};

/* Counters that survive restarts, one row each, keyed by (signal, name, reason). */
enum signal { SIGNAL_TRACE = 0, SIGNAL_PROFILE = 1, SIGNAL_METRIC = 2, SIGNAL_LOG = 3 };
#define SIGNAL_COUNT 4

/* Reasons of `dropped`; names are in counters.def. */
enum drop_reason {
	DROP_TOO_LARGE,
	DROP_MALFORMED,
	DROP_STORE_FULL,
	DROP_TOO_OLD,
	DROP_DESTINATION_REMOVED,
	DROP_UNSUPPORTED,
	DROP_CORRUPT, /* its row failed its checksum */
	DROP_REASONS,
};

struct probe_row {
	int64_t id; /* row id, 0 unknown */
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint8_t boot_id[FRAME_BOOT_ID_BYTES];
	uint64_t pid, start_ticks;
	uint64_t end; /* stored up to here */
	bool closed;  /* its ring was salvaged: never again */
	uint64_t losses[WIRE_LOSS_COUNT];
	uint64_t spans;            /* received from it */
	uint64_t mono_ns, real_ns; /* newest clock pair */
	uint64_t seen_real_ns;
	uint32_t attrs_bytes;
	uint8_t attrs[FRAME_ATTRS_MAX_BYTES];
};

struct raw_row {
	int64_t id, probe;
	uint64_t first, end;
	uint32_t spans;
	uint8_t *blob; /* a CMB1 body; heap, the caller frees */
	size_t blob_bytes;
	bool checked; /* wire_batch_check has passed it in this process */
};

struct segment_row {
	int64_t id, probe;
	uint32_t spans; /* SPAN records in it */
	uint8_t *blob;  /* a CMC1 bundle */
	size_t blob_bytes;
};

/* Who loses first when the store is full (low first), within a class the oldest. */
enum chunk_class {
	CHUNK_SAMPLED_OUT = 0, /* forwarded with priority <= 0, or held */
	CHUNK_PROFILE = 1,
	CHUNK_NORMAL = 2,
	CHUNK_ERROR = 3, /* errors and failed jobs last */
};

struct chunk_row {
	int64_t id, probe;
	enum signal signal;
	enum chunk_class class;
	uint32_t traces, spans;
	uint64_t start_real_ns, end_real_ns; /* of its spans */
	uint64_t created_real_ns;
	uint8_t *blob; /* a CMC1 bundle */
	size_t blob_bytes;
};

enum delivery_state {
	DELIVERY_QUEUED = 0,
	DELIVERY_SENT = 1,
	DELIVERY_REJECTED = 2, /* by status */
	DELIVERY_DROPPED = 3,
};

struct lease {
	struct chunk_row chunk;
	int32_t destination;
	uint32_t attempts;
	struct probe_row
	    *probe; /* identity of the chunk; owned by the lease, freed by lease_free */
};

/* How a lease ends. */
struct settlement {
	int64_t chunk;
	int32_t destination;
	enum {
		SETTLE_SENT,
		SETTLE_RETRY,
		SETTLE_REJECTED,
		SETTLE_HOLD,
		SETTLE_RETURN, /* it was not tried: the lease ends, the row stays as it is */
	} kind;
	int32_t status;            /* HTTP status, or negative curl code */
	uint64_t next_try_real_ns; /* RETRY, HOLD */
};

struct store_limits {
	uint64_t cap_bytes;        /* queue cap, default 1 GiB */
	uint64_t cap_age_s;        /* 7 days */
	uint64_t history_bytes;    /* 256 MB */
	uint64_t history_age_s;    /* 7 days */
	uint64_t reserve_bytes;    /* 32 MB below the cap where intake stops */
	uint64_t free_floor_bytes; /* statvfs floor */
	uint64_t jobs_max;         /* 100,000 */
	uint64_t jobs_age_s;       /* 30 days */
};

struct store_stats {
	uint64_t bytes, cap_bytes, history_bytes;
	uint64_t raw_rows, segment_rows, chunk_rows;
	uint64_t received[SIGNAL_COUNT], sent[SIGNAL_COUNT], sampled_out[SIGNAL_COUNT];
	uint64_t queued[SIGNAL_COUNT], in_flight[SIGNAL_COUNT];
	uint64_t dropped[SIGNAL_COUNT][DROP_REASONS];
	uint64_t rejected_total[SIGNAL_COUNT];
	bool identity[SIGNAL_COUNT];
	bool volatile_;                 /* RAM */
	uint64_t quarantined;           /* damaged files moved aside since the first start */
	uint64_t oldest_queued_real_ns; /* 0 none */
};

typedef void (*store_rejected_fn)(void *ctx, enum signal signal, int status, uint64_t spans);
typedef enum err (*store_chunk_fn)(void *ctx, const struct chunk_row *c, const struct probe_row *p,
    enum delivery_state state, bool queued);

struct store_ops {
	const char *name;
	void (*close)(struct store *st);

	enum err (*begin)(struct store *st);
	enum err (*commit)(struct store *st);
	void (*rollback)(struct store *st);

	/* Insert or refresh by probe_id (never lowers end, never reopens); p becomes the whole row
	 * as stored.  An end beyond the stored one raises it: a hello whose ring was released
	 * further than we remember, or a malformed batch stepped over.  attrs_bytes 0 keeps the
	 * stored attributes; spans are counted by raw_put alone.  E_INVAL: attributes that are too
	 * long. */
	enum err (*probe_put)(struct store *st, struct probe_row *p);
	enum err (*probe_get)(
	    struct store *st, const uint8_t probe_id[FRAME_PROBE_ID_BYTES], struct probe_row *out);
	enum err (*probe_by_row)(struct store *st, int64_t id, struct probe_row *out);
	/* Step through all probes: *id = 0 to begin; E_NOTFOUND at the end. */
	enum err (*probe_next)(struct store *st, int64_t *id, struct probe_row *out);
	enum err (*probe_close)(struct store *st, int64_t id);

	/*
	 * Store a checked batch and move its probe's end, losses, clock pair and
	 * span count; counts `received`.  E_EXISTS: [first,end) is stored already
	 * (nothing changed).  E_GAP: first is beyond the stored end and the batch
	 * does not begin with a LOSS record that ends at its first record (nothing changed, ask
	 * for p->end).  E_FULL: intake is stopped (cap less reserve, disk floor).
	 * A batch that overlaps the end partly is E_GAP too.  `strict` false (a
	 * client that never said hello): any first >= end is taken.  p->id names the
	 * probe; its end, losses, clocks and spans are filled in from the database
	 * whatever the result.  E_STATE: the probe is closed.  E_NOTFOUND: there is no such
	 * probe.  E_INVAL: over 8 MB.  Eviction comes before E_FULL.  id NULL: all of this but the
	 * row; the caller puts what becomes of the spans (segments, chunks, counters) into the same
	 * transaction.
	 */
	enum err (*raw_put)(struct store *st, struct probe_row *p, const uint8_t *blob,
	    size_t bytes, const struct wire_batch *b, bool strict, int64_t *id);
	/* The oldest raw batch with an id above `after`; E_NOTFOUND. E_CORRUPT: the row was bad, is
	 * deleted and counted. */
	enum err (*raw_next)(struct store *st, int64_t after, struct raw_row *out);
	enum err (*raw_delete)(struct store *st, int64_t id);

	/* Fills s->id; the blob is copied, at most 8 MB (E_INVAL). */
	enum err (*segment_put)(struct store *st, struct segment_row *s);
	enum err (*segment_next)(struct store *st, int64_t after, struct segment_row *out);
	enum err (*segment_delete)(struct store *st, int64_t id);

	/* Insert a chunk and one queued delivery row for each active destination; fills c->id.
	 * Without destinations it is history at once and counts as sent.  The blob is copied; at
	 * most 8 MB. What is queued already gets no row for a destination that comes later. */
	enum err (*chunk_put)(struct store *st, struct chunk_row *c);

	/*
	 * Destinations by configured name; ids are small and permanent.  Replacing
	 * the set drops the rows of those that are gone (destination_removed where
	 * no other destination took or awaits the chunk).  E_INVAL: more than 32 were
	 * ever known, or a name is empty, twice in it, or of 64 bytes.
	 */
	enum err (*destinations_set)(
	    struct store *st, const char *const *names, size_t n, int32_t *ids);

	/*
	 * The next chunk for a destination that is due and not leased already:
	 * newest first when `fresh`, else oldest first.  out->probe is never NULL (only
	 * its id is set when the row has gone).  A chunk that fails its checksum is
	 * deleted, counted `corrupt`, and passed over.  Leases live in memory; at
	 * start everything unsettled is queued again.  E_NOTFOUND: none due;
	 * *next_real_ns then says when one will be (0: none at all).  A next try more
	 * than STORE_REST_MAX_NS ahead was written by a clock that has been set back: due.
	 */
	enum err (*lease)(struct store *st, int32_t destination, bool fresh, uint64_t now_real_ns,
	    struct lease *out, uint64_t *next_real_ns);
	/* E_NOTFOUND: no open row any more (evicted, split, destination removed): harmless. The
	 * lease ends with the commit; a rollback leaves it held. */
	enum err (*settle)(struct store *st, const struct settlement *s);
	/* Forget all leases of a destination (its exporter stopped). */
	void (*unlease)(struct store *st, int32_t destination);
	/* Replace a leased chunk by two (413): both queued for all destinations that still await
	 * it. Spans and signal must add up (E_INVAL). E_BUSY: another destination holds it now;
	 * settle as RETRY, it will be split at the next try. */
	enum err (*split)(
	    struct store *st, int64_t chunk, struct chunk_row *a, struct chunk_row *b);

	/* Counters changed by the pipeline. Deltas may be any. */
	enum err (*count_received)(struct store *st, enum signal s, uint64_t spans);
	enum err (*count_dropped)(
	    struct store *st, enum signal s, enum drop_reason r, uint64_t spans);
	enum err (*count_sampled_out)(struct store *st, enum signal s, uint64_t spans);

	/* Evict by age and size (history first, then by class, oldest first; never what is leased),
	 * shrink the file a slice, checkpoint. Outside a transaction. Call it every second or so,
	 * with idle when nothing else is to do; a clock that leaps 30 days evicts nothing. */
	enum err (*maintain)(struct store *st, uint64_t now_real_ns, bool idle);

	/* Was the file removed, or another put in its place, while it is open?  Then all that it
	 * holds is written there anew (*mended), and what is in the way goes aside.  Outside a
	 * transaction; as long as a copy takes.  An error: all goes on as before. */
	enum err (*mend)(struct store *st, bool *mended);

	enum err (*stats)(struct store *st, struct store_stats *out); /* one snapshot */
	enum err (*rejected)(struct store *st, store_rejected_fn fn, void *ctx);
	/* Per destination: oldest queued and number of queued chunks. */
	enum err (*destination_stats)(
	    struct store *st, int32_t destination, uint64_t *queued, uint64_t *oldest_real_ns);
	/* Walk chunks newest first (history and queued), for the views, from below an id (0: all);
	 * fn returns other than E_OK to stop. */
	enum err (*chunks)(struct store *st, int64_t before, store_chunk_fn fn, void *ctx);
	/* Read rows and check them until that time (0: to the end), at least one; changes nothing.
	 * Each is met once, those that come meanwhile perhaps; the counters are those of the last
	 * call. */
	enum err (*check)(struct store *st, struct store_check *c, uint64_t until_mono_ns);

	/*
	 * Jobs.  Put inserts (id 0, or the id of one that was forgotten: it comes back under it)
	 * or replaces, and fills in id and version.  They are no spans: outside of the identity,
	 * and small enough to be outside of the cap (RAM: an eighth of it is theirs, beyond which
	 * a put forgets).  maintain forgets final ones, the oldest first, beyond jobs_max or
	 * jobs_age_s; one with a notice stays, and so do the newest, and the one changed last:
	 * ids and versions go on from them.  E_INVAL: no such state.
	 */
	enum err (*job_put)(struct store *st, struct job_row *j);
	enum err (*job_get)(struct store *st, int64_t id, struct job_row *out);
	/* fn must not call the store. A row that fails its checksum is passed over. */
	enum err (*jobs)(struct store *st, const struct job_filter *f, job_fn fn, void *ctx);
	/* Those with a version above `after`, in order of it, at most limit (0: all). */
	enum err (*jobs_changed)(
	    struct store *st, uint64_t after, uint32_t limit, job_fn fn, void *ctx);
	enum err (*jobs_count)(struct store *st, uint64_t count[JOB_STATES]);

	/* A webhook is to be told; once for each job and state, whatever is said again.  The job is
	 * not looked for: it was put in the same transaction. */
	enum err (*notice_put)(struct store *st, int64_t job, enum job_state state);
	/*
	 * The one due for longest, those of one job in turn.  E_NOTFOUND: none is,
	 * *next_real_ns says when (0: none at all).
	 */
	enum err (*notice_next)(
	    struct store *st, uint64_t now_real_ns, struct notice_row *out, uint64_t *next_real_ns);
	/* It goes, or is to be told again then. E_NOTFOUND: it has gone. */
	enum err (*notice_settle)(
	    struct store *st, int64_t notice, enum notice_end end, uint64_t next_try_real_ns);
	enum err (*notice_count)(struct store *st, uint64_t *out);

	/* Small persistent values (how far ends of processes are told, what health knows, which
	 * buffer this is ...), keys of less than 64 bytes.  E_NOTFOUND; E_FULL: longer than cap. */
	enum err (*meta_put)(struct store *st, const char *key, const void *value, size_t n);
	enum err (*meta_get)(struct store *st, const char *key, void *value, size_t cap, size_t *n);
};

struct store {
	const struct store_ops *ops;
	unsigned salvages; /* grows when begin had to salvage: what was read before is void */
};

void lease_free(struct lease *l);
