/*
 * routes.c - the table of what the control socket answers, and the health port.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/control/health.h"
#include "agent/control/views.h"
#include "agent/core/json.h"

#define QUERY_TIMEOUT_MS 10000u
#define SLICE_MS         20u   /* of the pipeline's time, for a part of something large */
#define SEARCH_MS        2000u /* of the pipeline's time, for a list; then 206 */

int
refuse(struct outbuf *out, int status, const char *why)
{
	outbuf_reset(out, SIZE_MAX);
	put_raw(out, "{");
	put_str(out, "error", why);
	put_raw(out, "}");
	return status;
}

static int
finish(struct outbuf *out, enum err rv, const char *missing)
{
	if (rv == E_OK && !out->failed)
		return 200;
	if (rv == E_NOTFOUND)
		return refuse(out, 404, missing);
	return refuse(out, 503, rv == E_OK ? "out of memory" : err_text(rv));
}

static int
get_status(const struct request *r, struct outbuf *out)
{
	struct status_snapshot *s = calloc(1, sizeof *s);
	enum err rv = E_NOMEM;

	if (s != NULL)
		rv = r->door->options->view.status(r->door->options->view.agent, s);
	if (rv == E_OK) {
		s->health_port = *r->door->shown;
		rv = view_status(s, out);
	}
	free(s);
	return finish(out, rv, "");
}

struct traces_query {
	struct trace_filter filter;
	const struct span_defaults *defaults;
	struct outbuf *out;
	bool cut;
};

static enum err
run_traces(void *ctx, struct store *st, struct processor *p)
{
	struct traces_query *q = ctx;

	q->filter.until_mono_ns = clock_mono_ns() + SEARCH_MS * NS_PER_MS;
	return view_traces(st, p, q->defaults, &q->filter, q->out, &q->cut);
}

static bool
copy_text(char *to, size_t cap, const char *from)
{
	if (from == NULL)
		return true;
	if (strlen(from) >= cap)
		return false;
	strcpy(to, from);
	return true;
}

/* Digits only; absent keeps *v. */
static bool
take_number(const char *text, uint64_t *v)
{
	char *end;

	if (text == NULL)
		return true;
	if (text[0] < '0' || text[0] > '9')
		return false;
	*v = strtoull(text, &end, 10);
	return *end == '\0';
}

static int
get_traces(const struct request *r, struct outbuf *out)
{
	struct traces_query q = { .defaults = &r->door->options->defaults, .out = out };
	uint64_t limit = 50;

	if (!copy_text(q.filter.state, sizeof q.filter.state, r->query(r, "state")))
		return refuse(out, 400, "state: too long");
	if (!copy_text(q.filter.text, sizeof q.filter.text, r->query(r, "text")))
		return refuse(out, 400, "text: too long");
	if (!take_number(r->query(r, "since_ns"), &q.filter.since_real_ns))
		return refuse(out, 400, "since_ns: expected a whole number");
	if (!take_number(r->query(r, "min_duration_ns"), &q.filter.min_duration_ns))
		return refuse(out, 400, "min_duration_ns: expected a whole number");
	if (!take_number(r->query(r, "limit"), &limit) || limit < 1 || limit > VIEW_TRACES_MAX)
		return refuse(out, 400, "limit: expected 1 to 10000");
	q.filter.limit = (uint32_t)limit;

	int status = finish(out,
	    r->door->options->view.query(
		r->door->options->view.agent, run_traces, &q, QUERY_TIMEOUT_MS),
	    "");

	return status == 200 && q.cut ? 206 : status;
}

struct trace_query {
	uint64_t hi, lo;
	const struct span_defaults *defaults;
	struct outbuf *out;
};

static enum err
run_trace(void *ctx, struct store *st, struct processor *p)
{
	struct trace_query *q = ctx;

	return view_trace(st, p, q->defaults, q->hi, q->lo, q->out);
}

