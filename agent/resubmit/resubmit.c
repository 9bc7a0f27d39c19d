/*
 * resubmit.c - the thread: which jobs wait, whether somebody lives who can take
 * them, and one after the other into his queue.
 */
#include "agent/resubmit/resubmit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/ask.h"
#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"
#include "agent/resubmit/internal.h"

#define GIVE_UP_NS   (600 * NS_PER_S)
#define LOOK_NS      (NS_PER_S / 4) /* while jobs wait: is there somebody who answers? */
#define AGAIN_NS     (2 * NS_PER_S) /* after a question that failed */
#define ARRIVE_NS    (5 * NS_PER_S) /* what has arrived is in the journal by then */
#define SLICE_MS     200            /* of a wait for an answer, between two looks at `stop` */
#define READY_MS     1000           /* for GET /prompt */
#define POST_MS      60000          /* a large graph is checked meanwhile */
#define REASON_BYTES 64

struct resubmit {
	struct resubmit_options o;
	struct agent_view view;
	struct thread thread;
	struct waker waker;
	/* the thread's own */
	struct waiting_list list;
	struct ask ask;
	struct status_health health; /* as asked for last */
	unsigned posted, lost;       /* since the last line of the log */
	struct {
		char workflow[9], life[LIFE_BYTES], name[64];
		unsigned deaths;
	} judged; /* the newest, in this turn: jobs of one workflow come in rows */
};

/* ---- one job ------------------------------------------------------------ */

/* True: it is ended, here or by somebody else. */
static bool
end_job(struct resubmit *r, struct waiting *w, enum job_state state, const char *reason)
{
	enum err e = waiting_resolve(&r->view, w, state, reason);

	if (e != E_OK && e != E_NOTFOUND && e != E_STATE) {
		log_warn("resubmit_failed what=journal job=%lld error=\"%s\"", (long long)w->job,
		    err_text(e));
		return false;
	}
	body_remove(r->o.run_dir, w);
	if (e == E_OK)
		*(state == JOB_RESUBMITTED ? &r->posted : &r->lost) += 1;
	w->job = 0;
	return true;
}

static bool
is_quarantined(struct resubmit *r, const struct waiting *w)
{
	if (strcmp(r->judged.workflow, w->line.workflow) != 0 ||
	    strcmp(r->judged.life, w->life) != 0) {
		r->judged.workflow[0] = '\0';
		if (waiting_deaths(&r->view, w, &r->judged.deaths, r->judged.name) != E_OK)
			return false;
		memcpy(r->judged.workflow, w->line.workflow, sizeof r->judged.workflow);
		memcpy(r->judged.life, w->life, sizeof r->judged.life);
	}
	return r->judged.deaths >= RESUBMIT_DEATHS;
}

/* Ends that need no ComfyUI. True: this job is ended. */
static bool
end_early(struct resubmit *r, struct waiting *w)
{
	char reason[REASON_BYTES];
	bool arrived;

	if (!w->known)
		body_look(r->o.run_dir, w);
	if ((w->missing || w->sent) && waiting_arrived(&r->view, w, &arrived) == E_OK && arrived)
		return end_job(r, w, JOB_RESUBMITTED, "");
	if (w->missing)
		return end_job(r, w, JOB_LOST, "body_missing");
	if (w->line.secret)
		return end_job(r, w, JOB_LOST, "needs_secret");
	if (!is_quarantined(r, w))
		return false;
	snprintf(reason, sizeof reason, "quarantined %s %.*s", w->line.workflow,
	    (int)(sizeof reason - sizeof "quarantined 01234567 "), r->judged.name);
	return end_job(r, w, JOB_LOST, reason);
}

/* The status of the answer; -1: none, or we are stopped. */
static int
answer(struct resubmit *r, uint64_t timeout_ms)
{
	uint64_t until = clock_mono_ns() + timeout_ms * NS_PER_MS;
	int status;

	do
		status = ask_wait(&r->ask, SLICE_MS);
	while (status == 0 && clock_mono_ns() < until && !waker_stopped(&r->waker));
	ask_end(&r->ask);
	return status > 0 ? status : -1;
}

