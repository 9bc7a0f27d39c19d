/*
 * sqlite.h - inside of the SQLite store: the object, its statements, the calls
 * between its files.  One connection, the owner's thread only.
 *
 * A failed statement inside a transaction leaves the store as it is until
 * rollback; `damaged` asks the next begin to move the file aside, `suspect` to
 * make sure that nothing of a failed commit is left in the log.
 */
#pragma once

#include <sqlite3.h>

#include "agent/store/common.h"

#define STORE_APPLICATION_ID 0x434d4642 /* "CMFB" */
#define STORE_PAGE_BYTES     16384
#define STORE_WAL_BYTES      (16ll << 20)
#define STORE_LOG_PAGES      1024 /* at most, when a checkpoint is due */

enum stmt_id {
#define STMT(name, sql) STMT_##name,
#include "agent/store/statements.def"
#undef STMT
	STMT_COUNT
};

struct ballast {
	uint64_t bytes; /* of the file when whole */
	bool held;      /* it is there */
	bool released;  /* given up for deletes: intake stays stopped until it is back */
};

struct sqlite_store {
	struct store_common c; /* first */
	sqlite3 *db;
	sqlite3_stmt *stmt[STMT_COUNT];
	char dir[512];
	bool own_txn; /* begun by a single call outside a transaction */
	bool damaged, suspect;
	bool no_jobs; /* a file of the first version, which only a reader may meet */
	bool reader;  /* of a file that no collector has open: changes nothing */
	int wal_pages;
	int64_t last_probe, last_raw, last_segment, last_chunk, last_job; /* highest ids given */
	int64_t last_version;                                             /* of a job */
	unsigned job_puts;       /* since retention last looked */
	uint64_t jobs_looked_ns; /* when that was */
	struct ballast ballast;
	uint64_t free_checked_ns;
	bool disk_low;
	uint32_t quarantines; /* since the last good commit */
};

static inline struct sqlite_store *
sqlite_of(struct store *st)
{
	return (struct sqlite_store *)(void *)st;
}

/* Pages in the log at which a checkpoint is due; at twice that a commit does it itself. */
static inline int
log_pages(const struct sqlite_store *s)
{
	uint64_t pages = s->c.limits.cap_bytes / 64 / STORE_PAGE_BYTES;

	return pages > STORE_LOG_PAGES ? STORE_LOG_PAGES : pages < 64 ? 64 : (int)pages;
}

/* ---- db.c: file, pragmas, migrations ---------------------------------- */

/* Open the file at path with all settings; the schema is current afterwards. *from as in the
 * report. */
MUST_CHECK enum err db_open(const char *path, const struct store_limits *limits, sqlite3 **out,
    int *from, char error[STORE_ERROR_BYTES]);
/* Bring an open database (any file, :memory: too) to the current schema in one transaction. */
MUST_CHECK enum err db_migrate(sqlite3 *db, int *from, char error[STORE_ERROR_BYTES]);
/* Close without a checkpoint (keep_wal) or after one. */
void db_close(sqlite3 *db, bool keep_wal);
/* The file may be used: ours, a regular file, no link, closed to others. *size: -1 none. */
MUST_CHECK enum err db_check_file(
    const char *dir, const char *path, int64_t *size, char error[STORE_ERROR_BYTES]);
enum err db_error(int rc); /* translate */

/* ---- statement.c ------------------------------------------------------ */

/* A statement reset and ready to bind, NULL after a failure that sq_fail has reported. */
sqlite3_stmt *sq(struct sqlite_store *s, enum stmt_id id);
/* Run to the end; E_OK also when no row was touched. Bindings are cleared. */
MUST_CHECK enum err sq_done(struct sqlite_store *s, sqlite3_stmt *q);
/* One row: E_OK (reset it when read), E_NOTFOUND, or the error. */
MUST_CHECK enum err sq_row(struct sqlite_store *s, sqlite3_stmt *q);
void sq_reset(sqlite3_stmt *q);
/* Translate a code, remember its text, mark the file damaged or suspect. */
enum err sq_fail(struct sqlite_store *s, int rc);
void sq_finalize(struct sqlite_store *s);
/* The first column of the first row of a statement without parameters. */
MUST_CHECK enum err sq_number(struct sqlite_store *s, enum stmt_id id, int64_t *out);

static inline uint64_t
sq_u64(sqlite3_stmt *q, int column)
{
	return (uint64_t)sqlite3_column_int64(q, column);
}

/* ---- txn.c ------------------------------------------------------------ */

