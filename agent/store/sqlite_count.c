/*
 * sqlite_count.c - counters on disk, statistics, the recount that checks them.
 * The owner's thread only.  Only what changed is written, in the transaction
 * that changed it.
 */
#include <stdio.h>

#include "agent/store/sqlite.h"

/* Kinds of rows in the table `counter`; the numbers of reasons are part of the format. */
static const char *const count_names[] = { "received", "sent", "sampled_out", "queued" };
static const char *const total_names[TOTAL_NAMES] = { "raw_rows", "segment_rows", "chunk_rows",
	"history_bytes", "quarantined" };

static enum err
write_one(struct sqlite_store *s, int64_t signal, const char *name, int64_t reason, uint64_t value)
{
	sqlite3_stmt *q = sq(s, STMT_COUNTER_PUT);

	sqlite3_bind_int64(q, 1, signal);
	sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 3, reason);
	sqlite3_bind_int64(q, 4, (int64_t)value);
	return sq_done(s, q);
}

static enum err
write_signal(struct sqlite_store *s, int signal)
{
	const uint64_t *now = s->c.now.v[signal], *was = s->c.saved.v[signal];
	enum err e = E_OK;

	for (int i = 0; e == E_OK && i < COUNT_NAMES; i++) {
		if (now[i] == was[i])
			continue;
		e = i < COUNT_DROPPED ? write_one(s, signal, count_names[i], 0, now[i])
				      : write_one(s, signal, "dropped", i - COUNT_DROPPED, now[i]);
	}
	return e;
}

enum err
sqlite_counters_write(struct sqlite_store *s)
{
	const struct counters *now = &s->c.now, *was = &s->c.saved;
	enum err e = E_OK;

	for (int i = 0; e == E_OK && i < SIGNAL_COUNT; i++)
		e = write_signal(s, i);
	for (int i = 0; e == E_OK && i < TOTAL_NAMES; i++)
		if (now->total[i] != was->total[i])
			e = write_one(s, -1, total_names[i], 0, now->total[i]);
	for (int i = 0; e == E_OK && i < STORE_REJECTED_MAX; i++)
		if (now->rejected[i].spans != was->rejected[i].spans)
			e = write_one(s, now->rejected[i].signal, "rejected",
			    now->rejected[i].status, now->rejected[i].spans);
	for (int i = 0; e == E_OK && i < STORE_DESTINATIONS_MAX; i++)
		if (now->open[i] != was->open[i])
			e = write_one(s, -1, "open", i, now->open[i]);
	return e;
}

static void
load_one(struct counters *n, int64_t signal, const char *name, int64_t reason, uint64_t value)
{
	if (signal == -1) {
		for (int i = 0; i < TOTAL_NAMES; i++)
			if (strcmp(name, total_names[i]) == 0)
				n->total[i] = value;
		if (strcmp(name, "open") == 0 && reason >= 0 && reason < STORE_DESTINATIONS_MAX)
			n->open[reason] = value;
		return;
	}
	if (signal < 0 || signal >= SIGNAL_COUNT)
		return;
	for (int i = 0; i < COUNT_DROPPED; i++)
		if (strcmp(name, count_names[i]) == 0)
			n->v[signal][i] = value;
	if (strcmp(name, "dropped") == 0 && reason >= 0 && reason < DROP_REASONS)
		n->v[signal][COUNT_DROPPED + reason] = value;
	if (strcmp(name, "rejected") == 0 && value > 0)
		count_rejected(n, (enum signal)signal, (int32_t)reason, value);
}

static enum err
bad_row(struct sqlite_store *s, sqlite3_stmt *q)
{
	/* A text may want memory of its own: none for it is no damage. */
	int rc =
	    sqlite3_errcode(sqlite3_db_handle(q)) == SQLITE_NOMEM ? SQLITE_NOMEM : SQLITE_CORRUPT;

	sq_reset(q);
	return sq_fail(s, rc);
}