static bool
is_ready(struct resubmit *r, const struct sockaddr_storage *to, socklen_t bytes)
{
	if (ask_start(&r->ask, (const struct sockaddr *)to, bytes, "GET", "/prompt", NULL) != E_OK)
		return false;
	return answer(r, READY_MS) == 200 && strstr(r->ask.answer, "exec_info") != NULL;
}

enum outcome { OUTCOME_ENDED, OUTCOME_LATER };

static enum outcome
post(struct resubmit *r, struct waiting *w, const struct sockaddr_storage *to, socklen_t bytes)
{
	char *json;
	int status = -1;
	enum err e = body_read(r->o.run_dir, w, &json);

	if (e == E_NOMEM)
		return OUTCOME_LATER;
	if (e != E_OK)
		return end_job(r, w, JOB_LOST, "body_missing") ? OUTCOME_ENDED : OUTCOME_LATER;
	e = body_mark(r->o.run_dir, w);
	if (e == E_OK) {
		w->sent_mono_ns = clock_mono_ns();
		e = ask_post(&r->ask, (const struct sockaddr *)to, bytes, "/prompt", json,
		    w->line.json_bytes);
	}
	if (e == E_OK)
		status = answer(r, POST_MS);
	free(json);
	if (status >= 200 && status < 300)
		return end_job(r, w, JOB_RESUBMITTED, "") ? OUTCOME_ENDED : OUTCOME_LATER;
	if (status < 400 || status >= 500) /* it may have arrived: see end_early */
		return OUTCOME_LATER;
	log_warn("resubmit_refused prompt=%s status=%d", w->prompt_id, status);
	return end_job(r, w, JOB_LOST, "refused") ? OUTCOME_ENDED : OUTCOME_LATER;
}

/* ---- all of them -------------------------------------------------------- */

/* Those of older lives first; within a life as they stood in the queue. */
static int
in_order(const void *a, const void *b)
{
	const struct waiting *x = a, *y = b;

	if (x->probe != y->probe)
		return x->probe < y->probe ? -1 : 1;
	if (x->line.number != y->line.number)
		return x->line.number < y->line.number ? -1 : 1;
	return x->job < y->job ? -1 : x->job > y->job;
}

static void
drop_ended(struct waiting_list *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->count; i++)
		if (l->jobs[i].job != 0)
			l->jobs[n++] = l->jobs[i];
	l->count = n;
}

/* Where the ComfyUI of that supervisor answers. */
static bool
find_place(struct resubmit *r, const char *life, struct sockaddr_storage *to, socklen_t *bytes)
{
	struct status_health *h = &r->health;

	r->view.health(r->view.agent, h);
	for (size_t i = 0; i < h->process_count; i++)
		if (life_same_supervisor(life, h->processes[i].life) &&
		    place_of(&h->processes[i], to, bytes) && is_ready(r, to, *bytes))
			return true;
	return false;
}

/* In order, until one of them has to wait: what follows it does not overtake it. */
static bool
post_all(struct resubmit *r, const char *life, const struct sockaddr_storage *to, socklen_t bytes)
{
	for (size_t i = 0; i < r->list.count && !waker_stopped(&r->waker); i++) {
		struct waiting *w = &r->list.jobs[i];

		if (w->job == 0 || !life_same_supervisor(life, w->life) || end_early(r, w))
			continue;
		/* Sent before, by whom ever, and perhaps on its way into the journal. */
		if (w->sent && w->sent_mono_ns == 0)
			w->sent_mono_ns = clock_mono_ns();
		if (w->sent && clock_mono_ns() - w->sent_mono_ns < ARRIVE_NS)
			return false;
		if (post(r, w, to, bytes) == OUTCOME_LATER)
			return false;
	}
	return true;
}

