/*
 * bodies.c - the files of prompts; what they look like is in schema/frame.h.
 * Names come from the journal, and from a directory: only what is a name of
 * such a file is touched, no link is followed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/resubmit/internal.h"

#define PATH_BYTES  512
#define SUFFIX      ".json"
#define SENT        ".sent"
#define UNFINISHED  ".tmp"
#define CLEAN_AGE_S 60 /* younger ones may be their writers' yet */
#define CLEAN_MAX   4096

static bool
ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n > m && strcmp(text + n - m, end) == 0;
}

static bool
is_name(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
	       strlen(name) < BODY_NAME_BYTES && ends_with(name, SUFFIX);
}

static bool
path_of(char path[PATH_BYTES], const char *run_dir, const char *name, const char *end)
{
	int n = snprintf(path, PATH_BYTES, "%s/" RUN_BODIES_NAME "/%s%s", run_dir, name, end);

	return n > 0 && n < PATH_BYTES;
}

/* The value of a word "key=value" of the line. */
static bool
word(const char *line, const char *key, char *out, size_t cap)
{
	size_t n = strlen(key);

	for (const char *at = line; at != NULL; at = strchr(at, ' ')) {
		at += *at == ' ';
		if (strncmp(at, key, n) == 0 && at[n] == '=') {
			size_t m = strcspn(at + n + 1, " ");

			if (m >= cap)
				return false;
			memcpy(out, at + n + 1, m);
			out[m] = '\0';
			return true;
		}
	}
	return false;
}

static bool
is_hex(const char *text, size_t digits)
{
	return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

enum err
body_parse(const char *text, size_t n, size_t file_bytes, struct body_line *out)
{
	char line[BODY_LINE_MAX_BYTES], value[64], *end;
	const char *newline = memchr(text, '\n', n < sizeof line ? n : sizeof line);
	size_t bytes = newline != NULL ? (size_t)(newline - text) : sizeof line;
	struct body_line b = { .json_at = bytes + 1 };

	if (bytes >= sizeof line || bytes < sizeof BODY_MAGIC - 1 ||
	    memcmp(text, BODY_MAGIC, sizeof BODY_MAGIC - 1) != 0)
		return E_INVAL;
	memcpy(line, text, bytes);
	line[bytes] = '\0';
	if (!word(line, "number", value, sizeof value))
		return E_INVAL;
	b.number = strtod(value, &end);
	if (end == value || *end != '\0')
		return E_INVAL;
	if (isnan(b.number))
		b.number = 0; /* it stands nowhere in an order */
	if (!word(line, "workflow", b.workflow, sizeof b.workflow) ||
	    !is_hex(b.workflow, sizeof b.workflow - 1) ||
	    !word(line, "probe", b.probe, sizeof b.probe) || !is_hex(b.probe, sizeof b.probe - 1) ||
	    !word(line, "secret", value, sizeof value))
		return E_INVAL;
	b.secret = strcmp(value, "0") != 0;
	if (!word(line, "bytes", value, sizeof value))
		return E_INVAL;
	b.json_bytes = strtoull(value, &end, 10);
	if (end == value || *end != '\0' || b.json_bytes > BODY_JSON_MAX_BYTES ||
	    b.json_at + b.json_bytes != file_bytes || (b.json_bytes == 0) != b.secret)
		return E_INVAL;
	*out = b;
	return E_OK;
}

static enum err
look_at(const char *path, struct body_line *out)
{
	char text[BODY_LINE_MAX_BYTES];
	struct stat st;
	size_t n = 0;
	int fd;
	enum err e = file_open_read(path, &fd);

	if (e != E_OK)
		return e;
	e = fstat(fd, &st) == 0 ? file_pread(fd, text, sizeof text, 0, &n) : E_IO;
	if (e == E_OK)
		e = body_parse(text, n, (size_t)st.st_size, out);
	close(fd);
	return e;
}

void
body_look(const char *run_dir, struct waiting *w)
{
	char path[PATH_BYTES];

	w->known = w->missing = true;
	if (!is_name(w->body))
		return;
	for (int sent = 0; sent < 2; sent++) {
		if (!path_of(path, run_dir, w->body, sent ? SENT : "") ||
		    look_at(path, &w->line) != E_OK)
			continue;
		w->missing = false;
		w->sent = sent;
		return;
	}
}

enum err
body_read(const char *run_dir, const struct waiting *w, char **json)
{
	char path[PATH_BYTES], *all;
	size_t n;
	enum err e;

	if (!is_name(w->body) || !path_of(path, run_dir, w->body, w->sent ? SENT : ""))
		return E_INVAL;
	e = file_read_all(path, BODY_JSON_MAX_BYTES + BODY_LINE_MAX_BYTES, &all, &n);
	if (e != E_OK)
		return e;
	if (n != w->line.json_at + w->line.json_bytes) {
		free(all);
		return E_CORRUPT;
	}
	memmove(all, all + w->line.json_at, w->line.json_bytes);
	*json = all;
	return E_OK;
}

enum err
body_mark(const char *run_dir, struct waiting *w)
{
	char from[PATH_BYTES], to[PATH_BYTES];

	if (w->sent)
		return E_OK;
	if (!is_name(w->body) || !path_of(from, run_dir, w->body, "") ||
	    !path_of(to, run_dir, w->body, SENT))
		return E_INVAL;
	if (rename(from, to) != 0)
		return err_from_errno(errno);
	w->sent = true;
	return E_OK;
}

void
body_remove(const char *run_dir, const struct waiting *w)
{
	char path[PATH_BYTES];

	if (!is_name(w->body))
		return;
	for (int sent = 0; sent < 2; sent++)
		if (path_of(path, run_dir, w->body, sent ? SENT : "") && unlink(path) != 0 &&
		    errno != ENOENT)
			log_warn("body_not_removed path=%s errno=%d", path, errno);
}

/* ---- what is nobody's ---------------------------------------------------- */

static bool
is_listed(const struct waiting_list *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (strncmp(list->jobs[i].body, name, strlen(list->jobs[i].body)) == 0)
			return true;
	return false;
}

/* Its probe is closed, or unknown and without a ring: who is not read yet may still wait. */
static bool
is_orphan(const struct agent_view *v, const char *run_dir, const char *path)
{
	char ring[PATH_BYTES];
	struct body_line line;
	bool open = true;
	int n;

	if (look_at(path, &line) != E_OK)
		return true;
	n = snprintf(
	    ring, sizeof ring, "%s/" RUN_RING_PREFIX "%s" RUN_RING_SUFFIX, run_dir, line.probe);
	if (n < 0 || n >= (int)sizeof ring || access(ring, F_OK) == 0)
		return false;
	return waiting_is_open(v, line.probe, &open) == E_OK && !open;
}

void
body_clean(const struct agent_view *v, const char *run_dir, const struct waiting_list *list)
{
	char path[PATH_BYTES];
	struct dirent *entry;
	struct stat st;
	int fd, seen = 0;
	DIR *dir;

	snprintf(path, sizeof path, "%s/" RUN_BODIES_NAME, run_dir);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL && seen++ < CLEAN_MAX) {
		const char *name = entry->d_name;

		if (name[0] == '.' || is_listed(list, name) ||
		    fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
		    time(NULL) - st.st_mtime < CLEAN_AGE_S || !path_of(path, run_dir, name, ""))
			continue;
		if (ends_with(name, UNFINISHED) || is_orphan(v, run_dir, path))
			unlinkat(fd, name, 0);
	}
	closedir(dir);
}
