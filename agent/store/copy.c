/*
 * copy.c - every good row of one database into another: salvage of a damaged
 * file; or only looked at: check.  The owner's thread only.  A row counts as good when SQLite can
 * read it and its checksum holds.  Around what cannot be read the range of ids is halved until the
 * bad rows stand alone.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/store/sqlite.h"

#define TRIES_MAX 20000 /* failed reads after which a table is given up */

struct copy {
	sqlite3 *src, *dst;
	sqlite3_stmt *get, *put;
	enum err (*check)(sqlite3_stmt *q); /* NULL: none */
	struct copy_result *out;
	unsigned tries;
	uint64_t until_mono_ns; /* 0: to the end */
	int64_t reached;        /* the last id that was dealt with */
};

static enum err
check_raw(sqlite3_stmt *q)
{
	struct raw_row r = { 0 };
	enum err e = raw_read(q, &r);

	free(r.blob);
	return e;
}

static enum err
check_segment(sqlite3_stmt *q)
{
	struct segment_row g = { 0 };
	enum err e = segment_read(q, &g);

	free(g.blob);
	return e;
}

static enum err
check_chunk(sqlite3_stmt *q)
{
	struct chunk_row c = { 0 };
	enum err e = chunk_read(q, &c);

	free(c.blob);
	return e;
}

static enum err
check_job(sqlite3_stmt *q)
{
	struct job_row j;

	return job_read(q, &j);
}

/* Insert the source's current row; E_CORRUPT leaves it out. */
static enum err
copy_row(struct copy *c)
{
	enum err e = c->check != NULL ? c->check(c->get) : E_OK;
	int rc;

	if (e == E_CORRUPT) {
		c->out->lost++;
		return E_OK;
	}
	if (e != E_OK)
		return e;
	if (c->put == NULL) {
		c->out->rows++;
		return E_OK;
	}
	for (int i = 0; i < sqlite3_column_count(c->get); i++)
		sqlite3_bind_value(c->put, i + 1, sqlite3_column_value(c->get, i));
	rc = sqlite3_step(c->put);
	sqlite3_reset(c->put);
	sqlite3_clear_bindings(c->put);
	if ((rc & 0xff) == SQLITE_CONSTRAINT) {
		c->out->lost++;
		return E_OK;
	}
	c->out->rows += rc == SQLITE_DONE && c->check != NULL;
	return db_error(rc);
}

/* E_TIMEOUT when the time is up and there is one row less to do. */
static enum err
reach(struct copy *c, int64_t id)
{
	if (id <= c->reached)
		return E_OK;
	c->reached = id;
	return c->until_mono_ns != 0 && clock_mono_ns() >= c->until_mono_ns ? E_TIMEOUT : E_OK;
}

/* Rows with lo <= id <= hi. A read that fails halves what is left behind it. */
static enum err
copy_range(struct copy *c, int64_t lo, int64_t hi)
{
	bool done = false;
	enum err e = E_OK;
	int rc;

	sqlite3_bind_int64(c->get, 1, lo);
	sqlite3_bind_int64(c->get, 2, hi);
	while (e == E_OK && (rc = sqlite3_step(c->get)) == SQLITE_ROW) {
		int64_t id = sqlite3_column_int64(c->get, 0);

		if (id >= lo && id < hi)
			lo = id + 1;
		else if (id == hi)
			done = true;
		else if (++c->tries > TRIES_MAX) /* a damaged tree: this walk might not end */
			break;
		e = copy_row(c);
		if (e == E_OK)
			e = reach(c, id);
	}
	sqlite3_reset(c->get);
	if (e != E_OK || rc == SQLITE_DONE || done)
		return e;
	if (lo == hi) {
		c->out->lost++;
		return reach(c, lo);
	}
	if (++c->tries > TRIES_MAX)
		return E_OK;

	int64_t middle = lo + (hi - lo) / 2;

	e = copy_range(c, lo, middle);
	return e != E_OK ? e : copy_range(c, middle + 1, hi);
}

/* The highest id that may exist: a bound that leaves the halving cheap, or the table's own word
 * when that is more; a damaged tree may end with low ones. */
static int64_t
highest(sqlite3 *db, const char *table)
{
	const int64_t bound = 1 << 24;
	char sql[96];
	sqlite3_stmt *q;
	int64_t id = bound;

	snprintf(sql, sizeof sql, "SELECT max(id) FROM %s", table);
	if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK)
		return id;
	if (sqlite3_step(q) == SQLITE_ROW)
		id = sqlite3_column_int64(q, 0);
	sqlite3_finalize(q);
	return id > bound ? id : bound;
}

/* One table; `by_id` walks ranges, else one scan that ends at the first error. */
static enum err
copy_table(
    struct copy *c, const char *table, bool by_id, int columns, enum err (*check)(sqlite3_stmt *q))
{
	char get[128], put[160];
	int n;
	enum err e = E_OK;

	snprintf(get, sizeof get, "SELECT * FROM %s%s", table,
	    by_id ? " WHERE id >= ?1 AND id <= ?2 ORDER BY id" : "");
	n = snprintf(put, sizeof put, "INSERT OR IGNORE INTO %s VALUES(?", table);
	for (int i = 1; i < columns; i++)
		n += snprintf(put + n, sizeof put - (size_t)n, ",?");
	snprintf(put + n, sizeof put - (size_t)n, ")");
	c->check = check;
	c->tries = 0;
	c->get = c->put = NULL;
	if (c->dst != NULL && sqlite3_prepare_v2(c->dst, put, -1, &c->put, NULL) != SQLITE_OK)
		e = db_error(sqlite3_errcode(c->dst));
	else if (sqlite3_prepare_v2(c->src, get, -1, &c->get, NULL) != SQLITE_OK)
		c->out->lost++;
	else if (sqlite3_column_count(c->get) != columns)
		c->out->lost++;
	else if (by_id)
		e = copy_range(c, c->reached + 1, highest(c->src, table));
	else
		while (e == E_OK && sqlite3_step(c->get) == SQLITE_ROW)
			e = copy_row(c);
	sqlite3_finalize(c->get);
	sqlite3_finalize(c->put);
	return e;
}

