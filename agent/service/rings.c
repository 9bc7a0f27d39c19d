/*
 * rings.c - what the pipeline does about processes that died: their rings into
 * the store in one transaction with `closed`, the file away after the commit,
 * and the processor told who is gone.  Pipeline's thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/service/pipeline.h"
#include "agent/supervisor/memory.h"
#include "schema/fault.h"

struct salvaging {
	struct pipeline *p;
	struct probe_row *row;
};

static enum err
put_batch(void *ctx, const uint8_t *body, size_t bytes)
{
	struct salvaging *s = ctx;
	uint64_t lost[WIRE_LOSS_COUNT];
	struct wire_error err;
	struct wire_batch b;
	int64_t id;
	enum err e;

	/* The reader of a hostile file is not believed either. */
	if (wire_batch_check(body, bytes, &b, &err) != 0) {
		log_error("salvaged_batch_broken what=\"%s\" at=%zu", err.what, err.at);
		return E_OK;
	}
	memcpy(lost, s->row->losses, sizeof lost);
	e = s->p->store->ops->raw_put(s->p->store, s->row, body, bytes, &b, false, &id);
	if (e == E_OK) {
		s->row->end = b.end;
		pipeline_lost(s->p, lost, s->row);
	}
	return e == E_EXISTS ? E_OK : e;
}

/* The transaction of one ring. E_EXISTS: it was salvaged before, only its file is left. */
static enum err
salvage_one(struct pipeline *p, struct salvage *s, const struct salvage_evidence *evidence,
    struct salvage_counts *counts)
{
	struct probe_row row = *salvage_probe(s), stored;
	struct salvaging ctx = { .p = p, .row = &row };
	uint8_t boot[FRAME_BOOT_ID_BYTES];
	uint64_t mono = 0, real = 0, from = row.end;
	enum err e;

	e = p->store->ops->probe_get(p->store, row.probe_id, &stored);
	if (e != E_OK && e != E_NOTFOUND)
		return e;
	if (e == E_OK) {
		if (stored.closed)
			return E_EXISTS;
		from = stored.end > from ? stored.end : from;
	}
	if (e == E_OK && stored.attrs_bytes > 0) {
		row = stored;
	} else { /* unknown, or it never came to say hello: the ring knows who it was */
		row.end = 0;
		if ((e = p->store->ops->probe_put(p->store, &row)) != E_OK)
			return e;
	}
	if (!clock_boot_id(boot))
		return E_IO; /* what happened when is not known without it */
	if (memcmp(boot, row.boot_id, sizeof boot) == 0) {
		mono = clock_mono_ns();
		real = clock_real_ns();
	}
	e = salvage_read(s, from, mono, real, evidence, put_batch, &ctx, counts);
	if (e == E_OK)
		e = ends_note(p, &row, salvage_last_mono_ns(s), salvage_retired(s));
	if (e == E_OK && !fault_breaks("salvage-twice"))
		e = p->store->ops->probe_close(p->store, row.id);
	if (e == E_OK)
		p->gone = true;
	return e;
}

struct scan {
	struct pipeline *p;
	bool waits; /* a dead one was left for later */
};

