/*
 * cgroup.c - find, make, join, read, remove.  See cgroup.h.
 */
#include "agent/supervisor/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/file.h"

#define TEXT_MAX (1024u * 1024)

/* ---- where ------------------------------------------------------------------ */

/* The n-th field (from 0) of a line, separated by one blank. */
static const char *
field(const char *line, const char *end, unsigned n, size_t *bytes)
{
	*bytes = 0;
	for (; n > 0; n--) {
		const char *blank = memchr(line, ' ', (size_t)(end - line));

		if (blank == NULL)
			return NULL;
		line = blank + 1;
	}

	const char *blank = memchr(line, ' ', (size_t)(end - line));

	*bytes = (size_t)((blank != NULL ? blank : end) - line);
	return line;
}

static bool
has_option(const char *list, size_t n, const char *option)
{
	size_t length = strlen(option);

	for (const char *end = list + n; list < end;) {
		const char *comma = memchr(list, ',', (size_t)(end - list));
		size_t one = (size_t)((comma != NULL ? comma : end) - list);

		if (one == length && memcmp(list, option, length) == 0)
			return true;
		list += one + 1;
	}
	return false;
}

struct mount {
	const char *root, *point;
	size_t root_bytes, point_bytes;
};

/* One line of mountinfo: is it the hierarchy that we look for? */
static bool
mount_of(const char *line, const char *end, int version, struct mount *out)
{
	const char *dash = memmem(line, (size_t)(end - line), " - ", 3), *type, *options;
	size_t type_bytes, options_bytes;

	if (dash == NULL)
		return false;
	type = field(dash + 3, end, 0, &type_bytes);
	options = field(dash + 3, end, 2, &options_bytes);
	out->root = field(line, dash, 3, &out->root_bytes);
	out->point = field(line, dash, 4, &out->point_bytes);
	if (type == NULL || options == NULL || out->root == NULL || out->point == NULL)
		return false;
	if (version == 2)
		return type_bytes == 7 && memcmp(type, "cgroup2", 7) == 0;
	return type_bytes == 6 && memcmp(type, "cgroup", 6) == 0 &&
	       has_option(options, options_bytes, "memory");
}

/* The path behind "ID:controllers:" of the hierarchy. */
static bool
path_of(const char *text, int version, const char **path, size_t *bytes)
{
	for (const char *line = text, *end; *line != '\0'; line = *end != '\0' ? end + 1 : end) {
		const char *first = strchr(line, ':'), *second;

		end = strchrnul(line, '\n');
		if (first == NULL || first > end || (second = strchr(first + 1, ':')) == NULL ||
		    second > end)
			continue;
		if (version == 2 ? second == first + 1 && first == line + 1 && line[0] == '0'
				 : has_option(first + 1, (size_t)(second - first - 1), "memory")) {
			*path = second + 1;
			*bytes = (size_t)(end - second - 1);
			return true;
		}
	}
	return false;
}

enum err
cgroup_find(const char *mountinfo, const char *cgroups, int version, char *dir, size_t cap)
{
	const char *path;
	size_t bytes;

	if (!path_of(cgroups, version, &path, &bytes))
		return E_NOTFOUND;
	for (const char *line = mountinfo, *end; *line != '\0';
	     line = *end != '\0' ? end + 1 : end) {
		struct mount m;

		end = strchrnul(line, '\n');
		if (!mount_of(line, end, version, &m))
			continue;
		/* What is mounted may be a part of the hierarchy: the path is relative to it. */
		if (m.root_bytes > 1 && bytes >= m.root_bytes &&
		    memcmp(path, m.root, m.root_bytes) == 0) {
			path += m.root_bytes;
			bytes -= m.root_bytes;
		} else if (m.root_bytes > 1) {
			bytes = 0;
		}
		if (bytes == 1 && path[0] == '/')
			bytes = 0;
		if (m.point_bytes + bytes >= cap)
			return E_FULL;
		memcpy(dir, m.point, m.point_bytes);
		memcpy(dir + m.point_bytes, path, bytes);
		dir[m.point_bytes + bytes] = '\0';
		return E_OK;
	}
	return E_NOTFOUND;
}

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

	snprintf(name, sizeof name, "comfymon-run-%d%s", (int)getpid(), suffix);
	e = path_join(path, cap, dir, name);
	if (e == E_OK && mkdir(path, 0755) != 0)
		e = err_from_errno(errno);
	if (e != E_OK)
		path[0] = '\0';
	return e;
}

static enum err
make_v1(struct cgroup *g, const char *dir, uint64_t limit)
{
	enum err e = make_dir(g->path, sizeof g->path, dir, "");

	if (e == E_OK)
		e = put_number(g->path, "memory.limit_in_bytes", limit);
	if (e == E_OK) /* where swap is not accounted the file is absent */
		(void)put_number(g->path, "memory.memsw.limit_in_bytes", limit);
	return e;
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
		e = put_number(g->path, "memory.max", limit);
	if (e == E_OK)
		(void)put(g->path, "memory.swap.max", "0");
	if (e != E_OK && g->ours[0] != '\0')
		(void)put(dir, "cgroup.procs", "0");
	return e;
}

enum err
cgroup_make(struct cgroup *g, uint64_t limit, char why[CGROUP_WHY_BYTES])
{
	char dir[512], procs[600];
	enum err e = where(2, dir, sizeof dir);

	memset(g, 0, sizeof *g);
	g->join_fd = -1;
	if (e == E_OK && controls_memory(dir)) {
		g->version = 2;
		e = make_v2(g, dir, limit);
	} else if ((e = where(1, dir, sizeof dir)) == E_OK) {
		g->version = 1;
		e = make_v1(g, dir, limit);
	} else {
		snprintf(why, CGROUP_WHY_BYTES, "no memory controller is mounted");
		return e;
	}
	if (e == E_OK)
		e = path_join(procs, sizeof procs, g->path, "cgroup.procs");
	if (e == E_OK && (g->join_fd = open(procs, O_WRONLY | O_CLOEXEC)) < 0)
		e = err_from_errno(errno);
	if (e == E_OK)
		return E_OK;
	snprintf(why, CGROUP_WHY_BYTES, "%.150s: %s", dir, err_text(e));
	cgroup_remove(g);
	return e;
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
	out->has_oom_kills = get_keyed(
	    g->path, v2 ? "memory.events" : "memory.oom_control", "oom_kill", &out->oom_kills);
	return E_OK;
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
