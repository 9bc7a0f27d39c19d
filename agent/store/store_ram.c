/*
 * store_ram.c - the volatile store: the same contract without a disk.  The
 * owner's thread only.  What it holds, and what was acknowledged on its word, is
 * gone with the process: stats say `volatile_`, and the agent is degraded.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/store/store_ram.h"

#define CAP_DEFAULT (64ull << 20)

static void
ram_close(struct store *st)
{
	struct ram_store *r = ram_of(st);

	ram_rollback(st);
	for (int k = 0; k < RAM_KINDS; k++) {
		struct ram_row *row = r->ends[k].next, *next;

		for (; row != &r->ends[k]; row = next) {
			next = row->next;
			free(row->blob);
			free(row);
		}
	}
	free(r->log);
	for (int i = 0; i < RAM_INDEXES; i++)
		free(r->index[i].slots);
	common_fini(&r->c);
	free(r);
}

static struct ram_row *
find_probe(struct ram_store *r, const uint8_t id[FRAME_PROBE_ID_BYTES])
{
	struct ram_row *end = &r->ends[RAM_PROBE];

	for (struct ram_row *row = end->next; row != end; row = row->next)
		if (memcmp(row->u.probe.probe_id, id, FRAME_PROBE_ID_BYTES) == 0)
			return row;
	return NULL;
}

static enum err
ram_probe_put(struct store *st, struct probe_row *p)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row;
	bool own;
	enum err e;

	if (p->attrs_bytes > FRAME_ATTRS_MAX_BYTES)
		return common_fail(&r->c, E_INVAL, "identity of %u bytes", p->attrs_bytes);
	e = ram_own_begin(r, &own);
	if (e != E_OK)
		return e;
	row = find_probe(r, p->probe_id);
	if (row != NULL) {
		e = ram_change(r, row);
		if (e == E_OK)
			probe_merge(&row->u.probe, p);
	} else {
		row = ram_insert(r, RAM_PROBE, NULL, 0);
		e = row != NULL ? E_OK : E_NOMEM;
		if (e == E_OK) {
			row->u.probe = *p;
			row->u.probe.id = row->id;
			row->u.probe.spans = 0;
		}
	}
	if (e == E_OK)
		*p = row->u.probe;
	return ram_own_end(r, own, e);
}

static enum err
ram_probe_get(struct store *st, const uint8_t probe_id[FRAME_PROBE_ID_BYTES], struct probe_row *out)
{
	struct ram_row *row = find_probe(ram_of(st), probe_id);

	if (row == NULL)
		return E_NOTFOUND;
	*out = row->u.probe;
	return E_OK;
}

static enum err
ram_probe_by_row(struct store *st, int64_t id, struct probe_row *out)
{
	struct ram_row *row = ram_find(ram_of(st), RAM_PROBE, id);

	if (row == NULL)
		return E_NOTFOUND;
	*out = row->u.probe;
	return E_OK;
}

static enum err
ram_probe_next(struct store *st, int64_t *id, struct probe_row *out)
{
	struct ram_row *row = ram_after(ram_of(st), RAM_PROBE, *id);

	if (row == NULL)
		return E_NOTFOUND;
	*out = row->u.probe;
	*id = row->id;
	return E_OK;
}

static enum err
ram_probe_close(struct store *st, int64_t id)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row = ram_find(r, RAM_PROBE, id);
	bool own;
	enum err e;

	if (row == NULL)
		return E_NOTFOUND;
	e = ram_own_begin(r, &own);
	if (e != E_OK)
		return e;
	e = ram_change(r, row);
	if (e == E_OK)
		row->u.probe.closed = true;
	return ram_own_end(r, own, e);
}

static enum err
put_raw(struct ram_store *r, struct ram_row *probe, const uint8_t *blob, size_t bytes,
    const struct wire_batch *b, int64_t *id)
{
	struct ram_row *row;
	enum err e = ram_make_space(r, bytes, r->c.limits.cap_bytes - r->c.limits.reserve_bytes);

	if (e == E_OK)
		e = ram_change(r, probe);
	if (e != E_OK)
		return e;
	if (id != NULL) {
		row = ram_insert(r, RAM_RAW, blob, bytes);
		if (row == NULL)
			return E_NOMEM;
		row->u.raw = (struct raw_row){ row->id, probe->id, b->first, b->end, b->span_count,
			row->blob, bytes, false };
		r->c.now.v[SIGNAL_TRACE][COUNT_QUEUED] += b->span_count;
		r->c.now.total[TOTAL_RAW_ROWS]++;
		*id = row->id;
	}
	probe_advance(&probe->u.probe, b);
	r->c.now.v[SIGNAL_TRACE][COUNT_RECEIVED] += b->span_count;
	return E_OK;
}

static enum err
ram_raw_put(struct store *st, struct probe_row *p, const uint8_t *blob, size_t bytes,
    const struct wire_batch *b, bool strict, int64_t *id)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *probe = ram_find(r, RAM_PROBE, p->id);
	bool own;
	enum err e;

	if (probe == NULL)
		return E_NOTFOUND;
	if (bytes > STORE_BLOB_MAX)
		return common_fail(&r->c, E_INVAL, "a batch of %zu bytes", bytes);
	e = batch_follows(probe->u.probe.end, b, strict);
	if (e == E_OK && probe->u.probe.closed)
		e = common_fail(&r->c, E_STATE, "the probe is closed");
	if (e == E_OK)
		e = ram_own_begin(r, &own);
	if (e == E_OK)
		e = ram_own_end(r, own, put_raw(r, probe, blob, bytes, b, id));
	p->end = probe->u.probe.end;
	p->closed = probe->u.probe.closed;
	p->spans = probe->u.probe.spans;
	p->mono_ns = probe->u.probe.mono_ns;
	p->real_ns = probe->u.probe.real_ns;
	p->seen_real_ns = probe->u.probe.seen_real_ns;
	memcpy(p->losses, probe->u.probe.losses, sizeof p->losses);
	return e;
}

static enum err
ram_raw_next(struct store *st, int64_t after, struct raw_row *out)
{
	struct ram_row *row = ram_after(ram_of(st), RAM_RAW, after);
	uint8_t *copy;

	if (row == NULL)
		return E_NOTFOUND;
	copy = ram_copy(row->blob, row->u.raw.blob_bytes);
	if (copy == NULL)
		return E_NOMEM;
	*out = row->u.raw;
	out->blob = copy;
	return E_OK;
}

/* Delete a raw batch or segment; its spans leave `queued`. */
static enum err
take_out(struct ram_store *r, enum ram_kind kind, int64_t id)
{
	struct ram_row *row = ram_find(r, kind, id);
	bool own;
	enum err e;

	if (row == NULL)
		return E_NOTFOUND;
	e = ram_own_begin(r, &own);
	if (e != E_OK)
		return e;
	r->c.now.v[SIGNAL_TRACE][COUNT_QUEUED] -=
	    kind == RAM_RAW ? row->u.raw.spans : row->u.segment.spans;
	r->c.now.total[kind == RAM_RAW ? TOTAL_RAW_ROWS : TOTAL_SEGMENT_ROWS]--;
	return ram_own_end(r, own, ram_remove(r, row));
}

