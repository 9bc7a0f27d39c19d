/*
 * end_span.c - what the span of an end says, and where it stands.  Pipeline's
 * thread.  See ends.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/core/span_json.h"
#include "agent/service/pipeline.h"

#define KEY_BYTES LIFE_BYTES /* names an end: a life, or a probe's id in hex */

/* FNV-1a over seed and key, its bits mixed (as in MurmurHash3); never 0. */
uint64_t
ends_id(char seed, const char *key)
{
	uint64_t h = (UINT64_C(0xcbf29ce484222325) ^ (uint8_t)seed) * UINT64_C(0x100000001b3);

	for (; *key != '\0'; key++)
		h = (h ^ (uint8_t)*key) * UINT64_C(0x100000001b3);
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return h != 0 ? h : 1;
}

/* What a span's texts point into. */
struct told {
	char key[KEY_BYTES], message[DEATH_LINE_BYTES + 64], why[EXITS_WHY_BYTES];
	struct outbuf events;
	struct job_row job;
};

/* What decided is the first sentence; an order's begins with the verdict, which is error.type
 * already. */
static void
put_message(struct told *t, const char *verdict)
{
	size_t n = strlen(verdict);
	const char *said = t->why;

	if (strncmp(said, verdict, n) == 0 && strncmp(said + n, ": ", 2) == 0)
		said += n + 2;
	if (said[0] == '\0' || said[0] == '\n')
		said = verdict;
	snprintf(t->message, sizeof t->message, "%.*s", (int)strcspn(said, "\n"), said);
}

/* The sentences as an array. */
static void
put_evidence(struct told *t)
{
	const char *next;
	unsigned lines = 0;

	outbuf_str(&t->events, "[");
	for (const char *line = t->why; *line != '\0'; line = next) {
		size_t n = strcspn(line, "\n");

		next = line + n + (line[n] == '\n');
		if (lines > 0)
			outbuf_str(&t->events, ",");
		span_json_text(&t->events, line, n);
		lines++;
	}
	outbuf_str(&t->events, "]");
}

/* The evidence is ours and plain; a line of the file that says otherwise does no harm. */
static void
take_why(struct told *t, const char *why)
{
	size_t n = 0;

	for (; why[n] != '\0' && n + 1 < sizeof t->why; n++)
		t->why[n] = (why[n] >= ' ' && why[n] < 127) || why[n] == '\n' ? why[n] : '?';
	t->why[n] = '\0';
}

static void
put_event(struct told *t, const struct process_end *e)
{
	char text[192];

	snprintf(text, sizeof text,
	    "[{\"name\":\"process.exit\",\"time_unix_nano\":%" PRIu64
	    ",\"attributes\":{\"verdict\":\"%s\",\"certainty\":\"%s\",\"evidence\":",
	    e->end_real_ns, e->verdict, e->certainty);
	outbuf_str(&t->events, text);
	put_evidence(t);
	outbuf_str(&t->events, "}}]");
	outbuf_put(&t->events, "", 1);
}

static void
from_exit(const struct exit_record *r, struct process_end *e, struct told *t)
{
	snprintf(t->key, sizeof t->key, "%s", r->life);
	take_why(t, r->why);
	e->end_real_ns = r->time_real_ns;
	e->verdict = cause_name(r->cause);
	e->certainty = certainty_name(r->certainty);
	e->error = r->cause != CAUSE_EXIT_CLEAN && r->cause != CAUSE_STOPPED &&
		   r->cause != CAUSE_MANAGER_RESTART;
	e->restarted = r->restarted;
	e->death = r->death;
	e->signal = r->signal;
	e->exit_code = r->exit_code;
	e->uptime_ms = r->uptime_ms;
	e->limit_bytes = r->limit_bytes;
	e->rss_bytes = r->rss_bytes;
	e->peak_bytes = r->peak_bytes;
}

/* Ends that only a ring tells of. */
static const struct {
	enum cause cause;
	enum certainty certainty;
	const char *why;
} of_rings[] = {
	[DUE_LOST] = { CAUSE_LOST, UNSURE,
	    "nobody supervised it, so nobody saw how it ended\n"
	    "its ring has no owner any more" },
	[DUE_REPLACED] = { CAUSE_MANAGER_RESTART, CERTAIN,
	    "another program goes on in its process: restarted in place (exec)" },
};

static void
from_ring(
    const struct ends *ends, const struct probe_row *row, struct process_end *e, struct told *t)
{
	const struct due_end *d = &ends->due[ends->at];

	for (unsigned i = 0; i < FRAME_PROBE_ID_BYTES; i++)
		snprintf(t->key + 2 * i, 3, "%02x", row->probe_id[i]);
	take_why(t, of_rings[ends->verdict].why);
	e->end_real_ns = d->end_real_ns;
	e->verdict = cause_name(of_rings[ends->verdict].cause);
	e->certainty = certainty_name(of_rings[ends->verdict].certainty);
	e->error = ends->verdict == DUE_LOST;
	e->restarted = ends->verdict == DUE_REPLACED;
	e->signal = e->exit_code = -1;
	e->uptime_ms = d->uptime_ms;
}

/*
 * With the job that it ended: beside what is unfinished, from the job's start on.
 * Without: the moment itself, in a trace of its own, so that it stands where
 * somebody who looks for it at that time will see it.
 */
static void
place(struct pipeline *p, struct process_end *e, struct told *t)
{
	e->span_id = ends_id('s', t->key);
	if (journal_ended_with(p->journal, p->ends.probe, &t->job)) {
		e->trace_hi = t->job.trace_hi;
		e->trace_lo = t->job.trace_lo;
		e->parent_id = t->job.run_span;
		e->start_real_ns = t->job.started_real_ns;
		e->prompt_id = t->job.prompt_id;
		e->node_id = t->job.node_id;
		e->node_class = t->job.node_class;
	} else {
		e->trace_hi = e->end_real_ns / NS_PER_S << 32;
		e->trace_lo = ends_id('t', t->key);
		e->start_real_ns = e->end_real_ns;
	}
}

enum err
ends_feed(struct pipeline *p)
{
	const struct ends *e = &p->ends;
	struct told *t = calloc(1, sizeof *t);
	struct process_end end = { .error = true };
	struct probe_row row, *known;
	enum err rv = t != NULL ? p->store->ops->probe_by_row(p->store, e->probe, &row) : E_NOMEM;

	if (rv == E_OK)
		rv = pipeline_probe_known(p, &row, &known);
	if (rv == E_OK) {
		if (e->is_due)
			from_ring(e, &row, &end, t);
		else
			from_exit(&e->exit, &end, t);
		end.offset_ns = (int64_t)(row.real_ns - row.mono_ns);
		place(p, &end, t);
		put_event(t, &end);
		put_message(t, end.verdict);
		end.events = (const char *)t->events.p;
		end.message = t->message;
		rv = t->events.failed ? E_NOMEM : processor_ended(p->processor, e->probe, &end);
	}
	if (rv == E_OK) {
		p->ends.cause = e->is_due ? of_rings[e->verdict].cause : e->exit.cause;
		log_info("end_told verdict=%s certainty=%s key=%s probe=%lld prompt=%s",
		    end.verdict, end.certainty, t->key, (long long)e->probe, t->job.prompt_id);
	}
	if (t != NULL)
		outbuf_free(&t->events);
	free(t);
	return rv;
}
