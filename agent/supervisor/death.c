/*
 * death.c - from evidence to a verdict.  Pure.
 */
#include "agent/supervisor/death.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static const char *const names[CAUSE_COUNT] = {
	[CAUSE_OOM_CGROUP] = "oom_cgroup",
	[CAUSE_OOM_KERNEL] = "oom_kernel",
	[CAUSE_LIMIT_WATCH] = "limit_watch",
	[CAUSE_KILLED] = "killed",
	[CAUSE_CRASH_SEGV] = "crash_segv",
	[CAUSE_CRASH_ABORT] = "crash_abort",
	[CAUSE_EXIT_ERROR] = "exit_error",
	[CAUSE_EXIT_CLEAN] = "exit_clean",
	[CAUSE_PORT_IN_USE] = "port_in_use",
	[CAUSE_MANAGER_RESTART] = "manager_restart",
	[CAUSE_STOPPED] = "stopped",
	[CAUSE_ZOMBIE] = "zombie",
	[CAUSE_HANG] = "hang",
	[CAUSE_CUDA_POISONED] = "cuda_poisoned",
	[CAUSE_LIMIT_SOFT] = "limit_soft",
	[CAUSE_LOST] = "lost",
};

#define START_MS \
	600000u /* whom we have not seen to listen for longer has a port that we do not know */

static const char *const degrees[] = { "certain", "likely", "unsure" };

