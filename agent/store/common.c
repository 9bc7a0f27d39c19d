/*
 * common.c - limits, probe rows, batch order, statistics: the bookkeeping that
 * both stores do alike.  The owner's thread only.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "agent/store/common.h"
#include "schema/tables.h"

#define JOBS_DEF    100000
#define DAY_S       86400ull
#define LEAP_NS     (30 * DAY_S * 1000000000ull)
#define CAP_MIN     (1ull << 20)
#define HISTORY_DEF (256ull << 20)
#define RESERVE_DEF (32ull << 20)

void
limits_settle(struct store_limits *l, const struct store_limits *given, uint64_t cap_default)
{
	*l = given != NULL ? *given : (struct store_limits){ 0 };
	if (l->cap_bytes == 0)
		l->cap_bytes = cap_default;
	if (l->cap_bytes < CAP_MIN)
		l->cap_bytes = CAP_MIN;
	if (l->cap_age_s == 0)
		l->cap_age_s = 7 * DAY_S;
	if (l->history_bytes == 0)
		l->history_bytes = HISTORY_DEF;
	if (l->history_age_s == 0)
		l->history_age_s = 7 * DAY_S;
	if (l->jobs_max == 0)
		l->jobs_max = JOBS_DEF;
	if (l->jobs_age_s == 0)
		l->jobs_age_s = 30 * DAY_S;
	if (l->reserve_bytes == 0)
		l->reserve_bytes = RESERVE_DEF;
	if (l->reserve_bytes > l->cap_bytes / 4)
		l->reserve_bytes = l->cap_bytes / 4;
}

enum err
common_fail(struct store_common *c, enum err e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->error, sizeof c->error, fmt, ap);
	va_end(ap);
	return e;
}

const char *
store_last_error(const struct store *st)
{
	return ((const struct store_common *)st)->error;
}

void
common_begin(struct store_common *c)
{
	c->saved = c->now;
	c->dests_saved = c->dests;
	c->in_txn = true;
}

void
common_commit(struct store_common *c)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->leases.n; i++)
		if (!c->leases.entries[i].settled)
			c->leases.entries[kept++] = c->leases.entries[i];
	c->leases.n = kept;
	c->in_txn = false;
}

void
common_rollback(struct store_common *c)
{
	c->now = c->saved;
	c->dests = c->dests_saved;
	for (size_t i = 0; i < c->leases.n; i++)
		c->leases.entries[i].settled = false;
	c->in_txn = false;
}

void
common_fini(struct store_common *c)
{
	free(c->leases.entries);
}

/* Does the batch begin by saying that everything from the stored end to itself is lost? */
static bool
says_lost(uint64_t stored_end, const struct wire_batch *b)
{
	struct wire_record r;
	struct wire_error err;

	if (wire_record_get(b->records, b->records_bytes, &r, &err) < 0 || r.type != EVENT_LOSS ||
	    r.payload_bytes < 16)
		return false;
	return wire_get64(r.payload) <= stored_end && wire_get64(r.payload + 8) >= b->first;
}

enum err
batch_follows(uint64_t stored_end, const struct wire_batch *b, bool strict)
{
	if (b->end <= stored_end)
		return E_EXISTS;
	if (b->first < stored_end)
		return E_GAP;
	if (b->first > stored_end && strict && !says_lost(stored_end, b))
		return E_GAP;
	return E_OK;
}

void
probe_advance(struct probe_row *p, const struct wire_batch *b)
{
	p->end = b->end;
	p->spans += b->span_count;
	p->mono_ns = b->mono_ns;
	p->real_ns = b->real_ns;
	if (b->real_ns > p->seen_real_ns)
		p->seen_real_ns = b->real_ns;
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		if (b->losses[i] > p->losses[i])
			p->losses[i] = b->losses[i];
}

void
probe_merge(struct probe_row *stored, const struct probe_row *given)
{
	memcpy(stored->boot_id, given->boot_id, sizeof stored->boot_id);
	if (given->end > stored->end)
		stored->end = given->end;
	if (given->pid != 0) {
		stored->pid = given->pid;
		stored->start_ticks = given->start_ticks;
	}
	if (given->mono_ns != 0) {
		stored->mono_ns = given->mono_ns;
		stored->real_ns = given->real_ns;
	}
	if (given->seen_real_ns > stored->seen_real_ns)
		stored->seen_real_ns = given->seen_real_ns;
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		if (given->losses[i] > stored->losses[i])
			stored->losses[i] = given->losses[i];
	if (given->attrs_bytes > 0 && given->attrs_bytes <= FRAME_ATTRS_MAX_BYTES) {
		stored->attrs_bytes = given->attrs_bytes;
		memcpy(stored->attrs, given->attrs, given->attrs_bytes);
	}
	if (given->closed)
		stored->closed = true;
}

void
common_stats(const struct store_common *c, struct store_stats *out)
{
	const struct counters *n = &c->now;
	uint64_t flight[SIGNAL_COUNT];

	memset(out, 0, sizeof *out);
	lease_in_flight(&c->leases, flight);
	out->cap_bytes = c->limits.cap_bytes;
	out->history_bytes = n->total[TOTAL_HISTORY_BYTES];
	out->raw_rows = n->total[TOTAL_RAW_ROWS];
	out->segment_rows = n->total[TOTAL_SEGMENT_ROWS];
	out->chunk_rows = n->total[TOTAL_CHUNK_ROWS];
	out->quarantined = n->total[TOTAL_QUARANTINED];
	for (int s = 0; s < SIGNAL_COUNT; s++) {
		out->received[s] = n->v[s][COUNT_RECEIVED];
		out->sent[s] = n->v[s][COUNT_SENT];
		out->sampled_out[s] = n->v[s][COUNT_SAMPLED_OUT];
		out->queued[s] = n->v[s][COUNT_QUEUED] - flight[s];
		out->in_flight[s] = flight[s];
		for (int r = 0; r < DROP_REASONS; r++)
			out->dropped[s][r] = n->v[s][COUNT_DROPPED + r];
		out->rejected_total[s] = counters_rejected(n, (enum signal)s);
		out->identity[s] =
		    counters_identity(n, (enum signal)s) && flight[s] <= n->v[s][COUNT_QUEUED];
	}
}

void
common_rejected(const struct store_common *c, store_rejected_fn fn, void *ctx)
{
	const struct counters *n = &c->now;

	for (size_t i = 0; i < STORE_REJECTED_MAX; i++)
		if (n->rejected[i].spans > 0)
			fn(ctx, (enum signal)n->rejected[i].signal, (int)n->rejected[i].status,
			    n->rejected[i].spans);
}

static uint64_t
boot_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint64_t
common_age_clock(struct store_common *c, uint64_t now_real_ns)
{
	uint64_t boot = boot_ns();

	if (c->clock_real_ns != 0) {
		uint64_t lived = c->clock_boot_ns != 0 ? boot - c->clock_boot_ns : 0;
		int64_t leap = (int64_t)(now_real_ns - c->clock_real_ns - lived);

		if (leap > (int64_t)LEAP_NS || leap < -(int64_t)LEAP_NS)
			c->clock_skew_ns += leap;
		/* Set back beyond where it began: what is written from now on is not old for it. */
		if (c->clock_skew_ns < 0)
			c->clock_skew_ns = 0;
	}
	c->clock_real_ns = now_real_ns;
	c->clock_boot_ns = boot;
	return now_real_ns - (uint64_t)c->clock_skew_ns;
}
