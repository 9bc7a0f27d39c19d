/*
 * waiting.c - questions to the journal, each answered on the pipeline's thread
 * between two transactions: bounded rows, no file, no network.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/journal/journal.h"
#include "agent/resubmit/internal.h"

#define ANSWER_MS 5000

/* ---- lives -------------------------------------------------------------- */

/* Bytes of "PID-", 0 when it is no life. */
static size_t
supervisor_bytes(const char *life)
{
	size_t n = strspn(life, "0123456789");

	return n > 0 && life[n] == '-' ? n + 1 : 0;
}

/* In a container each has pid 1: the end of a life tells them apart. */
bool
life_same_supervisor(const char *a, const char *b)
{
	size_t n = supervisor_bytes(a);
	const char *of_a = strrchr(a, '-'), *of_b = strrchr(b, '-');

	return n > 0 && strncmp(a, b, n) == 0 && strcmp(of_a, of_b) == 0;
}

bool
life_supervisor_lives(const char *life)
{
	long pid = supervisor_bytes(life) > 0 ? strtol(life, NULL, 10) : 0;

	return pid > 1 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static bool
life_of(const struct probe_row *row, char life[LIFE_BYTES])
{
	return wire_attr_find(row->attrs, row->attrs_bytes, "life", life, LIFE_BYTES) &&
	       supervisor_bytes(life) > 0;
}

/* ---- jobs that wait ----------------------------------------------------- */

struct gather {
	struct waiting_list *list;
	const struct probe_row *probe;
	int64_t known; /* the last of its jobs that is in the list; they come in this order */
	const char *life;
};

static int64_t
last_known(const struct waiting_list *l, int64_t probe)
{
	int64_t last = 0;

	for (size_t i = 0; i < l->count; i++)
		if (l->jobs[i].probe == probe && l->jobs[i].job > last)
			last = l->jobs[i].job;
	return last;
}

static enum err
add(struct waiting_list *l, const struct job_row *j, const char *life)
{
	struct waiting *w;

	if (l->count == l->cap) {
		size_t cap = l->cap == 0 ? 32 : 2 * l->cap;
		struct waiting *more = realloc(l->jobs, cap * sizeof *more);

		if (more == NULL)
			return E_NOMEM;
		l->jobs = more;
		l->cap = cap;
	}
	w = &l->jobs[l->count++];
	memset(w, 0, sizeof *w);
	w->job = j->id;
	w->probe = j->probe;
	memcpy(w->boot_id, j->boot_id, sizeof w->boot_id);
	snprintf(w->life, sizeof w->life, "%s", life);
	snprintf(w->prompt_id, sizeof w->prompt_id, "%s", j->prompt_id);
	snprintf(w->body, sizeof w->body, "%s", j->body);
	return E_OK;
}

static enum err
gather_job(void *ctx, const struct job_row *j)
{
	struct gather *g = ctx;

	if (j->body[0] == '\0' || j->id <= g->known ||
	    memcmp(g->probe->probe_id, j->boot_id, sizeof j->boot_id) != 0 ||
	    g->list->count >= RESUBMIT_JOBS_MAX)
		return E_OK;
	return add(g->list, j, g->life);
}

static enum err
gather(void *ctx, struct store *st, struct processor *p)
{
	struct gather *g = ctx;
	struct probe_row probe;
	char life[LIFE_BYTES];
	int64_t at = 0;
	enum err e;

	(void)p;
	g->probe = &probe;
	g->life = life;
	while ((e = st->ops->probe_next(st, &at, &probe)) == E_OK) {
		struct job_filter f = {
			.probe = probe.id, .states = 1u << JOB_QUEUED, .oldest_first = true
		};

		if (!probe.closed)
			continue;
		if (!life_of(&probe, life))
			life[0] = '\0'; /* nobody will start it again */
		g->known = last_known(g->list, probe.id);
		if ((e = st->ops->jobs(st, &f, gather_job, g)) != E_OK)
			return e;
	}
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
waiting_gather(const struct agent_view *v, struct waiting_list *list)
{
	struct gather g = { .list = list };

	return v->query(v->agent, gather, &g, ANSWER_MS);
}

/* ---- who lives ---------------------------------------------------------- */

struct is_open {
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	bool open;
};

static enum err
look_open(void *ctx, struct store *st, struct processor *p)
{
	struct is_open *o = ctx;
	struct probe_row row;
	enum err e = st->ops->probe_get(st, o->probe_id, &row);

	(void)p;
	o->open = e == E_OK && !row.closed;
	return e == E_NOTFOUND ? E_OK : e;
}

enum err
waiting_is_open(const struct agent_view *v, const char *probe_hex, bool *open)
{
	struct is_open o = { .open = false };
	enum err e;

	for (size_t i = 0; i < sizeof o.probe_id; i++) {
		unsigned byte;

		if (sscanf(probe_hex + 2 * i, "%2x", &byte) != 1)
			return E_INVAL;
		o.probe_id[i] = (uint8_t)byte;
	}
	e = v->query(v->agent, look_open, &o, ANSWER_MS);
	*open = o.open;
	return e;
}

/* ---- ends --------------------------------------------------------------- */

struct resolve {
	int64_t job;
	enum job_state state;
	const char *reason;
};

static enum err
resolve(void *ctx, struct store *st, struct journal *j)
{
	const struct resolve *r = ctx;

	(void)st;
	return journal_resolve(j, r->job, r->state, r->reason, clock_real_ns());
}

enum err
waiting_resolve(
    const struct agent_view *v, const struct waiting *w, enum job_state state, const char *reason)
{
	struct resolve r = { .job = w->job, .state = state, .reason = reason };

	return v->act(v->agent, resolve, &r, ANSWER_MS);
}

/* Probes of some jobs, looked at when the walk through the jobs is over. */
struct probes {
	int64_t of[RESUBMIT_DEATHS_LOOK];
	size_t count;
};

/* How many of them are of the same supervisor. */
static unsigned
of_supervisor(struct store *st, const struct probes *all, const char *life)
{
	struct probe_row row;
	char other[LIFE_BYTES];
	unsigned n = 0;

	for (size_t i = 0; i < all->count; i++)
		n += st->ops->probe_by_row(st, all->of[i], &row) == E_OK && life_of(&row, other) &&
		     life_same_supervisor(other, life);
	return n;
}

struct arrived {
	const struct waiting *w;
	struct probes newer;
	bool arrived;
};

static enum err
see_newer(void *ctx, const struct job_row *j)
{
	struct arrived *a = ctx;

	if (j->id > a->w->job && memcmp(j->boot_id, a->w->boot_id, sizeof j->boot_id) != 0)
		a->newer.of[a->newer.count++] = j->probe;
	return E_OK;
}

static enum err
look_arrived(void *ctx, struct store *st, struct processor *p)
{
	struct arrived *a = ctx;
	struct job_filter f = { .prompt_id = a->w->prompt_id, .limit = 64 };
	enum err e;

	(void)p;
	e = st->ops->jobs(st, &f, see_newer, a);
	/* Another ComfyUI may have been sent a job with this id by its own client. */
	a->arrived = e == E_OK && of_supervisor(st, &a->newer, a->w->life) > 0;
	return e;
}

enum err
waiting_arrived(const struct agent_view *v, const struct waiting *w, bool *arrived)
{
	struct arrived a = { .w = w };
	enum err e = v->query(v->agent, look_arrived, &a, ANSWER_MS);

	*arrived = a.arrived;
	return e;
}

struct deaths {
	const struct waiting *w;
	struct probes probes;
	unsigned count;
	char name[64];
};

/* Ends that say nothing against the job that ran. */
static bool
is_blameless(const char *reason)
{
	static const char *const reasons[] = { "manager_restart", "stopped", "exit_clean" };

	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (strcmp(reason, reasons[i]) == 0)
			return true;
	return false;
}

static enum err
see_death(void *ctx, const struct job_row *j)
{
	struct deaths *d = ctx;
	const char *hash = strrchr(j->workflow, ' ');

	/* A verdict has a certainty: the job did not end by itself. */
	if (j->certainty[0] == '\0' || is_blameless(j->reason))
		return E_OK;
	if (strcmp(hash != NULL ? hash + 1 : j->workflow, d->w->line.workflow) != 0)
		return E_OK;
	d->probes.of[d->probes.count++] = j->probe;
	snprintf(d->name, sizeof d->name, "%.*s", hash != NULL ? (int)(hash - j->workflow) : 0,
	    j->workflow);
	return E_OK;
}

static enum err
look_deaths(void *ctx, struct store *st, struct processor *p)
{
	struct deaths *d = ctx;
	struct job_filter f = { .states = 1u << JOB_FAILED, .limit = RESUBMIT_DEATHS_LOOK };
	enum err e;

	(void)p;
	e = st->ops->jobs(st, &f, see_death, d);
	d->count = e == E_OK ? of_supervisor(st, &d->probes, d->w->life) : 0;
	return e;
}

enum err
waiting_deaths(const struct agent_view *v, const struct waiting *w, unsigned *deaths, char name[64])
{
	struct deaths d = { .w = w };
	enum err e = v->query(v->agent, look_deaths, &d, ANSWER_MS);

	*deaths = d.count;
	memcpy(name, d.name, sizeof d.name);
	return e;
}