static int
get_trace(const struct request *r, struct outbuf *out)
{
	struct trace_query q = { .defaults = &r->door->options->defaults, .out = out };

	if (!view_parse_trace_id(r->rest, &q.hi, &q.lo))
		return refuse(out, 400, "expected a trace id of 16 or 32 hex digits");
	return finish(out,
	    r->door->options->view.query(
		r->door->options->view.agent, run_trace, &q, QUERY_TIMEOUT_MS),
	    "no such trace (see comfymon traces)");
}

struct jobs_query {
	struct job_filter filter;
	const char *id;
	struct outbuf *out;
};

static enum err
run_jobs(void *ctx, struct store *st, struct processor *p)
{
	struct jobs_query *q = ctx;

	(void)p;
	return view_jobs(st, &q->filter, q->out);
}

static int
get_jobs(const struct request *r, struct outbuf *out)
{
	struct jobs_query q = { .out = out };
	const char *state = r->query(r, "state");
	uint64_t limit = 50;

	if (state != NULL && !view_parse_states(state, &q.filter.states))
		return refuse(out, 400,
		    "state: expected queued, running, succeeded, failed, "
		    "interrupted, cancelled, lost or resubmitted");
	if (!take_number(r->query(r, "since_ns"), &q.filter.since_real_ns))
		return refuse(out, 400, "since_ns: expected a whole number");
	if (!take_number(r->query(r, "limit"), &limit) || limit < 1 || limit > VIEW_JOBS_MAX)
		return refuse(out, 400, "limit: expected 1 to 10000");
	q.filter.limit = (uint32_t)limit;
	return finish(out,
	    r->door->options->view.query(
		r->door->options->view.agent, run_jobs, &q, QUERY_TIMEOUT_MS),
	    "");
}

static enum err
run_job(void *ctx, struct store *st, struct processor *p)
{
	struct jobs_query *q = ctx;

	(void)p;
	return view_job(st, q->id, q->out);
}

static int
get_job(const struct request *r, struct outbuf *out)
{
	struct jobs_query q = { .id = r->rest, .out = out };
	enum err rv;

	if (!view_parse_job_id(r->rest))
		return refuse(out, 400, "expected the id of a prompt, how it begins, or a number");
	rv = r->door->options->view.query(
	    r->door->options->view.agent, run_job, &q, QUERY_TIMEOUT_MS);
	if (rv == E_EXISTS)
		return refuse(out, 409, "several prompt ids begin so");
	return finish(out, rv, "no such job (see comfymon jobs)");
}

static int
post_retry(const struct request *r, struct outbuf *out)
{
	r->door->options->view.retry_now(r->door->options->view.agent);
	put_raw(out, "{}");
	return 202;
}

static enum err
run_check(void *ctx, struct store *st, struct processor *p)
{
	(void)p;
	return st->ops->check(st, ctx, clock_mono_ns() + SLICE_MS * NS_PER_MS);
}

/* A slice: what was found in it, and where to go on. */
static int
get_check(const struct request *r, struct outbuf *out)
{
	struct store_check c = { 0 };
	uint64_t table = 0, after = 0;
	enum err rv;

	if (!take_number(r->query(r, "table"), &table) || table > UINT32_MAX)
		return refuse(out, 400, "table: expected what the answer before has said");
	if (!take_number(r->query(r, "after"), &after) || after > INT64_MAX)
		return refuse(out, 400, "after: expected what the answer before has said");
	c.table = (uint32_t)table;
	c.after = (int64_t)after;
	rv = r->door->options->view.query(
	    r->door->options->view.agent, run_check, &c, QUERY_TIMEOUT_MS);
	put_raw(out, "{");
	put_u64(out, "table", c.table);
	put_i64(out, "after", c.after);
	put_u64(out, "rows", c.rows);
	put_u64(out, "bad", c.bad);
	put_bool(out, "done", c.done);
	put_bool(out, "identity", c.identity);
	put_bool(out, "recount", c.recount);
	put_u64(out, "jobs", c.jobs);
	put_u64(out, "notices", c.notices);
	put_u64(out, "orphans", c.orphans);
	put_u64(out, "jobs_db", c.jobs_db.is);
	put_u64(out, "equal", c.jobs_db.equal);
	put_u64(out, "behind", c.jobs_db.behind);
	put_u64(out, "differ", c.jobs_db.differ);
	put_raw(out, "}");
	return finish(out, rv, "");
}

