/*
 * stages.h - what the tests of the pipeline put around it: the real store and
 * receiver, a processor and an exporter that do as they are told.
 */
#pragma once

#include "tests/t.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/service/pipeline.h"
#include "agent/store/store.h"
#include "tests/unit/agent/receiver/peer.h"

/* ---- a processor: one chunk for each batch ------------------------------ */

#define FED_MAX 4096

struct processor {
	struct chunk_row chunks[64];
	size_t count;
	struct step step;
	uint64_t fed_first[FED_MAX];
	size_t fed;
	unsigned commits, aborts, resets;
};

static _Atomic bool refuse_feed;
static struct processor the_processor;
static uint8_t empty_bundle[BUNDLE_FIXED_BYTES];

enum err
processor_probe(struct processor *p, const struct probe_row *probe)
{
	(void)p;
	return probe->id > 0 ? E_OK : E_INVAL;
}

enum err
processor_probe_gone(struct processor *p, int64_t probe)
{
	(void)p;
	(void)probe;
	return E_OK;
}

enum err
processor_restore(struct processor *p, const struct segment_row *s)
{
	(void)p;
	(void)s;
	return E_OK;
}

enum err
processor_feed(struct processor *p, const struct raw_row *raw)
{
	struct wire_bundle b = { .span_count = raw->spans };
	struct wire_error err;
	struct wire_batch check;

	if (refuse_feed || p->count == 64 || p->fed == FED_MAX)
		return E_NOMEM;
	if (wire_batch_check(raw->blob, raw->blob_bytes, &check, &err) != 0)
		return E_CORRUPT;
	wire_bundle_seal(empty_bundle, &b);
	p->fed_first[p->fed++] = raw->first;
	p->chunks[p->count++] = (struct chunk_row){ .probe = raw->probe,
		.class = CHUNK_NORMAL,
		.spans = raw->spans,
		.traces = 1,
		.created_real_ns = clock_real_ns(),
		.blob = empty_bundle,
		.blob_bytes = sizeof empty_bundle };
	return E_OK;
}

enum err
processor_ended(struct processor *p, int64_t probe, const struct process_end *end)
{
	(void)p;
	(void)end;
	return probe > 0 ? E_OK : E_NOTFOUND;
}

enum err
processor_step(struct processor *p, uint64_t mono, uint64_t real, const struct step **out)
{
	(void)mono;
	(void)real;
	p->step = (struct step){ .chunks = p->chunks, .chunk_count = p->count };
	*out = &p->step;
	return E_OK;
}

void
processor_commit(struct processor *p)
{
	p->count = 0;
	p->commits++;
}

void
processor_abort(struct processor *p)
{
	p->aborts++;
}

void
processor_reset(struct processor *p)
{
	p->count = p->fed = 0;
	p->resets++;
}

uint64_t
processor_open_spans(const struct processor *p)
{
	return p->count;
}

bool
processor_hooks(const struct processor *p, int64_t probe, struct processor_hooks *out)
{
	(void)p;
	(void)probe;
	memset(out, 0, sizeof *out);
	return false;
}

void
processor_open_jobs(struct processor *p, processor_seen_fn fn, void *ctx)
{
	(void)p;
	(void)fn;
	(void)ctx;
}

/* The journal asks; this processor tells it of no records. */
const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	(void)s;
	(void)id;
	*n = 0;
	return NULL;
}

enum err
processor_agent_rates(struct processor *p, const char *json, size_t n)
{
	(void)p;
	(void)json;
	return n > 0 ? E_OK : E_INVAL;
}

/* ---- an exporter that succeeds at once ---------------------------------- */

struct exporter {
	struct settlement done[256];
	size_t count;
	_Atomic unsigned given;
};

static struct exporter the_exporter;

void
exporter_wants(struct exporter *e, size_t i, struct export_wish *out)
{
	*out = (struct export_wish){
		.chunks = i == 0 && e->count < 192 ? 64 : 0, .bytes = 1 << 20, .fresh = true
	};
}

