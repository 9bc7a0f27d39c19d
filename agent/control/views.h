/*
 * views.h - what the store and the processor hold, as JSON for people and
 * programs: the status, the list of traces, one trace, everything; the jobs.  Called on
 * the thread that owns the store (the pipeline through agent_view.query, or a
 * command line that opened the file itself).  The shapes are promises to
 * outsiders: keys are only ever added.
 */
#pragma once

#include "agent/core/outbuf.h"
#include "agent/core/process.h"
#include "agent/core/spanview.h"
#include "agent/core/status.h"

#define VIEW_TRACES_MAX 10000u
#define VIEW_JOBS_MAX   10000u

struct trace_filter {
	char state[16]; /* "" any; open queued sent sampled_out rejected, or error, unfinished */
	char text[128]; /* "" any; part of a name, resource or error message */
	uint64_t since_real_ns, min_duration_ns;
	uint32_t limit; /* 1 .. VIEW_TRACES_MAX */
	/* Stop reading then, whatever is found: who asks must not hold the pipeline up. 0: never.
	 */
	uint64_t until_mono_ns;
};

/* One JSON object. */
MUST_CHECK enum err view_status(const struct status_snapshot *s, struct outbuf *out);
/* Its members "supervisors", "memory", "health" and "health_port". */
void view_guard(const struct status_snapshot *s, struct outbuf *out);
/* One JSON object: its "health", and the answer of /readyz. */
MUST_CHECK enum err view_health(const struct status_health *h, struct outbuf *out);

/*
 * JSON lines, newest first, one trace each.  `p` may be NULL (no processor: no
 * open traces).  *cut: the time was up, older traces were not looked at.
 * E_NOMEM; what could not be decoded is left out.
 */
MUST_CHECK enum err view_traces(struct store *st, struct processor *p,
    const struct span_defaults *d, const struct trace_filter *f, struct outbuf *out, bool *cut);

/* One JSON object {"trace_id","spans":[...]}; E_NOTFOUND when nobody knows the trace. */
MUST_CHECK enum err view_trace(struct store *st, struct processor *p, const struct span_defaults *d,
    uint64_t hi, uint64_t lo, struct outbuf *out);

/* Where an export is; all zero begins. */
struct view_export {
	int64_t before; /* the chunks below this row are left to do */
	bool done;
	uint64_t until_mono_ns; /* of this call, 0: a mebibyte of text or so */
	uint64_t count;         /* spans, of all calls */
	int64_t chunk;          /* inside */
};

/*
 * Every buffered span, and with a processor every open one, a JSON line each, a
 * slice of them a call.  The first call shows all that is open; what becomes a
 * chunk later is not met again.  What is evicted meanwhile is missing, and what
 * a destination had split as too large.
 */
MUST_CHECK enum err view_export(struct store *st, struct processor *p,
    const struct span_defaults *d, struct view_export *at, struct outbuf *out);

/* JSON lines, newest first unless the filter says otherwise, one job each. */
MUST_CHECK enum err view_jobs(struct store *st, const struct job_filter *f, struct outbuf *out);

/*
 * One JSON object: the job of a row id, of a prompt id (the newest of it), or of the beginning of
 * one.  E_NOTFOUND; E_EXISTS: other prompt ids begin alike.
 */
MUST_CHECK enum err view_job(struct store *st, const char *id, struct outbuf *out);

/* "failed" or "failed,lost": bits of states. */
bool view_parse_states(const char *text, uint32_t *states);
/* May it be a job's id at all? */
bool view_parse_job_id(const char *text);

/* "0123...": 32 hex digits, or 16 (high part 0). False when it is none. */
bool view_parse_trace_id(const char *text, uint64_t *hi, uint64_t *lo);
