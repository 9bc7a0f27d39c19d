/*
 * cgroup.c - make, join, read, remove.  See cgroup.h.
 */
#include "agent/supervisor/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/file.h"

#define TEXT_MAX     (1024u * 1024)
#define GROUP_PREFIX "comfymon-run-"
#define STALE_S      60
#define NEAR_BYTES   (1u << 20) /* the kernel charges pages by the batch */

/* ---- small files ------------------------------------------------------------- */

static enum err
put(const char *dir, const char *name, const char *text)
{
	char path[600];
	enum err e = path_join(path, sizeof path, dir, name);
	int fd;

	if (e != E_OK)
		return e;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_from_errno(errno);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		e = err_from_errno(errno);
	close(fd);
	return e;
}

static enum err
put_number(const char *dir, const char *name, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, v);
	return put(dir, name, text);
}

/* The text of a small file, heap. */
static char *
get(const char *dir, const char *name)
{
	char path[600], *text;
	size_t n;

	if (path_join(path, sizeof path, dir, name) != E_OK ||
	    file_read_all(path, TEXT_MAX, &text, &n) != E_OK)
		return NULL;
	return text;
}

static bool
get_number(const char *dir, const char *name, uint64_t *out)
{
	char *text = get(dir, name);
	bool ok = text != NULL && text[0] >= '0' && text[0] <= '9';

	if (ok)
		*out = strtoull(text, NULL, 10);
	free(text);
	return ok;
}

/* "key N" on a line of its own. */
static bool
get_keyed(const char *dir, const char *name, const char *key, uint64_t *out)
{
	char *text = get(dir, name), *save = NULL;
	size_t n = strlen(key);
	bool found = false;

	for (char *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL && !found;
	     line = strtok_r(NULL, "\n", &save)) {
		found = strncmp(line, key, n) == 0 && line[n] == ' ';
		if (found)
			*out = strtoull(line + n + 1, NULL, 10);
	}
	free(text);
	return found;
}

/* ---- make --------------------------------------------------------------------- */

static enum err
where(int version, char *dir, size_t cap)
{
	char *mounts = get("/proc/self", "mountinfo"), *groups = get("/proc/self", "cgroup");
	enum err e = E_NOTFOUND;

	if (mounts != NULL && groups != NULL)
		e = cgroup_find(mounts, groups, version, dir, cap);
	free(mounts);
	free(groups);
	return e;
}

static bool
controls_memory(const char *dir)
{
	char *text = get(dir, "cgroup.controllers");
	bool yes = text != NULL && strstr(text, "memory") != NULL;

	free(text);
	return yes;
}

static enum err
make_dir(char *path, size_t cap, const char *dir, const char *suffix)
{
	char name[64];
	enum err e;

	snprintf(name, sizeof name, GROUP_PREFIX "%d%s", (int)getpid(), suffix);
	e = path_join(path, cap, dir, name);
	if (e == E_OK && mkdir(path, 0755) != 0)
		e = err_from_errno(errno);
	if (e != E_OK)
		path[0] = '\0';
	return e;
}

/* What supervisors that were killed have left in it: empty ones, of pids that are no more. */
static void
sweep(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL) {
		char path[800];
		struct stat st;
		int pid;

		if (sscanf(entry->d_name, GROUP_PREFIX "%d", &pid) != 1 || pid <= 0 ||
		    kill(pid, 0) == 0 || errno != ESRCH ||
		    path_join(path, sizeof path, dir, entry->d_name) != E_OK)
			continue;
		/* A pid of another namespace may live: who is so young may be about to be joined.
		 */
		if (stat(path, &st) == 0 && time(NULL) - st.st_mtime > STALE_S)
			rmdir(path);
	}
	if (d != NULL)
		closedir(d);
}

/* Where swap is not accounted its file is absent. */
static enum err
set_limit(const struct cgroup *g, uint64_t limit)
{
	bool v2 = g->version == 2;
	enum err e = put_number(g->path, v2 ? "memory.max" : "memory.limit_in_bytes", limit);

	if (e == E_OK && v2)
		(void)put(g->path, "memory.swap.max", "0");
	else if (e == E_OK)
		(void)put_number(g->path, "memory.memsw.limit_in_bytes", limit);
	return e;
}

