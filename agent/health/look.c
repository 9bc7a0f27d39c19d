/*
 * look.c - one look at one ComfyUI: its process, its worker, its HTTP, its job.
 * Observer's thread; waits for an answer ANSWER_MS at most, and else finds it at
 * a later look.
 */
#include <string.h>

#include "agent/base/clock.h"
#include "agent/health/target.h"

#define ANSWER_MS     100u
#define ASK_MAX_NS    (15 * NS_PER_S) /* between two questions while all is well */
#define CANDIDATE_NS  (2 * NS_PER_S)  /* for the first answer of a port that may be another's */
#define SEARCH_MAX_NS (15 * NS_PER_S)
#define QUEUED_NS     (10 * NS_PER_S) /* a job that waits while none runs */
#define SEARCHES_FAST 30u /* once a second; ComfyUI takes some seconds, or minutes, to listen */

/* ---- process and worker -------------------------------------------------- */

/* It is we who have no descriptor or memory left. */
static bool
could_not_look(enum err e)
{
	return e == E_FULL || e == E_NOMEM;
}

/* E_NOTFOUND: it has ended, or its pid is another's by now. */
static enum err
look_process(struct target *t, struct proc_stat *now)
{
	enum err e = t->told.pid != 0 ? proc_stat(t->told.pid, 0, now) : E_NOTFOUND;
	bool there = e == E_OK && now->start_ticks == t->told.start_ticks && now->state != 'Z' &&
		     now->state != 'X';

	if (could_not_look(e))
		return e;
	t->vitals.visible = there;
	t->seen_alive = t->seen_alive || there;
	return there || !t->seen_alive ? E_OK : E_NOTFOUND;
}

/*
 * Most ComfyUIs have one thread for all jobs, but a thread for each would be no
 * illness: who ends after its job is missed when another job waits.
 */
static bool
is_needed(struct target *t, bool deaf, uint64_t now_ns)
{
	if (!t->told.queued)
		t->queued_ns = 0;
	else if (t->queued_ns == 0)
		t->queued_ns = now_ns;
	return t->told.worker_died || t->told.worker_kept || (t->told.busy && !deaf) ||
	       (t->queued_ns != 0 && now_ns - t->queued_ns >= QUEUED_NS);
}

static void
look_worker(struct target *t, bool deaf, uint64_t now_ns)
{
	struct vitals *v = &t->vitals;
	struct proc_stat s;
	enum err e;
	bool there;

	v->worker_needed = is_needed(t, deaf, now_ns);
	if (t->told.worker != t->worker) { /* another job, another worker */
		t->worker = t->told.worker;
		t->worker_ticks = 0;
		v->worker_gone_ns = 0;
	}
	v->worker = t->worker;
	if (!v->visible || t->worker == 0) {
		there = !t->told.worker_died;
	} else {
		e = proc_stat(t->told.pid, t->worker, &s);
		if (could_not_look(e))
			return;
		/* A number is given again: the same thread began when it did. */
		there = e == E_OK && s.state != 'Z' && s.state != 'X' &&
			(t->worker_ticks == 0 || s.start_ticks == t->worker_ticks);
		if (there)
			t->worker_ticks = s.start_ticks;
	}
	if (there) {
		v->worker_gone_ns = 0;
	} else if (v->worker_gone_ns == 0) {
		v->worker_gone_ns = now_ns;
		t->ask_at_ns = now_ns; /* does it go on without it? */
	}
}

/* ---- HTTP ---------------------------------------------------------------- */

static bool
like_comfyui(const char *answer)
{
	return strstr(answer, "\"exec_info\"") != NULL &&
	       strstr(answer, "\"queue_remaining\"") != NULL;
}

static uint64_t
period_ns(const struct health_limits *l)
{
	uint64_t ns = l->http_silent_ns / 4;

	return ns == 0 || ns > ASK_MAX_NS ? ASK_MAX_NS : ns;
}

static void
missed(struct target *t, uint64_t now_ns, bool refused)
{
	struct vitals *v = &t->vitals;

	if (v->http_ok_ns == 0)
		return;
	if (v->http_unanswered_ns == 0)
		v->http_unanswered_ns = now_ns;
	v->http_refused = refused;
}

/*
 * Once all were asked plainly, those that hung up are asked by TLS.  Others are not: a ComfyUI
 * that was only busy would log what it cannot read.
 */
static void
next_candidate(struct target *t)
{
	if (t->candidate >= t->candidate_count)
		return;
	t->candidate++;
	if (t->candidate == t->candidate_count && !t->tls && t->hung_up != 0) {
		t->tls = true;
		t->candidate = 0;
	}
	while (
	    t->tls && t->candidate < t->candidate_count && (t->hung_up & (1u << t->candidate)) == 0)
		t->candidate++;
}

/* Not there any more, or not ComfyUI: the next candidate, else a search. */
static void
turned_away(struct target *t, uint64_t now_ns)
{
	ask_end(&t->ask);
	missed(t, now_ns, true);
	t->found = false;
	next_candidate(t);
	t->ask_at_ns = now_ns;
}

