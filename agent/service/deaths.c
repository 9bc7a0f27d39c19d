/*
 * deaths.c - what the supervisor wrote about the end of a probe's process, for
 * the reader of its ring and for the journal.  Pipeline's thread; reads a file
 * of at most a few hundred kilobytes, only when a process has died.
 *
 * A ring says that its process is dead before the supervisor knows: its line
 * follows within milliseconds.  So a supervised ring is left alone for a
 * moment, until the line is there or the supervisor has gone as well.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/service/pipeline.h"
#include "agent/supervisor/exits.h"
#include "agent/supervisor/state.h"

#define TASK_EXITING 0x4u /* PF_EXITING, include/linux/sched.h */
#define PATIENCE_NS                                                                  \
	(2 * NS_PER_S) /* for the supervisor's line, from when a ring was first seen \
			*/

bool
deaths_life(const struct probe_row *row, char *life, size_t cap)
{
	return wire_attr_find(row->attrs, row->attrs_bytes, "life", life, cap) && life[0] != '\0';
}

/* It says so itself; where it could not (a full run directory): a life begins with its pid. */
static bool
supervisor_lives(const char *run_dir, const char *life)
{
	enum state_of is = state_of(run_dir, life);
	char *end;
	long pid = strtol(life, &end, 10);

	if (is != STATE_NONE)
		return is == STATE_LIVES;
	return end != life && *end == '-' && pid > 1 &&
	       (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/*
 * The same process goes on under the same pid: it has replaced its program.  One
 * that is dying lets go of its lock before it is a corpse; its flags tell.
 */
static bool
was_exec(const struct probe_row *row)
{
	char path[64], text[512], *at;
	unsigned long long ticks = 0;
	unsigned flags = 0;
	char state = 0;
	FILE *f;
	size_t n;

	snprintf(path, sizeof path, "/proc/%llu/stat", (unsigned long long)row->pid);
	if (row->pid == 0 || (f = fopen(path, "re")) == NULL)
		return false;
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = '\0';
	at = strrchr(text, ')'); /* a name may hold anything */
	if (at == NULL ||
	    sscanf(at + 1,
		" %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		&state, &flags, &ticks) != 3)
		return false;
	return (flags & TASK_EXITING) == 0 && state != 'Z' && state != 'X' &&
	       ticks == row->start_ticks;
}

static int
signal_of(const struct exit_record *r, uint64_t pid)
{
	if (r->signal > 0)
		return r->signal;
	/* A shell or another wrapper passes on what became of its child. */
	return r->pid != pid && r->exit_code > 128 && r->exit_code < 128 + 65 ? r->exit_code - 128
									      : 0;
}

/* The supervisor ended before it could write the line: it is written in its place. */
static bool
was_lost(struct pipeline *p, const char *life, struct exit_record *r)
{
	return !supervisor_lives(p->run_dir, life) && state_sweep(p->run_dir, p->data_dir) > 0 &&
	       exits_find(p->data_dir, life, r) == E_OK;
}

bool
deaths_wait(struct pipeline *p, const struct probe_row *row, struct salvage_evidence *out)
{
	struct exit_record r;
	char life[64];
	uint64_t now = clock_mono_ns();

	memset(out, 0, sizeof *out);
	if (was_exec(row)) {
		out->exited = true;
		return false;
	}
	if (!deaths_life(row, life, sizeof life))
		return false;
	if (exits_find(p->data_dir, life, &r) == E_OK || was_lost(p, life, &r)) {
		out->oom = r.cause == CAUSE_OOM_CGROUP || r.cause == CAUSE_OOM_KERNEL ||
			   r.cause == CAUSE_LIMIT_WATCH;
		out->signal = signal_of(&r, row->pid);
		out->exited = out->signal == 0;
		return false;
	}
	if (!supervisor_lives(p->run_dir, life))
		return false;
	if (p->patience_ns == 0)
		p->patience_ns = now + PATIENCE_NS;
	if (now < p->patience_ns)
		return true;
	log_warn("supervisor_silent life=%s", life);
	return false;
}

void
deaths_ask(void *ctx, int64_t probe, struct journal_death *out)
{
	struct pipeline *p = ctx;
	struct probe_row row;
	struct exit_record r;
	char life[64];

	out->known = false;
	if (p->store->ops->probe_by_row(p->store, probe, &row) != E_OK ||
	    !deaths_life(&row, life, sizeof life) || was_exec(&row) ||
	    exits_find(p->data_dir, life, &r) != E_OK)
		return;
	out->known = true;
	snprintf(out->reason, sizeof out->reason, "%s", cause_name(r.cause));
	snprintf(out->certainty, sizeof out->certainty, "%s", certainty_name(r.certainty));
	snprintf(out->id, sizeof out->id, "%.95s", r.death);
	out->signal = signal_of(&r, row.pid);
	out->at_real_ns = r.time_real_ns;
	out->peak_bytes = r.peak_bytes;
}
