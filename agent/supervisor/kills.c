/*
 * kills.c - see kills.h.
 */
#include "agent/supervisor/kills.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/supervisor/memory.h"

#define INITIAL_PID_NS 0xEFFFFFFCu /* PROC_PID_INIT_INO, include/linux/proc_ns.h */

void
rise_begin(struct rise *c, uint64_t value)
{
	*c = (struct rise){ .seen = value };
}

void
rise_look(struct rise *c, uint64_t value, uint64_t now_ns)
{
	if (now_ns - c->recent_ns > KILLS_RECENT_NS)
		c->recent = 0;
	if (value > c->seen) {
		c->recent += value - c->seen;
		c->recent_ns = now_ns;
	}
	c->seen = value;
}

uint64_t
rise_end(const struct rise *c, uint64_t value, uint64_t now_ns, uint64_t *age_ms)
{
	uint64_t last = value > c->seen ? value - c->seen : 0, age = now_ns - c->recent_ns;

	*age_ms = last > 0 || c->recent == 0 ? 0 : age / NS_PER_MS;
	return last + (c->recent > 0 && age <= KILLS_RECENT_NS ? c->recent : 0);
}

/* The log speaks of pids as the host sees them. */
static bool
are_ours_the_hosts(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == INITIAL_PID_NS;
}

void
kills_open(struct kills *k)
{
	cgroup_here(&k->outer);
	k->log = are_ours_the_hosts() ? open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (k->log >= 0)
		(void)lseek(k->log, 0, SEEK_END);
}

void
kills_close(struct kills *k)
{
	if (k->log >= 0)
		close(k->log);
	k->log = -1;
}

void
kills_begin(struct kills *k, const struct cgroup *g)
{
	struct cgroup_counts own, around = cgroup_counts(&k->outer);

	cgroup_begin(g);
	own = cgroup_counts(g);
	rise_begin(&k->own, own.oom_kills);
	rise_begin(&k->around, around.oom_kills);
	rise_begin(&k->host, memory_host_oom_kills());
	k->own_hits = own.limit_hits;
	k->around_hits = around.limit_hits;
}

/* Of those around it nothing is asked where its own group answers. */
void
kills_look(struct kills *k, const struct cgroup *g, uint64_t now_ns)
{
	struct cgroup_counts own = cgroup_counts(g);

	rise_look(&k->own, own.oom_kills, now_ns);
	if (own.known)
		return;
	rise_look(&k->around, cgroup_counts(&k->outer).oom_kills, now_ns);
	rise_look(&k->host, memory_host_oom_kills(), now_ns);
}

/* "Killed process PID (" in what the kernel has logged since we last looked. */
static enum oom_log
log_of(int fd, pid_t pid)
{
	enum oom_log says = OOM_LOG_SILENT;
	char record[8192], wanted[64];
	ssize_t n;

	snprintf(wanted, sizeof wanted, "Killed process %d (", (int)pid);
	while (fd >= 0 && ((n = read(fd, record, sizeof record - 1)) > 0 || errno == EPIPE)) {
		if (n <= 0) /* records that we were too slow for */
			continue;
		record[n] = '\0';
		if (strstr(record, wanted) != NULL)
			says = strstr(record, "Memory cgroup out of memory") != NULL
				   ? OOM_LOG_CGROUP
				   : OOM_LOG_HOST;
	}
	return says;
}

void
kills_evidence(
    struct kills *k, const struct cgroup *g, pid_t pid, uint64_t now_ns, struct evidence *e)
{
	struct cgroup_counts own = cgroup_counts(g), around = cgroup_counts(&k->outer);
	uint64_t hits = own.limit_hits - k->own_hits, age_ms;

	e->has_cgroup = own.known;
	e->limit_not_reached = own.known && hits == 0;
	/* In version 2 a group counts what happens in those below it too. */
	e->outer_limit_reached =
	    around.limit_hits - k->around_hits > (g->version == 2 ? hits : 0) ||
	    (g->version == 1 && around.limit_hits > 0);
	if (!own.known) {
		e->outer_oom_kills = rise_end(&k->around, around.oom_kills, now_ns, &age_ms);
		e->host_oom_kills = rise_end(&k->host, memory_host_oom_kills(), now_ns, &age_ms);
	}
	e->cgroup_oom_kills = rise_end(&k->own, own.oom_kills, now_ns, &e->oom_age_ms);
	e->log = log_of(k->log, pid);
}