/* Its cgroup.procs, for who joins. */
static enum err
open_door(struct cgroup *g)
{
	char procs[600];
	enum err e = path_join(procs, sizeof procs, g->path, "cgroup.procs");

	if (e == E_OK && (g->join_fd = open(procs, O_WRONLY | O_CLOEXEC)) < 0)
		e = err_from_errno(errno);
	return e;
}

static enum err
make_v1(struct cgroup *g, const char *dir, uint64_t limit)
{
	enum err e = make_dir(g->path, sizeof g->path, dir, "");

	return e == E_OK ? set_limit(g, limit) : e;
}

static enum err
make_v2(struct cgroup *g, const char *dir, uint64_t limit)
{
	enum err e = make_dir(g->ours, sizeof g->ours, dir, ".self");

	if (e == E_OK)
		e = put(g->ours, "cgroup.procs", "0");
	if (e == E_OK)
		e = put(dir, "cgroup.subtree_control", "+memory");
	if (e == E_OK)
		e = make_dir(g->path, sizeof g->path, dir, "");
	if (e == E_OK)
		e = set_limit(g, limit);
	if (e != E_OK && g->ours[0] != '\0')
		(void)put(dir, "cgroup.procs", "0");
	return e;
}

enum err
cgroup_make(struct cgroup *g, uint64_t limit, char why[CGROUP_WHY_BYTES])
{
	char dir[512];
	enum err e = where(2, dir, sizeof dir);

	memset(g, 0, sizeof *g);
	g->join_fd = -1;
	if (e == E_OK && controls_memory(dir)) {
		g->version = 2;
		sweep(dir);
		e = make_v2(g, dir, limit);
	} else if ((e = where(1, dir, sizeof dir)) == E_OK) {
		g->version = 1;
		sweep(dir);
		e = make_v1(g, dir, limit);
	} else {
		if (where(2, dir, sizeof dir) == E_OK)
			snprintf(why, CGROUP_WHY_BYTES,
			    "%.100s: the memory controller is not delegated to it", dir);
		else
			snprintf(why, CGROUP_WHY_BYTES, "no memory controller is mounted");
		return e;
	}
	if (e == E_OK)
		e = open_door(g);
	if (e == E_OK)
		return E_OK;
	snprintf(why, CGROUP_WHY_BYTES, "%.150s: %s", dir, err_text(e));
	cgroup_remove(g);
	return e;
}

enum err
cgroup_renew(struct cgroup *g, uint64_t limit)
{
	enum err e;

	if (g->version == 0 || access(g->path, F_OK) == 0)
		return E_OK;
	if (g->join_fd >= 0)
		close(g->join_fd);
	g->join_fd = -1;
	e = mkdir(g->path, 0755) == 0 ? set_limit(g, limit) : err_from_errno(errno);
	return e == E_OK ? open_door(g) : e;
}

/* Of one hierarchy, from our own group up to its root. */
static uint64_t
least_limit(int version)
{
	const char *name = version == 2 ? "memory.max" : "memory.limit_in_bytes";
	uint64_t least = UINT64_MAX, limit;
	char dir[512], *slash;

	if (where(version, dir, sizeof dir) != E_OK)
		return least;
	do {
		if (get_number(dir, name, &limit) && limit < least) /* "max" is no number */
			least = limit;
		slash = strrchr(dir, '/');
		if (slash != NULL)
			*slash = '\0';
	} while (slash != NULL && dir[0] != '\0');
	return least;
}

uint64_t
cgroup_enclosing_limit(void)
{
	uint64_t a = least_limit(2), b = least_limit(1);

	return a < b ? a : b;
}

void
cgroup_here(struct cgroup *g)
{
	memset(g, 0, sizeof *g);
	g->join_fd = -1;
	if (where(2, g->path, sizeof g->path) == E_OK && controls_memory(g->path))
		g->version = 2;
	else if (where(1, g->path, sizeof g->path) == E_OK)
		g->version = 1;
}