static void
answered(struct target *t, const struct health_limits *l, uint64_t now_ns)
{
	struct vitals *v = &t->vitals;

	if (!t->tls && !like_comfyui(t->ask.answer)) {
		turned_away(t, now_ns);
		return;
	}
	ask_end(&t->ask);
	t->found = true;
	t->misses = 0;
	t->candidate = t->candidate_count = 0;
	v->http_ok_ns = t->asked_ns;
	v->http_unanswered_ns = 0;
	v->http_refused = false;
	/* A question from before the worker was missed says nothing about afterwards. */
	t->ask_at_ns = v->http_ok_ns < v->worker_gone_ns ? now_ns : now_ns + period_ns(l);
}

static void
hear(struct target *t, const struct health_limits *l, uint64_t now_ns, uint64_t wait_ms)
{
	int status = ask_wait(&t->ask, wait_ms);
	uint64_t patience = !t->found                ? CANDIDATE_NS
			    : l->http_silent_ns != 0 ? l->http_silent_ns
						     : 4 * ASK_MAX_NS;

	if (status > 0) {
		answered(t, l, now_ns);
	} else if (status < 0) {
		if (t->candidate < t->candidate_count && !t->tls)
			t->hung_up |= 1u << t->candidate;
		turned_away(t, now_ns);
	} else if (wait_ms == 0) {
		/* The loop is held, by honest work for a while: one question waits, not many. */
		missed(t, t->asked_ns, false);
		if (now_ns - t->asked_ns < patience)
			return;
		ask_end(&t->ask);
		t->ask_at_ns = now_ns;
		if (!t->found)
			next_candidate(t);
	}
}

static void
put_question(struct target *t, const struct health_limits *l, uint64_t now_ns)
{
	const union proc_address *to = t->found ? &t->at : &t->candidates[t->candidate];
	socklen_t n = proc_address_bytes(to);
	enum err e = t->tls ? ask_hello(&t->ask, &to->any, n)
			    : ask_start(&t->ask, &to->any, n, "GET", "/prompt", NULL);

	t->at = *to;
	t->asked_ns = now_ns;
	if (e == E_OK)
		hear(t, l, now_ns, ANSWER_MS);
	else if (could_not_look(e))
		t->ask_at_ns = now_ns + NS_PER_S;
	else
		turned_away(t, now_ns);
}

static void
search(struct target *t, uint64_t now_ns)
{
	uint64_t wait = NS_PER_S;
	enum err e;

	t->candidate = t->candidate_count = 0;
	t->tls = false;
	t->hung_up = 0;
	e = proc_listening(t->told.pid, t->candidates, &t->candidate_count);
	if (e != E_OK)
		t->candidate_count = 0;
	if (could_not_look(e))
		t->ask_at_ns = now_ns + wait;
	if (could_not_look(e) || t->candidate_count > 0)
		return;
	missed(t, now_ns, true);
	if (++t->misses > SEARCHES_FAST)
		wait = SEARCH_MAX_NS;
	t->ask_at_ns = now_ns + wait;
}

static void
look_http(struct target *t, const struct health_limits *l, uint64_t now_ns)
{
	if (t->ask.fd >= 0)
		hear(t, l, now_ns, 0);
	if (t->ask.fd >= 0 || now_ns < t->ask_at_ns)
		return;
	if (!t->found && t->candidate >= t->candidate_count)
		search(t, now_ns);
	while (t->ask.fd < 0 && now_ns >= t->ask_at_ns &&
	       (t->found || t->candidate < t->candidate_count))
		put_question(t, l, now_ns);
	/* All that listen were asked, and none is it: not again at once. */
	if (t->ask.fd < 0 && !t->found && t->candidate >= t->candidate_count &&
	    t->ask_at_ns <= now_ns)
		t->ask_at_ns = now_ns + NS_PER_S;
}

/* ---- job ----------------------------------------------------------------- */

static void
look_job(struct target *t, bool deaf, const struct proc_stat *s, uint64_t now_ns)
{
	struct vitals *v = &t->vitals;

	if (!t->told.busy) {
		v->job_quiet_ns = 0;
		t->job = 0;
		return;
	}
	if (t->told.sign || deaf || t->job != t->told.job || v->job_quiet_ns == 0) {
		t->job = t->told.job;
		v->job_quiet_ns = now_ns;
		t->job_cpu_ms = s->cpu_ms;
	}
	v->job_cpu_known = v->visible;
	v->job_cpu_ms = s->cpu_ms - t->job_cpu_ms;
}

bool
look(struct target *t, const struct health_limits *l, bool deaf, uint64_t now_ns)
{
	struct proc_stat s = { .state = '?' };
	enum health_state state;
	enum err e = look_process(t, &s);

	if (e != E_OK)
		return could_not_look(e);
	look_worker(t, deaf, now_ns);
	if (t->vitals.visible)
		look_http(t, l, now_ns);
	look_job(t, deaf, &s, now_ns);
	t->vitals.device_failures = t->told.device_failures;
	state = health_judge(&t->vitals, l, now_ns, t->why, sizeof t->why);
	if (state != t->state || t->since_ns == 0)
		t->since_ns = now_ns;
	t->state = state;
	return true;
}

void
look_end(struct target *t)
{
	ask_end(&t->ask);
}
