/*
 * watch.c - the memory of the command: limit, curve, and what the kernel says
 * about a death.  See run_internal.h.
 *
 * Where no cgroup can be made the limit is kept by looking: every second, every
 * 100 ms from 70 % of the limit on.  What is allocated between two looks goes
 * over it; the black box says how far.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/supervisor/memory.h"
#include "agent/supervisor/port.h"
#include "agent/supervisor/run_internal.h"

#define SLOW_NS   NS_PER_S
#define FAST_NS   (100 * NS_PER_MS)
#define WALK_EACH 10 /* children are walked at each 10th fast look */

void
watch_open(struct run *r)
{
	r->method = "none";
	r->group.join_fd = -1;
	r->kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (r->kernel_log >= 0)
		(void)lseek(r->kernel_log, 0, SEEK_END);
	if (r->o->limit_bytes == 0)
		return;
	if (cgroup_make(&r->group, r->o->limit_bytes, r->why) == E_OK)
		r->method = r->group.version == 2 ? "cgroup2" : "cgroup1";
	else
		r->method = "watch";
	relief_set_high(r);
}

void
watch_begin(struct run *r)
{
	struct cgroup_usage u;

	r->samples = 0;
	r->others_bytes = 0;
	r->sample_ns = r->second_ns = 0;
	relief_begin(r);
	memset(r->box, 0, sizeof *r->box);
	r->host_oom_kills = memory_host_oom_kills();
	r->outer_oom_kills = cgroup_enclosing_oom_kills();
	r->cgroup_oom_kills = cgroup_usage(&r->group, &u) == E_OK ? u.oom_kills : 0;
}

static bool
is_watched(const struct run *r)
{
	return r->o->limit_bytes > 0 && r->group.version == 0;
}

/* The cgroup knows who is in it, who left the tree included. */
static bool
whole(const struct run *r, struct memory_tree *out)
{
	char path[600];

	if (r->group.version == 0)
		return memory_of_tree(r->child.pid, out);
	return path_join(path, sizeof path, r->group.path, "cgroup.procs") == E_OK &&
	       memory_of_listed(path, out);
}

void
watch_sample(struct run *r, uint64_t now_ns)
{
	struct evidence *e = &r->box->evidence;
	struct memory_tree self, tree;
	uint64_t own, bytes;
	bool fast;

	r->sample_ns = now_ns + SLOW_NS;
	if (!memory_of(r->child.pid, &self) || self.rss_bytes == 0) /* a corpse has none */
		return;
	fast = is_watched(r) && e->last_bytes > r->o->limit_bytes / 10 * 7;
	own = self.rss_bytes + self.swap_bytes;
	bytes = own + r->others_bytes;
	if ((!fast || r->samples % WALK_EACH == 0) && whole(r, &tree)) {
		bytes = tree.rss_bytes + tree.swap_bytes;
		r->others_bytes = bytes > own ? bytes - own : 0;
		/* Without a cgroup the limit counts what the kernel could take back, too. */
		r->held_bytes = is_watched(r) ? bytes : bytes - tree.file_bytes;
	}
	r->samples++;
	e->last_bytes = bytes;
	if (bytes > e->peak_bytes)
		e->peak_bytes = bytes;
	blackbox_sample(r->box, now_ns, bytes);
	if (is_watched(r) && bytes > r->o->limit_bytes) {
		life_kill(r, ASKED_LIMIT);
		return;
	}
	if (is_watched(r) && bytes > r->o->limit_bytes / 10 * 7)
		r->sample_ns = now_ns + FAST_NS;
	if (now_ns >= r->second_ns) {
		r->second_ns = now_ns + SLOW_NS;
		life_look_for_order(r);
		if (!r->listened && !r->port_taken)
			r->listened = port_listens(r->listen.port);
		relief_look(r, now_ns);
	}
}

/* "Killed process PID (" in what the kernel has logged since we last looked. */
static bool
log_names(int fd, pid_t pid)
{
	char record[8192], wanted[64];
	bool found = false;
	ssize_t n;

	snprintf(wanted, sizeof wanted, "Killed process %d (", (int)pid);
	while (fd >= 0 && ((n = read(fd, record, sizeof record - 1)) > 0 || errno == EPIPE)) {
		if (n <= 0) /* records that we were too slow for */
			continue;
		record[n] = '\0';
		found = found || strstr(record, wanted) != NULL;
	}
	return found;
}

/* asyncio says "address already in use", ComfyUI since 2026 "Port 8188 is already in use". */
static bool
says_port_in_use(const struct tail *t)
{
	char *text = malloc(OUTPUT_TAIL_BYTES + 1), *save = NULL;
	bool says = false;

	if (text != NULL) {
		size_t n = tail_text(t, text, OUTPUT_TAIL_BYTES);

		for (size_t i = 0; i < n; i++)
			text[i] = text[i] == '\0' ? ' ' : text[i];
		text[n] = '\0';
		for (char *line = strtok_r(text, "\n", &save); line != NULL && !says;
		     line = strtok_r(NULL, "\n", &save))
			says = strcasestr(line, "already in use") != NULL &&
			       (strcasestr(line, "address") != NULL ||
				   strcasestr(line, "port ") != NULL);
	}
	free(text);
	return says;
}

void
watch_evidence(struct run *r, struct evidence *e)
{
	struct cgroup_usage u;
	uint64_t host = memory_host_oom_kills();

	e->limit_bytes = r->o->limit_bytes;
	e->host_oom_kills = host > r->host_oom_kills ? host - r->host_oom_kills : 0;
	if (cgroup_usage(&r->group, &u) == E_OK && u.has_oom_kills) {
		e->has_cgroup = true;
		e->cgroup_oom_kills = u.oom_kills - r->cgroup_oom_kills;
		if (e->cgroup_oom_kills > 0 && u.peak_bytes > e->peak_bytes)
			e->peak_bytes = u.peak_bytes; /* it grew faster than we look */
	}
	if (r->group.version == 0) {
		uint64_t outer = cgroup_enclosing_oom_kills();

		e->outer_oom_kills = outer > r->outer_oom_kills ? outer - r->outer_oom_kills : 0;
	}
	e->log_names_it = log_names(r->kernel_log, r->child.pid);
	e->port_line = says_port_in_use(&r->out.tail);
}