static enum err
ram_raw_delete(struct store *st, int64_t id)
{
	return take_out(ram_of(st), RAM_RAW, id);
}

static enum err
ram_segment_put(struct store *st, struct segment_row *g)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row = NULL;
	bool own;
	enum err e;

	if (g->blob_bytes > STORE_BLOB_MAX)
		return common_fail(&r->c, E_INVAL, "a segment of %zu bytes", g->blob_bytes);
	e = ram_own_begin(r, &own);
	if (e != E_OK)
		return e;
	e = ram_make_space(r, g->blob_bytes, r->c.limits.cap_bytes);
	if (e == E_OK) {
		row = ram_insert(r, RAM_SEGMENT, g->blob, g->blob_bytes);
		e = row != NULL ? E_OK : E_NOMEM;
	}
	if (e == E_OK) {
		g->id = row->id;
		row->u.segment = *g;
		row->u.segment.blob = row->blob;
		r->c.now.v[SIGNAL_TRACE][COUNT_QUEUED] += g->spans;
		r->c.now.total[TOTAL_SEGMENT_ROWS]++;
	}
	return ram_own_end(r, own, e);
}

static enum err
ram_segment_next(struct store *st, int64_t after, struct segment_row *out)
{
	struct ram_row *row = ram_after(ram_of(st), RAM_SEGMENT, after);
	uint8_t *copy;

	if (row == NULL)
		return E_NOTFOUND;
	copy = ram_copy(row->blob, row->u.segment.blob_bytes);
	if (copy == NULL)
		return E_NOMEM;
	*out = row->u.segment;
	out->blob = copy;
	return E_OK;
}

