/*
 * bench_store.c - the store against bare SQLite in the same run: MB/s of raw
 * batches, 1 MB a commit; then the cost of one put-lease-settle cycle with more
 * and more chunks queued.  Prints lines of JSON as tests/bench/run.sh wants them.
 * "--large" adds 10^7 spans.
 */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/store/store.h"

#define BATCH  (256u * 1024)
#define COMMIT 4
#define TOTAL  (192u << 20)

static char dir[64];
static uint8_t blob[BATCH];

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_store: %s\n", what);
	exit(1);
}

static void
wipe(void)
{
	char command[192];

	snprintf(command, sizeof command, "rm -rf %s && mkdir -m 700 %s", dir, dir);
	must(system(command) == 0, "cannot make a directory");
}

static double
bare(void)
{
	char path[96];
	sqlite3 *db;
	sqlite3_stmt *q;
	double t;

	wipe();
	snprintf(path, sizeof path, "%s/bare.db", dir);
	must(
	    sqlite3_open(path, &db) == SQLITE_OK &&
		sqlite3_exec(db,
		    "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=16384; PRAGMA "
		    "auto_vacuum=INCREMENTAL;"
		    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA "
		    "wal_autocheckpoint=1024;"
		    "PRAGMA cache_size=-2048; CREATE TABLE t(id INTEGER PRIMARY KEY, blob BLOB)",
		    NULL, NULL, NULL) == SQLITE_OK &&
		sqlite3_prepare_v2(db, "INSERT INTO t(blob) VALUES(?1)", -1, &q, NULL) == SQLITE_OK,
	    "bare open");
	t = seconds();
	for (unsigned i = 0; i < TOTAL / BATCH; i++) {
		if (i % COMMIT == 0)
			sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
		sqlite3_bind_blob(q, 1, blob, BATCH, SQLITE_STATIC);
		must(sqlite3_step(q) == SQLITE_DONE, "bare insert");
		sqlite3_reset(q);
		if (i % COMMIT == COMMIT - 1)
			must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK, "commit");
	}
	t = seconds() - t;
	sqlite3_finalize(q);
	sqlite3_close(db);
	return TOTAL / t / 1e6;
}

static struct store *
open_store(struct probe_row *p)
{
	struct store_limits limits = { .cap_bytes = 8ull << 30 };
	struct store_open_report report;
	struct store *st;

	wipe();
	must(store_sqlite_open(dir, &limits, &st, &report) == E_OK, "open");
	memset(p, 0, sizeof *p);
	p->probe_id[0] = 1;
	must(st->ops->probe_put(st, p) == E_OK, "probe");
	return st;
}

static double
raw(void)
{
	struct probe_row p;
	struct store *st = open_store(&p);
	double t = seconds();

	for (unsigned i = 0; i < TOTAL / BATCH; i++) {
		struct wire_batch b = { .first = i, .end = i + 1, .span_count = 1300 };
		int64_t id;

		if (i % COMMIT == 0)
			must(st->ops->begin(st) == E_OK, "begin");
		must(st->ops->raw_put(st, &p, blob, BATCH, &b, true, &id) == E_OK, "raw_put");
		if (i % COMMIT != COMMIT - 1)
			continue;
		must(st->ops->commit(st) == E_OK, "commit");
		if (i % 64 == 63)
			must(st->ops->maintain(st, 1, false) == E_OK, "maintain");
	}
	t = seconds() - t;
	st->ops->close(st);
	return TOTAL / t / 1e6;
}

/* Put n spans into the queue, 21 a chunk of 2 KB, 100 chunks a commit. */
static void
fill(struct store *st, const struct probe_row *p, unsigned spans)
{
	for (unsigned i = 0; i * 21 < spans; i++) {
		struct chunk_row c = { .probe = p->id,
			.class = CHUNK_NORMAL,
			.spans = 21,
			.created_real_ns = 1,
			.blob = blob,
			.blob_bytes = 2048 };

		if (i % 100 == 0)
			must(st->ops->begin(st) == E_OK, "begin");
		must(st->ops->chunk_put(st, &c) == E_OK, "chunk_put");
		if (i % 100 == 99 || (i + 1) * 21 >= spans)
			must(st->ops->commit(st) == E_OK, "commit");
		if (i % 10000 == 9999)
			must(st->ops->maintain(st, 2, false) == E_OK, "maintain");
	}
}

/* Microseconds of CPU for one span: put, lease, settle, with n spans already queued. */
static double
cycle(unsigned queued)
{
	struct probe_row p;
	struct store *st = open_store(&p);
	int32_t d;
	clock_t t;

	must(st->ops->destinations_set(st, (const char *const[]){ "a" }, 1, &d) == E_OK, "set");
	fill(st, &p, queued);
	t = clock();
	for (int round = 0; round < 40; round++) {
		must(st->ops->begin(st) == E_OK, "begin");
		for (int i = 0; i < 50; i++) {
			struct chunk_row c = { .probe = p.id,
				.class = CHUNK_NORMAL,
				.spans = 21,
				.created_real_ns = 1,
				.blob = blob,
				.blob_bytes = 2048 };
			struct settlement g = {
				.destination = d, .kind = SETTLE_SENT, .status = 200
			};
			struct lease l;
			uint64_t next;

			must(st->ops->chunk_put(st, &c) == E_OK, "chunk_put");
			must(st->ops->lease(st, d, i % 2 == 0, 1, &l, &next) == E_OK, "lease");
			g.chunk = l.chunk.id;
			lease_free(&l);
			must(st->ops->settle(st, &g) == E_OK, "settle");
		}
		must(st->ops->commit(st) == E_OK, "commit");
	}
	t = clock() - t;
	st->ops->close(st);
	return (double)t / CLOCKS_PER_SEC * 1e6 / (40 * 50 * 21);
}

static void
line(const char *name, double value, const char *unit, const char *baseline, double base,
    const char *goal, bool met)
{
	printf("{\"name\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",\"baseline\":\"%s\","
	       "\"baseline_value\":%.4g,\"ratio\":%.3f,\"goal\":\"%s\",\"met\":%s}\n",
	    name, value, unit, baseline, base, value / base, goal, met ? "true" : "false");
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	const char *names[] = { "span_cost_1e3", "span_cost_1e5", "span_cost_1e6",
		"span_cost_1e7" };
	unsigned sizes[] = { 1000, 100000, 1000000, 10000000 };
	int n = argc > 1 && strcmp(argv[1], "--large") == 0 ? 4 : 3;
	double first = 0;

	snprintf(dir, sizeof dir, "%s/bench_store.%d",
	    getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp", (int)getpid());
	for (unsigned i = 0; i < BATCH; i++)
		blob[i] = (uint8_t)(i * 2654435761u >> 24);

	double base = bare(), ours = raw();

	line("store_raw_insert", ours, "MB/s", "bare SQLite insert", base, ">= 0.8",
	    ours >= 0.8 * base);
	for (int i = 0; i < n; i++) {
		double us = cycle(sizes[i]);

		first = i == 0 ? us : first;
		line(names[i], us, "us", "span_cost_1e3", first, "<= 1.2", us <= 1.2 * first);
	}
	wipe();
	rmdir(dir);
	return 0;
}
