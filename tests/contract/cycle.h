/*
 * cycle.h - the life of a small buffer, for tests that spoil it: a collector
 * starts, receives all that one probe says, sends it, keeps book of its jobs, and
 * may be started again at any point.  Real store, real processor, the pipeline's
 * order of things.
 */
#pragma once

#include <unistd.h>

#include "agent/store/store.h"
#include "tests/unit/agent/processor/feeder.h"

#define ROUNDS       7
#define SPANS        (ROUNDS * 4)
#define SECOND       1000000000ull
#define ID(round, k) (((round) + 1) * 8 + (k)) /* of a span; never 0 */
#define IDS          ((ROUNDS + 1) * 8)

struct cycle {
	struct store *st;
	struct processor *p;
	struct raw_row batches[ROUNDS + 2]; /* all that the probe will say */
	size_t batch_count, next;           /* to be sent */
	uint64_t acked;
	bool fed;
	int32_t destination;
	uint64_t clock;
	unsigned delivered[IDS];
	unsigned leased_now;           /* chunks delivered and not yet recorded */
	uint64_t version, version_put; /* of the newest job: durable; in the transaction */
	struct notice_row notice;
	bool telling; /* that notice: told and not yet recorded */
	unsigned told[ROUNDS];
	unsigned crashes, failures;
	char error[STORE_ERROR_BYTES];
};

static char dir[64];
static uint8_t probe_id[FRAME_PROBE_ID_BYTES];

#include "tests/contract/cycle_jobs.h"

/* Round r opens a root and finishes it two rounds later: segments live in between. */
static inline void
script(struct cycle *c)
{
	static struct feeder f;

	feeder_init(&f, 1);
	for (uint64_t r = 0; r < ROUNDS + 2; r++) {
		if (r < ROUNDS) {
			PUT(&f, .trace = 100 + r, .span = ID(r, 0), .flags = WIRE_SPAN_LOCAL_ROOT,
			    .open = true);
			for (uint64_t k = 1; k < 4; k++)
				PUT(&f, .trace = 100 + r, .span = ID(r, k), .parent = ID(r, 0),
				    .tags = 3);
		}
		if (r >= 2)
			PUT(&f, .trace = 100 + r - 2, .span = ID(r - 2, 0),
			    .flags = WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_OPENED);
		c->batches[c->batch_count++] = feeder_batch(&f);
	}
}

static inline enum err
restore(struct cycle *c)
{
	struct segment_row g;
	struct raw_row raw;
	int64_t after = 0;
	enum err e;

	while ((e = c->st->ops->segment_next(c->st, after, &g)) == E_OK) {
		after = g.id;
		e = processor_restore(c->p, &g);
		free(g.blob);
		if (e != E_OK)
			return e;
	}
	if (e != E_NOTFOUND)
		return e;
	/* in this script the processor takes every batch at once: no row may be left */
	e = c->st->ops->raw_next(c->st, 0, &raw);
	if (e == E_OK)
		free(raw.blob);
	return e == E_NOTFOUND ? E_OK : e == E_OK ? E_STATE : e;
}

/* Open and bring up to date, as a start of the collector does. */
static inline enum err
start(struct cycle *c)
{
	const char *names[] = { "datadog" };
	struct store_open_report report;
	struct probe_row row = { .pid = 7 };
	const struct store_limits limits = { .cap_bytes = 64 << 20 };
	struct seen_jobs seen = { 0 };
	enum err e = store_sqlite_open(dir, &limits, &c->st, &report);

	if (e != E_OK) {
		CHECK(report.text[0] != '\0');
		snprintf(c->error, sizeof c->error, "%s", report.text);
		return e;
	}
	CHECK(!report.quarantined);
	memcpy(row.probe_id, probe_id, sizeof row.probe_id);
	e = c->st->ops->begin(c->st);
	if (e == E_OK)
		e = c->st->ops->destinations_set(c->st, names, 1, &c->destination);
	if (e == E_OK)
		e = c->st->ops->probe_put(c->st, &row);
	if (e == E_OK)
		e = c->st->ops->commit(c->st);
	if (e == E_OK)
		e = processor_new(
		    &(struct processor_options){ .service = "s", .rate_limit = 100 }, &c->p);
	if (e == E_OK)
		e = processor_probe(c->p, &row);
	if (e == E_OK)
		e = restore(c);
	if (e == E_OK) /* a commit that was refused may be there all the same */
		e = c->st->ops->jobs_changed(c->st, 0, 0, see_job, &seen);
	if (e != E_OK) {
		snprintf(c->error, sizeof c->error, "%s", store_last_error(c->st));
		CHECK(c->error[0] != '\0');
		c->st->ops->close(c->st);
		c->st = NULL;
		processor_free(c->p);
		c->p = NULL;
		return e;
	}
	CHECK(row.end >= c->acked); /* what was acknowledged is there */
	CHECK(seen.version >= c->version);
	c->version = seen.version;
	for (c->next = 0; c->next < c->batch_count && c->batches[c->next].end <= row.end;)
		c->next++;
	c->fed = false;
	return E_OK;
}