enum err sqlite_begin(struct store *st);
enum err sqlite_commit(struct store *st);
void sqlite_rollback(struct store *st);
/*
 * A call that may come outside a transaction: own_begin starts one if none
 * runs, own_end commits or rolls that one back and returns what became of e.
 */
MUST_CHECK enum err own_begin(struct sqlite_store *s, bool *own);
enum err own_end(struct sqlite_store *s, bool own, enum err e);

/* ---- counters --------------------------------------------------------- */

MUST_CHECK enum err sqlite_counters_load(struct sqlite_store *s);
MUST_CHECK enum err sqlite_counters_write(struct sqlite_store *s);
/* Read counters, destinations, highest ids: the state in memory. */
MUST_CHECK enum err sqlite_load(struct sqlite_store *s);
/* Count all rows: queued spans per signal, row totals, history bytes, open rows. */
MUST_CHECK enum err sqlite_recount(struct sqlite_store *s, struct counters *out);
/* Make the counters equal the rows; what is missing becomes dropped{corrupt}. */
MUST_CHECK enum err sqlite_reconcile(struct sqlite_store *s, uint64_t *spans_lost);

/* ---- rows ------------------------------------------------------------- */

void probe_read(sqlite3_stmt *q, struct probe_row *out);
MUST_CHECK enum err probe_write(struct sqlite_store *s, const struct probe_row *p);
uint32_t raw_crc(const struct raw_row *r, uint64_t real_ns);
uint32_t segment_crc(const struct segment_row *g);
uint32_t chunk_crc(const struct chunk_row *c);
/* Read the current row; the blob is a copy. E_CORRUPT: the checksum differs (ids are filled in). */
/* A copy of the blob in a column, heap; E_NOMEM. */
MUST_CHECK enum err sq_blob_copy(sqlite3_stmt *q, int column, uint8_t **out, size_t *bytes);
MUST_CHECK enum err raw_read(sqlite3_stmt *q, struct raw_row *out);
MUST_CHECK enum err segment_read(sqlite3_stmt *q, struct segment_row *out);
MUST_CHECK enum err chunk_read(sqlite3_stmt *q, struct chunk_row *out);
MUST_CHECK enum err job_read(sqlite3_stmt *q, struct job_row *out);

struct chunk_head {
	enum signal signal;
	enum chunk_class class;
	uint32_t spans;
	uint64_t created_real_ns, bytes;
};
MUST_CHECK enum err chunk_head(struct sqlite_store *s, int64_t id, struct chunk_head *out);
MUST_CHECK enum err delivery_read(struct sqlite_store *s, int64_t chunk,
    struct delivery_row rows[STORE_DESTINATIONS_MAX], size_t *n);
/* Insert the row alone; the id is new. */
MUST_CHECK enum err chunk_insert(struct sqlite_store *s, struct chunk_row *c);
MUST_CHECK enum err delivery_insert(
    struct sqlite_store *s, int64_t chunk, const struct delivery_row *r);
/* End a queued chunk that no destination awaits any more: count it, to history. */
MUST_CHECK enum err chunk_end(struct sqlite_store *s, int64_t id, const struct chunk_head *h,
    const struct delivery_row *rows, size_t n);
/* Remove a chunk wherever it is; its open rows are dropped for that reason. */
MUST_CHECK enum err chunk_evict(struct sqlite_store *s, int64_t id, enum drop_reason reason);

/* ---- ops, by file ----------------------------------------------------- */

enum err sqlite_probe_put(struct store *st, struct probe_row *p);
enum err sqlite_probe_get(
    struct store *st, const uint8_t probe_id[FRAME_PROBE_ID_BYTES], struct probe_row *out);
enum err sqlite_probe_by_row(struct store *st, int64_t id, struct probe_row *out);
enum err sqlite_probe_next(struct store *st, int64_t *id, struct probe_row *out);
enum err sqlite_probe_close(struct store *st, int64_t id);
enum err sqlite_raw_put(struct store *st, struct probe_row *p, const uint8_t *blob, size_t bytes,
    const struct wire_batch *b, bool strict, int64_t *id);
enum err sqlite_raw_next(struct store *st, int64_t after, struct raw_row *out);
enum err sqlite_raw_delete(struct store *st, int64_t id);
enum err sqlite_segment_put(struct store *st, struct segment_row *g);
enum err sqlite_segment_next(struct store *st, int64_t after, struct segment_row *out);
enum err sqlite_segment_delete(struct store *st, int64_t id);
enum err sqlite_chunk_put(struct store *st, struct chunk_row *c);
enum err sqlite_split(struct store *st, int64_t id, struct chunk_row *a, struct chunk_row *b);
enum err sqlite_destinations_set(
    struct store *st, const char *const *names, size_t n, int32_t *ids);
