/*
 * sqlite_delivery.c - destinations, leases, settlements.  The owner's thread
 * only.  A row that may be tried at once has next_try 0 and is found through
 * delivery_ready; one that waits is found through delivery_later.
 */
#include <stdlib.h>

#include "agent/store/sqlite.h"

#define BAD_MAX  1000 /* chunks that fail their checksum, in one call */
#define DUE_LOOK 64   /* waiting rows whose time has come, looked at for the right age */

static enum err
delivery_set(struct sqlite_store *s, int64_t chunk, const struct delivery_row *r)
{
	sqlite3_stmt *q = sq(s, STMT_DELIVERY_SET);

	sqlite3_bind_int64(q, 1, chunk);
	sqlite3_bind_int(q, 2, r->destination);
	sqlite3_bind_int(q, 3, (int)r->state);
	sqlite3_bind_int64(q, 4, r->attempts);
	sqlite3_bind_int64(q, 5, (int64_t)r->next_try);
	sqlite3_bind_int(q, 6, r->status);
	return sq_done(s, q);
}

/* One row of a queued chunk gets its final state; the chunk may end with it. */
static enum err
end_row(struct sqlite_store *s, int64_t chunk, struct delivery_row *rows, size_t n, size_t at,
    enum delivery_state state, int32_t status)
{
	struct chunk_head h;
	bool open;
	enum err e;

	rows[at].state = state;
	rows[at].status = status;
	rows[at].next_try = 0;
	s->c.now.open[rows[at].destination - 1]--;
	e = delivery_set(s, chunk, &rows[at]);
	delivery_outcome(rows, n, &open, &status);
	if (e != E_OK || open)
		return e;
	e = chunk_head(s, chunk, &h);
	return e != E_OK ? e : chunk_end(s, chunk, &h, rows, n);
}

static enum err
remove_destination(struct sqlite_store *s, int32_t destination)
{
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	int64_t chunk = 0;
	enum err e;

	for (;;) {
		sqlite3_stmt *q = sq(s, STMT_OPEN_READY);
		size_t n, at = 0;

		sqlite3_bind_int(q, 1, destination);
		e = sq_row(s, q);
		if (e == E_NOTFOUND) {
			q = sq(s, STMT_OPEN_LATER);
			sqlite3_bind_int(q, 1, destination);
			e = sq_row(s, q);
		}
		if (e != E_OK)
			return e == E_NOTFOUND ? E_OK : e;
		chunk = sqlite3_column_int64(q, 0);
		sq_reset(q);
		e = delivery_read(s, chunk, rows, &n);
		if (e != E_OK)
			return e;
		while (at < n && rows[at].destination != destination)
			at++;
		if (at == n) /* an index that names no row */
			return sq_fail(s, SQLITE_CORRUPT);
		e = end_row(s, chunk, rows, n, at, DELIVERY_DROPPED, DROP_DESTINATION_REMOVED);
		if (e != E_OK)
			return e;
	}
}

static enum err
destination_write(struct sqlite_store *s, size_t i)
{
	sqlite3_stmt *q = sq(s, STMT_DEST_PUT);

	sqlite3_bind_int64(q, 1, (int64_t)i + 1);
	sqlite3_bind_text(q, 2, s->c.dests.names[i], -1, SQLITE_STATIC);
	sqlite3_bind_int(q, 3, s->c.dests.active[i]);
	return sq_done(s, q);
}

enum err
sqlite_destinations_set(struct store *st, const char *const *names, size_t n, int32_t *ids)
{
	struct sqlite_store *s = sqlite_of(st);
	bool wanted[STORE_DESTINATIONS_MAX], own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return e;
	e = destinations_plan(&s->c.dests, names, n, ids, wanted);
	if (e != E_OK)
		common_fail(&s->c, e, "destinations: too many, or a name too long or empty");
	for (size_t i = 0; e == E_OK && i < s->c.dests.n; i++) {
		bool was = s->c.dests.active[i];

		s->c.dests.active[i] = wanted[i];
		if (was != wanted[i])
			e = destination_write(s, i);
		if (e == E_OK && was && !wanted[i]) {
			lease_forget(&s->c.leases, (int32_t)i + 1);
			e = remove_destination(s, (int32_t)i + 1);
		}
	}
	return own_end(s, own, e);
}

/* The first row of an index in its order that nobody has leased. */
static enum err
first_ready(struct sqlite_store *s, int32_t destination, bool fresh, int64_t *chunk)
{
	sqlite3_stmt *q = sq(s, fresh ? STMT_READY_NEW : STMT_READY_OLD);
	enum err e;

	sqlite3_bind_int(q, 1, destination);
	while ((e = sq_row(s, q)) == E_OK) {
		int64_t id = sqlite3_column_int64(q, 0);

		if (lease_held(&s->c.leases, id, destination))
			continue;
		*chunk = id;
		sq_reset(q);
		break;
	}
	return e;
}

/* Among rows whose time has come the newest or oldest; else when the first comes. */
static enum err
first_later(struct sqlite_store *s, int32_t destination, bool fresh, uint64_t now_real_ns,
    int64_t *chunk, uint64_t *next_real_ns)
{
	sqlite3_stmt *q = sq(s, STMT_LATER);
	bool found = false;
	int looked = 0;
	enum err e;

	*next_real_ns = 0;
	sqlite3_bind_int(q, 1, destination);
	while ((e = sq_row(s, q)) == E_OK) {
		int64_t id = sqlite3_column_int64(q, 0);
		uint64_t next = sq_u64(q, 1);

		if (lease_held(&s->c.leases, id, destination))
			continue;
		if (!store_due(next, now_real_ns) || looked++ == DUE_LOOK) {
			if (!found)
				*next_real_ns = next;
			sq_reset(q);
			break;
		}
		if (!found || (fresh ? id > *chunk : id < *chunk))
			*chunk = id;
		found = true;
	}
	if (e != E_OK && e != E_NOTFOUND)
		return e;
	return found ? E_OK : E_NOTFOUND;
}

