/*
 * source.c - the configuration file as text.  Main thread, at load.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/config/source.h"

#define DEPTH_MAX 8

void
source_blank_comments(char *text, size_t n)
{
	bool in_string = false, in_comment = false;

	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\n') {
			in_comment = false;
		} else if (in_comment) {
			text[i] = ' ';
		} else if (in_string) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				in_string = false;
		} else if (text[i] == '"') {
			in_string = true;
		} else if (text[i] == '#' || (text[i] == '/' && i + 1 < n && text[i + 1] == '/')) {
			in_comment = true;
			text[i] = ' ';
		}
	}
}

/* A walk over valid JSON that remembers the path of keys. */
struct walk {
	const char *keys[DEPTH_MAX];
	size_t bytes[DEPTH_MAX];
	int depth;
};

static bool
path_is(const struct walk *w, const char *dotted)
{
	for (int d = 1; d <= w->depth && d < DEPTH_MAX; d++) {
		if (strncmp(dotted, w->keys[d], w->bytes[d]) != 0)
			return false;
		dotted += w->bytes[d];
		if (d < w->depth && *dotted++ != '.')
			return false;
	}
	return *dotted == '\0';
}

static const char *
skip_string(const char *p)
{
	for (p++; *p != '\0' && *p != '"'; p++)
		if (*p == '\\' && p[1] != '\0')
			p++;
	return p;
}

static struct position
position_of(const char *text, const char *at)
{
	struct position pos = { 1, 1 };

	for (; text < at; text++) {
		pos.column++;
		if (*text == '\n') {
			pos.line++;
			pos.column = 1;
		}
	}
	return pos;
}

struct position
source_find(const char *text, const char *dotted)
{
	struct walk w = { .depth = 0 };

	for (const char *p = text; *p != '\0'; p++) {
		if (*p == '{' || *p == '[') {
			if (++w.depth >= DEPTH_MAX)
				break;
			w.keys[w.depth] = "";
			w.bytes[w.depth] = 0;
		} else if ((*p == '}' || *p == ']') && w.depth > 0) {
			w.depth--;
		} else if (*p == '"') {
			const char *end = skip_string(p), *after = end;

			do {
				after++;
			} while (
			    *end != '\0' && *after != '\0' && strchr(" \t\r\n", *after) != NULL);
			if (*end != '\0' && *after == ':') {
				w.keys[w.depth] = p + 1;
				w.bytes[w.depth] = (size_t)(end - p - 1);
				if (path_is(&w, dotted))
					return position_of(text, p);
			}
			if (*end == '\0')
				break;
			p = end;
		}
	}
	return (struct position){ 0, 0 };
}

enum err
source_read(const char *path, size_t cap, char **text, size_t *n)
{
	enum err rv = E_OK;
	struct stat st;
	char *buf = NULL;
	size_t used = 0;
	ssize_t got;

	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_from_errno(errno);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		rv = E_INVAL;
		goto out;
	}
	if (st.st_size < 0 || (size_t)st.st_size > cap) {
		rv = E_FULL;
		goto out;
	}
	buf = malloc((size_t)st.st_size + 1);
	if (buf == NULL) {
		rv = E_NOMEM;
		goto out;
	}
	while (used < (size_t)st.st_size) {
		got = read(fd, buf + used, (size_t)st.st_size - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			rv = err_from_errno(errno);
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	if (rv == E_OK) {
		buf[used] = '\0';
		*text = buf;
		*n = used;
		buf = NULL;
	}
out:
	free(buf);
	close(fd);
	return rv;
}
