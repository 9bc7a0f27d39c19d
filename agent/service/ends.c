/*
 * ends.c - a span for each end of a process, once for each, whoever dies
 * meanwhile.  Pipeline's thread.
 *
 * Supervised processes end with a line in the file of exits: the one behind the
 * last that was told is next.  Of others only the ring tells; what is to be told
 * of them is noted in the transaction that salvages it.  How far we are is
 * one value in the store, written with the spans that it speaks of.
 *
 *	NONE -- ends_find --> FOUND -- ends_settle --> READY -- ends_tell --> FED -- commit --> NONE
 *
 * Between FOUND and READY lies a look at the rings, so that the job that was
 * running is known.  FED survives a transaction that failed: the processor has
 * the span and gives it to the next one.  What it says is end_span.c's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/service/pipeline.h"
#include "agent/supervisor/memory.h"

#define META_KEY     "ends"
#define DUE_BYTES    32u
#define META_BYTES   (LIFE_BYTES + PIPELINE_ENDS * DUE_BYTES)
#define PATIENCE_NS  (10 * NS_PER_S) /* for a ring that cannot be salvaged */
#define SUCCESSOR_NS (60 * NS_PER_S) /* for the probe of a program that replaced another */

/* ---- what is remembered ------------------------------------------------------ */

static size_t
encode(const struct ends *e, uint8_t *to)
{
	uint8_t *at = to + LIFE_BYTES;

	memcpy(to, e->told, LIFE_BYTES);
	for (size_t i = 0; i < e->due_count; i++, at += DUE_BYTES) {
		wire_put64(at, (uint64_t)e->due[i].probe);
		wire_put64(at + 8, e->due[i].end_real_ns);
		wire_put64(at + 16, e->due[i].uptime_ms);
		wire_put64(at + 24, 0);
	}
	return (size_t)(at - to);
}

static enum err
keep(struct pipeline *p)
{
	uint8_t value[META_BYTES];
	enum err e = pipeline_begin(p);

	return e != E_OK
		   ? e
		   : p->store->ops->meta_put(p->store, META_KEY, value, encode(&p->ends, value));
}

void
ends_begin(struct pipeline *p)
{
	struct ends *e = &p->ends;
	uint64_t counts[CAUSE_COUNT];
	uint8_t value[META_BYTES], *at = value + LIFE_BYTES;
	size_t n = 0;
	enum err rv = p->store->ops->meta_get(p->store, META_KEY, value, sizeof value, &n);

	memcpy(counts, e->counts, sizeof counts);
	*e = (struct ends){ .told_now = e->told_now };
	memcpy(e->counts, counts, sizeof counts);
	if (rv != E_OK || n < LIFE_BYTES) {
		if (rv != E_NOTFOUND)
			log_warn("ends_not_remembered error=\"%s\"", err_text(rv));
		return;
	}
	snprintf(e->told, sizeof e->told, "%.*s", (int)LIFE_BYTES - 1, (const char *)value);
	for (; e->due_count < (n - LIFE_BYTES) / DUE_BYTES; at += DUE_BYTES)
		e->due[e->due_count++] = (struct due_end){ .probe = (int64_t)wire_get64(at),
			.end_real_ns = wire_get64(at + 8),
			.uptime_ms = wire_get64(at + 16) };
}

/* ---- rings ------------------------------------------------------------------- */

/* A forked child has its parent's identity, and is nobody's ComfyUI. */
static bool
is_main(const struct probe_row *row)
{
	char pid[24];

	return wire_attr_find(row->attrs, row->attrs_bytes, "pid", pid, sizeof pid) &&
	       strtoull(pid, NULL, 10) == row->pid;
}

bool
ends_ready(const struct pipeline *p)
{
	return p->ends.state != END_FED && p->ends.due_count < PIPELINE_ENDS;
}

/* Its ring has ended and the process has not: exec, or it is about to end, or wants no probe. */
static bool
goes_on(const struct probe_row *row)
{
	return row->pid != 0 && process_lives((pid_t)row->pid, row->start_ticks);
}

static uint64_t
uptime_ms(const struct probe_row *row, uint64_t mono_ns)
{
	uint64_t began = row->start_ticks * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));

	return row->start_ticks != 0 && mono_ns > began ? (mono_ns - began) / NS_PER_MS : 0;
}

