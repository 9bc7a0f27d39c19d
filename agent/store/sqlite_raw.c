/*
 * sqlite_raw.c - raw batches and segments: what came, and what is still open.
 * The owner's thread only.  Ids only grow while a store is open, so that a
 * cursor never meets an id again.
 */
#include <stdlib.h>

#include "agent/store/sqlite.h"

static uint32_t
crc_of(const uint64_t *head, size_t n, const uint8_t *blob, size_t bytes)
{
	return wire_crc32c(wire_crc32c(0, head, n * sizeof *head), blob, bytes);
}

uint32_t
raw_crc(const struct raw_row *r, uint64_t real_ns)
{
	uint64_t head[] = { (uint64_t)r->probe, r->first, r->end, r->spans, real_ns };

	return crc_of(head, sizeof head / sizeof head[0], r->blob, r->blob_bytes);
}

uint32_t
segment_crc(const struct segment_row *g)
{
	uint64_t head[] = { (uint64_t)g->probe, g->spans };

	return crc_of(head, 2, g->blob, g->blob_bytes);
}

enum err
sq_blob_copy(sqlite3_stmt *q, int column, uint8_t **out, size_t *bytes)
{
	const void *p = sqlite3_column_blob(q, column);
	size_t n = (size_t)sqlite3_column_bytes(q, column);

	*bytes = n;
	*out = malloc(n > 0 ? n : 1);
	if (*out == NULL || (p == NULL && sqlite3_errcode(sqlite3_db_handle(q)) == SQLITE_NOMEM)) {
		free(*out);
		*out = NULL;
		return E_NOMEM;
	}
	if (p != NULL && n > 0)
		memcpy(*out, p, n);
	return E_OK;
}

enum err
raw_read(sqlite3_stmt *q, struct raw_row *out)
{
	uint64_t real_ns = sq_u64(q, 5);
	enum err e;

	*out = (struct raw_row){
		.id = sqlite3_column_int64(q, 0),
		.probe = sqlite3_column_int64(q, 1),
		.first = sq_u64(q, 2),
		.end = sq_u64(q, 3),
		.spans = (uint32_t)sqlite3_column_int64(q, 4),
	};
	e = sq_blob_copy(q, 7, &out->blob, &out->blob_bytes);
	if (e == E_OK && raw_crc(out, real_ns) != (uint32_t)sqlite3_column_int64(q, 6)) {
		free(out->blob);
		out->blob = NULL;
		return E_CORRUPT;
	}
	return e;
}

enum err
segment_read(sqlite3_stmt *q, struct segment_row *out)
{
	enum err e;

	*out = (struct segment_row){
		.id = sqlite3_column_int64(q, 0),
		.probe = sqlite3_column_int64(q, 1),
		.spans = (uint32_t)sqlite3_column_int64(q, 2),
	};
	e = sq_blob_copy(q, 4, &out->blob, &out->blob_bytes);
	if (e == E_OK && segment_crc(out) != (uint32_t)sqlite3_column_int64(q, 3)) {
		free(out->blob);
		out->blob = NULL;
		return E_CORRUPT;
	}
	return e;
}

static enum err
insert_raw(struct sqlite_store *s, const struct raw_row *r, uint64_t real_ns)
{
	sqlite3_stmt *q = sq(s, STMT_RAW_PUT);

	sqlite3_bind_int64(q, 1, r->id);
	sqlite3_bind_int64(q, 2, r->probe);
	sqlite3_bind_int64(q, 3, (int64_t)r->first);
	sqlite3_bind_int64(q, 4, (int64_t)r->end);
	sqlite3_bind_int64(q, 5, r->spans);
	sqlite3_bind_int64(q, 6, (int64_t)real_ns);
	sqlite3_bind_int64(q, 7, raw_crc(r, real_ns));
	sqlite3_bind_blob64(q, 8, r->blob, r->blob_bytes, SQLITE_STATIC);
	return sq_done(s, q);
}

/* What the database says of the probe's stream, into the caller's row. */
static enum err
probe_state(struct sqlite_store *s, struct probe_row *p)
{
	sqlite3_stmt *q = sq(s, STMT_PROBE_STATE);
	const void *losses;
	enum err e;

	sqlite3_bind_int64(q, 1, p->id);
	e = sq_row(s, q);
	if (e != E_OK)
		return e;
	p->end = sq_u64(q, 0);
	p->closed = sqlite3_column_int(q, 1) != 0;
	losses = sqlite3_column_blob(q, 2);
	if (losses != NULL && sqlite3_column_bytes(q, 2) == (int)sizeof p->losses)
		memcpy(p->losses, losses, sizeof p->losses);
	p->spans = sq_u64(q, 3);
	p->mono_ns = sq_u64(q, 4);
	p->real_ns = sq_u64(q, 5);
	p->seen_real_ns = sq_u64(q, 6);
	sq_reset(q);
	return E_OK;
}