enum err
sqlite_counters_load(struct sqlite_store *s)
{
	sqlite3_stmt *q = sq(s, STMT_COUNTER_ALL);
	enum err e;

	memset(&s->c.now, 0, sizeof s->c.now);
	while ((e = sq_row(s, q)) == E_OK) {
		const char *name = (const char *)sqlite3_column_text(q, 1);

		if (name == NULL) /* the table allows none: damage that SQLite does not see */
			return bad_row(s, q);
		load_one(&s->c.now, sqlite3_column_int64(q, 0), name, sqlite3_column_int64(q, 2),
		    sq_u64(q, 3));
	}
	return e == E_NOTFOUND ? E_OK : e;
}

static enum err
load_destinations(struct sqlite_store *s)
{
	struct destination_set *d = &s->c.dests;
	sqlite3_stmt *q = sq(s, STMT_DEST_ALL);
	enum err e;

	memset(d, 0, sizeof *d);
	while ((e = sq_row(s, q)) == E_OK) {
		const char *name = (const char *)sqlite3_column_text(q, 1);
		int64_t id = sqlite3_column_int64(q, 0);

		if (name == NULL || id < 1 || id > STORE_DESTINATIONS_MAX)
			return bad_row(s, q);
		snprintf(d->names[id - 1], sizeof d->names[0], "%s", name);
		d->active[id - 1] = sqlite3_column_int(q, 2) != 0;
		if ((size_t)id > d->n)
			d->n = (size_t)id;
	}
	return e == E_NOTFOUND ? E_OK : e;
}

/* Ids and versions only grow, also over a salvage that has lost the last of them. */
static enum err
load_jobs(struct sqlite_store *s)
{
	int64_t has = 0, job = 0, version = 0;
	enum err e = sq_number(s, STMT_HAS_JOBS, &has);

	s->no_jobs = has == 0;
	if (e == E_OK && has != 0)
		e = sq_number(s, STMT_LAST_JOB, &job);
	if (e == E_OK && has != 0)
		e = sq_number(s, STMT_LAST_VERSION, &version);
	if (job > s->last_job)
		s->last_job = job;
	if (version > s->last_version)
		s->last_version = version;
	return e;
}

enum err
sqlite_load(struct sqlite_store *s)
{
	enum err e = sqlite_counters_load(s);

	if (e == E_OK)
		e = load_destinations(s);
	if (e == E_OK)
		e = sq_number(s, STMT_LAST_PROBE, &s->last_probe);
	if (e == E_OK)
		e = sq_number(s, STMT_LAST_RAW, &s->last_raw);
	if (e == E_OK)
		e = sq_number(s, STMT_LAST_SEGMENT, &s->last_segment);
	if (e == E_OK)
		e = sq_number(s, STMT_LAST_CHUNK, &s->last_chunk);
	if (e == E_OK)
		e = load_jobs(s);
	return e;
}

