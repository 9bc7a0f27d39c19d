/*
 * intake.c - the part of a turn that takes frames: probes' rows, batches into
 * the store and at once into the processor, replies after the commit.
 * Pipeline's thread.
 *
 * A batch goes from memory through the processor, and the same transaction moves
 * its probe's end and holds what became of its spans: it is never written as it
 * came.  Only while raw rows wait in the store (a dead process's ring, or those
 * of an earlier version) new batches queue behind them as rows of their own: the
 * processor sees each probe's stream in order.
 */
#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/service/pipeline.h"
#include "schema/fault.h"

enum err
pipeline_probe_known(struct pipeline *p, const struct probe_row *row, struct probe_row **out)
{
	struct known_probe *k = &p->known[0];
	enum err e;

	for (size_t i = 0; i < PIPELINE_KNOWN; i++) {
		if (p->known[i].valid && p->known[i].row.id == row->id) {
			k = &p->known[i];
			break;
		}
		if (!p->known[i].valid || (k->valid && p->known[i].used < k->used))
			k = &p->known[i];
	}
	e = processor_probe(p->processor, row);
	if (e != E_OK)
		return e;
	k->row = *row;
	k->valid = true;
	k->used = p->turn;
	*out = &k->row;
	return E_OK;
}

enum err
pipeline_probe(struct pipeline *p, const uint8_t id[FRAME_PROBE_ID_BYTES], struct probe_row **out)
{
	struct probe_row row;
	enum err e;

	for (size_t i = 0; i < PIPELINE_KNOWN; i++)
		if (p->known[i].valid &&
		    memcmp(p->known[i].row.probe_id, id, FRAME_PROBE_ID_BYTES) == 0) {
			p->known[i].used = p->turn;
			*out = &p->known[i].row;
			return E_OK;
		}
	e = p->store->ops->probe_get(p->store, id, &row);
	return e != E_OK ? e : pipeline_probe_known(p, &row, out);
}

void
pipeline_forget_probes(struct pipeline *p)
{
	for (size_t i = 0; i < PIPELINE_KNOWN; i++)
		p->known[i].valid = false;
}

void
pipeline_lost(
    struct pipeline *p, const uint64_t before[WIRE_LOSS_COUNT], const struct probe_row *row)
{
	for (int l = 0; l < (int)WIRE_LOSS_COUNT; l++)
		if (row->losses[l] > before[l])
			p->learnt.lost[l] += row->losses[l] - before[l];
}

void
pipeline_count(struct pipeline *p, bool committed)
{
	const struct learnt *l = &p->learnt;

	if (committed) {
		p->work.batches += l->batches;
		p->work.repeats += l->repeats;
		p->work.gaps += l->gaps;
		p->work.malformed += l->malformed;
		for (int i = 0; i < (int)WIRE_LOSS_COUNT; i++)
			p->work.lost[i] += l->lost[i];
	}
	memset(&p->learnt, 0, sizeof p->learnt);
}

static size_t
pending_bytes(const struct pipeline *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->pending_count; i++)
		n += p->pending[i].item.body_bytes;
	return n;
}

enum err
intake_collect(struct pipeline *p)
{
	size_t bytes = pending_bytes(p);

	while (
	    p->pending_count < PIPELINE_GROUP_ITEMS && bytes < PIPELINE_GROUP_BYTES && !p->full) {
		struct pending *n = &p->pending[p->pending_count];

		memset(n, 0, sizeof *n);
		if (receiver_take(p->receiver, &n->item) != E_OK)
			break;
		bytes += n->item.body_bytes;
		p->work.bytes += n->item.body_bytes;
		p->pending_count++;
	}
	return E_OK;
}

static void
reply_with(struct pending *n, const struct probe_row *row, uint16_t status)
{
	n->reply = true;
	n->stored.status = status;
	n->stored.end = row->end;
	memcpy(n->stored.probe_id, row->probe_id, FRAME_PROBE_ID_BYTES);
}

static enum err
store_hello(struct pipeline *p, struct pending *n)
{
	struct probe_row row = { .id = 0 }, *known;
	struct wire_error err;
	struct wire_hello h;
	enum err e;

	if (wire_hello_get(n->item.body, n->item.body_bytes, &h, &err) != 0)
		return E_OK; /* the receiver has checked it */
	e = p->store->ops->probe_get(p->store, h.probe_id, &row);
	if (e != E_OK && e != E_NOTFOUND)
		return e;
	if (row.closed) {
		/* Its end was told: what it still says would be nobody's. */
		log_warn("closed_probe_greets pid=%llu", (unsigned long long)h.pid);
		reply_with(n, &row, STORED_CLOSED);
		return E_OK;
	}
	memcpy(row.probe_id, h.probe_id, sizeof row.probe_id);
	memcpy(row.boot_id, h.boot_id, sizeof row.boot_id);
	row.pid = h.pid;
	row.start_ticks = h.start_ticks;
	row.mono_ns = h.mono_ns;
	row.real_ns = h.real_ns;
	row.seen_real_ns = clock_real_ns();
	row.attrs_bytes = h.attrs_bytes;
	memcpy(row.attrs, h.attrs, h.attrs_bytes);
	if ((e = p->store->ops->probe_put(p->store, &row)) != E_OK)
		return e;
	if ((e = pipeline_probe_known(p, &row, &known)) != E_OK)
		return e;
	health_hello(p->health, known);
	reply_with(n, known, STORED_OK);
	if (p->memory != NULL && h.pid != 0)
		memory_follow(p->memory, h.pid, h.start_ticks);
	log_info("probe_hello pid=%llu", (unsigned long long)h.pid);
	return E_OK;
}

