/*
 * store.h - the two stores and what else may be done with a data directory.
 * The contract itself is agent/core/store.h.  One thread at a time owns a
 * store; the functions that take a directory belong to programs that run while
 * no collector does (they take the directory's lock themselves).
 */
#pragma once

#include "agent/core/store.h"

#define STORE_FILE_NAME   "buffer.db"
#define STORE_ERROR_BYTES 256

/* What store_sqlite_open found; all zero: an ordinary file of this version. */
struct store_open_report {
	bool created;                      /* there was no file */
	bool zero_length;                  /* there was one, and it was empty */
	int migrated_from;                 /* its user_version before, -1: not migrated */
	bool quarantined;                  /* damaged: moved aside, the rows below came over */
	char moved_to[512];                /* where the damaged file is now */
	uint64_t rows_salvaged, rows_lost; /* rows with blobs */
	uint64_t spans_lost;               /* now counted as dropped, `corrupt` */
	char text[STORE_ERROR_BYTES]; /* one line for the log, "" when there is nothing to say */
};

/*
 * Open or create the durable buffer in `dir` (created 0700).  Zero fields of
 * the limits take their defaults.  E_BUSY: another process has it open.
 * E_PERM: a symbolic link, another owner, or a mode that lets others in.
 * E_INVAL: the file is another program's database.  E_STATE: written by a newer
 * version.  On any failure *out is untouched, the file is as it was, and
 * report->text says what is wrong.  A damaged file is no failure: see report.
 */
MUST_CHECK enum err store_sqlite_open(const char *dir, const struct store_limits *limits,
    struct store **out, struct store_open_report *report);

/* The volatile store; cap_bytes bounds its memory (0: 64 MB). */
MUST_CHECK enum err store_ram_new(const struct store_limits *limits, struct store **out);

/* One line about the last failure of this store, "" when there was none; valid until the next call.
 */
const char *store_last_error(const struct store *st);

/* Check now that the incremental counters equal a count over all rows (tests, verify). */
MUST_CHECK enum err store_recount(struct store *st, bool *equal);

/*
 * ---- without a collector: the caller holds the data directory's lock ------
 *
 * The buffer as it was left, to be read: statistics, probes, chunks.  Nothing is
 * copied, so that memory stays bounded however large the file is; hold the lock
 * until it is closed, and close it before anything is printed.  A call that would
 * change something fails.  E_NOTFOUND: no buffer there.
 */
MUST_CHECK enum err store_snapshot(
    const char *dir, struct store **out, char error[STORE_ERROR_BYTES]);

struct store_verify_report {
	uint64_t rows; /* with blobs, read and found good; jobs are among them */
	uint64_t bad;  /* checksum differs, or not readable */
	bool identity; /* received = sent + ... holds for each signal */
	bool recount;  /* counters equal what the rows add up to */
	uint64_t jobs, notices;
	uint64_t orphans; /* notices of no job */
	struct store_check_projection jobs_db;
};
/* Read every row, changing nothing. */
MUST_CHECK enum err store_verify(
    const char *dir, struct store_verify_report *out, char error[STORE_ERROR_BYTES]);

/* Move the file aside and bring every good row into a new one. */
MUST_CHECK enum err store_repair(
    const char *dir, const struct store_limits *limits, struct store_open_report *report);