void
cgroup_begin(const struct cgroup *g)
{
	if (g->version != 1)
		return;
	(void)put(g->path, "memory.max_usage_in_bytes", "0");
	(void)put(g->path, "memory.memsw.max_usage_in_bytes", "0");
}

/* Failed charges and, since not every kernel counts those of RAM and swap together, a peak at the
 * limit. */
static uint64_t
hits_v1(const char *dir, const char *failures, const char *peak, const char *limit)
{
	uint64_t count = 0, most = 0, least = UINT64_MAX;

	(void)get_number(dir, failures, &count);
	return count + (get_number(dir, peak, &most) && get_number(dir, limit, &least) &&
			   most + NEAR_BYTES >= least);
}

struct cgroup_counts
cgroup_counts(const struct cgroup *g)
{
	struct cgroup_counts c = { 0 };

	if (g->version == 2) {
		c.known = get_keyed(g->path, "memory.events", "oom_kill", &c.oom_kills) &&
			  get_keyed(g->path, "memory.events", "oom", &c.limit_hits);
	} else if (g->version == 1) {
		c.known = get_keyed(g->path, "memory.oom_control", "oom_kill", &c.oom_kills);
		c.limit_hits =
		    hits_v1(g->path, "memory.failcnt", "memory.max_usage_in_bytes",
			"memory.limit_in_bytes") +
		    hits_v1(g->path, "memory.memsw.failcnt", "memory.memsw.max_usage_in_bytes",
			"memory.memsw.limit_in_bytes");
	}
	return c;
}

bool
cgroup_join(const struct cgroup *g)
{
	return g->version == 0 || write(g->join_fd, "0", 1) == 1;
}

enum err
cgroup_usage(const struct cgroup *g, struct cgroup_usage *out)
{
	bool v2 = g->version == 2;

	memset(out, 0, sizeof *out);
	if (g->version == 0)
		return E_STATE;
	if (!get_number(
		g->path, v2 ? "memory.current" : "memory.usage_in_bytes", &out->current_bytes))
		return E_IO;
	(void)get_number(
	    g->path, v2 ? "memory.peak" : "memory.max_usage_in_bytes", &out->peak_bytes);
	for (size_t i = 0; i < 3; i++) {
		static const char *const keys[2][3] = {
			{ "total_rss", "total_shmem", "total_swap" }, { "anon", "shmem", "" }
		};
		uint64_t bytes = 0;

		if (!(v2 && i == 2 ? get_number(g->path, "memory.swap.current", &bytes)
				   : get_keyed(g->path, "memory.stat", keys[v2][i], &bytes)) &&
		    i == 0)
			return E_IO;
		out->held_bytes += bytes;
	}
	return E_OK;
}

enum err
cgroup_set_high(const struct cgroup *g, uint64_t high)
{
	if (g->version != 2)
		return E_STATE;
	return high == 0 ? put(g->path, "memory.high", "max")
			 : put_number(g->path, "memory.high", high);
}

enum err
cgroup_full_stall(const struct cgroup *g, uint64_t *total_us)
{
	char *text = g->version == 2 ? get(g->path, "memory.pressure") : NULL;
	const char *full = text != NULL ? strstr(text, "full ") : NULL;
	const char *total = full != NULL ? strstr(full, " total=") : NULL;

	if (total != NULL)
		*total_us = strtoull(total + 7, NULL, 10);
	free(text);
	return total != NULL ? E_OK : E_STATE;
}

void
cgroup_remove(struct cgroup *g)
{
	if (g->join_fd >= 0)
		close(g->join_fd);
	if (g->path[0] != '\0')
		rmdir(g->path);
	if (g->ours[0] != '\0') {
		char *slash = strrchr(g->ours, '/');

		*slash = '\0';
		(void)put(g->ours, "cgroup.procs", "0");
		*slash = '/';
		rmdir(g->ours);
	}
	memset(g, 0, sizeof *g);
	g->join_fd = -1;
}
