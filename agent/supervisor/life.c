/*
 * life.c - start and stop of the command.  See run_internal.h.
 *
 * The order of a stop: ComfyUI is asked to interrupt its job, then SIGINT, then
 * SIGKILL when its patience has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/supervisor/drain.h"
#include "agent/supervisor/memory.h"
#include "agent/supervisor/order.h"
#include "agent/supervisor/port.h"
#include "agent/supervisor/run_internal.h"

#define SAME_STOP_NS (500 * NS_PER_MS)

static const char *
name_of(const struct run *r)
{
	return r->o->command[0];
}

void
life_finish(struct run *r, int code)
{
	r->done = true;
	r->code = code;
}

/* What passes by itself does not end a supervision that has begun: no process or memory to be had
 * now. */
static bool
will_pass(enum err e)
{
	return e == E_NOMEM || e == E_FULL || e == E_BUSY;
}

static void
start_failed(struct run *r, enum err e)
{
	if (r->starts > 0 && will_pass(e)) {
		log_warn("command_not_started command=%s error=\"%s\" again_in_ms=%u", name_of(r),
		    err_text(e), POLICY_DELAY_MIN_MS);
		r->restart_ns = clock_mono_ns() + POLICY_DELAY_MIN_MS * NS_PER_MS;
		return;
	}
	log_error("command_not_started command=%s error=\"%s\"", name_of(r), err_text(e));
	life_finish(r, e == E_NOTFOUND ? RUN_NOT_FOUND : RUN_CANNOT);
}

uint32_t
life_chance(void)
{
	uint32_t v = 0;

	if (getrandom(&v, sizeof v, GRND_NONBLOCK) != (ssize_t)sizeof v)
		v = (uint32_t)clock_mono_ns();
	return v;
}

void
life_start(struct run *r)
{
	char run_dir[SESSION_BYTES], data_dir[SESSION_BYTES], session[SESSION_BYTES + 32];
	char life[LIFE_BYTES + 16];
	/* The configuration file may have asked for it too. */
	char resubmit[] = "COMFYMON_RESUBMIT=1";
	char *const environment[] = { run_dir, data_dir, session, life,
		(char[]){ "COMFYMON_AUTOSTART=0" }, r->o->resubmit ? resubmit : NULL, NULL };
	struct child_options o = { .command = r->o->command,
		.environment = environment,
		.group = &r->group,
		.dies_with_us = !r->o->survive };
	enum err e;

	snprintf(run_dir, sizeof run_dir, "COMFYMON_RUN_DIR=%s", r->o->run_dir);
	snprintf(data_dir, sizeof data_dir, "COMFYMON_DATA_DIR=%s", r->o->data_dir);
	snprintf(session, sizeof session, "__COMFY_CLI_SESSION__=%s", r->session);
	if (r->chance == 0)
		r->chance = life_chance() | 1;
	snprintf(
	    r->life, sizeof r->life, "%d-%u-%08" PRIx32, (int)getpid(), r->starts + 1, r->chance);
	snprintf(life, sizeof life, "COMFYMON_LIFE=%s", r->life);
	r->restart_ns = 0;
	r->asked = ASKED_NOTHING;
	r->port_taken = port_listens(r->listen.port);
	r->listened = false;
	watch_begin(r);
	output_init(&r->out);
	e = child_start(&o, &r->out, &r->child);
	if (e != E_OK) {
		start_failed(r, e);
		return;
	}
	r->started_ns = clock_mono_ns();
	r->start_ticks = process_start_ticks(r->child.pid);
	r->starts++;
	r->said.started_real_ns = clock_real_ns();
	said_write(r);
	r->typing = r->child.master >= 0 && isatty(STDIN_FILENO);
	log_info("started pid=%d start=%u life=%s memory_limit_mb=%" PRIu64 " by=%s",
	    (int)r->child.pid, r->starts, r->life, r->o->limit_bytes >> 20, r->method);
}

void
life_kill(struct run *r, enum asked why)
{
	if (r->asked == ASKED_NOTHING)
		r->asked = why;
	r->kill_ns = 0;
	if (r->child.pid > 0) {
		kill(-r->child.pid, SIGKILL);
		kill(r->child.pid, SIGKILL);
	}
}

void
life_drained(struct run *r)
{
	r->drainer = 0;
	if (r->child.pid > 0) /* as Ctrl-C does: a shell around it would keep it to itself */
		kill(-r->child.pid, SIGINT);
	r->kill_ns = clock_mono_ns() + r->o->grace_ms * NS_PER_MS;
}

/* The same stop may come twice: timeout(1) signals its child and then its group; a terminal that
 * hangs up by the kernel and by the shell, systemd with SendSIGHUP. */
static bool
insists(const struct run *r, int signal)
{
	return signal != SIGHUP && clock_mono_ns() - r->stop_ns >= SAME_STOP_NS;
}

void
life_stop(struct run *r, int signal)
{
	if (r->child.pid <= 0) { /* between two lives */
		life_finish(r, r->code);
		return;
	}
	if (r->stopping) {
		if (insists(r, signal))
			life_kill(r, ASKED_NOTHING);
		return;
	}
	r->stopping = true;
	r->stop_ns = clock_mono_ns();
	said_write(r);
	if (r->asked == ASKED_ORDER) /* it is on its way out already */
		return;
	r->asked = ASKED_STOP;
	r->drainer = r->o->drain_ms > 0
			 ? drain_start(&r->listen, DRAIN_INTERRUPT, (uint32_t)r->o->drain_ms)
			 : -1;
	if (r->drainer <= 0)
		life_drained(r);
}

/* An interrupt was tried by who asks, or is no use. */
void
life_obey(struct run *r, const struct order *order)
{
	struct evidence *e = &r->box->evidence;

	r->asked = ASKED_ORDER;
	e->order = order_cause(order->why);
	snprintf(e->order_text, sizeof e->order_text, "%s: %s", order_why_name(order->why),
	    order->detail);
	log_warn("restart_ordered pid=%d life=%s why=%s detail=\"%s\"", (int)r->child.pid, r->life,
	    order_why_name(order->why), order->detail);
	life_drained(r);
}

void
life_ignore_order(struct run *r)
{
	struct order order;

	if (order_take(r->o->run_dir, r->life, &order) == E_OK)
		log_info("order_ignored life=%s why=%s", r->life, order_why_name(order.why));
}

void
life_look_for_order(struct run *r)
{
	struct order order;
	enum err e = order_take(r->o->run_dir, r->life, &order);

	if (e == E_OK && r->asked == ASKED_NOTHING)
		life_obey(r, &order);
	else if (e != E_OK && e != E_NOTFOUND && !r->order_refused)
		log_warn("order_refused life=%s error=\"%s\"", r->life, err_text(e));
	r->order_refused |= e != E_OK && e != E_NOTFOUND;
}