/* The row of a batch's probe, made when it never said hello. */
static enum err
row_of(struct pipeline *p, const struct wire_batch *b, struct probe_row **out)
{
	struct probe_row row = {
		.mono_ns = b->mono_ns, .real_ns = b->real_ns, .seen_real_ns = clock_real_ns()
	};
	enum err e = pipeline_probe(p, b->probe_id, out);

	if (e != E_NOTFOUND)
		return e;
	memcpy(row.probe_id, b->probe_id, sizeof row.probe_id);
	memcpy(row.boot_id, b->boot_id, sizeof row.boot_id);
	if ((e = p->store->ops->probe_put(p->store, &row)) != E_OK)
		return e;
	return pipeline_probe_known(p, &row, out);
}

/* Into the processor, unless it has it; then its row, if there is one, has served. */
static enum err
feed(struct pipeline *p, struct raw_row *raw, bool *fed)
{
	enum err e = *fed ? E_OK : processor_feed(p->processor, raw);

	if (e == E_INVAL || e == E_CORRUPT) {
		log_warn("batch_not_understood probe=%lld first=%llu", (long long)raw->probe,
		    (unsigned long long)raw->first);
		e = p->store->ops->count_dropped(
		    p->store, SIGNAL_TRACE, DROP_MALFORMED, raw->spans);
	} else if (e != E_OK) {
		p->begin_again = true; /* it may hold half of the batch */
		return e;
	} else {
		*fed = true;
	}
	return e != E_OK || raw->id == 0 ? e : p->store->ops->raw_delete(p->store, raw->id);
}

static enum err
repeated(struct pipeline *p, struct pending *n, const struct wire_batch *b, struct probe_row *row)
{
	p->learnt.repeats++;
	reply_with(n, row, STORED_OK);
	if (!fault_breaks("no-repeats"))
		return E_OK;

	struct raw_row raw = { .probe = row->id,
		.first = b->first,
		.end = b->end,
		.spans = b->span_count,
		.blob = n->item.body,
		.blob_bytes = n->item.body_bytes };
	enum err e = p->store->ops->count_received(p->store, SIGNAL_TRACE, b->span_count);

	return e != E_OK ? e : feed(p, &raw, &n->fed);
}

/* Its spans end here, counted; the probe goes on behind the batch. */
static enum err
refuse(struct pipeline *p, struct pending *n, const struct wire_batch *b, uint64_t spans,
    enum drop_reason reason)
{
	enum err e = p->store->ops->count_received(p->store, SIGNAL_TRACE, spans);

	p->learnt.malformed++;
	n->reply = true;
	n->stored.status = STORED_MALFORMED;
	n->stored.end = b->end;
	memcpy(n->stored.probe_id, b->probe_id, FRAME_PROBE_ID_BYTES);
	return e != E_OK ? e : p->store->ops->count_dropped(p->store, SIGNAL_TRACE, reason, spans);
}

static enum err
store_batch(struct pipeline *p, struct pending *n)
{
	uint64_t lost[WIRE_LOSS_COUNT];
	struct probe_row *row;
	struct wire_error err;
	struct wire_batch b;
	int64_t id;
	bool wait;
	enum err e;

	if (wire_batch_head(n->item.body, n->item.body_bytes, &b, &err) != 0)
		return E_OK;
	if ((e = row_of(p, &b, &row)) != E_OK)
		return e;
	wait = p->backlog && !n->fed;
	memcpy(lost, row->losses, sizeof lost);
	e = p->store->ops->raw_put(p->store, row, n->item.body, n->item.body_bytes, &b,
	    n->item.said_hello, wait ? &id : NULL);
	if (e == E_EXISTS)
		return repeated(p, n, &b, row);
	if (e == E_GAP) {
		p->learnt.gaps++;
		reply_with(n, row, STORED_WANTED);
		return E_OK;
	}
	if (e == E_STATE || e == E_INVAL) /* of a probe whose ring was salvaged, or too large */
		return refuse(
		    p, n, &b, b.span_count, e == E_STATE ? DROP_UNSUPPORTED : DROP_TOO_LARGE);
	if (e != E_OK)
		return e;
	row->end = b.end;
	pipeline_lost(p, lost, row);
	p->learnt.batches++;
	reply_with(n, row, STORED_OK);
	if (wait)
		return E_OK; /* it queues behind the rows that wait */

	struct raw_row raw = { .probe = row->id,
		.checked = true, /* by the receiver */
		.first = b.first,
		.end = b.end,
		.spans = b.span_count,
		.blob = n->item.body,
		.blob_bytes = n->item.body_bytes };

	return feed(p, &raw, &n->fed);
}

