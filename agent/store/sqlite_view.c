/*
 * sqlite_view.c - reading for people: chunks newest first, figures of a
 * destination, small named values.  The owner's thread only; a callback must
 * not change the store.
 */
#include <stdlib.h>

#include "agent/store/sqlite.h"

/* Hand one chunk to the callback with its probe and state. */
static enum err
show(struct sqlite_store *s, struct chunk_row *c, struct probe_row *probe, store_chunk_fn fn,
    void *ctx)
{
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	enum delivery_state state;
	int32_t status;
	bool open;
	size_t n;
	enum err e = delivery_read(s, c->id, rows, &n);

	if (e == E_OK && probe->id != c->probe) {
		e = sqlite_probe_by_row(&s->c.base, c->probe, probe);
		if (e == E_NOTFOUND) {
			memset(probe, 0, sizeof *probe);
			probe->id = c->probe;
			e = E_OK;
		}
	}
	if (e != E_OK)
		return e;
	state = delivery_outcome(rows, n, &open, &status);
	return fn(ctx, c, probe, open ? DELIVERY_QUEUED : state, open);
}

enum err
sqlite_chunks(struct store *st, int64_t before, store_chunk_fn fn, void *ctx)
{
	struct sqlite_store *s = sqlite_of(st);
	struct probe_row *probe = calloc(1, sizeof *probe);
	int64_t id = before > 0 ? before : INT64_MAX;
	enum err e = probe == NULL ? E_NOMEM : E_OK;

	while (e == E_OK) {
		sqlite3_stmt *q = sq(s, STMT_CHUNK_DOWN);
		struct chunk_row c = { 0 };

		sqlite3_bind_int64(q, 1, id);
		e = sq_row(s, q);
		if (e != E_OK)
			break;
		e = chunk_read(q, &c);
		sq_reset(q);
		if (c.id >= id) { /* a damaged tree: this walk would not end */
			free(c.blob);
			e = sq_fail(s, SQLITE_CORRUPT);
			break;
		}
		id = c.id;
		if (e == E_OK)
			e = show(s, &c, probe, fn, ctx);
		else if (e == E_CORRUPT)
			e = E_OK; /* a lease will find and count it; nothing changes here */
		free(c.blob);
	}
	free(probe);
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
sqlite_destination_stats(
    struct store *st, int32_t destination, uint64_t *queued, uint64_t *oldest_real_ns)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q;
	enum err e;

	if (destination < 1 || (size_t)destination > s->c.dests.n)
		return E_NOTFOUND;
	*queued = s->c.now.open[destination - 1];
	*oldest_real_ns = 0;
	q = sq(s, STMT_DEST_OLDEST);
	sqlite3_bind_int(q, 1, destination);
	e = sq_row(s, q);
	if (e == E_OK) {
		*oldest_real_ns = sq_u64(q, 0);
		sq_reset(q);
	}
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
sqlite_meta_put(struct store *st, const char *key, const void *value, size_t n)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q;
	bool own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return e;
	q = sq(s, STMT_META_PUT);
	sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
	if (n > 0)
		sqlite3_bind_blob64(q, 2, value, n, SQLITE_STATIC);
	else
		sqlite3_bind_zeroblob(q, 2, 0);
	return own_end(s, own, sq_done(s, q));
}

enum err
sqlite_meta_get(struct store *st, const char *key, void *value, size_t cap, size_t *n)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = sq(s, STMT_META_GET);
	const void *p;
	size_t bytes;
	enum err e;

	sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
	e = sq_row(s, q);
	if (e != E_OK)
		return e;
	p = sqlite3_column_blob(q, 0);
	bytes = (size_t)sqlite3_column_bytes(q, 0);
	if (bytes > cap) {
		e = E_FULL;
	} else {
		if (bytes > 0)
			memcpy(value, p, bytes);
		*n = bytes;
	}
	sq_reset(q);
	return e;
}