enum err sqlite_lease(struct store *st, int32_t destination, bool fresh, uint64_t now_real_ns,
    struct lease *out, uint64_t *next_real_ns);
enum err sqlite_settle(struct store *st, const struct settlement *g);
void sqlite_unlease(struct store *st, int32_t destination);
enum err sqlite_count_received(struct store *st, enum signal s, uint64_t spans);
enum err sqlite_count_dropped(struct store *st, enum signal s, enum drop_reason r, uint64_t spans);
enum err sqlite_count_sampled_out(struct store *st, enum signal s, uint64_t spans);
enum err sqlite_maintain(struct store *st, uint64_t now_real_ns, bool idle);
enum err sqlite_mend(struct store *st, bool *mended);
enum err sqlite_stats(struct store *st, struct store_stats *out);
enum err sqlite_rejected(struct store *st, store_rejected_fn fn, void *ctx);
enum err sqlite_destination_stats(
    struct store *st, int32_t destination, uint64_t *queued, uint64_t *oldest_real_ns);
enum err sqlite_chunks(struct store *st, int64_t before, store_chunk_fn fn, void *ctx);
enum err sqlite_check(struct store *st, struct store_check *c, uint64_t until_mono_ns);
enum err sqlite_meta_put(struct store *st, const char *key, const void *value, size_t n);
enum err sqlite_meta_get(struct store *st, const char *key, void *value, size_t cap, size_t *n);

enum err sqlite_job_put(struct store *st, struct job_row *j);
enum err sqlite_job_get(struct store *st, int64_t id, struct job_row *out);
enum err sqlite_jobs(struct store *st, const struct job_filter *f, job_fn fn, void *ctx);
enum err sqlite_jobs_changed(
    struct store *st, uint64_t after, uint32_t limit, job_fn fn, void *ctx);
enum err sqlite_jobs_count(struct store *st, uint64_t count[JOB_STATES]);
enum err sqlite_notice_put(struct store *st, int64_t job, enum job_state state);
enum err sqlite_notice_next(
    struct store *st, uint64_t now_real_ns, struct notice_row *out, uint64_t *next_real_ns);
enum err sqlite_notice_settle(
    struct store *st, int64_t notice, enum notice_end end, uint64_t next_try_real_ns);
enum err sqlite_notice_count(struct store *st, uint64_t *out);
/* A slice of retention, a transaction of its own. */
MUST_CHECK enum err jobs_forget(struct sqlite_store *s, uint64_t now_real_ns);

extern const struct store_ops sqlite_ops;

/* ---- space.c ---------------------------------------------------------- */

/* Bytes of pages in use. */
MUST_CHECK enum err space_used(struct sqlite_store *s, uint64_t *out);
/* Make room for `bytes` more below `limit` by evicting; E_FULL: nothing left that may lose. */
MUST_CHECK enum err space_make(struct sqlite_store *s, uint64_t bytes, uint64_t limit);
/* Evict the next loser; E_NOTFOUND: none. */
MUST_CHECK enum err space_evict_one(struct sqlite_store *s);
/* Is the disk above its floor (asked of the kernel at most once a second)? */
bool space_disk_ok(struct sqlite_store *s);
void ballast_release(struct sqlite_store *s);
void ballast_restore(struct sqlite_store *s);

/* ---- quarantine.c, copy.c, store_sqlite.c ----------------------------- */

/* The file and its log get another name; at most two of those are kept. */
MUST_CHECK enum err move_aside(const char *dir, char aside[512]);
/* Close, move the file aside, salvage into a new one, open that. */
MUST_CHECK enum err quarantine(struct sqlite_store *s, struct store_open_report *report);
struct copy_result {
	uint64_t rows, lost;
};
/* Copy every readable, good row of src into dst (empty, current schema). */
MUST_CHECK enum err copy_rows(sqlite3 *src, sqlite3 *dst, struct copy_result *out);
/* The rows of store_ops.check, without what their counters say: done is not set. */
MUST_CHECK enum err check_rows(sqlite3 *src, struct store_check *c, uint64_t until_mono_ns);
/* What the counters say: done, identity, recount. */
void check_counters(struct sqlite_store *s, struct store_check *c);
/* (Re)open the file of s->dir and load the state; the database is the only thing touched. */
MUST_CHECK enum err sqlite_attach(struct sqlite_store *s, int *from);
void sqlite_detach(struct sqlite_store *s, bool keep_wal);
