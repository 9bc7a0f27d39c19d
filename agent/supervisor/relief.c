/*
 * relief.c - above the soft limit: carries out what soft.h says, by helpers that
 * ask ComfyUI.  See run_internal.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/supervisor/order.h"
#include "agent/supervisor/run_internal.h"

#define ASK_MS   10000
#define WAIT_MS  (10 * 60 * 1000) /* for one job, then again */
#define STALL_NS (30 * NS_PER_S)  /* of full stall: memory.high holds it for ever */
#define MB       (UINT64_C(1) << 20)

static bool
is_over(const struct run *r)
{
	return r->stalled || (r->o->soft_bytes > 0 && r->held_bytes > r->o->soft_bytes);
}

static void
helper(struct run *r, enum drain_task task, uint32_t max_ms)
{
	r->relief_life = r->starts;
	r->relief = drain_start(&r->listen, task, max_ms);
	if (r->relief < 0) {
		r->relief = 0;
		(void)soft_answer(&r->soft, DRAIN_SILENT, true, clock_mono_ns() / NS_PER_MS);
	}
}

static void
restart(struct run *r)
{
	struct order order = { .why = ORDER_SOFT_LIMIT };

	if (r->stalled)
		snprintf(order.detail, sizeof order.detail,
		    "memory.high stalled it for 30 s; ended between two jobs");
	else
		snprintf(order.detail, sizeof order.detail,
		    "%" PRIu64 " MiB of %" PRIu64 " MiB held after /free; ended between two jobs%s",
		    r->held_bytes / MB, r->o->soft_bytes / MB,
		    r->soft.never_idle ? ", since it was never idle" : "");
	life_obey(r, &order);
}

static void
act(struct run *r, enum soft_act what)
{
	bool job;

	switch (what) {
	case SOFT_NOTHING:
		return;
	case SOFT_FREE:
	case SOFT_FREE_NEXT:
		helper(r, what == SOFT_FREE ? DRAIN_FREE : DRAIN_FREE_NEXT, ASK_MS);
		return;
	case SOFT_DRAIN:
	case SOFT_DRAIN_JOB:
		job = r->o->resubmit || what == SOFT_DRAIN_JOB;
		log_warn("soft_limit_drain held_mb=%" PRIu64 " limit_mb=%" PRIu64 " until=%s",
		    r->held_bytes / MB, r->o->soft_bytes / MB, job ? "job" : "idle");
		helper(r, job ? DRAIN_JOB : DRAIN_IDLE, job ? WAIT_MS : r->o->soft_wait_ms);
		return;
	case SOFT_RESTART:
		restart(r);
		return;
	}
}

/* Part of the time since the last look that every task of the group stood still for memory. */
static void
look_at_stall(struct run *r, uint64_t now_ns)
{
	uint64_t total_us, passed = now_ns - r->stall_seen_ns;

	if (r->o->high_bytes == 0 || cgroup_full_stall(&r->group, &total_us) != E_OK)
		return;
	if (r->stall_seen_ns != 0 && (total_us - r->stall_us) * 1000 >= passed / 10 * 9)
		r->stall_ns += passed;
	else
		r->stall_ns = 0;
	r->stall_us = total_us;
	r->stall_seen_ns = now_ns;
	if (r->stall_ns < STALL_NS || r->stalled)
		return;
	r->stalled = true;
	/* Nothing can be asked of who stands still. */
	if (cgroup_set_high(&r->group, 0) != E_OK)
		log_error("memory_high_not_lifted");
	log_warn("memory_high_stalls pid=%d seconds=30 lifted=1", (int)r->child.pid);
}

void
relief_set_high(struct run *r)
{
	enum err e = r->o->high_bytes > 0 ? cgroup_set_high(&r->group, r->o->high_bytes) : E_OK;

	if (e != E_OK)
		log_warn("memory_high_not_set method=%s error=\"%s\"", r->method, err_text(e));
}

void
relief_begin(struct run *r)
{
	soft_begin(&r->soft);
	r->held_bytes = r->stall_ns = r->stall_seen_ns = 0;
	if (r->stalled)
		relief_set_high(r);
	r->stalled = false;
}

void
relief_look(struct run *r, uint64_t now_ns)
{
	enum soft_state before;

	if (r->asked != ASKED_NOTHING)
		return;
	look_at_stall(r, now_ns);
	before = r->soft.state;
	act(r, soft_look(&r->soft, is_over(r), now_ns / NS_PER_MS));
	if (r->soft.state != before)
		said_write(r);
}

void
relief_answered(struct run *r, int status)
{
	enum drain_answer answer = drain_answer(status);
	enum soft_state before = r->soft.state;
	enum soft_act next;

	r->relief = 0;
	if (r->child.pid <= 0 || r->asked != ASKED_NOTHING || r->relief_life != r->starts)
		return;
	next = soft_answer(&r->soft, answer, is_over(r), clock_mono_ns() / NS_PER_MS);
	if (before == SOFT_FREEING && answer == DRAIN_DONE)
		log_warn("soft_limit_freed held_mb=%" PRIu64 " limit_mb=%" PRIu64 " times=%" PRIu32,
		    r->held_bytes / MB, r->o->soft_bytes / MB, r->soft.frees);
	act(r, next);
	said_write(r);
}