static void
found(void *ctx, const char *path)
{
	struct scan *scan = ctx;
	struct pipeline *p = scan->p;
	struct salvage_counts counts = { .batches = 0 };
	struct salvage_evidence evidence;
	struct salvage *s;
	enum err e;

	if (!ends_ready(p)) { /* each end that is told makes room, and has us look again */
		scan->waits = true;
		return;
	}
	e = salvage_open(path, &s);
	if (e == E_BUSY || e == E_NOTFOUND)
		return; /* alive, or somebody was faster */
	if (e == E_STATE) {
		if (!p->told_newer)
			log_warn("ring_of_a_newer_version path=%s", path);
		p->told_newer = true;
		return;
	}
	if (e == E_INVAL || e == E_CORRUPT) {
		log_warn("ring_unreadable path=%s", path);
		if (unlink(path) != 0)
			log_warn("ring_not_removed path=%s", path);
		return;
	}
	if (e != E_OK) {
		log_warn("ring_not_opened path=%s error=\"%s\"", path, err_text(e));
		return;
	}
	if (receiver_has_probe(p->receiver, salvage_probe(s)->probe_id)) {
		/* It speaks to us, or has spoken and is not read to its end: a lock alone can be
		 * lost, to a host that opens and closes the file. */
		salvage_free(s);
		return;
	}
	if (deaths_wait(p, salvage_probe(s), &evidence)) {
		scan->waits = true;
		salvage_free(s);
		return;
	}
	if ((e = pipeline_begin(p)) == E_OK)
		e = salvage_one(p, s, &evidence, &counts);
	if (e == E_OK || e == E_EXISTS) {
		if (fault_breaks("unlink-before-commit") && salvage_unlink(s) != E_OK)
			log_warn("ring_not_removed path=%s", path);
		fault_enter("salvage/unlink");

		enum err rv = p->store->ops->commit(p->store);

		e = rv != E_OK ? rv : e;
	}
	pipeline_count(p, e == E_OK);
	if (e != E_OK && e != E_EXISTS) {
		if (p->transaction)
			p->store->ops->rollback(p->store);
		log_warn("ring_not_salvaged path=%s error=\"%s\"", path, err_text(e));
	} else {
		fault_inside("salvage/unlink");
		if (salvage_unlink(s) != E_OK)
			log_warn("ring_not_removed path=%s", path);
		fault_leave("salvage/unlink");
		p->work.salvaged_rings += e == E_OK;
		p->work.salvaged_spans += counts.spans;
		p->work.unfinished_spans += counts.unfinished;
		p->work.salvage_torn += counts.torn;
		p->backlog = true; /* its batches wait in the store */
		log_info("ring_salvaged path=%s spans=%llu unfinished=%llu torn=%llu", path,
		    (unsigned long long)counts.spans, (unsigned long long)counts.unfinished,
		    (unsigned long long)counts.torn);
	}
	p->transaction = false;
	ends_noted(p, e == E_OK);
	pipeline_forget_probes(p);
	salvage_free(s);
}

bool
rings_has(const struct pipeline *p, const uint8_t id[FRAME_PROBE_ID_BYTES])
{
	char path[512];
	int n = snprintf(path, sizeof path, "%s/" RUN_RING_PREFIX, p->run_dir);

	if (n < 0 || (size_t)n + 2 * FRAME_PROBE_ID_BYTES + sizeof RUN_RING_SUFFIX > sizeof path)
		return false;
	for (unsigned i = 0; i < FRAME_PROBE_ID_BYTES; i++)
		n += snprintf(path + n, sizeof path - (size_t)n, "%02x", id[i]);
	snprintf(path + n, sizeof path - (size_t)n, RUN_RING_SUFFIX);
	return access(path, F_OK) == 0;
}

/*
 * Probes without a ring and without a connection: nobody will finish their open
 * spans.  One of this boot is given time, it may only be between two
 * connections, and all that it wants while its process lives: somebody may have
 * removed its ring; one that never said hello (a stock client, pid 0) has no ring at
 * all and may come back whenever it likes.
 */
static void
close_orphans(struct pipeline *p)
{
	uint8_t boot[FRAME_BOOT_ID_BYTES];
	uint64_t now = clock_real_ns();
	struct probe_row row;
	int64_t at = 0;

	if (!clock_boot_id(boot))
		return; /* nobody is an orphan because we cannot look */
	while (p->store->ops->probe_next(p->store, &at, &row) == E_OK) {
		bool same_boot = memcmp(boot, row.boot_id, sizeof boot) == 0;
		uint64_t age = now > row.seen_real_ns ? now - row.seen_real_ns : 0;

		if (row.closed || row.pid == 0 || receiver_has_probe(p->receiver, row.probe_id) ||
		    rings_has(p, row.probe_id) ||
		    (same_boot &&
			(age < 60 * NS_PER_S || process_lives((pid_t)row.pid, row.start_ticks))))
			continue;
		if (pipeline_begin(p) != E_OK)
			return;
		if (p->store->ops->probe_close(p->store, row.id) == E_OK &&
		    p->store->ops->commit(p->store) == E_OK)
			p->gone = true;
		else
			p->store->ops->rollback(p->store);
		p->transaction = false;
		pipeline_forget_probes(p);
	}
}

bool
rings_scan(struct pipeline *p)
{
	struct scan scan = { .p = p };

	if (salvage_list(p->run_dir, found, &scan) != E_OK)
		log_warn("run_dir_not_read path=%s", p->run_dir);
	close_orphans(p);
	if (!scan.waits)
		p->patience_ns = 0;
	return scan.waits;
}