static enum err
next_due(struct sqlite_store *s, int32_t destination, bool fresh, uint64_t now_real_ns,
    int64_t *chunk, uint64_t *next_real_ns)
{
	int64_t ready = 0, later = 0;
	enum err a = first_ready(s, destination, fresh, &ready);
	enum err b = E_NOTFOUND;

	if (a == E_OK || a == E_NOTFOUND)
		b = first_later(s, destination, fresh, now_real_ns, &later, next_real_ns);
	else
		return a;
	if (b != E_OK && b != E_NOTFOUND)
		return b;
	if (a == E_OK && b == E_OK)
		*chunk = (fresh ? ready > later : ready < later) ? ready : later;
	else
		*chunk = a == E_OK ? ready : later;
	return a == E_OK || b == E_OK ? E_OK : E_NOTFOUND;
}

/* Fill a lease from the rows. E_CORRUPT: the chunk was bad and is gone. */
static enum err
fill(struct sqlite_store *s, int64_t chunk, int32_t destination, struct lease *out)
{
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	sqlite3_stmt *q = sq(s, STMT_CHUNK_GET);
	struct lease l = { .destination = destination };
	size_t n;
	bool own;
	enum err e;

	sqlite3_bind_int64(q, 1, chunk);
	e = sq_row(s, q);
	if (e == E_OK) {
		e = chunk_read(q, &l.chunk);
		sq_reset(q);
	} else if (e == E_NOTFOUND) {
		return sq_fail(s, SQLITE_CORRUPT); /* a delivery without its chunk */
	}
	if (e == E_CORRUPT && !s->damaged) {
		e = own_begin(s, &own);
		if (e == E_OK)
			e = own_end(s, own, chunk_evict(s, chunk, DROP_CORRUPT));
		return e == E_OK ? E_CORRUPT : e;
	}
	if (e == E_OK)
		e = delivery_read(s, chunk, rows, &n);
	for (size_t i = 0; e == E_OK && i < n; i++)
		if (rows[i].destination == destination)
			l.attempts = rows[i].attempts;
	if (e == E_OK) {
		l.probe = calloc(1, sizeof *l.probe);
		e = l.probe == NULL ? E_NOMEM
				    : sqlite_probe_by_row(&s->c.base, l.chunk.probe, l.probe);
		if (e == E_NOTFOUND) { /* forgotten: the chunk goes out with the agent's own */
			memset(l.probe, 0, sizeof *l.probe);
			l.probe->id = l.chunk.probe;
			e = E_OK;
		}
	}
	if (e == E_OK)
		e = lease_add(&s->c.leases, &l.chunk, destination);
	if (e != E_OK) {
		lease_free(&l);
		return e;
	}
	*out = l;
	return E_OK;
}

enum err
sqlite_lease(struct store *st, int32_t destination, bool fresh, uint64_t now_real_ns,
    struct lease *out, uint64_t *next_real_ns)
{
	struct sqlite_store *s = sqlite_of(st);
	uint64_t next = 0;
	int64_t chunk;
	int bad = 0;
	enum err e;

	do {
		if (bad++ == BAD_MAX) /* they are still found after they were deleted */
			return sq_fail(s, SQLITE_CORRUPT);
		e = next_due(s, destination, fresh, now_real_ns, &chunk, &next);
		if (e == E_OK)
			e = fill(s, chunk, destination, out);
	} while (e == E_CORRUPT && !s->damaged);
	if (next_real_ns != NULL)
		*next_real_ns = e == E_NOTFOUND ? next : 0;
	return e;
}

static enum err
settle_in_txn(struct sqlite_store *s, const struct settlement *g)
{
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	size_t n, at = 0;
	enum err e = delivery_read(s, g->chunk, rows, &n);

	if (e != E_OK)
		return e;
	while (at < n && rows[at].destination != g->destination)
		at++;
	if (at == n || rows[at].state != DELIVERY_QUEUED)
		return E_NOTFOUND;
	switch (g->kind) {
	case SETTLE_SENT:
		return end_row(s, g->chunk, rows, n, at, DELIVERY_SENT, g->status);
	case SETTLE_REJECTED:
		return end_row(s, g->chunk, rows, n, at, DELIVERY_REJECTED, g->status);
	case SETTLE_RETRY:
		rows[at].attempts++;
		break;
	case SETTLE_HOLD:
		break;
	case SETTLE_RETURN:
		return E_OK;
	}
	rows[at].next_try = g->next_try_real_ns;
	rows[at].status = g->status;
	return delivery_set(s, g->chunk, &rows[at]);
}

enum err
sqlite_settle(struct store *st, const struct settlement *g)
{
	struct sqlite_store *s = sqlite_of(st);
	bool own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return e;
	e = settle_in_txn(s, g);
	if (e == E_OK)
		lease_settled(&s->c.leases, g->chunk, g->destination);
	return own_end(s, own, e);
}

void
sqlite_unlease(struct store *st, int32_t destination)
{
	lease_forget(&sqlite_of(st)->c.leases, destination);
}