static void say(struct death *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
say(struct death *d, const char *format, ...)
{
	va_list ap;

	if (d->lines == DEATH_LINES)
		return;
	va_start(ap, format);
	vsnprintf(d->text[d->lines++], DEATH_LINE_BYTES, format, ap);
	va_end(ap);
}

static void
decide(struct death *d, enum cause v, enum certainty c)
{
	d->cause = v;
	d->certainty = c;
}

/* "21.2 GiB", "512 MiB": as every other view says it. */
struct amount {
	char text[32];
};

static struct amount
amount(uint64_t bytes)
{
	const double mib = (double)bytes / (1024 * 1024);
	struct amount a;

	if (mib < 1024)
		snprintf(a.text, sizeof a.text, "%.0f MiB", mib);
	else
		snprintf(a.text, sizeof a.text, "%.1f GiB", mib / 1024);
	return a;
}

static void
say_memory(struct death *d, const struct evidence *e)
{
	if (e->limit_bytes > 0)
		say(d, "memory limit %s, last seen %s, peak %s", amount(e->limit_bytes).text,
		    amount(e->last_bytes).text, amount(e->peak_bytes).text);
	else if (e->last_bytes > 0)
		say(d, "memory last seen %s, peak %s", amount(e->last_bytes).text,
		    amount(e->peak_bytes).text);
}

/* The counter of its own cgroup counts whoever of it is killed, for whose limit ever. */
static void
in_its_cgroup(struct death *d, const struct evidence *e)
{
	char when[64] = "";

	if (e->oom_age_ms > 0) /* of somebody else in it, perhaps */
		snprintf(
		    when, sizeof when, ", %.0f s before its end", (double)e->oom_age_ms / 1000);
	say(d, "the oom_kill counter of its cgroup rose by %" PRIu64 "%s%s", e->cgroup_oom_kills,
	    when, e->limit_not_reached ? "; its own limit was not reached" : "");
	if (e->limit_not_reached && !e->outer_limit_reached) {
		say(d, "no limit around it was reached either: the host had no memory");
		decide(d, CAUSE_OOM_KERNEL, LIKELY);
		return;
	}
	if (e->limit_not_reached)
		say(d, "the limit of the cgroup around it was");
	decide(d, CAUSE_OOM_CGROUP, e->oom_age_ms > 0 || e->limit_not_reached ? LIKELY : CERTAIN);
}

/* Does the kernel say that it was killed for memory? */
static bool
out_of_memory(struct death *d, const struct evidence *e)
{
	if (e->log == OOM_LOG_HOST) {
		say(d, "the kernel's log says that the OOM killer killed this pid");
		decide(d, CAUSE_OOM_KERNEL, CERTAIN);
	} else if (e->log == OOM_LOG_CGROUP) {
		say(d,
		    "the kernel's log says that the OOM killer killed this pid for the limit of a "
		    "cgroup");
		if (e->has_cgroup && e->limit_not_reached)
			say(d, "not its own: that was not reached");
		decide(d, CAUSE_OOM_CGROUP, CERTAIN);
	} else if (e->cgroup_oom_kills > 0) {
		in_its_cgroup(d, e);
	} else if (e->outer_oom_kills > 0) {
		say(d, "the oom_kill counter of the cgroup around us rose by %" PRIu64,
		    e->outer_oom_kills);
		decide(d, CAUSE_OOM_CGROUP, LIKELY);
	} else if (e->host_oom_kills > 0 && !e->has_cgroup) {
		/* With a cgroup the other was not ours. */
		say(d,
		    "the host's oom_kill counter rose by %" PRIu64
		    ", the log does not name the pid",
		    e->host_oom_kills);
		decide(d, CAUSE_OOM_KERNEL, LIKELY);
	} else {
		return false;
	}
	return true;
}

static void
say_signal(struct death *d)
{
	say(d, "ended by signal %d (SIG%s)", d->signal, sigabbrev_np(d->signal));
}

static void
killed(struct death *d, const struct evidence *e)
{
	if (e->asked == ASKED_LIMIT) {
		say(d, "we killed it: when we looked, its memory was %s over the limit",
		    amount(e->last_bytes > e->limit_bytes ? e->last_bytes - e->limit_bytes : 0)
			.text);
		decide(d, CAUSE_LIMIT_WATCH, CERTAIN);
	} else if (!out_of_memory(d, e)) {
		say(d, "somebody else killed it: no OOM counter rose");
		decide(d, CAUSE_KILLED, e->has_cgroup ? CERTAIN : LIKELY);
	}
	say_signal(d);
	say_memory(d, e);
}

static void
by_signal(struct death *d, const struct evidence *e)
{
	switch (d->signal) {
	case SIGKILL:
		killed(d, e);
		return;
	case SIGSEGV:
	case SIGBUS:
	case SIGILL:
	case SIGFPE:
		decide(d, CAUSE_CRASH_SEGV, CERTAIN);
		break;
	case SIGABRT:
		decide(d, CAUSE_CRASH_ABORT, CERTAIN);
		break;
	default:
		decide(d, CAUSE_KILLED, CERTAIN);
		break;
	}
	say_signal(d);
	say_memory(d, e);
}

static void
by_exit(struct death *d, const struct evidence *e)
{
	if (d->exit_code == 128 + SIGKILL && out_of_memory(d, e)) {
		say(d, "exit code 137: a child of it was killed, and it passed that on");
		say_memory(d, e);
		return;
	}
	if (e->reboot_file) {
		say(d, "it left the mark by which ComfyUI-Manager asks for a restart");
		decide(d, CAUSE_MANAGER_RESTART, CERTAIN);
	} else if (d->exit_code == 0) {
		decide(d, CAUSE_EXIT_CLEAN, CERTAIN);
	} else if (e->port_line && !e->listened) {
		say(d, "its last lines say that the address is in use");
		if (e->port_taken)
			say(d, "somebody else listened on port %u before it began", e->port);
		decide(d, CAUSE_PORT_IN_USE, e->port_taken ? CERTAIN : LIKELY);
	} else {
		decide(d, CAUSE_EXIT_ERROR, CERTAIN);
	}
	say(d, "exit code %d", d->exit_code);
}

/* Nobody could use it yet, as far as we have seen; who listens in its place hides that. */
static void
say_start(struct death *d, const struct evidence *e)
{
	if (e->port != 0 && !e->listened && cause_is_failure(d->cause) && e->uptime_ms < START_MS &&
	    (!e->port_taken || d->cause == CAUSE_PORT_IN_USE))
		say(d, "%.1f s after its start; it was not seen to listen on port %u by then",
		    (double)e->uptime_ms / 1000, e->port);
}

/* We ended it on purpose: how it took that is no verdict. */
static void
on_purpose(struct death *d, const struct evidence *e)
{
	if (e->asked == ASKED_STOP) {
		say(d, "it was told to stop");
		decide(d, CAUSE_STOPPED, CERTAIN);
	} else {
		say(d, "%s", e->order_text);
		decide(d, e->order, CERTAIN);
	}
	/* ComfyUI aborts when SIGINT meets torch at work: still our stop, no crash. */
	if (d->signal > 0)
		say(d, "we ended it: signal %d (SIG%s)", d->signal, sigabbrev_np(d->signal));
	else
		say(d, "we ended it: exit code %d", d->exit_code);
	if (e->asked == ASKED_ORDER)
		say_memory(d, e);
}

void
death_of(const struct evidence *e, struct death *d)
{
	memset(d, 0, sizeof *d);
	d->signal = WIFSIGNALED(e->status) ? WTERMSIG(e->status) : -1;
	d->exit_code = WIFEXITED(e->status) ? WEXITSTATUS(e->status) : -1;
	if (e->asked == ASKED_STOP || e->asked == ASKED_ORDER) {
		on_purpose(d, e);
	} else if (d->signal > 0) {
		by_signal(d, e);
	} else {
		by_exit(d, e);
	}
	say_start(d, e);
}

void
death_unseen(uint64_t supervisor_pid, struct death *d)
{
	memset(d, 0, sizeof *d);
	d->signal = d->exit_code = -1;
	decide(d, CAUSE_LOST, UNSURE);
	say(d, "its supervisor, pid %" PRIu64 ", had gone before it ended: nobody saw how",
	    supervisor_pid);
}

const char *
cause_name(enum cause v)
{
	return (unsigned)v < CAUSE_COUNT ? names[v] : "unknown";
}

bool
cause_from_name(const char *name, enum cause *out)
{
	for (unsigned i = 0; i < CAUSE_COUNT; i++)
		if (strcmp(names[i], name) == 0) {
			*out = (enum cause)i;
			return true;
		}
	return false;
}

const char *
certainty_name(enum certainty c)
{
	return degrees[(unsigned)c <= UNSURE ? c : UNSURE];
}

bool
certainty_from_name(const char *name, enum certainty *out)
{
	for (unsigned i = 0; i <= UNSURE; i++)
		if (strcmp(degrees[i], name) == 0) {
			*out = (enum certainty)i;
			return true;
		}
	return false;
}

bool
cause_is_failure(enum cause v)
{
	return v != CAUSE_EXIT_CLEAN && v != CAUSE_STOPPED && v != CAUSE_MANAGER_RESTART &&
	       v != CAUSE_LIMIT_SOFT;
}