enum err
exporter_give(struct exporter *e, size_t i, struct lease *leases, size_t n)
{
	(void)i;
	for (size_t k = 0; k < n; k++) {
		e->done[e->count++] = (struct settlement){ .chunk = leases[k].chunk.id,
			.destination = leases[k].destination,
			.kind = SETTLE_SENT,
			.status = 200 };
		e->given++;
		lease_free(&leases[k]);
	}
	return E_OK;
}

enum err
exporter_take(struct exporter *e, struct export_result *out)
{
	if (e->count == 0)
		return E_NOTFOUND;
	memset(out, 0, sizeof *out);
	out->s = e->done[--e->count];
	return E_OK;
}

void
exporter_status(struct exporter *e, size_t i, struct destination_status *out)
{
	(void)i;
	memset(out, 0, sizeof *out);
	out->state = DEST_OK;
	out->sent_requests = e->given;
}

/* ---- the house ----------------------------------------------------------- */

static char dir[64];
static uint8_t frame[FRAME_MAX_BYTES];
static struct pipeline *p;
static struct store_ops ops;
static enum err (*real_raw_put)(struct store *, struct probe_row *, const uint8_t *, size_t,
    const struct wire_batch *, bool, int64_t *);
static _Atomic bool full;
static struct destination_options destination = { .name = "here", .kind = DEST_FILE };

static enum err
raw_put(struct store *st, struct probe_row *row, const uint8_t *body, size_t bytes,
    const struct wire_batch *b, bool hello, int64_t *id)
{
	return full ? E_FULL : real_raw_put(st, row, body, bytes, b, hello, id);
}

static bool
begin(void)
{
	struct store_open_report report;
	struct store_limits limits = { 0 };
	struct journal_options jo = { .store = NULL };
	struct health_options ho = { .look_ns = 0 }; /* its thread does not run */
	struct receiver_options r = {
		.run_dir = dir, .handshake_ms = 5000, .max_connections = 4, .inbox_bytes = 1 << 22
	};

	memset(&the_processor, 0, sizeof the_processor);
	memset(&the_exporter, 0, sizeof the_exporter);
	p = calloc(1, sizeof *p);
	p->processor = &the_processor;
	p->exporter = &the_exporter;
	p->destinations = &destination;
	p->destination_count = 1;
	p->run_dir = p->data_dir = dir;
	if (store_sqlite_open(dir, &limits, &p->store, &report) != E_OK)
		return false;
	ops = *p->store->ops;
	real_raw_put = ops.raw_put;
	ops.raw_put = raw_put;
	p->store->ops = &ops;
	jo.store = p->store;
	return journal_new(&jo, &p->journal) == E_OK && health_new(&ho, &p->health) == E_OK &&
	       receiver_new(&r, pipeline_wake, p, &p->receiver) == E_OK &&
	       pipeline_init(p) == E_OK && pipeline_start(p) == E_OK &&
	       receiver_start(p->receiver) == E_OK;
}

static void
end(void)
{
	pipeline_stop(p);
	receiver_free(p->receiver);
	pipeline_fini(p);
	journal_free(p->journal);
	health_free(p->health);
	p->store->ops->close(p->store);
	free(p);
}

static struct status_snapshot *
status(void)
{
	static struct status_snapshot s;

	CHECK_EQ(pipeline_status(p, &s), E_OK);
	return &s;
}

/* Until that many spans are sent, at most five seconds. */
static struct status_snapshot *
status_when_sent(uint64_t spans)
{
	struct status_snapshot *s = status();

	for (int i = 0; i < 500 && s->store.sent[SIGNAL_TRACE] < spans; i++) {
		usleep(10000);
		s = status();
	}
	return s;
}

static int
connect_with_hello(uint8_t id)
{
	struct wire_stored s;
	int fd = peer_connect(dir);

	CHECK(peer_handshake(fd));
	CHECK(peer_frame(fd, frame, peer_hello(frame, sizeof frame, id)));
	CHECK(peer_stored(fd, &s, 5000));
	return fd;
}