static enum err
probe_move(struct sqlite_store *s, const struct probe_row *p)
{
	sqlite3_stmt *q = sq(s, STMT_PROBE_MOVE);

	sqlite3_bind_int64(q, 1, p->id);
	sqlite3_bind_int64(q, 2, (int64_t)p->end);
	sqlite3_bind_blob(q, 3, p->losses, sizeof p->losses, SQLITE_STATIC);
	sqlite3_bind_int64(q, 4, (int64_t)p->spans);
	sqlite3_bind_int64(q, 5, (int64_t)p->mono_ns);
	sqlite3_bind_int64(q, 6, (int64_t)p->real_ns);
	sqlite3_bind_int64(q, 7, (int64_t)p->seen_real_ns);
	return sq_done(s, q);
}

/* r->id 0: only the probe moves and `received` counts. */
static enum err
put_checked(struct sqlite_store *s, struct probe_row *p, const struct raw_row *r,
    const struct wire_batch *b)
{
	enum err e;

	if (!space_disk_ok(s) || s->ballast.released)
		return common_fail(&s->c, E_FULL, "too little space on the disk");
	e = space_make(s, r->blob_bytes, s->c.limits.cap_bytes - s->c.limits.reserve_bytes);
	if (e == E_OK && r->id != 0)
		e = insert_raw(s, r, b->real_ns);
	if (e != E_OK)
		return e;
	probe_advance(p, b);
	e = probe_move(s, p);
	if (e != E_OK)
		return e;
	s->c.now.v[SIGNAL_TRACE][COUNT_RECEIVED] += r->spans;
	if (r->id != 0) {
		s->c.now.v[SIGNAL_TRACE][COUNT_QUEUED] += r->spans;
		s->c.now.total[TOTAL_RAW_ROWS]++;
	}
	return E_OK;
}

enum err
sqlite_raw_put(struct store *st, struct probe_row *p, const uint8_t *blob, size_t bytes,
    const struct wire_batch *b, bool strict, int64_t *id)
{
	struct sqlite_store *s = sqlite_of(st);
	struct probe_row before;
	bool own;
	enum err e;

	if (bytes > STORE_BLOB_MAX)
		return common_fail(&s->c, E_INVAL, "a batch of %zu bytes", bytes);
	e = own_begin(s, &own);
	if (e != E_OK)
		return e;
	e = probe_state(s, p);
	before = *p;
	if (e == E_OK)
		e = batch_follows(p->end, b, strict);
	if (e == E_OK && p->closed)
		e = common_fail(&s->c, E_STATE, "the probe is closed");

	struct raw_row r = {
		.id = id != NULL ? s->last_raw + 1 : 0,
		.probe = p->id,
		.first = b->first,
		.end = b->end,
		.spans = b->span_count,
		.blob = (uint8_t *)(uintptr_t)blob,
		.blob_bytes = bytes,
	};

	if (e == E_OK)
		e = put_checked(s, p, &r, b);
	e = own_end(s, own, e);
	if (e != E_OK) {
		*p = before;
		return e;
	}
	if (id != NULL)
		*id = s->last_raw = r.id;
	return E_OK;
}

/*
 * To the callers of a walk E_CORRUPT means "one bad row, gone and counted, go
 * on"; a file that is damaged as such is an error that ends the walk.
 */
static enum err
ends_walk(const struct sqlite_store *s, enum err e)
{
	return e == E_CORRUPT && s->damaged ? E_IO : e;
}

/* A row that failed its checksum: out, and counted. */
static enum err
discard(struct sqlite_store *s, enum stmt_id remove, int64_t id, uint32_t spans, int total)
{
	struct counters *n = &s->c.now;
	sqlite3_stmt *q;
	bool own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return ends_walk(s, e);
	q = sq(s, remove);
	sqlite3_bind_int64(q, 1, id);
	e = sq_done(s, q);
	if (e == E_OK && sqlite3_changes(s->db) == 0) /* found by walking, not by its id */
		e = sq_fail(s, SQLITE_CORRUPT);
	if (e == E_OK) {
		if (spans > n->v[SIGNAL_TRACE][COUNT_QUEUED])
			spans = (uint32_t)n->v[SIGNAL_TRACE][COUNT_QUEUED];
		n->v[SIGNAL_TRACE][COUNT_QUEUED] -= spans;
		n->v[SIGNAL_TRACE][COUNT_DROPPED + DROP_CORRUPT] += spans;
		n->total[total]--;
	}
	e = own_end(s, own, e);
	return e != E_OK ? ends_walk(s, e) : E_CORRUPT;
}

