/*
 * exits.c - append a line, find a line, go through the lines.  See exits.h.
 */
#include "agent/supervisor/exits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
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

void
exit_record_death(struct exit_record *r, const struct death *d)
{
	size_t n = 0;

	r->cause = d->cause;
	r->certainty = d->certainty;
	r->signal = d->signal;
	r->exit_code = d->exit_code;
	r->why[0] = '\0';
	for (unsigned i = 0; i < d->lines; i++) /* each fits with the byte in front of it */
		n += (size_t)snprintf(
		    r->why + n, sizeof r->why - n, "%s%s", i > 0 ? "\n" : "", d->text[i]);
}

/* ---- write ------------------------------------------------------------------ */

/* Of the evidence as one word; what does not fit is left out. */
static void
put_why(char *to, size_t cap, const char *why)
{
	size_t n = 0;

	for (; *why != '\0' && n + 4 < cap; why++) {
		unsigned char c = (unsigned char)*why;

		if (c == ' ')
			to[n++] = '+';
		else if (c == '\n')
			to[n++] = '|';
		else if (c < ' ' || c >= 127 || c == '%' || c == '+' || c == '|')
			n += (size_t)snprintf(to + n, cap - n, "%%%02X", c);
		else
			to[n++] = (char)c;
	}
	to[n] = '\0';
}

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
	struct stat now;
	enum err e = path_join(path, sizeof path, data_dir, EXITS_FILE);

	if (e == E_OK)
		e = path_join(older, sizeof older, data_dir, OLDER_FILE);
	if (e == E_OK)
		e = open_append(path, fd, st);
	if (e == E_OK && st->st_size > EXITS_MAX_BYTES) {
		/* Another parent may be about to do the same: who comes second finds a new file. */
		if (flock(*fd, LOCK_EX) == 0 && stat(path, &now) == 0 && now.st_ino == st->st_ino &&
		    now.st_dev == st->st_dev && rename(path, older) != 0)
			e = err_from_errno(errno);
		close(*fd);
		if (e == E_OK)
			e = open_append(path, fd, st);
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
	char line[EXITS_LINE_BYTES], why[3 * EXITS_WHY_BYTES];
	struct stat st;
	bool fresh;
	int fd, n;
	enum err e;

	put_why(why, sizeof why, r->why);
	if (!life_is_valid(r->life) || !is_word(r->death))
		return E_INVAL;
	n = snprintf(line, sizeof line,
	    "\nexit life=%s pid=%" PRIu64 " ticks=%" PRIu64 " time_ns=%" PRIu64
	    " verdict=%s certainty=%s signal=%d exit=%d limit=%" PRIu64 " rss=%" PRIu64
	    " peak=%" PRIu64 " restarted=%d death=%s uptime_ms=%" PRIu64 "%s%s\n",
	    r->life, r->pid, r->start_ticks, r->time_real_ns, cause_name(r->cause),
	    certainty_name(r->certainty), r->signal, r->exit_code, r->limit_bytes, r->rss_bytes,
	    r->peak_bytes, r->restarted, r->death[0] != '\0' ? r->death : "none", r->uptime_ms,
	    why[0] != '\0' ? " why=" : "", why);
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

static int
hex_digit(char c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

/* What put_why made; false for what it never makes. */
static bool
take_why(const char *v, char *out, size_t cap)
{
	size_t n = 0;

	for (; *v != '\0'; v++) {
		int high, low, c = *v == '+' ? ' ' : *v == '|' ? '\n' : (unsigned char)*v;

		if (n + 1 == cap)
			return false;
		if (*v == '%') {
			if ((high = hex_digit(v[1])) < 0 || (low = hex_digit(v[2])) < 0)
				return false;
			c = high << 4 | low;
			v += 2;
		}
		if (c == '\0')
			return false;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return true;
}

/* One "key=value"; false when a key that we know has a value that it cannot have. */
static bool
take_pair(const char *key, const char *v, struct exit_record *r)
{
	uint64_t *const numbers[] = { &r->pid, &r->start_ticks, &r->time_real_ns, &r->limit_bytes,
		&r->rss_bytes, &r->peak_bytes, &r->uptime_ms };
	static const char *const keys[] = { "pid", "ticks", "time_ns", "limit", "rss", "peak",
		"uptime_ms" };

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
	if (strcmp(key, "why") == 0)
		return take_why(v, r->why, sizeof r->why);
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

/* The newest EXITS_MAX_BYTES of a file into `text`, which has room for them. */
static enum err
read_newest(const char *data_dir, const char *name, char *text, size_t *n)
{
	char path[600];
	struct stat st;
	uint64_t from = 0;
	int fd = -1;
	enum err e = path_join(path, sizeof path, data_dir, name);

	*n = 0;
	if (e == E_OK)
		e = file_open_read(path, &fd);
	if (e == E_OK && fstat(fd, &st) != 0)
		e = E_IO;
	if (e == E_OK && st.st_size > EXITS_MAX_BYTES)
		from = (uint64_t)st.st_size - EXITS_MAX_BYTES;
	if (e == E_OK)
		e = file_pread(fd, text, EXITS_MAX_BYTES, from, n);
	if (fd >= 0)
		close(fd);
	return e;
}

/* Step through whole lines that are good: false at the end. */
static bool
next_line(const char *text, size_t n, size_t *at, struct exit_record *out)
{
	const char *end;

	while (*at < n && (end = memchr(text + *at, '\n', n - *at)) != NULL) {
		const char *line = text + *at;

		*at = (size_t)(end + 1 - text);
		if (parse(line, (size_t)(end - line), out))
			return true;
	}
	return false;
}

/* The last of its lines in one file. */
static enum err
find_in(const char *data_dir, const char *name, const char *life, struct exit_record *out)
{
	char *text = malloc(EXITS_MAX_BYTES);
	struct exit_record r;
	size_t n = 0, at = 0;
	bool found = false;
	enum err e = text != NULL ? read_newest(data_dir, name, text, &n) : E_NOMEM;

	while (e == E_OK && next_line(text, n, &at, &r))
		if (strcmp(r.life, life) == 0) {
			*out = r;
			found = true;
		}
	free(text);
	return e == E_OK && !found ? E_NOTFOUND : e;
}

enum err
exits_find(const char *data_dir, const char *life, struct exit_record *out)
{
	enum err e = find_in(data_dir, EXITS_FILE, life, out);

	return e == E_NOTFOUND ? find_in(data_dir, OLDER_FILE, life, out) : e;
}

/* The lives of a walk, by a hash: each counts once. */
#define SEEN_SLOTS 65536u /* more than twice the lines that two files can hold */

static bool
is_new(uint64_t *seen, const char *life)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	size_t at;

	for (; *life != '\0'; life++)
		h = (h ^ (unsigned char)*life) * UINT64_C(0x100000001b3);
	h |= 1; /* 0 is an empty slot */
	for (at = (size_t)(h >> 32) % SEEN_SLOTS; seen[at] != 0; at = (at + 1) % SEEN_SLOTS)
		if (seen[at] == h)
			return false;
	seen[at] = h;
	return true;
}

/* The first new life behind that of `after`, which may be "": behind nothing. */
static bool
next_of(const char *text, size_t n, const char *after, uint64_t *seen, struct exit_record *out,
    bool *had_after)
{
	size_t at = 0;
	bool found = false;

	memset(seen, 0, SEEN_SLOTS * sizeof *seen);
	*had_after = after[0] == '\0';
	while (!found && next_line(text, n, &at, out)) {
		bool fresh = is_new(seen, out->life);

		found = fresh && *had_after;
		*had_after = *had_after || strcmp(out->life, after) == 0;
	}
	return found;
}

enum err
exits_next(const char *data_dir, const char *after, struct exit_record *out)
{
	char *text = malloc(2 * EXITS_MAX_BYTES);
	uint64_t *seen = malloc(SEEN_SLOTS * sizeof *seen);
	struct exit_record r;
	size_t older = 0, newer = 0;
	bool found, had;
	enum err e = text != NULL && seen != NULL ? E_OK : E_NOMEM;

	/* The newer first: should it be renamed meanwhile, its lines come twice, and none is
	 * missed. */
	if (e == E_OK)
		e = read_newest(data_dir, EXITS_FILE, text + EXITS_MAX_BYTES, &newer);
	if (e == E_OK || e == E_NOTFOUND)
		e = read_newest(data_dir, OLDER_FILE, text, &older);
	if (e == E_OK || e == E_NOTFOUND) {
		memmove(text + older, text + EXITS_MAX_BYTES, newer);
		found = next_of(text, older + newer, after, seen, &r, &had);
		if (!had) /* all lines are newer than it */
			found = next_of(text, older + newer, "", seen, &r, &had);
		if (found)
			*out = r;
		e = found ? E_OK : E_NOTFOUND;
	}
	free(seen);
	free(text);
	return e;
}