static enum err
ram_segment_delete(struct store *st, int64_t id)
{
	return take_out(ram_of(st), RAM_SEGMENT, id);
}

static void
ram_unlease(struct store *st, int32_t destination)
{
	lease_forget(&ram_of(st)->c.leases, destination);
}

static enum err
count(struct store *st, enum signal signal, int name, uint64_t spans)
{
	struct ram_store *r = ram_of(st);

	if ((unsigned)signal >= SIGNAL_COUNT || name >= COUNT_NAMES)
		return common_fail(&r->c, E_INVAL, "no such counter");
	r->c.now.v[signal][name] += spans;
	return E_OK;
}

static enum err
ram_count_received(struct store *st, enum signal s, uint64_t spans)
{
	return count(st, s, COUNT_RECEIVED, spans);
}

static enum err
ram_count_dropped(struct store *st, enum signal s, enum drop_reason reason, uint64_t spans)
{
	return count(st, s, COUNT_DROPPED + (int)reason, spans);
}

static enum err
ram_count_sampled_out(struct store *st, enum signal s, uint64_t spans)
{
	return count(st, s, COUNT_SAMPLED_OUT, spans);
}

static enum err
ram_stats(struct store *st, struct store_stats *out)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *end = &r->ends[RAM_CHUNK];

	common_stats(&r->c, out);
	out->volatile_ = true;
	out->bytes = r->bytes;
	if (r->ends[RAM_RAW].next != &r->ends[RAM_RAW]) {
		struct ram_row *probe = ram_find(r, RAM_PROBE, r->ends[RAM_RAW].next->u.raw.probe);

		out->oldest_queued_real_ns = probe != NULL ? probe->u.probe.real_ns : 0;
	}
	for (struct ram_row *row = end->next; row != end; row = row->next) {
		uint64_t made = row->u.chunk.row.created_real_ns;

		if (row->u.chunk.queued &&
		    (out->oldest_queued_real_ns == 0 || made < out->oldest_queued_real_ns))
			out->oldest_queued_real_ns = made;
	}
	return E_OK;
}

static enum err
ram_rejected(struct store *st, store_rejected_fn fn, void *ctx)
{
	common_rejected(&ram_of(st)->c, fn, ctx);
	return E_OK;
}

static struct ram_row *
find_meta(struct ram_store *r, const char *key)
{
	struct ram_row *end = &r->ends[RAM_META];

	for (struct ram_row *row = end->next; row != end; row = row->next)
		if (strcmp(row->u.meta.key, key) == 0)
			return row;
	return NULL;
}

static enum err
ram_meta_put(struct store *st, const char *key, const void *value, size_t n)
{
	struct ram_store *r = ram_of(st);
	struct ram_row *row = find_meta(r, key);
	bool own;
	enum err e;

	if (strlen(key) >= sizeof row->u.meta.key)
		return common_fail(&r->c, E_INVAL, "a key of %zu bytes", strlen(key));
	e = ram_own_begin(r, &own);
	if (e != E_OK)
		return e;
	if (row != NULL)
		e = ram_remove(r, row);
	if (e == E_OK) {
		row = ram_insert(r, RAM_META, value, n);
		e = row != NULL ? E_OK : E_NOMEM;
	}
	if (e == E_OK) {
		snprintf(row->u.meta.key, sizeof row->u.meta.key, "%s", key);
		row->u.meta.bytes = n;
	}
	return ram_own_end(r, own, e);
}