enum err
sqlite_raw_next(struct store *st, int64_t after, struct raw_row *out)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = sq(s, STMT_RAW_NEXT);
	struct raw_row r;
	enum err e;

	sqlite3_bind_int64(q, 1, after);
	e = sq_row(s, q);
	if (e != E_OK)
		return ends_walk(s, e);
	e = raw_read(q, &r);
	sq_reset(q);
	if (r.id <= after) { /* a damaged tree: this walk would not end */
		free(r.blob);
		return ends_walk(s, sq_fail(s, SQLITE_CORRUPT));
	}
	if (e == E_CORRUPT)
		return discard(s, STMT_RAW_DELETE, r.id, r.spans, TOTAL_RAW_ROWS);
	if (e == E_OK)
		*out = r;
	return e;
}

/* Delete a row of raw or segment; its spans leave `queued`. */
static enum err
take_out(struct sqlite_store *s, enum stmt_id look, enum stmt_id remove, int64_t id, int total)
{
	sqlite3_stmt *q;
	uint32_t spans = 0;
	bool own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return e;
	q = sq(s, look);
	sqlite3_bind_int64(q, 1, id);
	e = sq_row(s, q);
	if (e == E_OK) {
		spans = (uint32_t)sqlite3_column_int64(q, 0);
		sq_reset(q);
		q = sq(s, remove);
		sqlite3_bind_int64(q, 1, id);
		e = sq_done(s, q);
	}
	if (e == E_OK) {
		s->c.now.v[SIGNAL_TRACE][COUNT_QUEUED] -= spans;
		s->c.now.total[total]--;
	}
	return own_end(s, own, e);
}

enum err
sqlite_raw_delete(struct store *st, int64_t id)
{
	return take_out(sqlite_of(st), STMT_RAW_SPANS, STMT_RAW_DELETE, id, TOTAL_RAW_ROWS);
}

enum err
sqlite_segment_put(struct store *st, struct segment_row *g)
{
	struct sqlite_store *s = sqlite_of(st);
	int64_t id = s->last_segment + 1;
	sqlite3_stmt *q;
	bool own;
	enum err e;

	if (g->blob_bytes > STORE_BLOB_MAX)
		return common_fail(&s->c, E_INVAL, "a segment of %zu bytes", g->blob_bytes);
	e = own_begin(s, &own);
	if (e != E_OK)
		return e;
	e = space_make(s, g->blob_bytes, s->c.limits.cap_bytes);
	if (e == E_OK) {
		q = sq(s, STMT_SEGMENT_PUT);
		sqlite3_bind_int64(q, 1, id);
		sqlite3_bind_int64(q, 2, g->probe);
		sqlite3_bind_int64(q, 3, g->spans);
		sqlite3_bind_int64(q, 4, segment_crc(g));
		sqlite3_bind_blob64(q, 5, g->blob, g->blob_bytes, SQLITE_STATIC);
		e = sq_done(s, q);
	}
	if (e == E_OK) {
		s->c.now.v[SIGNAL_TRACE][COUNT_QUEUED] += g->spans;
		s->c.now.total[TOTAL_SEGMENT_ROWS]++;
	}
	e = own_end(s, own, e);
	if (e == E_OK)
		g->id = s->last_segment = id;
	return e;
}

enum err
sqlite_segment_next(struct store *st, int64_t after, struct segment_row *out)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = sq(s, STMT_SEGMENT_NEXT);
	struct segment_row g;
	enum err e;

	sqlite3_bind_int64(q, 1, after);
	e = sq_row(s, q);
	if (e != E_OK)
		return ends_walk(s, e);
	e = segment_read(q, &g);
	sq_reset(q);
	if (g.id <= after) {
		free(g.blob);
		return ends_walk(s, sq_fail(s, SQLITE_CORRUPT));
	}
	if (e == E_CORRUPT)
		return discard(s, STMT_SEGMENT_DELETE, g.id, g.spans, TOTAL_SEGMENT_ROWS);
	if (e == E_OK)
		*out = g;
	return e;
}

enum err
sqlite_segment_delete(struct store *st, int64_t id)
{
	return take_out(
	    sqlite_of(st), STMT_SEGMENT_SPANS, STMT_SEGMENT_DELETE, id, TOTAL_SEGMENT_ROWS);
}