/* Add up (signal, rows, spans, bytes) of one kind of row. */
static enum err
add_up(struct sqlite_store *s, enum stmt_id id, struct counters *out, int total)
{
	sqlite3_stmt *q = sq(s, id);
	enum err e;

	while ((e = sq_row(s, q)) == E_OK) {
		int signal = sqlite3_column_int(q, 0);

		if (signal >= 0 && signal < SIGNAL_COUNT)
			out->v[signal][COUNT_QUEUED] += sq_u64(q, 2);
		if (total >= 0)
			out->total[total] += sq_u64(q, 1);
	}
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
sqlite_recount(struct sqlite_store *s, struct counters *out)
{
	int64_t n = 0;
	enum err e;

	memset(out, 0, sizeof *out);
	e = add_up(s, STMT_SUM_RAW, out, TOTAL_RAW_ROWS);
	if (e == E_OK)
		e = add_up(s, STMT_SUM_SEGMENT, out, TOTAL_SEGMENT_ROWS);
	if (e == E_OK)
		e = add_up(s, STMT_SUM_QUEUED, out, -1);
	if (e == E_OK)
		e = sq_number(s, STMT_COUNT_CHUNK, &n);
	out->total[TOTAL_CHUNK_ROWS] = (uint64_t)n;
	if (e == E_OK)
		e = sq_number(s, STMT_SUM_HISTORY, &n);
	out->total[TOTAL_HISTORY_BYTES] = (uint64_t)n;
	if (e != E_OK)
		return e;

	sqlite3_stmt *q = sq(s, STMT_SUM_OPEN);

	while ((e = sq_row(s, q)) == E_OK) {
		int64_t id = sqlite3_column_int64(q, 0);

		if (id >= 1 && id <= STORE_DESTINATIONS_MAX)
			out->open[id - 1] = sq_u64(q, 1);
	}
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
sqlite_reconcile(struct sqlite_store *s, uint64_t *spans_lost)
{
	struct counters real, *now = &s->c.now;
	enum err e = sqlite_recount(s, &real);

	*spans_lost = 0;
	if (e != E_OK)
		return e;
	real.total[TOTAL_QUARANTINED] = now->total[TOTAL_QUARANTINED];
	memcpy(now->total, real.total, sizeof now->total);
	memcpy(now->open, real.open, sizeof now->open);
	for (int i = 0; i < SIGNAL_COUNT; i++) {
		uint64_t ended = now->v[i][COUNT_SENT] + now->v[i][COUNT_SAMPLED_OUT] +
				 counters_rejected(now, (enum signal)i);

		for (int r = 0; r < DROP_REASONS; r++)
			ended += now->v[i][COUNT_DROPPED + r];
		now->v[i][COUNT_QUEUED] = real.v[i][COUNT_QUEUED];
		ended += now->v[i][COUNT_QUEUED];
		if (ended > now->v[i][COUNT_RECEIVED])
			now->v[i][COUNT_RECEIVED] = ended;
		now->v[i][COUNT_DROPPED + DROP_CORRUPT] += now->v[i][COUNT_RECEIVED] - ended;
		*spans_lost += now->v[i][COUNT_RECEIVED] - ended;
	}
	return E_OK;
}

static enum err
count(struct store *st, enum signal signal, int name, uint64_t spans)
{
	struct sqlite_store *s = sqlite_of(st);
	bool own;
	enum err e;

	if ((unsigned)signal >= SIGNAL_COUNT || name >= COUNT_NAMES)
		return common_fail(&s->c, E_INVAL, "no such counter");
	e = own_begin(s, &own);
	if (e != E_OK)
		return e;
	s->c.now.v[signal][name] += spans;
	return own_end(s, own, E_OK);
}

enum err
sqlite_count_received(struct store *st, enum signal s, uint64_t spans)
{
	return count(st, s, COUNT_RECEIVED, spans);
}

enum err
sqlite_count_dropped(struct store *st, enum signal s, enum drop_reason r, uint64_t spans)
{
	return count(st, s, COUNT_DROPPED + (int)r, spans);
}

enum err
sqlite_count_sampled_out(struct store *st, enum signal s, uint64_t spans)
{
	return count(st, s, COUNT_SAMPLED_OUT, spans);
}

/* The smaller of two times, 0 meaning none. */
static uint64_t
older(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

enum err
sqlite_stats(struct store *st, struct store_stats *out)
{
	struct sqlite_store *s = sqlite_of(st);
	int64_t t = 0;
	enum err e;

	common_stats(&s->c, out);
	e = space_used(s, &out->bytes);
	if (e == E_OK)
		e = sq_number(s, STMT_RAW_OLDEST, &t);
	if (e == E_OK)
		out->oldest_queued_real_ns = (uint64_t)t;
	for (int class = 0; (e == E_OK || e == E_NOTFOUND) && class <= CHUNK_ERROR; class ++) {
		sqlite3_stmt *q = sq(s, STMT_QUEUE_NEXT);

		sqlite3_bind_int(q, 1, class);
		sqlite3_bind_int64(q, 2, 0);
		e = sq_row(s, q);
		if (e != E_OK)
			continue;
		out->oldest_queued_real_ns = older(out->oldest_queued_real_ns, sq_u64(q, 1));
		sq_reset(q);
	}
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
sqlite_rejected(struct store *st, store_rejected_fn fn, void *ctx)
{
	common_rejected(&sqlite_of(st)->c, fn, ctx);
	return E_OK;
}
