/*
 * ram_chunk.c - chunks, deliveries, leases and eviction of the volatile store.
 * The owner's thread only.
 */
#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/store/store_ram.h"

/* Remove a chunk; its open rows are dropped for that reason. */
static enum err
evict(struct ram_store *r, struct ram_row *row, enum drop_reason reason)
{
	struct chunk_row *c = &row->u.chunk.row;
	enum err e = ram_change(r, row);

	if (e != E_OK)
		return e;
	if (row->u.chunk.queued) {
		for (size_t i = 0; i < row->u.chunk.delivery_count; i++) {
			struct delivery_row *d = &row->u.chunk.deliveries[i];

			if (d->state != DELIVERY_QUEUED)
				continue;
			d->state = DELIVERY_DROPPED;
			d->status = (int32_t)reason;
			r->c.now.open[d->destination - 1]--;
		}
		counters_end(&r->c.now, c->signal, c->class, c->spans, row->u.chunk.deliveries,
		    row->u.chunk.delivery_count);
	} else {
		r->c.now.total[TOTAL_HISTORY_BYTES] -= c->blob_bytes;
	}
	r->c.now.total[TOTAL_CHUNK_ROWS]--;
	return ram_remove(r, row);
}

/* The next loser: history, then by class, the oldest that is not leased. */
static struct ram_row *
loser(struct ram_store *r)
{
	struct ram_row *end = &r->ends[RAM_CHUNK], *best = NULL;

	for (struct ram_row *row = end->next; row != end; row = row->next) {
		if (!row->u.chunk.queued)
			return row;
		if (lease_count(&r->c.leases, row->id) == 0 &&
		    (best == NULL || row->u.chunk.row.class < best->u.chunk.row.class))
			best = row;
	}
	return best;
}

enum err
ram_make_space(struct ram_store *r, uint64_t bytes, uint64_t limit)
{
	while (r->bytes + bytes > limit) {
		struct ram_row *row = loser(r);
		enum err e;

		if (row == NULL)
			return common_fail(&r->c, E_FULL, "full, and nothing may be evicted");
		e = evict(r, row, DROP_STORE_FULL);
		if (e != E_OK)
			return e;
	}
	return E_OK;
}

static enum err
put_with(struct ram_store *r, struct chunk_row *c, const struct delivery_row *rows, size_t n)
{
	struct counters *now = &r->c.now;
	struct ram_row *row = ram_insert(r, RAM_CHUNK, c->blob, c->blob_bytes);

	if (row == NULL)
		return E_NOMEM;
	c->id = row->id;
	row->u.chunk.row = *c;
	row->u.chunk.row.blob = row->blob;
	row->u.chunk.queued = n > 0;
	row->u.chunk.delivery_count = n;
	for (size_t i = 0; i < n; i++) {
		row->u.chunk.deliveries[i] = rows[i];
		now->open[rows[i].destination - 1] += rows[i].state == DELIVERY_QUEUED;
	}
	now->total[TOTAL_CHUNK_ROWS]++;
	now->v[c->signal][COUNT_QUEUED] += c->spans;
	if (n == 0) {
		counters_end(now, c->signal, c->class, c->spans, NULL, 0);
		now->total[TOTAL_HISTORY_BYTES] += c->blob_bytes;
	}
	return E_OK;
}

enum err
ram_chunk_put(struct store *st, struct chunk_row *c)
{
	struct ram_store *r = ram_of(st);
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	size_t n = 0;
	bool own;
	enum err e;

	if (c->blob_bytes > STORE_BLOB_MAX || (unsigned)c->signal >= SIGNAL_COUNT ||
	    (unsigned)c->class > CHUNK_ERROR)
		return common_fail(&r->c, E_INVAL, "a chunk of %zu bytes", c->blob_bytes);
	for (size_t i = 0; i < r->c.dests.n; i++)
		if (r->c.dests.active[i])
			rows[n++] = (struct delivery_row){ .destination = (int32_t)i + 1 };
	e = ram_own_begin(r, &own);
	if (e != E_OK)
		return e;
	e = ram_make_space(r, c->blob_bytes, r->c.limits.cap_bytes);
	if (e == E_OK)
		e = put_with(r, c, rows, n);
	return ram_own_end(r, own, e);
}

