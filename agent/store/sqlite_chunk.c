/*
 * sqlite_chunk.c - chunks from birth to end: put, ended, evicted, split.  The
 * owner's thread only.  A chunk is in `queue` while a delivery row of it is
 * open, in `history` after that.
 */
#include <stdlib.h>

#include "agent/store/sqlite.h"

uint32_t
chunk_crc(const struct chunk_row *c)
{
	uint64_t head[] = { (uint64_t)c->probe, c->signal, c->class, c->traces, c->spans,
		c->start_real_ns, c->end_real_ns, c->created_real_ns };

	return wire_crc32c(wire_crc32c(0, head, sizeof head), c->blob, c->blob_bytes);
}

enum err
chunk_read(sqlite3_stmt *q, struct chunk_row *out)
{
	enum err e;

	*out = (struct chunk_row){
		.id = sqlite3_column_int64(q, 0),
		.probe = sqlite3_column_int64(q, 1),
		.signal = (enum signal)sqlite3_column_int(q, 2),
		.class = (enum chunk_class)sqlite3_column_int(q, 3),
		.traces = (uint32_t)sqlite3_column_int64(q, 4),
		.spans = (uint32_t)sqlite3_column_int64(q, 5),
		.start_real_ns = sq_u64(q, 6),
		.end_real_ns = sq_u64(q, 7),
		.created_real_ns = sq_u64(q, 8),
	};
	if (sqlite3_column_int(q, 2) < 0 || sqlite3_column_int(q, 2) >= SIGNAL_COUNT ||
	    sqlite3_column_int(q, 3) < 0 || sqlite3_column_int(q, 3) > CHUNK_ERROR)
		return E_CORRUPT;
	e = sq_blob_copy(q, 10, &out->blob, &out->blob_bytes);
	if (e != E_OK)
		return e;
	if (chunk_crc(out) == (uint32_t)sqlite3_column_int64(q, 9))
		return E_OK;
	free(out->blob);
	out->blob = NULL;
	return E_CORRUPT;
}

enum err
chunk_head(struct sqlite_store *s, int64_t id, struct chunk_head *out)
{
	sqlite3_stmt *q = sq(s, STMT_CHUNK_HEAD);
	enum err e;

	sqlite3_bind_int64(q, 1, id);
	e = sq_row(s, q);
	if (e != E_OK)
		return e;
	out->signal = (enum signal)sqlite3_column_int(q, 0);
	out->class = (enum chunk_class)sqlite3_column_int(q, 1);
	out->spans = (uint32_t)sqlite3_column_int64(q, 2);
	out->created_real_ns = sq_u64(q, 3);
	out->bytes = sq_u64(q, 4);
	sq_reset(q);
	if ((unsigned)out->signal >= SIGNAL_COUNT) /* flipped bits must not index a table */
		out->signal = SIGNAL_TRACE;
	return E_OK;
}

enum err
delivery_read(struct sqlite_store *s, int64_t chunk,
    struct delivery_row rows[STORE_DESTINATIONS_MAX], size_t *n)
{
	sqlite3_stmt *q = sq(s, STMT_DELIVERY_OF);
	enum err e;

