/*
 * cgroup.c - where memory of a process is accounted.  See cgroup.h.
 */
#include "agent/base/cgroup.h"

#include <stdbool.h>
#include <string.h>

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