static enum err
split_in_txn(struct ram_store *r, int64_t id, struct chunk_row *a, struct chunk_row *b)
{
	struct ram_row *row = ram_find(r, RAM_CHUNK, id);
	struct delivery_row rows[STORE_DESTINATIONS_MAX];
	enum err e;

	if (row == NULL || !row->u.chunk.queued)
		return E_NOTFOUND;
	if ((uint64_t)a->spans + b->spans != row->u.chunk.row.spans ||
	    a->signal != row->u.chunk.row.signal || b->signal != row->u.chunk.row.signal)
		return common_fail(&r->c, E_INVAL, "the halves are not the whole");
	memcpy(rows, row->u.chunk.deliveries, sizeof rows);
	for (size_t i = 0; i < row->u.chunk.delivery_count; i++) {
		if (rows[i].state != DELIVERY_QUEUED)
			continue;
		rows[i].next_try = 0;
		r->c.now.open[rows[i].destination - 1]--;
	}
	r->c.now.v[a->signal][COUNT_QUEUED] -= row->u.chunk.row.spans;
	r->c.now.total[TOTAL_CHUNK_ROWS]--;
	e = put_with(r, a, rows, row->u.chunk.delivery_count);
	if (e == E_OK)
		e = put_with(r, b, rows, row->u.chunk.delivery_count);
	return e != E_OK ? e : ram_remove(r, row);
}

enum err
ram_split(struct store *st, int64_t id, struct chunk_row *a, struct chunk_row *b)
{
	struct ram_store *r = ram_of(st);
	bool own;
	enum err e;

	if (lease_count(&r->c.leases, id) > 1)
		return common_fail(&r->c, E_BUSY, "another destination holds the chunk");
	e = ram_own_begin(r, &own);
	if (e != E_OK)
		return e;
	e = split_in_txn(r, id, a, b);
	if (e == E_OK)
		lease_settled_all(&r->c.leases, id);
	return ram_own_end(r, own, e);
}

static struct delivery_row *
delivery_of(struct ram_row *row, int32_t destination)
{
	for (size_t i = 0; i < row->u.chunk.delivery_count; i++)
		if (row->u.chunk.deliveries[i].destination == destination &&
		    row->u.chunk.deliveries[i].state == DELIVERY_QUEUED)
			return &row->u.chunk.deliveries[i];
	return NULL;
}

/* One open row gets its final state; the chunk may end with it. */
static enum err
end_row(struct ram_store *r, struct ram_row *row, struct delivery_row *d, enum delivery_state state,
    int32_t status)
{
	struct chunk_row *c = &row->u.chunk.row;
	bool open;
	int32_t unused;
	enum err e = ram_change(r, row);

	if (e != E_OK)
		return e;
	d->state = state;
	d->status = status;
	r->c.now.open[d->destination - 1]--;
	delivery_outcome(row->u.chunk.deliveries, row->u.chunk.delivery_count, &open, &unused);
	if (open)
		return E_OK;
	row->u.chunk.queued = false;
	counters_end(&r->c.now, c->signal, c->class, c->spans, row->u.chunk.deliveries,
	    row->u.chunk.delivery_count);
	r->c.now.total[TOTAL_HISTORY_BYTES] += c->blob_bytes;
	return E_OK;
}

static enum err
remove_destination(struct ram_store *r, int32_t destination)
{
	struct ram_row *end = &r->ends[RAM_CHUNK];
	enum err e = E_OK;

	for (struct ram_row *row = end->next; e == E_OK && row != end; row = row->next) {
		struct delivery_row *d = delivery_of(row, destination);

		if (d != NULL)
			e = end_row(r, row, d, DELIVERY_DROPPED, DROP_DESTINATION_REMOVED);
	}
	return e;
}

enum err
ram_destinations_set(struct store *st, const char *const *names, size_t n, int32_t *ids)
{
	struct ram_store *r = ram_of(st);
	bool wanted[STORE_DESTINATIONS_MAX], own;
	enum err e = ram_own_begin(r, &own);

	if (e != E_OK)
		return e;
	e = destinations_plan(&r->c.dests, names, n, ids, wanted);
	if (e != E_OK)
		common_fail(&r->c, e, "destinations: too many, or a name too long or empty");
	for (size_t i = 0; e == E_OK && i < r->c.dests.n; i++) {
		bool was = r->c.dests.active[i];

		r->c.dests.active[i] = wanted[i];
		if (was && !wanted[i]) {
			lease_forget(&r->c.leases, (int32_t)i + 1);
			e = remove_destination(r, (int32_t)i + 1);
		}
	}
	return ram_own_end(r, own, e);
}

static enum err
fill(struct ram_store *r, struct ram_row *row, int32_t destination, struct lease *out)
{
	struct lease l = { .chunk = row->u.chunk.row, .destination = destination };
	struct ram_row *p = ram_find(r, RAM_PROBE, row->u.chunk.row.probe);
	enum err e = E_NOMEM;

	l.attempts = delivery_of(row, destination)->attempts;
	l.chunk.blob = ram_copy(row->blob, row->u.chunk.row.blob_bytes);
	l.probe = calloc(1, sizeof *l.probe);
	if (l.chunk.blob != NULL && l.probe != NULL) {
		if (p != NULL)
			*l.probe = p->u.probe;
		l.probe->id = row->u.chunk.row.probe;
		e = lease_add(&r->c.leases, &l.chunk, destination);
	}
	if (e != E_OK) {
		lease_free(&l);
		return e;
	}
	*out = l;
	return E_OK;
}