	*n = 0;
	sqlite3_bind_int64(q, 1, chunk);
	while ((e = sq_row(s, q)) == E_OK) {
		if (*n == STORE_DESTINATIONS_MAX) {
			sq_reset(q);
			break;
		}
		rows[(*n)++] = (struct delivery_row){
			.destination = sqlite3_column_int(q, 0),
			.state = (enum delivery_state)sqlite3_column_int(q, 1),
			.attempts = (uint32_t)sqlite3_column_int64(q, 2),
			.next_try = sq_u64(q, 3),
			.status = sqlite3_column_int(q, 4),
		};
	}
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
chunk_insert(struct sqlite_store *s, struct chunk_row *c)
{
	sqlite3_stmt *q = sq(s, STMT_CHUNK_PUT);

	sqlite3_bind_int64(q, 1, c->id);
	sqlite3_bind_int64(q, 2, c->probe);
	sqlite3_bind_int(q, 3, (int)c->signal);
	sqlite3_bind_int(q, 4, (int)c->class);
	sqlite3_bind_int64(q, 5, c->traces);
	sqlite3_bind_int64(q, 6, c->spans);
	sqlite3_bind_int64(q, 7, (int64_t)c->start_real_ns);
	sqlite3_bind_int64(q, 8, (int64_t)c->end_real_ns);
	sqlite3_bind_int64(q, 9, (int64_t)c->created_real_ns);
	sqlite3_bind_int64(q, 10, chunk_crc(c));
	sqlite3_bind_blob64(q, 11, c->blob, c->blob_bytes, SQLITE_STATIC);
	return sq_done(s, q);
}

enum err
delivery_insert(struct sqlite_store *s, int64_t chunk, const struct delivery_row *r)
{
	sqlite3_stmt *q = sq(s, STMT_DELIVERY_PUT);

	sqlite3_bind_int64(q, 1, chunk);
	sqlite3_bind_int(q, 2, r->destination);
	sqlite3_bind_int(q, 3, (int)r->state);
	sqlite3_bind_int64(q, 4, r->attempts);
	sqlite3_bind_int64(q, 5, (int64_t)r->next_try);
	sqlite3_bind_int(q, 6, r->status);
	return sq_done(s, q);
}

static enum err
queue_insert(struct sqlite_store *s, const struct chunk_row *c)
{
	sqlite3_stmt *q = sq(s, STMT_QUEUE_PUT);

	sqlite3_bind_int(q, 1, (int)c->class);
	sqlite3_bind_int64(q, 2, c->id);
	sqlite3_bind_int64(q, 3, (int64_t)c->blob_bytes);
	sqlite3_bind_int64(q, 4, (int64_t)c->created_real_ns);
	return sq_done(s, q);
}

static enum err
run_id(struct sqlite_store *s, enum stmt_id id, int64_t chunk)
{
	sqlite3_stmt *q = sq(s, id);

	sqlite3_bind_int64(q, 1, chunk);
	return sq_done(s, q);
}

static enum err
queue_delete(struct sqlite_store *s, enum chunk_class class, int64_t chunk)
{
	sqlite3_stmt *q = sq(s, STMT_QUEUE_DELETE);

	sqlite3_bind_int(q, 1, (int)class);
	sqlite3_bind_int64(q, 2, chunk);
	return sq_done(s, q);
}

static enum err
history_insert(struct sqlite_store *s, int64_t id, uint64_t bytes, uint64_t created_real_ns)
{
	sqlite3_stmt *q = sq(s, STMT_HISTORY_PUT);

	sqlite3_bind_int64(q, 1, id);
	sqlite3_bind_int64(q, 2, (int64_t)bytes);
	sqlite3_bind_int64(q, 3, (int64_t)created_real_ns);
	s->c.now.total[TOTAL_HISTORY_BYTES] += bytes;
	return sq_done(s, q);
}

enum err
chunk_end(struct sqlite_store *s, int64_t id, const struct chunk_head *h,
    const struct delivery_row *rows, size_t n)
{
	enum err e = queue_delete(s, h->class, id);

	if (e == E_OK)
		e = history_insert(s, id, h->bytes, h->created_real_ns);
	if (e == E_OK)
		counters_end(&s->c.now, h->signal, h->class, h->spans, rows, n);
	return e;
}

/* The rows of every active destination, queued. */
static size_t
active_rows(const struct destination_set *d, struct delivery_row rows[STORE_DESTINATIONS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < d->n; i++)
		if (d->active[i])
			rows[n++] = (struct delivery_row){ .destination = (int32_t)i + 1 };
	return n;
}

/* Insert a chunk with these delivery rows; the spans are queued, or end at once without rows. */
static enum err
put_with(struct sqlite_store *s, struct chunk_row *c, const struct delivery_row *rows, size_t n)
{
	struct counters *now = &s->c.now;
	enum err e;

	c->id = ++s->last_chunk;
	e = chunk_insert(s, c);
	for (size_t i = 0; e == E_OK && i < n; i++) {
		e = delivery_insert(s, c->id, &rows[i]);
		now->open[rows[i].destination - 1] += rows[i].state == DELIVERY_QUEUED;
	}
	if (e != E_OK)
		return e;
	now->total[TOTAL_CHUNK_ROWS]++;
	now->v[c->signal][COUNT_QUEUED] += c->spans;
	if (n > 0)
		return queue_insert(s, c);
	counters_end(now, c->signal, c->class, c->spans, NULL, 0);
	return history_insert(s, c->id, c->blob_bytes, c->created_real_ns);
}

enum err
sqlite_chunk_put(struct store *st, struct chunk_row *c)
{
	struct sqlite_store *s = sqlite_of(st);
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	bool own;
	enum err e;

	if (c->blob_bytes > STORE_BLOB_MAX || (unsigned)c->signal >= SIGNAL_COUNT ||
	    (unsigned)c->class > CHUNK_ERROR)
		return common_fail(&s->c, E_INVAL, "a chunk of %zu bytes, signal %d, class %d",
		    c->blob_bytes, (int)c->signal, (int)c->class);
	e = own_begin(s, &own);
	if (e != E_OK)
		return e;
	e = space_make(s, c->blob_bytes, s->c.limits.cap_bytes);
	if (e == E_OK)
		e = put_with(s, c, rows, active_rows(&s->c.dests, rows));
	return own_end(s, own, e);
}

/* Out of queue (queued) or history, with its delivery rows and its blob. */
static enum err
erase(struct sqlite_store *s, int64_t id, const struct chunk_head *h, bool queued)
{
	enum err e;

	if (queued) {
		e = queue_delete(s, h->class, id);
	} else {
		e = run_id(s, STMT_HISTORY_DELETE, id);
		s->c.now.total[TOTAL_HISTORY_BYTES] -= h->bytes;
	}
	if (e == E_OK)
		e = run_id(s, STMT_DELIVERY_DELETE, id);
	if (e == E_OK)
		e = run_id(s, STMT_CHUNK_DELETE, id);
	if (e == E_OK)
		s->c.now.total[TOTAL_CHUNK_ROWS]--;
	return e;
}

enum err
chunk_evict(struct sqlite_store *s, int64_t id, enum drop_reason reason)
{
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	struct chunk_head h;
	size_t n;
	bool queued = false;
	enum err e = chunk_head(s, id, &h);

	if (e == E_OK)
		e = delivery_read(s, id, rows, &n);
	if (e != E_OK)
		return e;
	for (size_t i = 0; i < n; i++) {
		if (rows[i].state != DELIVERY_QUEUED)
			continue;
		queued = true;
		rows[i].state = DELIVERY_DROPPED;
		rows[i].status = (int32_t)reason;
		s->c.now.open[rows[i].destination - 1]--;
	}
	if (queued)
		counters_end(&s->c.now, h.signal, h.class, h.spans, rows, n);
	return erase(s, id, &h, queued);
}

/* Both halves belong where the whole did. */
static enum err
split_in_txn(struct sqlite_store *s, int64_t id, struct chunk_row *a, struct chunk_row *b)
{
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	struct chunk_head h;
	bool open;
	int32_t status;
	size_t n;
	enum err e = chunk_head(s, id, &h);

	if (e == E_OK)
		e = delivery_read(s, id, rows, &n);
	if (e != E_OK)
		return e;
	delivery_outcome(rows, n, &open, &status);
	if (!open)
		return E_NOTFOUND;
	if ((uint64_t)a->spans + b->spans != h.spans || a->signal != h.signal ||
	    b->signal != h.signal)
		return common_fail(&s->c, E_INVAL, "the halves are not the whole");
	for (size_t i = 0; i < n; i++) {
		if (rows[i].state != DELIVERY_QUEUED)
			continue;
		rows[i].next_try = 0;
		s->c.now.open[rows[i].destination - 1]--;
	}
	e = erase(s, id, &h, true);
	s->c.now.v[h.signal][COUNT_QUEUED] -= h.spans;
	if (e == E_OK)
		e = put_with(s, a, rows, n);
	if (e == E_OK)
		e = put_with(s, b, rows, n);
	return e;
}

enum err
sqlite_split(struct store *st, int64_t id, struct chunk_row *a, struct chunk_row *b)
{
	struct sqlite_store *s = sqlite_of(st);
	bool own;
	enum err e;

	if (lease_count(&s->c.leases, id) > 1)
		return common_fail(&s->c, E_BUSY, "another destination holds the chunk");
	e = own_begin(s, &own);
	if (e != E_OK)
		return e;
	e = split_in_txn(s, id, a, b);
	if (e == E_OK)
		lease_settled_all(&s->c.leases, id);
	return own_end(s, own, e);
}
