/*
 * life.c - start, end and stop of the command.  See run_internal.h.
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
#include "agent/supervisor/run_internal.h"

#define LAST_WORDS_MS 200

static const char *
name_of(const struct run *r)
{
	return r->o->command[0];
}

static void
finish(struct run *r, int code)
{
	r->done = true;
	r->code = code;
}

static void
start_failed(struct run *r, enum err e)
{
	log_error("command_not_started command=%s error=\"%s\"", name_of(r), err_text(e));
	finish(r, e == E_NOTFOUND ? RUN_NOT_FOUND : RUN_CANNOT);
}

void
life_start(struct run *r)
{
	char run_dir[SESSION_BYTES], data_dir[SESSION_BYTES], session[SESSION_BYTES + 32];
	char *const environment[] = { run_dir, data_dir, session,
		(char[]){ "COMFYMON_AUTOSTART=0" }, NULL };
	struct child_options o = { .command = r->o->command,
		.environment = environment,
		.group = &r->group,
		.dies_with_us = !r->o->survive };
	enum err e;

	snprintf(run_dir, sizeof run_dir, "COMFYMON_RUN_DIR=%s", r->o->run_dir);
	snprintf(data_dir, sizeof data_dir, "COMFYMON_DATA_DIR=%s", r->o->data_dir);
	snprintf(session, sizeof session, "__COMFY_CLI_SESSION__=%s", r->session);
	r->restart_ns = 0;
	r->asked = ASKED_NOTHING;
	watch_begin(r);
	output_init(&r->out);
	e = child_start(&o, &r->out, &r->child);
	if (e != E_OK) {
		start_failed(r, e);
		return;
	}
	r->started_ns = clock_mono_ns();
	r->starts++;
	r->typing = r->child.master >= 0 && isatty(STDIN_FILENO);
	if (r->starts > 1)
		log_info("started pid=%d start=%u", (int)r->child.pid, r->starts);
}

static bool
took_mark(const struct run *r)
{
	char mark[SESSION_BYTES + 16];

	snprintf(mark, sizeof mark, "%s.reboot", r->session);
	return unlink(mark) == 0;
}

static uint32_t
chance(void)
{
	uint32_t v = 0;

	if (getrandom(&v, sizeof v, GRND_NONBLOCK) != (ssize_t)sizeof v)
		v = (uint32_t)clock_mono_ns();
	return v;
}

static void
tell(const struct run *r, const struct policy_verdict *next, const char *id)
{
	const struct death *d = &r->box->death;
	char then[64];

	snprintf(then, sizeof then, next->restart ? "starts_again_in_ms=%" PRIu64 : "stays_down",
	    next->delay_ms);
	log_line(cause_is_failure(d->cause) ? LOG_ERROR : LOG_INFO, &(struct log_site){ 0 },
	    "command_ended pid=%d verdict=%s certainty=%s evidence=\"%s\" %s%s%s%s death=%s",
	    (int)r->child.pid, cause_name(d->cause), certainty_name(d->certainty),
	    d->lines > 0 ? d->text[d->lines > 1] : "", then, next->restart ? "" : " why=\"",
	    next->restart ? "" : next->why, next->restart ? "" : "\"", id);
}

void
life_ended(struct run *r, int status)
{
	uint64_t now = clock_mono_ns();
	struct blackbox *x = r->box;
	struct policy_verdict next;
	char id[96] = "none";
	enum err e;

	output_drain(&r->out, LAST_WORDS_MS);
	kill(-r->child.pid, SIGKILL); /* its children must not hold port and GPU */
	x->evidence.status = status;
	x->evidence.asked = r->asked;
	x->evidence.reboot_file = took_mark(r);
	watch_evidence(r, &x->evidence);
	death_of(&x->evidence, &x->death);
	next = policy_next(&r->policy, &(struct policy_end){ .now_ms = now / NS_PER_MS,
					   .uptime_ms = (now - r->started_ns) / NS_PER_MS,
					   .failure = cause_is_failure(x->death.cause),
					   .asked_to_stop = r->stopping,
					   .wants_restart = x->death.cause == CAUSE_MANAGER_RESTART,
					   .chance = chance() });
	x->pid = r->child.pid;
	x->time_real_ns = clock_real_ns();
	x->mono_ns = now;
	x->uptime_ms = (now - r->started_ns) / NS_PER_MS;
	x->method = r->method;
	x->method_why = r->why;
	(void)memory_of_host(&x->host_total_bytes, &x->host_available_bytes);
	x->restarted = next.restart;
	x->restart_delay_ms = next.delay_ms;
	x->restart_why = next.why;
	x->tail = &r->out.tail;
	e = blackbox_write(r->o->data_dir, x, id, sizeof id);
	if (e != E_OK)
		log_warn("black_box_not_written dir=%s error=\"%s\"", r->o->data_dir, err_text(e));
	tell(r, &next, id);
	if (r->child.master >= 0)
		close(r->child.master);
	r->child = (struct child){ .pid = 0, .master = -1 };
	r->kill_ns = 0;
	r->typing = false;
	if (next.restart)
		r->restart_ns = now + next.delay_ms * NS_PER_MS;
	else
		finish(r, x->death.signal > 0 ? 128 + x->death.signal : x->death.exit_code);
}

void
life_kill(struct run *r, enum asked why)
{
	if (why != ASKED_NOTHING)
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
	if (r->child.pid > 0)
		kill(r->child.pid, SIGINT);
	r->kill_ns = clock_mono_ns() + r->o->grace_ms * NS_PER_MS;
}

void
life_stop(struct run *r)
{
	if (r->child.pid <= 0) { /* between two lives */
		finish(r, r->box->death.signal > 0 ? 128 + r->box->death.signal
						   : r->box->death.exit_code);
		return;
	}
	if (r->stopping) {
		life_kill(r, ASKED_NOTHING);
		return;
	}
	r->stopping = true;
	r->asked = ASKED_STOP;
	r->drainer = r->o->drain_ms > 0
			 ? drain_start(drain_port(r->o->command), (uint32_t)r->o->drain_ms)
			 : -1;
	if (r->drainer <= 0)
		life_drained(r);
}