enum err
ends_note(struct pipeline *p, const struct probe_row *row, uint64_t last_mono_ns, bool retired)
{
	struct ends *e = &p->ends;
	char life[LIFE_BYTES];

	/* Who lets go of its ring in order ends as it wants to.  A supervised process whose ring
	 * has ended may go on as another program. */
	if (retired || !is_main(row) || (deaths_life(row, life, sizeof life) && !goes_on(row)))
		return E_OK;
	if (last_mono_ns < row->mono_ns)
		last_mono_ns = row->mono_ns;
	e->due[e->due_count++] = (struct due_end){ .probe = row->id,
		.end_real_ns = row->real_ns + (last_mono_ns - row->mono_ns),
		.uptime_ms = uptime_ms(row, last_mono_ns) };
	e->noted = true;
	return keep(p);
}

void
ends_noted(struct pipeline *p, bool committed)
{
	if (p->ends.noted && !committed)
		p->ends.due_count--;
	p->ends.noted = false;
}

/* ---- which one is next ------------------------------------------------------- */

/* True when the file of exits is as it was when all of it had been told. */
static bool
nothing_new(struct pipeline *p, uint64_t now[3])
{
	char path[600];
	struct stat st;

	memset(now, 0, 3 * sizeof *now);
	if (path_join(path, sizeof path, p->data_dir, EXITS_FILE) != E_OK || stat(path, &st) != 0)
		return true;
	now[0] = st.st_ino;
	now[1] = (uint64_t)st.st_size;
	now[2] = (uint64_t)st.st_mtim.tv_sec * NS_PER_S + (uint64_t)st.st_mtim.tv_nsec;
	return memcmp(now, p->ends.seen, sizeof p->ends.seen) == 0;
}

/* Of no use any more; a store that forgets does not know what it has told. */
static bool
is_too_old(struct pipeline *p, uint64_t end_real_ns)
{
	uint64_t now = deliver_age_clock(p), age = now > end_real_ns ? now - end_real_ns : 0;
	struct store_stats s;

	if (p->end_age_s != 0 && age / NS_PER_S > p->end_age_s)
		return true;
	return p->store->ops->stats(p->store, &s) == E_OK && s.volatile_ &&
	       age > clock_mono_ns() - p->started_mono_ns;
}

/* Has its process got another probe since, as after a restart in place? */
static bool
has_successor(struct pipeline *p, const struct probe_row *row)
{
	struct probe_row next;
	int64_t at = row->id;

	while (p->store->ops->probe_next(p->store, &at, &next) == E_OK)
		if (is_main(&next) && next.pid == row->pid &&
		    next.start_ticks == row->start_ticks &&
		    memcmp(next.boot_id, row->boot_id, sizeof next.boot_id) == 0)
			return true;
	return false;
}

/* What became of the process of a ring: known when it is gone, or has another one. */
static enum due_verdict
judge_due(struct pipeline *p, const struct due_end *d)
{
	uint64_t now = clock_real_ns();
	struct probe_row row;
	char life[LIFE_BYTES];
	enum err rv = p->store->ops->probe_by_row(p->store, d->probe, &row);

	if (rv != E_OK)
		return rv == E_NOTFOUND ? DUE_NOTHING : DUE_LATER;
	if (has_successor(p, &row))
		return DUE_REPLACED;
	if (goes_on(&row))
		return now > d->end_real_ns && now - d->end_real_ns > SUCCESSOR_NS ? DUE_NOTHING
										   : DUE_LATER;
	return deaths_life(&row, life, sizeof life) ? DUE_NOTHING /* the exits tell of it */
						    : DUE_LOST;
}

static void
find_due(struct pipeline *p)
{
	struct ends *e = &p->ends;

	for (e->at = 0; e->at < e->due_count; e->at++) {
		e->verdict = judge_due(p, &e->due[e->at]);
		if (e->verdict == DUE_LATER)
			continue;
		e->is_due = true;
		e->pointless = e->verdict == DUE_NOTHING;
		e->state = END_FOUND;
		return;
	}
}

void
ends_find(struct pipeline *p)
{
	struct ends *e = &p->ends;
	uint64_t seen[3];
	enum err rv;

	if (e->state == END_NONE)
		find_due(p);
	if (e->state != END_NONE || nothing_new(p, seen))
		return;
	rv = exits_next(p->data_dir, e->told, &e->exit);
	if (rv == E_OK) {
		e->is_due = false;
		e->pointless = is_too_old(p, e->exit.time_real_ns);
		e->patience_ns = clock_mono_ns() + PATIENCE_NS;
		e->state = END_FOUND;
	} else if (rv == E_NOTFOUND) {
		memcpy(e->seen, seen, sizeof seen);
	} else {
		log_warn("exits_not_read error=\"%s\"", err_text(rv));
	}
}