/* Those that have waited so long for somebody who answers. */
static void
give_up(struct resubmit *r, const char *life, uint64_t patience_ns)
{
	uint64_t now = clock_mono_ns();

	for (size_t i = 0; i < r->list.count; i++) {
		struct waiting *w = &r->list.jobs[i];

		if (w->job == 0 ||
		    (strcmp(w->life, life) != 0 && !life_same_supervisor(life, w->life)))
			continue;
		if (w->since_mono_ns == 0)
			w->since_mono_ns = now;
		if (now - w->since_mono_ns >= patience_ns && !end_early(r, w))
			(void)end_job(r, w, JOB_LOST, "not_restarted");
	}
}

/* The jobs of all lives of one supervisor. */
static void
serve(struct resubmit *r, const char *of)
{
	struct sockaddr_storage to;
	socklen_t bytes;
	char life[LIFE_BYTES];

	snprintf(life, sizeof life, "%s", of);
	if (!life_supervisor_lives(life)) {
		give_up(r, life, 0);
	} else if (find_place(r, life, &to, &bytes)) {
		for (size_t i = 0; i < r->list.count; i++)
			if (life_same_supervisor(life, r->list.jobs[i].life))
				r->list.jobs[i].since_mono_ns = 0;
		(void)post_all(r, life, &to, bytes);
	} else {
		give_up(r, life,
		    r->o.give_up_ms != 0 ? r->o.give_up_ms * NS_PER_MS : (uint64_t)GIVE_UP_NS);
	}
}

static bool
is_first_of_supervisor(const struct waiting_list *l, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (l->jobs[i].life[0] == '\0'
			? l->jobs[at].life[0] == '\0'
			: life_same_supervisor(l->jobs[i].life, l->jobs[at].life))
			return false;
	return true;
}

static void
say(struct resubmit *r)
{
	if (r->posted + r->lost > 0)
		log_info(
		    "resubmitted jobs=%u lost=%u waiting=%zu", r->posted, r->lost, r->list.count);
	r->posted = r->lost = 0;
}

/* When to look again, WAKER_FOREVER when nothing waits. */
static uint64_t
turn(struct resubmit *r)
{
	struct waiting_list *l = &r->list;

	if (waiting_gather(&r->view, l) != E_OK)
		return clock_mono_ns() + AGAIN_NS;
	for (size_t i = 0; i < l->count; i++)
		if (!l->jobs[i].known)
			body_look(r->o.run_dir, &l->jobs[i]);
	if (l->count > 0) {
		qsort(l->jobs, l->count, sizeof *l->jobs, in_order);
		r->judged.workflow[0] = '\0';
		for (size_t i = 0; i < l->count; i++)
			if (is_first_of_supervisor(l, i))
				serve(r, l->jobs[i].life);
	}
	drop_ended(l);
	say(r);
	if (l->count > 0)
		return clock_mono_ns() + LOOK_NS;
	body_clean(&r->view, r->o.run_dir, l);
	return WAKER_FOREVER;
}

static void
run(void *arg)
{
	struct resubmit *r = arg;
	uint64_t next = 0;

	while (!waker_stopped(&r->waker)) {
		next = turn(r);
		(void)waker_wait(&r->waker, next);
	}
}

enum err
resubmit_new(const struct resubmit_options *o, struct resubmit **out)
{
	struct resubmit *r = calloc(1, sizeof *r);

	if (r == NULL)
		return E_NOMEM;
	r->o = *o;
	r->ask.fd = -1;
	waker_init(&r->waker);
	*out = r;
	return E_OK;
}

enum err
resubmit_start(struct resubmit *r, const struct agent_view *view)
{
	r->view = *view;
	return thread_start(&r->thread, "resubmit", run, r);
}

void
resubmit_wake(struct resubmit *r)
{
	waker_wake(&r->waker);
}

void
resubmit_stop(struct resubmit *r)
{
	waker_stop(&r->waker);
	thread_join(&r->thread);
}

void
resubmit_free(struct resubmit *r)
{
	if (r == NULL)
		return;
	resubmit_stop(r);
	waker_fini(&r->waker);
	free(r->list.jobs);
	free(r);
}