/* False for a whole file of the first version; a damaged one is tried. */
static bool
has_jobs(sqlite3 *db)
{
	sqlite3_stmt *q;
	bool has = true;

	if (sqlite3_prepare_v2(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'job'", -1, &q,
		NULL) != SQLITE_OK)
		return true;
	if (sqlite3_step(q) == SQLITE_ROW)
		has = sqlite3_column_int(q, 0) != 0;
	sqlite3_finalize(q);
	return has;
}

/* The tables with blobs. */
static const struct {
	const char *name;
	int columns;
	enum err (*check)(sqlite3_stmt *q);
} blob_tables[] = {
	{ "raw", 8, check_raw },
	{ "segment", 5, check_segment },
	{ "chunk", 11, check_chunk },
	{ "job", 9, check_job },
};
#define BLOB_TABLES (sizeof blob_tables / sizeof blob_tables[0])

static enum err
copy_blobs(struct copy *c, size_t i)
{
	if (blob_tables[i].check == check_job && !has_jobs(c->src))
		return E_OK;
	return copy_table(
	    c, blob_tables[i].name, true, blob_tables[i].columns, blob_tables[i].check);
}

enum err
check_rows(sqlite3 *src, struct store_check *at, uint64_t until_mono_ns)
{
	while (at->table < BLOB_TABLES) {
		struct copy_result found = { 0 };
		struct copy c = { .src = src,
			.out = &found,
			.until_mono_ns = until_mono_ns,
			.reached = at->after };
		enum err e = copy_blobs(&c, at->table);

		at->rows += found.rows;
		at->bad += found.lost;
		at->after = c.reached;
		if (e != E_OK)
			return e;
		at->table++;
		at->after = 0;
	}
	return E_OK;
}

/*
 * What follows from chunks and deliveries: queue and history.  A chunk whose
 * deliveries were lost waits for every active destination again, unless it was
 * history: rather twice than never.
 */
static const char derive_sql[] =
    "DELETE FROM notice WHERE job NOT IN (SELECT id FROM job);"
    "DELETE FROM meta WHERE key = '" STORE_META_JOBS_DB "';" /* versions may come again */
    "DELETE FROM delivery WHERE chunk NOT IN (SELECT id FROM chunk);"
    "DELETE FROM history WHERE chunk NOT IN (SELECT id FROM chunk)"
    " OR chunk IN (SELECT chunk FROM delivery WHERE state = 0);"
    "INSERT INTO delivery SELECT c.id, d.id, 0, 0, 0, 0 FROM chunk c, destination d"
    " WHERE d.active = 1 AND c.id NOT IN (SELECT chunk FROM delivery)"
    " AND c.id NOT IN (SELECT chunk FROM history);"
    "INSERT INTO queue SELECT class, id, length(blob), created_real_ns FROM chunk"
    " WHERE id IN (SELECT chunk FROM delivery WHERE state = 0);"
    "INSERT OR IGNORE INTO history SELECT id, length(blob), created_real_ns FROM chunk"
    " WHERE id NOT IN (SELECT chunk FROM queue);"
    "INSERT OR IGNORE INTO probe SELECT DISTINCT probe, CAST(printf('%016x', probe) AS BLOB),"
    " zeroblob(16), 0, 0, 0, 0, zeroblob(64), 0, 0, 0, 0, zeroblob(0) FROM"
    " (SELECT probe FROM raw UNION SELECT probe FROM segment UNION SELECT probe FROM chunk);"
    "UPDATE probe SET upto = max(upto, coalesce((SELECT max(upto) FROM raw WHERE raw.probe ="
    " probe.id), 0));";

enum err
copy_rows(sqlite3 *src, sqlite3 *dst, struct copy_result *out)
{
	struct copy c = { .src = src, .dst = dst, .out = out };
	enum err e;

	*out = (struct copy_result){ 0 };
	e = db_error(sqlite3_exec(dst, "BEGIN IMMEDIATE", NULL, NULL, NULL));
	if (e == E_OK)
		e = copy_table(&c, "meta", false, 2, NULL);
	if (e == E_OK)
		e = copy_table(&c, "counter", false, 4, NULL);
	if (e == E_OK)
		e = copy_table(&c, "destination", false, 3, NULL);
	if (e == E_OK)
		e = copy_table(&c, "delivery", false, 6, NULL);
	if (e == E_OK)
		e = copy_table(&c, "history", false, 3, NULL);
	if (e == E_OK)
		e = copy_table(&c, "notice", false, 6, NULL);
	if (e == E_OK)
		e = copy_table(&c, "probe", true, 13, NULL);
	for (size_t i = 0; e == E_OK && i < BLOB_TABLES; i++) {
		c.reached = 0;
		e = copy_blobs(&c, i);
	}
	if (e == E_OK)
		e = db_error(sqlite3_exec(dst, derive_sql, NULL, NULL, NULL));
	if (e == E_OK)
		e = db_error(sqlite3_exec(dst, "COMMIT", NULL, NULL, NULL));
	if (e != E_OK && !sqlite3_get_autocommit(dst))
		sqlite3_exec(dst, "ROLLBACK", NULL, NULL, NULL);
	return e;
}
