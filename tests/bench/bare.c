/*
 * bare.c - see bare.h.
 */
#include "tests/bench/bare.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BLOB   (256u * 1024)
#define COMMIT 4

static void
must(int ok, sqlite3 *db)
{
	if (ok)
		return;
	fprintf(stderr, "bench: bare SQLite: %s\n", sqlite3_errmsg(db));
	exit(1);
}

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

double
bare_insert(const char *dir, uint64_t bytes)
{
	static uint8_t blob[BLOB];
	char path[160];
	sqlite3 *db;
	sqlite3_stmt *q;
	double t;

	for (unsigned i = 0; i < BLOB; i++)
		blob[i] = (uint8_t)(i * 2654435761u >> 24);
	snprintf(path, sizeof path, "%s/bare.db", dir);
	unlink(path);
	must(sqlite3_open(path, &db) == SQLITE_OK, db);
	must(sqlite3_exec(db,
		 "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=16384;"
		 "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"
		 "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1024;"
		 "PRAGMA cache_size=-2048; CREATE TABLE t(id INTEGER PRIMARY KEY, blob BLOB)",
		 NULL, NULL, NULL) == SQLITE_OK,
	    db);
	must(sqlite3_prepare_v2(db, "INSERT INTO t(blob) VALUES(?1)", -1, &q, NULL) == SQLITE_OK,
	    db);
	t = seconds();
	for (uint64_t i = 0; i * BLOB < bytes; i++) {
		if (i % COMMIT == 0)
			must(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK, db);
		sqlite3_bind_blob(q, 1, blob, BLOB, SQLITE_STATIC);
		must(sqlite3_step(q) == SQLITE_DONE, db);
		sqlite3_reset(q);
		if (i % COMMIT == COMMIT - 1 || (i + 1) * BLOB >= bytes)
			must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK, db);
	}
	t = seconds() - t;
	sqlite3_finalize(q);
	sqlite3_close(db);
	unlink(path);
	return t;
}
