/*
 * said.c - what we say of ourselves, from what we are.  See run_internal.h.
 */
#include <stdio.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/supervisor/notify.h"
#include "agent/supervisor/run_internal.h"

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static void
fill(struct run *r)
{
	struct supervised *s = &r->said;

	COPY(s->state, r->stopping ? "stopping" : r->child.pid > 0 ? "running" : "waiting");
	COPY(s->life, r->life);
	s->command_pid = (uint64_t)r->child.pid;
	s->command_ticks = r->start_ticks;
	s->starts = r->starts;
	COPY(s->method, r->method);
	COPY(s->why, r->why);
	s->limit_bytes = r->o->limit_bytes;
	s->soft_bytes = r->o->soft_bytes;
	s->high_bytes = r->o->high_bytes;
	COPY(s->soft_state, soft_state_name(r->soft.state));
	s->soft_frees = r->soft.frees;
	s->soft_restarts = r->soft.restarts;
	s->survive = r->o->survive;
}

void
said_open(struct run *r)
{
	r->said_fd = -1;
	(void)state_sweep(r->o->run_dir, r->o->data_dir);
	fill(r);
	said_keep(r);
}

/* Without it nothing but the status is poorer, and a death of ours is not noticed. */
void
said_keep(struct run *r)
{
	enum err e;

	if (r->said_fd >= 0 && state_has_name(r->o->run_dir, r->said_fd))
		return;
	if (r->said_fd >= 0)
		close(r->said_fd);
	r->said_fd = -1;
	e = dir_prepare(r->o->run_dir);
	if (e == E_OK)
		e = state_open(r->o->run_dir, &r->said, &r->said_fd);
	if (e != E_OK && !r->said_failed)
		log_warn("state_not_written dir=%s error=\"%s\"", r->o->run_dir, err_text(e));
	r->said_failed = e != E_OK;
}

/* The service manager's line of status; ready from the first start on. */
static void
tell_manager(struct run *r)
{
	const struct supervised *s = &r->said;
	char text[400];
	enum err e;

	snprintf(text, sizeof text, "%sSTATUS=%s, start %u, memory limit by %s%s%s\n",
	    r->stopping     ? "STOPPING=1\n"
	    : r->starts > 0 ? "READY=1\n"
			    : "",
	    s->state, r->starts, r->method, s->verdict[0] != '\0' ? "; last end " : "", s->verdict);
	e = notify_say(r->o->notify, text);
	if (e != E_OK && !r->notify_failed)
		log_warn(
		    "service_manager_not_told socket=%s error=\"%s\"", r->o->notify, err_text(e));
	r->notify_failed = e != E_OK;
}

void
said_write(struct run *r)
{
	enum err e;

	fill(r);
	tell_manager(r);
	said_keep(r);
	if (r->said_fd < 0)
		return;
	e = state_write(r->said_fd, &r->said);
	if (e != E_OK)
		log_warn("state_not_written dir=%s error=\"%s\"", r->o->run_dir, err_text(e));
}

void
said_close(struct run *r)
{
	state_close(r->o->run_dir, r->said_fd);
	r->said_fd = -1;
}
