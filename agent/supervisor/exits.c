/*
 * exits.c - append a line, find a line.  See exits.h.
 */
#include "agent/supervisor/exits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/file.h"

#define OLDER_FILE EXITS_FILE ".1"

bool
life_is_valid(const char *life)
{
	size_t n = strspn(life, "0123456789abcdef-");

	return n > 0 && n < LIFE_BYTES && life[n] == '\0';
}

/* ---- write ------------------------------------------------------------------ */

/* The name of a black box: one word, or none. */
static bool
is_word(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 127)
			return false;
	return true;
}

static enum err
sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum err e = fd >= 0 && fsync(fd) == 0 ? E_OK : E_IO;

	if (fd >= 0)
		close(fd);
	return e;
}

static enum err
open_append(const char *path, int *out, struct stat *st)
{
	int fd = open(path,
	    O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);

	if (fd < 0)
		return err_from_errno(errno);
	if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
		close(fd);
		return E_INVAL;
	}
	*out = fd;
	return E_OK;
}

/* The file to append to; one that is full makes room first. *fresh: its name is new on the disk. */
static enum err
open_with_room(const char *data_dir, int *fd, struct stat *st, bool *fresh)
{
	char path[600], older[600];
	enum err e = path_join(path, sizeof path, data_dir, EXITS_FILE);

	if (e == E_OK)
		e = path_join(older, sizeof older, data_dir, OLDER_FILE);
	if (e == E_OK)
		e = open_append(path, fd, st);
	if (e == E_OK && st->st_size > EXITS_MAX_BYTES) {
		close(*fd);
		e = rename(path, older) == 0 ? open_append(path, fd, st) : err_from_errno(errno);
	}
	*fresh = e == E_OK && st->st_size == 0;
	return e;
}

/* Somebody was cut off in the middle of a line. */
static bool
is_torn(int fd, const struct stat *st)
{
	char last;

	return st->st_size > 0 && pread(fd, &last, 1, st->st_size - 1) == 1 && last != '\n';
}

enum err
exits_append(const char *data_dir, const struct exit_record *r)
{
	char line[EXITS_LINE_BYTES];
	struct stat st;
	bool fresh;
	int fd, n;
	enum err e;

	if (!life_is_valid(r->life) || !is_word(r->death))
		return E_INVAL;
	n = snprintf(line, sizeof line,
	    "\nexit life=%s pid=%" PRIu64 " ticks=%" PRIu64 " time_ns=%" PRIu64
	    " verdict=%s certainty=%s signal=%d exit=%d limit=%" PRIu64 " rss=%" PRIu64
	    " peak=%" PRIu64 " restarted=%d death=%s\n",
	    r->life, r->pid, r->start_ticks, r->time_real_ns, cause_name(r->cause),
	    certainty_name(r->certainty), r->signal, r->exit_code, r->limit_bytes, r->rss_bytes,
	    r->peak_bytes, r->restarted, r->death[0] != '\0' ? r->death : "none");
	if (n < 0 || (size_t)n >= sizeof line)
		return E_FULL;
	e = open_with_room(data_dir, &fd, &st, &fresh);
	if (e != E_OK)
		return e;

	const char *from = line + (is_torn(fd, &st) ? 0 : 1);
	ssize_t want = n - (from - line), got;

	do
		got = write(fd, from, (size_t)want);
	while (got < 0 && errno == EINTR);
	if (got != want)
		e = got < 0 ? err_from_errno(errno) : E_FULL;
	if (e == E_OK && fdatasync(fd) != 0)
		e = E_IO;
	close(fd);
	return e == E_OK && fresh ? sync_dir(data_dir) : e;
}

/* ---- read ------------------------------------------------------------------- */

static bool
take_u64(const char *v, uint64_t *out)
{
	char *end;

	if (*v < '0' || *v > '9')
		return false;
	errno = 0;
	*out = strtoull(v, &end, 10);
	return errno == 0 && *end == '\0';
}

static bool
take_int(const char *v, int *out)
{
	uint64_t n;

	if (strcmp(v, "-1") == 0) {
		*out = -1;
		return true;
	}
	if (!take_u64(v, &n) || n > 255)
		return false;
	*out = (int)n;
	return true;
}