enum err
ram_lease(struct store *st, int32_t destination, bool fresh, uint64_t now_real_ns,
    struct lease *out, uint64_t *next_real_ns)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *end = &r->ends[RAM_CHUNK], *row = fresh ? end->prev : end->next;
	uint64_t next = 0;

	for (; row != end; row = fresh ? row->prev : row->next) {
		struct delivery_row *d = delivery_of(row, destination);

		if (d == NULL || lease_held(&r->c.leases, row->id, destination))
			continue;
		if (store_due(d->next_try, now_real_ns)) {
			if (next_real_ns != NULL)
				*next_real_ns = 0;
			return fill(r, row, destination, out);
		}
		if (next == 0 || d->next_try < next)
			next = d->next_try;
	}
	if (next_real_ns != NULL)
		*next_real_ns = next;
	return E_NOTFOUND;
}

static enum err
settle_in_txn(struct ram_store *r, const struct settlement *g)
{
	struct ram_row *row = ram_find(r, RAM_CHUNK, g->chunk);
	struct delivery_row *d = row != NULL ? delivery_of(row, g->destination) : NULL;
	enum err e;

	if (d == NULL)
		return E_NOTFOUND;
	if (g->kind == SETTLE_SENT)
		return end_row(r, row, d, DELIVERY_SENT, g->status);
	if (g->kind == SETTLE_REJECTED)
		return end_row(r, row, d, DELIVERY_REJECTED, g->status);
	if (g->kind == SETTLE_RETURN)
		return E_OK;
	e = ram_change(r, row);
	if (e != E_OK)
		return e;
	d->attempts += g->kind == SETTLE_RETRY;
	d->next_try = g->next_try_real_ns;
	d->status = g->status;
	return E_OK;
}

enum err
ram_settle(struct store *st, const struct settlement *g)
{
	struct ram_store *r = ram_of(st);
	bool own;
	enum err e = ram_own_begin(r, &own);

	if (e != E_OK)
		return e;
	e = settle_in_txn(r, g);
	if (e == E_OK)
		lease_settled(&r->c.leases, g->chunk, g->destination);
	return ram_own_end(r, own, e);
}

enum err
ram_maintain(struct store *st, uint64_t now_real_ns, bool idle)
{
	struct ram_store *r = ram_of(st);
	const struct store_limits *l = &r->c.limits;
	struct ram_row *end = &r->ends[RAM_CHUNK], *next;
	uint64_t now = common_age_clock(&r->c, now_real_ns);
	enum err e = ram_begin(st);

	(void)idle;
	for (struct ram_row *row = end->next; e == E_OK && row != end; row = next) {
		uint64_t made = row->u.chunk.row.created_real_ns;
		uint64_t age_s = made < now ? (now - made) / NS_PER_S : 0;
		bool goes = row->u.chunk.queued
				? age_s > l->cap_age_s && lease_count(&r->c.leases, row->id) == 0
				: age_s > l->history_age_s ||
				      r->c.now.total[TOTAL_HISTORY_BYTES] > l->history_bytes;

		next = row->next;
		if (goes)
			e = evict(r, row, DROP_TOO_OLD);
	}
	if (e == E_OK)
		e = ram_jobs_forget(r, now);
	return ram_own_end(r, true, e);
}

enum err
ram_chunks(struct store *st, int64_t before, store_chunk_fn fn, void *ctx)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *end = &r->ends[RAM_CHUNK];
	struct probe_row *none = calloc(1, sizeof *none);
	enum err e = none == NULL ? E_NOMEM : E_OK;

	for (struct ram_row *row = end->prev; e == E_OK && row != end; row = row->prev) {
		if (before > 0 && row->id >= before)
			continue;

		struct ram_row *p = ram_find(r, RAM_PROBE, row->u.chunk.row.probe);
		bool open;
		int32_t status;
		enum delivery_state state = delivery_outcome(
		    row->u.chunk.deliveries, row->u.chunk.delivery_count, &open, &status);

		if (none != NULL)
			none->id = row->u.chunk.row.probe;
		e = fn(ctx, &row->u.chunk.row, p != NULL ? &p->u.probe : none,
		    open ? DELIVERY_QUEUED : state, open);
	}
	free(none);
	return e;
}

enum err
ram_destination_stats(
    struct store *st, int32_t destination, uint64_t *queued, uint64_t *oldest_real_ns)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *end = &r->ends[RAM_CHUNK];

	if (destination < 1 || (size_t)destination > r->c.dests.n)
		return E_NOTFOUND;
	*queued = r->c.now.open[destination - 1];
	*oldest_real_ns = 0;
	for (struct ram_row *row = end->next; row != end; row = row->next) {
		if (delivery_of(row, destination) == NULL)
			continue;
		*oldest_real_ns = row->u.chunk.row.created_real_ns;
		break;
	}
	return E_OK;
}