static enum err
ram_meta_get(struct store *st, const char *key, void *value, size_t cap, size_t *n)
{
	struct ram_row *row = find_meta(ram_of(st), key);

	if (row == NULL)
		return E_NOTFOUND;
	if (row->u.meta.bytes > cap)
		return E_FULL;
	if (row->u.meta.bytes > 0)
		memcpy(value, row->blob, row->u.meta.bytes);
	*n = row->u.meta.bytes;
	return E_OK;
}

static enum err
ram_mend(struct store *st, bool *mended)
{
	(void)st;
	*mended = false;
	return E_OK;
}

/* There is no second copy of a row, and none of the counters, that could differ. */
static enum err
ram_check(struct store *st, struct store_check *c, uint64_t until_mono_ns)
{
	static const enum ram_kind kinds[] = { RAM_RAW, RAM_SEGMENT, RAM_CHUNK, RAM_JOB };
	struct ram_store *r = ram_of(st);
	struct store_stats stats;

	(void)until_mono_ns; /* nothing is read */
	c->rows = 0;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		for (struct ram_row *row = r->ends[kinds[i]].next; row != &r->ends[kinds[i]];
		     row = row->next)
			c->rows++;
	c->jobs = c->notices = 0;
	for (struct ram_row *row = r->ends[RAM_JOB].next; row != &r->ends[RAM_JOB]; row = row->next)
		c->jobs++;
	(void)ram_notice_count(st, &c->notices); /* it cannot fail */
	c->done = c->recount = true;
	c->identity = ram_stats(st, &stats) == E_OK;
	for (int i = 0; i < SIGNAL_COUNT && c->identity; i++)
		c->identity = stats.identity[i];
	return E_OK;
}

static const struct store_ops ram_ops = {
	.name = "ram",
	.close = ram_close,
	.begin = ram_begin,
	.commit = ram_commit,
	.rollback = ram_rollback,
	.probe_put = ram_probe_put,
	.probe_get = ram_probe_get,
	.probe_by_row = ram_probe_by_row,
	.probe_next = ram_probe_next,
	.probe_close = ram_probe_close,
	.raw_put = ram_raw_put,
	.raw_next = ram_raw_next,
	.raw_delete = ram_raw_delete,
	.segment_put = ram_segment_put,
	.segment_next = ram_segment_next,
	.segment_delete = ram_segment_delete,
	.chunk_put = ram_chunk_put,
	.destinations_set = ram_destinations_set,
	.lease = ram_lease,
	.settle = ram_settle,
	.unlease = ram_unlease,
	.split = ram_split,
	.count_received = ram_count_received,
	.count_dropped = ram_count_dropped,
	.count_sampled_out = ram_count_sampled_out,
	.maintain = ram_maintain,
	.mend = ram_mend,
	.stats = ram_stats,
	.rejected = ram_rejected,
	.destination_stats = ram_destination_stats,
	.chunks = ram_chunks,
	.check = ram_check,
	.job_put = ram_job_put,
	.job_get = ram_job_get,
	.jobs = ram_jobs,
	.jobs_changed = ram_jobs_changed,
	.jobs_count = ram_jobs_count,
	.notice_put = ram_notice_put,
	.notice_next = ram_notice_next,
	.notice_settle = ram_notice_settle,
	.notice_count = ram_notice_count,
	.meta_put = ram_meta_put,
	.meta_get = ram_meta_get,
};

enum err
store_ram_new(const struct store_limits *limits, struct store **out)
{
	struct ram_store *r = calloc(1, sizeof *r);

	if (r == NULL)
		return E_NOMEM;
	r->c.base.ops = &ram_ops;
	limits_settle(&r->c.limits, limits, CAP_DEFAULT);
	for (int k = 0; k < RAM_KINDS; k++)
		r->ends[k].prev = r->ends[k].next = &r->ends[k];
	r->versions.u.job.older = r->versions.u.job.newer = &r->versions;
	*out = &r->c.base;
	return E_OK;
}
