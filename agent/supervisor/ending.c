/*
 * ending.c - the command has ended: why, what follows, and both on the disk.
 * See run_internal.h.
 *
 * First the line that the agent waits for, then the black box: what the dead one
 * leaves behind may hold its pipes open, and nobody waits for that.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/supervisor/exits.h"
#include "agent/supervisor/left.h"
#include "agent/supervisor/memory.h"
#include "agent/supervisor/run_internal.h"

#define LAST_WORDS_MS 200

static bool
took_mark(const struct run *r)
{
	char mark[SESSION_BYTES + 16];

	snprintf(mark, sizeof mark, "%s.reboot", r->session);
	return unlink(mark) == 0;
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
	    d->lines > 0 ? d->text[0] : "", then, next->restart ? "" : " why=\"",
	    next->restart ? "" : next->why, next->restart ? "" : "\"", id);
}

static struct exit_record
line_of(const struct run *r, const char *id)
{
	const struct blackbox *x = r->box;
	struct exit_record line = { .pid = (uint64_t)x->pid,
		.start_ticks = r->start_ticks,
		.time_real_ns = x->time_real_ns,
		.limit_bytes = x->evidence.limit_bytes,
		.rss_bytes = x->evidence.last_bytes,
		.peak_bytes = x->evidence.peak_bytes,
		.uptime_ms = x->uptime_ms,
		.restarted = x->restarted };

	exit_record_death(&line, &x->death);
	snprintf(line.life, sizeof line.life, "%s", r->life);
	snprintf(line.death, sizeof line.death, "%s", id);
	return line;
}

static void
drop_unsaid(struct run *r, unsigned n)
{
	r->unsaid_count -= n;
	memmove(r->unsaid, r->unsaid + n, r->unsaid_count * sizeof r->unsaid[0]);
}

void
life_say_again(struct run *r)
{
	unsigned n = 0;

	while (n < r->unsaid_count && dir_prepare(r->o->data_dir) == E_OK &&
	       exits_append(r->o->data_dir, &r->unsaid[n]) == E_OK)
		n++;
	if (n == 0)
		return;
	drop_unsaid(r, n);
	log_info("exits_written lines=%u waiting=%u", n, r->unsaid_count);
}

/* The line that the agent waits for, behind those that wait for the disk. */
static void
append_line(struct run *r, const char *id)
{
	struct exit_record line = line_of(r, id);
	enum err e;

	life_say_again(r);
	e = dir_prepare(r->o->data_dir); /* somebody may have removed it */
	if (e == E_OK)
		e = r->unsaid_count > 0 ? E_FULL : exits_append(r->o->data_dir, &line);
	if (e == E_OK)
		return;
	if (r->unsaid_count == UNSAID_ENDS) {
		log_error("exit_lost life=%s", r->unsaid[0].life);
		drop_unsaid(r, 1);
	}
	r->unsaid[r->unsaid_count++] = line;
	log_error("exit_not_written dir=%s error=\"%s\" kept=%u", r->o->data_dir, err_text(e),
	    r->unsaid_count);
}

/* It ended in order to be started again. */
static bool
wants_restart(const struct run *r, enum cause c)
{
	return c == CAUSE_MANAGER_RESTART ||
	       (c == CAUSE_LIMIT_SOFT && r->o->restart != RESTART_NEVER);
}

/* From what is known at this moment: the verdict, and what follows from it. */
static struct policy_verdict
judge(struct run *r, int status, uint64_t now)
{
	struct blackbox *x = r->box;
	struct policy_verdict next;

	x->evidence.status = status;
	x->evidence.asked = r->asked;
	x->evidence.reboot_file = took_mark(r);
	x->evidence.port = r->listen.port;
	x->evidence.port_taken = r->port_taken;
	x->evidence.listened = r->listened;
	x->evidence.uptime_ms = (now - r->started_ns) / NS_PER_MS;
	watch_evidence(r, &x->evidence);
	death_of(&x->evidence, &x->death);
	next = policy_next(&r->policy, &(struct policy_end){ .now_ms = now / NS_PER_MS,
					   .uptime_ms = (now - r->started_ns) / NS_PER_MS,
					   .failure = cause_is_failure(x->death.cause),
					   .asked_to_stop = r->stopping,
					   .wants_restart = wants_restart(r, x->death.cause),
					   .chance = life_chance() });
	x->pid = r->child.pid;
	x->life = r->life;
	x->time_real_ns = clock_real_ns();
	x->mono_ns = now;
	x->uptime_ms = (now - r->started_ns) / NS_PER_MS;
	x->method = r->method;
	x->method_why = r->why;
	x->restarted = next.restart;
	x->restart_delay_ms = next.delay_ms;
	x->restart_why = next.why;
	x->tail = &r->out.tail;
	return next;
}

/* For those who ask about the parent. */
static void
say_end(struct run *r, const char *id)
{
	const struct blackbox *x = r->box;

	snprintf(r->said.verdict, sizeof r->said.verdict, "%s", cause_name(x->death.cause));
	snprintf(
	    r->said.certainty, sizeof r->said.certainty, "%s", certainty_name(x->death.certainty));
	snprintf(r->said.death, sizeof r->said.death, "%s", id);
	r->said.ended_real_ns = x->time_real_ns;
}

void
life_ended(struct run *r, int status)
{
	uint64_t now = clock_mono_ns();
	struct blackbox *x = r->box;
	struct policy_verdict next;
	char id[96];
	enum err e;

	output_take_left(&r->out);
	next = judge(r, status, now);
	blackbox_id(x, id, sizeof id);
	append_line(r, id);
	left_kill(r->life); /* who has left its group, too */
	output_drain(&r->out, LAST_WORDS_MS);
	(void)memory_of_host(&x->host_total_bytes, &x->host_available_bytes);
	e = blackbox_write(r->o->data_dir, x, id);
	if (e != E_OK)
		log_warn("black_box_not_written dir=%s error=\"%s\"", r->o->data_dir, err_text(e));
	tell(r, &next, id);
	life_ignore_order(r); /* it came too late */
	say_end(r, id);
	if (r->child.master >= 0)
		close(r->child.master);
	r->child = (struct child){ .pid = 0, .master = -1 };
	r->kill_ns = 0;
	r->typing = false;
	if (r->relief > 0) /* it would ask the next one */
		kill(r->relief, SIGKILL);
	said_write(r);
	r->code = x->death.signal > 0 ? 128 + x->death.signal : x->death.exit_code;
	if (next.restart)
		r->restart_ns = now + next.delay_ms * NS_PER_MS;
	else
		life_finish(r, r->code);
}
