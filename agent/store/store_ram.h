/*
 * store_ram.h - inside of the volatile store: rows in lists, an index, an undo
 * log for rollback.  The owner's thread only.
 *
 * Rows hang in doubly linked lists in order of their ids, jobs in a second one
 * in order of their versions; an index finds them by kind and id, and notices by
 * job.  A row that leaves keeps its own links until the commit, so that undoing
 * the log backwards puts it back exactly where it was.
 */
#pragma once

#include "agent/store/common.h"

#define RAM_JOURNAL_SHARE 8u /* of the cap: jobs and notices have at most one part of so many */

enum ram_kind {
	RAM_PROBE,
	RAM_RAW,
	RAM_SEGMENT,
	RAM_CHUNK,
	RAM_META,
	RAM_JOB,
	RAM_NOTICE,
	RAM_KINDS
};

struct ram_row;

struct ram_chunk {
	struct chunk_row row;
	bool queued;
	size_t delivery_count;
	struct delivery_row deliveries[STORE_DESTINATIONS_MAX];
};

struct ram_meta {
	char key[64];
	size_t bytes;
};

/* The blob is the rest of it (job_blob.c). */
struct ram_job {
	struct ram_row *older, *newer; /* by version */
	uint64_t version, ended_real_ns;
	int64_t probe;
	enum job_state state;
	size_t bytes;
};

struct ram_notice {
	struct notice_row row;
	uint64_t next_try;
};

enum ram_index_by { RAM_BY_ID, RAM_BY_JOB, RAM_INDEXES };

struct ram_row {
	struct ram_row *prev, *next;
	struct ram_row *chain[RAM_INDEXES]; /* of its slot */
	enum ram_kind kind;
	int64_t id;
	size_t bytes;  /* counted against the cap */
	uint8_t *blob; /* owned */
	union {
		struct probe_row probe;
		struct raw_row raw;
		struct segment_row segment;
		struct ram_chunk chunk;
		struct ram_meta meta;
		struct ram_job job;
		struct ram_notice notice;
	} u; /* as much of it as its kind needs */
};

enum undo_kind { UNDO_INSERT, UNDO_REMOVE, UNDO_CHANGE };

struct undo {
	enum undo_kind kind;
	struct ram_row *row;
	struct ram_row *before; /* CHANGE: a copy, owned */
	uint8_t *old_blob;      /* CHANGE of a blob: what it was, owned */
};

struct ram_index {
	struct ram_row **slots;
	size_t size, count; /* size: a power of two, or 0 */
};

struct ram_store {
	struct store_common c;
	struct ram_row ends[RAM_KINDS]; /* sentinels */
	struct ram_row versions;        /* the same of jobs by version */
	struct ram_index index[RAM_INDEXES];
	int64_t last[RAM_KINDS];
	uint64_t bytes, journal_bytes; /* of it: jobs and notices */
	struct undo *log;
	size_t log_count, log_cap;
	uint64_t last_version; /* of a job */
};

static inline struct ram_store *
ram_of(struct store *st)
{
	return (struct ram_store *)(void *)st;
}

/* A new row in no list; the blob is copied. NULL: no memory. */
struct ram_row *ram_new(struct ram_store *r, enum ram_kind kind, const uint8_t *blob, size_t bytes);
/* ... into its list, under its id or the next one (0). It is freed when there is no memory. */
MUST_CHECK enum err ram_link(struct ram_store *r, struct ram_row *row);
/* Both, for who needs no field of it in an index. */
struct ram_row *ram_insert(
    struct ram_store *r, enum ram_kind kind, const uint8_t *blob, size_t bytes);
MUST_CHECK enum err ram_remove(struct ram_store *r, struct ram_row *row);
/* Remember the row as it is; call before changing its fields. */
MUST_CHECK enum err ram_change(struct ram_store *r, struct ram_row *row);
MUST_CHECK enum err ram_change_blob(
    struct ram_store *r, struct ram_row *row, const uint8_t *blob, size_t bytes);
/* A job that was changed becomes the last by version; after ram_change. */
void ram_newest(struct ram_store *r, struct ram_row *job);
struct ram_row *ram_find(struct ram_store *r, enum ram_kind kind, int64_t id);
/* The first row with an id above `after`. */
struct ram_row *ram_after(struct ram_store *r, enum ram_kind kind, int64_t after);
/* Notices of a job one after another, in no order: NULL to begin. */
struct ram_row *ram_notice_of(struct ram_store *r, int64_t job, struct ram_row *after);
uint8_t *ram_copy(const uint8_t *p, size_t n);

enum err ram_begin(struct store *st);
enum err ram_commit(struct store *st);
void ram_rollback(struct store *st);
MUST_CHECK enum err ram_own_begin(struct ram_store *r, bool *own);
enum err ram_own_end(struct ram_store *r, bool own, enum err e);
MUST_CHECK enum err ram_make_space(struct ram_store *r, uint64_t bytes, uint64_t limit);

enum err ram_chunk_put(struct store *st, struct chunk_row *c);
enum err ram_split(struct store *st, int64_t id, struct chunk_row *a, struct chunk_row *b);
enum err ram_destinations_set(struct store *st, const char *const *names, size_t n, int32_t *ids);
enum err ram_lease(struct store *st, int32_t destination, bool fresh, uint64_t now_real_ns,
    struct lease *out, uint64_t *next_real_ns);
enum err ram_settle(struct store *st, const struct settlement *g);
enum err ram_maintain(struct store *st, uint64_t now_real_ns, bool idle);
enum err ram_chunks(struct store *st, int64_t before, store_chunk_fn fn, void *ctx);
enum err ram_destination_stats(
    struct store *st, int32_t destination, uint64_t *queued, uint64_t *oldest_real_ns);

enum err ram_job_put(struct store *st, struct job_row *j);
enum err ram_job_get(struct store *st, int64_t id, struct job_row *out);
enum err ram_jobs(struct store *st, const struct job_filter *f, job_fn fn, void *ctx);
enum err ram_jobs_changed(struct store *st, uint64_t after, uint32_t limit, job_fn fn, void *ctx);
enum err ram_jobs_count(struct store *st, uint64_t count[JOB_STATES]);
enum err ram_notice_put(struct store *st, int64_t job, enum job_state state);
enum err ram_notice_next(
    struct store *st, uint64_t now_real_ns, struct notice_row *out, uint64_t *next_real_ns);
enum err ram_notice_settle(
    struct store *st, int64_t notice, enum notice_end end, uint64_t next_try_real_ns);
enum err ram_notice_count(struct store *st, uint64_t *out);
/* Retention, inside of a transaction. */
MUST_CHECK enum err ram_jobs_forget(struct ram_store *r, uint64_t now_real_ns);