static inline void
stop(struct cycle *c)
{
	if (c->st != NULL)
		c->st->ops->close(c->st);
	processor_free(c->p);
	c->st = NULL;
	c->p = NULL;
}

static inline enum err
apply(struct cycle *c, const struct step *s)
{
	const struct store_ops *ops = c->st->ops;
	enum err e = E_OK;

	for (size_t i = 0; e == E_OK && i < s->dead_count; i++)
		e = ops->segment_delete(c->st, s->dead_segments[i]);
	for (size_t i = 0; e == E_OK && i < s->chunk_count; i++)
		e = ops->chunk_put(c->st, &s->chunks[i]);
	for (size_t i = 0; e == E_OK && i < s->segment_count; i++)
		e = ops->segment_put(c->st, &s->segments[i]);
	return e;
}

/* One batch in, one step out, one transaction. */
static inline enum err
receive(struct cycle *c)
{
	const struct store_ops *ops = c->st->ops;
	struct raw_row raw = c->batches[c->next];
	struct probe_row row = { .id = 0 };
	const struct step *s;
	struct wire_error why;
	struct wire_batch b;
	enum err e = ops->begin(c->st);

	if (e != E_OK)
		return e;
	if (wire_batch_peek(raw.blob, raw.blob_bytes, &b, &why) != 0)
		return E_INVAL;
	e = ops->probe_get(c->st, probe_id, &row);
	if (e == E_OK)
		e = ops->raw_put(c->st, &row, raw.blob, raw.blob_bytes, &b, true, &raw.id);
	CHECK(e != E_EXISTS); /* a commit that failed has not happened */
	if (e == E_EXISTS)
		return E_STATE;
	if (e == E_OK && !c->fed) {
		raw.probe = row.id;
		e = processor_feed(c->p, &raw);
		c->fed = e == E_OK;
	}
	if (e == E_OK)
		e = ops->raw_delete(c->st, raw.id);
	if (e == E_OK)
		e = processor_step(c->p, c->clock, c->clock, &s);
	if (e == E_OK)
		e = apply(c, s);
	if (e == E_OK)
		e = move_jobs(c, c->next);
	if (e == E_OK)
		e = ops->commit(c->st);
	if (e != E_OK)
		return e;
	processor_commit(c->p);
	c->version = c->version_put;
	c->acked = raw.end;
	c->next++;
	c->fed = false;
	return E_OK;
}

static inline void
deliver(struct cycle *c, const struct chunk_row *chunk)
{
	struct wire_bundle b;
	struct wire_trace t;
	struct wire_error why;
	size_t at = 0;

	CHECK(wire_bundle_get(chunk->blob, chunk->blob_bytes, &b, &why) == 0);
	while (wire_trace_next(&b, &at, &t, &why) == 1)
		for (uint32_t i = 0; i < t.records_bytes; i += wire_get32(t.records + i + 8)) {
			uint64_t id = wire_get64(t.records + i + RECORD_HEADER_BYTES + 16);

			CHECK(id < IDS);
			if (id < IDS)
				c->delivered[id]++;
		}
}

/* One chunk out and recorded; E_NOTFOUND: nothing due. */
static inline enum err
send_one(struct cycle *c)
{
	static struct settlement g;
	struct lease l;
	uint64_t next;
	enum err e = E_OK;

	if (c->leased_now == 0) {
		e = c->st->ops->lease(c->st, c->destination, false, c->clock, &l, &next);
		if (e != E_OK)
			return e;
		deliver(c, &l.chunk);
		g = (struct settlement){ .chunk = l.chunk.id,
			.destination = c->destination,
			.kind = SETTLE_SENT,
			.status = 200 };
		c->leased_now = 1;
		lease_free(&l);
	}
	e = c->st->ops->begin(c->st);
	if (e == E_OK)
		e = c->st->ops->settle(c->st, &g);
	if (e == E_OK)
		e = c->st->ops->commit(c->st);
	if (e == E_OK)
		c->leased_now = 0;
	return e;
}