struct export_query {
	struct view_export at;
	const struct span_defaults *defaults;
	struct outbuf *out;
};

static enum err
run_export(void *ctx, struct store *st, struct processor *p)
{
	struct export_query *q = ctx;

	q->at.until_mono_ns = clock_mono_ns() + SLICE_MS * NS_PER_MS;
	return view_export(st, p, q->defaults, &q->at, q->out);
}

/* A slice; {"before":ID} on the last line when there is more. */
static int
get_export(const struct request *r, struct outbuf *out)
{
	struct export_query q = { .defaults = &r->door->options->defaults, .out = out };
	uint64_t before = 0;
	enum err rv;

	if (!take_number(r->query(r, "before"), &before) || before > INT64_MAX)
		return refuse(out, 400, "before: expected what the answer before has said");
	q.at.before = (int64_t)before;
	rv = r->door->options->view.query(
	    r->door->options->view.agent, run_export, &q, QUERY_TIMEOUT_MS);
	if (rv == E_OK && !q.at.done) {
		put_raw(out, "{");
		put_i64(out, "before", q.at.before);
		put_raw(out, "}\n");
	}
	return finish(out, rv, "");
}

static int
get_memory(const struct request *r, struct outbuf *out)
{
	struct memory_query q = { .points = 120 };
	uint64_t points = q.points, pss = 0;

	if (!take_number(r->query(r, "since_ns"), &q.since_real_ns))
		return refuse(out, 400, "since_ns: expected a whole number");
	if (!take_number(r->query(r, "points"), &points) || points < 1 ||
	    points > MEMORY_POINTS_MAX)
		return refuse(out, 400, "points: expected 1 to 5000");
	if (!take_number(r->query(r, "pss"), &pss))
		return refuse(out, 400, "pss: expected 0 or 1");
	q.points = (uint32_t)points;
	q.pss = pss != 0;
	return finish(
	    out, r->door->options->view.memory(r->door->options->view.agent, &q, out), "no memory");
}

static const struct route routes[] = {
	/* method, path, prefix, open, function, type (NULL: JSON) */
	{ "GET", "/status", false, false, get_status, NULL },
	{ "GET", "/healthz", false, true, get_healthz, NULL },
	{ "GET", "/readyz", false, true, get_readyz, NULL },
	{ "GET", "/traces", false, false, get_traces, NULL },
	{ "GET", "/trace/", true, false, get_trace, NULL },
	{ "GET", "/memory", false, false, get_memory, NULL },
	{ "GET", "/metrics", false, true, get_metrics, "text/plain; version=0.0.4; charset=utf-8" },
	{ "GET", "/jobs", false, false, get_jobs, NULL },
	{ "GET", "/job/", true, false, get_job, NULL },
	{ "GET", "/check", false, false, get_check, NULL },
	{ "GET", "/export", false, false, get_export, NULL },
	{ "POST", "/retry", false, false, post_retry, NULL },
};

const struct route *
route_find(const char *method, const char *path, bool open_only, const char **other)
{
	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	*other = NULL;
	for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
		const struct route *r = &routes[i];

		if (open_only && !r->open)
			continue;
		if (r->prefix ? strncmp(path, r->path, strlen(r->path)) != 0
			      : strcmp(path, r->path) != 0)
			continue;
		if (strcmp(method, r->method) == 0)
			return r;
		*other = r->method;
	}
	return NULL;
}
