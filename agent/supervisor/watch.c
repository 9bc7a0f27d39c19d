/*
 * watch.c - the memory of the command: limit, curve, and what the kernel says
 * about a death.  See run_internal.h.
 *
 * Where no cgroup can be made the limit is kept by looking: every second, every
 * 100 ms from 70 % of the limit on.  What is allocated between two looks goes
 * over it; the black box says how far.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/supervisor/memory.h"
#include "agent/supervisor/port.h"
#include "agent/supervisor/run_internal.h"

#define SLOW_NS   NS_PER_S
#define FAST_NS   (100 * NS_PER_MS)
#define SHARES_NS (5 * NS_PER_S)
#define SHARES_OF 100 /* of the time, at most, goes into counting shared pages */
#define WALK_EACH 10  /* all are walked at each 10th fast look */

void
watch_open(struct run *r)
{
	r->method = "none";
	r->group.join_fd = -1;
	kills_open(&r->kills);
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
	enum err e;

	r->samples = 0;
	r->tree = (struct walked){ 0 };
	r->sample_ns = r->second_ns = 0;
	relief_begin(r);
	e = cgroup_renew(&r->group, r->o->limit_bytes);
	if (e != E_OK)
		log_warn("cgroup_not_renewed path=%s error=\"%s\"", r->group.path, err_text(e));
	memset(r->box, 0, sizeof *r->box);
	kills_begin(&r->kills, &r->group);
}

static bool
is_watched(const struct run *r)
{
	return r->o->limit_bytes > 0 && r->group.version == 0;
}

/* The cgroup knows who is in it. */
static bool
walk_group(struct run *r, uint64_t *bytes)
{
	struct cgroup_usage u;
	struct memory_tree t;
	char path[600];

	if (path_join(path, sizeof path, r->group.path, "cgroup.procs") != E_OK ||
	    !memory_of_listed(path, &t))
		return false;
	*bytes = t.rss_bytes + t.swap_bytes;
	if (cgroup_usage(&r->group, &u) == E_OK)
		r->held_bytes = u.held_bytes;
	return true;
}

/*
 * Whoever leaves its tree becomes our child, so all but the agent below us are it.  After a fork
 * parent and child hold the same pages: before that may matter they are counted once, which is
 * dear, and so for a few seconds it is believed that as much is shared.
 */
static bool
walk_tree(struct run *r, uint64_t now_ns, uint64_t *bytes)
{
	uint64_t limit = is_watched(r) ? r->o->limit_bytes : UINT64_MAX, shares, sum, cost;
	uint64_t least =
	    r->o->soft_bytes > 0 && r->o->soft_bytes < limit ? r->o->soft_bytes : limit;
	struct memory_tree t;

	if (!memory_below(getpid(), r->agent, &t))
		return false;
	sum = t.rss_bytes + t.swap_bytes;
	if (t.processes > 1 && sum > least &&
	    (now_ns >= r->tree.shares_ns || sum > limit + r->tree.shared_bytes)) {
		shares = memory_shares_below(getpid(), r->agent);
		r->tree.shared_bytes = shares < sum ? sum - shares : 0;
		cost = (clock_mono_ns() - now_ns) * SHARES_OF;
		r->tree.shares_ns = now_ns + (cost > SHARES_NS ? cost : SHARES_NS);
	}
	if (t.processes == 1 || r->tree.shared_bytes > sum)
		r->tree.shared_bytes = 0;
	*bytes = r->tree.bytes = sum - r->tree.shared_bytes;
	r->tree.largest = t.largest;
	r->tree.largest_bytes = t.largest_bytes;
	/* The limit counts what the kernel could take back, too. */
	r->held_bytes =
	    is_watched(r) ? *bytes : *bytes - (t.file_bytes < *bytes ? t.file_bytes : 0);
	return true;
}

/* Between two walks the largest one alone is looked at; 0 when it has gone. */
static uint64_t
glance(const struct run *r)
{
	struct memory_tree one;
	uint64_t now;

	if (r->tree.largest == 0 || !memory_of(r->tree.largest, &one))
		return 0;
	now = r->tree.bytes + one.rss_bytes + one.swap_bytes;
	return now > r->tree.largest_bytes ? now - r->tree.largest_bytes : 0;
}

/* What all of it holds; false when it cannot be said. */
static bool
measure(struct run *r, uint64_t now_ns, uint64_t *bytes)
{
	bool fast = is_watched(r) && r->box->evidence.last_bytes > r->o->limit_bytes / 10 * 7;

	*bytes = fast && r->samples % WALK_EACH != 0 ? glance(r) : 0;
	r->samples++;
	if (*bytes > 0 && *bytes <= r->o->limit_bytes)
		return true;
	return r->group.version == 0 ? walk_tree(r, now_ns, bytes) : walk_group(r, bytes);
}

/* One look may have met a child between fork and exec, which holds nothing of its own. */
static bool
is_over(struct run *r, uint64_t bytes)
{
	if (!is_watched(r) || bytes <= r->o->limit_bytes) {
		r->tree.over = false;
		return false;
	}
	if (r->tree.over || r->tree.largest_bytes > r->o->limit_bytes)
		return true;
	r->tree.over = true;
	return false;
}

void
watch_sample(struct run *r, uint64_t now_ns)
{
	struct evidence *e = &r->box->evidence;
	struct memory_tree self;
	uint64_t bytes;

	r->sample_ns = now_ns + SLOW_NS;
	if (!memory_of(r->child.pid, &self) || self.rss_bytes == 0 || /* a corpse has none */
	    !measure(r, now_ns, &bytes))
		return;
	e->last_bytes = bytes;
	if (bytes > e->peak_bytes)
		e->peak_bytes = bytes;
	blackbox_sample(r->box, now_ns, bytes);
	if (is_over(r, bytes)) {
		life_kill(r, ASKED_LIMIT);
		return;
	}
	if (is_watched(r) && bytes > r->o->limit_bytes / 10 * 7)
		r->sample_ns = now_ns + FAST_NS;
	if (now_ns >= r->second_ns) {
		r->second_ns = now_ns + SLOW_NS;
		kills_look(&r->kills, &r->group, now_ns);
		said_keep(r);
		life_say_again(r);
		life_look_for_order(r);
		if (!r->listened && !r->port_taken)
			r->listened = port_listens(r->listen.port);
		relief_look(r, now_ns);
	}
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

	e->limit_bytes = r->o->limit_bytes;
	kills_evidence(&r->kills, &r->group, r->child.pid, clock_mono_ns(), e);
	if (e->cgroup_oom_kills > 0 && cgroup_usage(&r->group, &u) == E_OK &&
	    u.peak_bytes > e->peak_bytes)
		e->peak_bytes = u.peak_bytes; /* it grew faster than we look */
	e->port_line = says_port_in_use(&r->out.tail);
}