/* Right header and crc, wrong content: the stream goes on behind it, its spans are counted. */
static enum err
store_malformed(struct pipeline *p, struct pending *n)
{
	uint8_t empty[BATCH_FIXED_BYTES];
	struct probe_row *row;
	struct wire_error err;
	struct wire_batch b;
	uint64_t spans;
	enum err e;

	if (wire_batch_head(n->item.body, n->item.body_bytes, &b, &err) != 0)
		return E_OK;
	spans = b.records_bytes / (RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES);
	spans = b.span_count < spans ? b.span_count : spans; /* a claim; at most what fits */
	b.records_bytes = b.dict_bytes = b.record_count = b.span_count = 0;
	b.records = b.dict = empty + BATCH_FIXED_BYTES;
	wire_batch_seal(empty, &b);
	if ((e = row_of(p, &b, &row)) != E_OK)
		return e;
	e = p->store->ops->raw_put(p->store, row, empty, sizeof empty, &b, false, NULL);
	if (e == E_EXISTS || e == E_GAP) {
		reply_with(n, row, e == E_EXISTS ? STORED_OK : STORED_WANTED);
		return E_OK;
	}
	if (e == E_STATE)
		return refuse(p, n, &b, spans, DROP_MALFORMED);
	if (e != E_OK)
		return e;
	row->end = b.end;
	return refuse(p, n, &b, spans, DROP_MALFORMED);
}

static void
set_full(struct pipeline *p, bool full)
{
	if (p->full == full)
		return;
	p->full = full;
	receiver_pause(p->receiver, full);
	if (full)
		log_warn("intake_paused reason=store_full");
	else
		log_info("intake_resumed");
	p->maintain_mono_ns = clock_mono_ns(); /* eviction precedes refusal */
}

enum err
intake_store(struct pipeline *p)
{
	enum err e = E_OK;

	p->stored_count = 0;
	if (p->full && !p->room)
		return E_OK;
	p->room = false;
	for (; p->stored_count < p->pending_count; p->stored_count++) {
		struct pending *n = &p->pending[p->stored_count];

		if ((e = pipeline_begin(p)) != E_OK)
			return e;
		if (n->item.kind == INTAKE_HELLO)
			e = store_hello(p, n);
		else if (n->item.kind == INTAKE_BATCH)
			e = store_batch(p, n);
		else
			e = store_malformed(p, n);
		if (e == E_FULL) {
			set_full(p, true);
			return E_OK; /* this and the rest wait here */
		}
		if (e != E_OK)
			return e;
	}
	set_full(p, false);
	return E_OK;
}

enum err
intake_backlog(struct pipeline *p)
{
	size_t bytes = 0;
	enum err e = E_OK;

	/* Rows fed in a turn that failed: the processor has them, only delete. */
	for (size_t i = 0; e == E_OK && i < p->backlog_count; i++) {
		e = pipeline_begin(p);
		if (e == E_OK)
			e = p->store->ops->raw_delete(p->store, p->backlog_ids[i]);
	}
	while (e == E_OK && p->backlog && p->backlog_count < PIPELINE_BACKLOG_ROWS &&
	       bytes < PIPELINE_GROUP_BYTES) {
		struct raw_row raw;
		bool fed = false;

		e = p->store->ops->raw_next(p->store, p->backlog_after, &raw);
		if (e == E_NOTFOUND) {
			p->backlog = false;
			return E_OK;
		}
		if (e == E_CORRUPT) { /* deleted and counted by the store */
			e = E_OK;
			continue;
		}
		if (e != E_OK)
			break;

		struct probe_row row, *known;

		e = pipeline_begin(p);
		if (e == E_OK)
			e = p->store->ops->probe_by_row(p->store, raw.probe, &row);
		if (e == E_OK)
			e = pipeline_probe_known(p, &row, &known);
		if (e == E_OK)
			e = feed(p, &raw, &fed);
		bytes += raw.blob_bytes;
		free(raw.blob);
		if (e != E_OK)
			break;
		p->backlog_ids[p->backlog_count++] = raw.id;
		p->backlog_after = raw.id;
	}
	return e;
}

void
intake_reply(struct pipeline *p)
{
	for (size_t i = 0; i < p->stored_count; i++)
		if (p->pending[i].reply)
			receiver_reply(
			    p->receiver, p->pending[i].item.connection, &p->pending[i].stored);
}

void
intake_done(struct pipeline *p)
{
	for (size_t i = 0; i < p->stored_count; i++)
		free(p->pending[i].item.body);
	p->pending_count -= p->stored_count;
	memmove(p->pending, p->pending + p->stored_count, p->pending_count * sizeof p->pending[0]);
	p->stored_count = 0;
	p->backlog_count = 0;
}