/* Its process, among those that spoke to us; *open: more may come from it. */
static enum err
find_probe(struct pipeline *p, bool *open)
{
	struct ends *e = &p->ends;
	struct probe_row row;
	bool same_pid = false;
	int64_t at = 0;
	enum err rv;

	e->probe = 0;
	*open = false;
	while ((rv = p->store->ops->probe_next(p->store, &at, &row)) == E_OK) {
		char life[LIFE_BYTES];

		if (!is_main(&row) || !deaths_life(&row, life, sizeof life) ||
		    strcmp(life, e->exit.life) != 0)
			continue;
		*open = *open || (!row.closed && (receiver_has_probe(p->receiver, row.probe_id) ||
						     rings_has(p, row.probe_id)));
		/* A wrapper's pid is not that of its child; after an exec the newest counts. */
		if (same_pid && row.pid != e->exit.pid)
			continue;
		same_pid = row.pid == e->exit.pid;
		e->probe = row.id;
	}
	return rv == E_NOTFOUND ? E_OK : rv;
}

/* It died before it could speak: a probe that never was, with the agent's own identity. */
static enum err
make_probe(struct pipeline *p)
{
	const struct exit_record *r = &p->ends.exit;
	struct probe_row row = { .pid = r->pid,
		.start_ticks = r->start_ticks,
		.mono_ns = clock_mono_ns(),
		.real_ns = clock_real_ns(),
		.seen_real_ns = r->time_real_ns };
	struct wire_attrs attrs = { .buf = row.attrs, .cap = sizeof row.attrs };
	enum err rv;

	wire_put64(row.probe_id, ends_id('p', r->life));
	wire_put64(row.probe_id + 8, ends_id('q', r->life));
	(void)!clock_boot_id(row.boot_id); /* it is closed at once: nobody will ask */
	wire_attr_put(&attrs, "life", r->life);
	row.attrs_bytes = attrs.used;
	rv = p->store->ops->probe_put(p->store, &row);
	if (rv == E_OK)
		rv = p->store->ops->probe_close(p->store, row.id);
	if (rv == E_OK)
		p->ends.probe = row.id;
	return rv;
}

bool
ends_made(const struct probe_row *row)
{
	char life[LIFE_BYTES];

	return deaths_life(row, life, sizeof life) &&
	       wire_get64(row->probe_id) == ends_id('p', life);
}

bool
ends_settle(struct pipeline *p)
{
	struct ends *e = &p->ends;
	bool open = false;
	enum err rv = E_OK;

	if (e->state == END_NONE)
		find_due(p); /* of a ring that was read just now */
	if (e->state != END_FOUND)
		return false;
	if (e->is_due) {
		e->probe = e->due[e->at].probe;
	} else if (!e->pointless) {
		rv = find_probe(p, &open);
		if (rv == E_OK && open && clock_mono_ns() < e->patience_ns)
			return true;
		if (rv == E_OK && e->probe == 0)
			rv = make_probe(p);
	}
	if (rv != E_OK) {
		log_warn("end_not_told life=%s error=\"%s\"", e->exit.life, err_text(rv));
		return false; /* at the next look */
	}
	e->state = END_READY;
	return true;
}

/* ---- tell it ----------------------------------------------------------------- */

enum err
ends_tell(struct pipeline *p)
{
	struct ends *e = &p->ends;
	enum err rv;

	if (e->state == END_FED)
		return keep(p);
	if (e->state != END_READY || p->backlog || p->begin_again)
		return E_OK;
	e->cause = CAUSE_COUNT;
	rv = e->pointless ? E_OK : ends_feed(p);
	if (rv == E_NOTFOUND ||
	    rv == E_STATE) { /* its row went with a damaged file; or a third end */
		log_warn("end_not_told probe=%lld error=\"%s\"", (long long)e->probe, err_text(rv));
	} else if (rv != E_OK) {
		p->begin_again = p->begin_again || rv == E_NOMEM; /* it may hold half of it */
		return rv;
	}
	if (e->is_due)
		memmove(&e->due[e->at], &e->due[e->at + 1],
		    (--e->due_count - e->at) * sizeof e->due[0]);
	else
		snprintf(e->told, sizeof e->told, "%s", e->exit.life);
	e->state = END_FED;
	return keep(p);
}

void
ends_told(struct pipeline *p)
{
	if (p->ends.state != END_FED)
		return;
	p->ends.told_now++;
	if (p->ends.cause < CAUSE_COUNT)
		p->ends.counts[p->ends.cause]++;
	p->ends.state = END_NONE;
	p->scan_mono_ns = clock_mono_ns(); /* is there another one? */
	p->gone = true;                    /* nothing more comes of its trace */
}