static bool
take_word(const char *v, char *out, size_t cap)
{
	size_t n = strlen(v);

	if (n == 0 || n >= cap)
		return false;
	memcpy(out, v, n + 1);
	return true;
}

/* One "key=value"; false when a key that we know has a value that it cannot have. */
static bool
take_pair(const char *key, const char *v, struct exit_record *r)
{
	uint64_t *const numbers[] = { &r->pid, &r->start_ticks, &r->time_real_ns, &r->limit_bytes,
		&r->rss_bytes, &r->peak_bytes };
	static const char *const keys[] = { "pid", "ticks", "time_ns", "limit", "rss", "peak" };

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (strcmp(key, keys[i]) == 0)
			return take_u64(v, numbers[i]);
	if (strcmp(key, "life") == 0)
		return life_is_valid(v) && take_word(v, r->life, sizeof r->life);
	if (strcmp(key, "verdict") == 0)
		return cause_from_name(v, &r->cause);
	if (strcmp(key, "certainty") == 0)
		return certainty_from_name(v, &r->certainty);
	if (strcmp(key, "signal") == 0)
		return take_int(v, &r->signal);
	if (strcmp(key, "exit") == 0)
		return take_int(v, &r->exit_code);
	if (strcmp(key, "restarted") == 0)
		r->restarted = strcmp(v, "1") == 0;
	else if (strcmp(key, "death") == 0 && strcmp(v, "none") != 0)
		return take_word(v, r->death, sizeof r->death);
	return true;
}

/* One line without its end; false when it is broken. */
static bool
parse(const char *line, size_t n, struct exit_record *out)
{
	struct exit_record r = { .cause = CAUSE_COUNT, .signal = -1, .exit_code = -1 };
	char text[EXITS_LINE_BYTES], *save = NULL, *word;

	if (n >= sizeof text || memchr(line, '\0', n) != NULL)
		return false;
	memcpy(text, line, n);
	text[n] = '\0';
	word = strtok_r(text, " ", &save);
	if (word == NULL || strcmp(word, "exit") != 0)
		return false;
	while ((word = strtok_r(NULL, " ", &save)) != NULL) {
		char *value = strchr(word, '=');

		if (value == NULL)
			return false;
		*value++ = '\0';
		if (!take_pair(word, value, &r))
			return false;
	}
	if (r.life[0] == '\0' || r.cause == CAUSE_COUNT)
		return false;
	*out = r;
	return true;
}

/* The last of its lines in the newest EXITS_MAX_BYTES of one file; a line without an end is none.
 */
static enum err
find_in(const char *path, const char *life, struct exit_record *out)
{
	char *text = malloc(EXITS_MAX_BYTES);
	struct stat st;
	size_t n = 0;
	int fd = -1;
	enum err e = text != NULL ? file_open_read(path, &fd) : E_NOMEM;
	uint64_t from = 0;
	bool found = false;

	if (e == E_OK && fstat(fd, &st) != 0)
		e = E_IO;
	if (e == E_OK && st.st_size > EXITS_MAX_BYTES)
		from = (uint64_t)st.st_size - EXITS_MAX_BYTES;
	if (e == E_OK)
		e = file_pread(fd, text, EXITS_MAX_BYTES, from, &n);
	for (const char *line = text, *end; e == E_OK && n > 0; line = end + 1) {
		struct exit_record r;

		end = memchr(line, '\n', n);
		if (end == NULL)
			break;
		n -= (size_t)(end + 1 - line);
		if (parse(line, (size_t)(end - line), &r) && strcmp(r.life, life) == 0) {
			*out = r;
			found = true;
		}
	}
	if (fd >= 0)
		close(fd);
	free(text);
	return e == E_OK && !found ? E_NOTFOUND : e;
}

enum err
exits_find(const char *data_dir, const char *life, struct exit_record *out)
{
	static const char *const files[] = { EXITS_FILE, OLDER_FILE };
	enum err e = E_NOTFOUND;

	for (size_t i = 0; i < 2 && e == E_NOTFOUND; i++) {
		char path[600];

		e = path_join(path, sizeof path, data_dir, files[i]);
		if (e == E_OK)
			e = find_in(path, life, out);
	}
	return e;
}
