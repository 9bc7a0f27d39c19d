/*
 * state.c - see state.h.
 */
#include "agent/supervisor/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/supervisor/blackbox.h"
#include "agent/supervisor/exits.h"
#include "agent/supervisor/left.h"
#include "agent/supervisor/memory.h"

#define STATE_BYTES 2048
#define READ_TRIES  5

/* ---- fields ----------------------------------------------------------------- */

#define NUMBER(name)                                                                              \
	{                                                                                         \
#name, offsetof(struct supervised, name), sizeof(((struct supervised *)0)->name), \
		    false                                                                         \
	}
#define TEXT(name)                                                                                \
	{                                                                                         \
#name, offsetof(struct supervised, name), sizeof(((struct supervised *)0)->name), \
		    true                                                                          \
	}

static const struct {
	const char *key;
	size_t at, bytes;
	bool text;
} fields[] = {
	NUMBER(pid),
	TEXT(state),
	TEXT(life),
	NUMBER(command_pid),
	NUMBER(command_ticks),
	NUMBER(started_real_ns),
	NUMBER(starts),
	TEXT(method),
	TEXT(why),
	NUMBER(limit_bytes),
	NUMBER(soft_bytes),
	NUMBER(high_bytes),
	TEXT(soft_state),
	NUMBER(soft_frees),
	NUMBER(soft_restarts),
	NUMBER(survive),
	NUMBER(pid_ns),
	TEXT(verdict),
	TEXT(certainty),
	TEXT(death),
	NUMBER(ended_real_ns),
};

static uint64_t
number_at(const struct supervised *s, size_t i)
{
	const void *p = (const char *)s + fields[i].at;

	return fields[i].bytes == 8   ? *(const uint64_t *)p
	       : fields[i].bytes == 4 ? *(const uint32_t *)p
				      : *(const bool *)p;
}

static void
put_number_at(struct supervised *s, size_t i, uint64_t v)
{
	void *p = (char *)s + fields[i].at;

	if (fields[i].bytes == 8)
		*(uint64_t *)p = v;
	else if (fields[i].bytes == 4)
		*(uint32_t *)p = (uint32_t)v;
	else
		*(bool *)p = v != 0;
}

/* One line's worth: no line end gets in. */
static void
copy_text(char *out, size_t cap, const char *s, size_t n)
{
	n = n < cap - 1 ? n : cap - 1;
	for (size_t i = 0; i < n; i++)
		out[i] = s[i] >= ' ' && s[i] < 127 ? s[i] : '?';
	out[n] = '\0';
}

/* ---- write ------------------------------------------------------------------ */

static enum err
path_of(char *path, size_t cap, const char *run_dir, int pid)
{
	char name[48];

	snprintf(name, sizeof name, STATE_PREFIX "%d", pid);
	return path_join(path, cap, run_dir, name);
}

static bool
lock(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_SETLK, &l) == 0;
}

enum err
state_write(int fd, const struct supervised *s)
{
	static uint64_t turn;
	char block[STATE_BYTES];
	size_t n = 0;

	n += (size_t)snprintf(block, sizeof block, "turn=%" PRIu64 "\n", ++turn);
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		char value[256];

		if (fields[i].text)
			copy_text(value, sizeof value, (const char *)s + fields[i].at,
			    strnlen((const char *)s + fields[i].at, fields[i].bytes));
		else
			snprintf(value, sizeof value, "%" PRIu64, number_at(s, i));
		n += (size_t)snprintf(block + n, sizeof block - n, "%s=%s\n", fields[i].key, value);
		if (n >= sizeof block - 32)
			return E_FULL;
	}
	n += (size_t)snprintf(block + n, sizeof block - n, "end=%" PRIu64 "\n", turn);
	return pwrite(fd, block, n, 0) == (ssize_t)n && ftruncate(fd, (off_t)n) == 0 ? E_OK : E_IO;
}

static uint64_t
pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

/* Locked and whole before it has its name: nobody may take it for one that was left. */
enum err
state_open(const char *run_dir, struct supervised *s, int *out)
{
	char path[600], fresh[608];
	enum err e = path_of(path, sizeof path, run_dir, (int)getpid());
	int fd;

	if (e != E_OK)
		return e;
	s->pid = (uint64_t)getpid();
	s->pid_ns = pid_namespace();
	snprintf(fresh, sizeof fresh, "%s.new", path);
	unlink(fresh);
	fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_from_errno(errno);
	e = lock(fd) ? state_write(fd, s) : E_BUSY;
	if (e == E_OK && rename(fresh, path) != 0)
		e = err_from_errno(errno);
	if (e != E_OK) {
		unlink(fresh);
		close(fd);
		return e;
	}
	*out = fd;
	return E_OK;
}

bool
state_has_name(const char *run_dir, int fd)
{
	struct stat own, there;
	char path[600];

	return path_of(path, sizeof path, run_dir, (int)getpid()) == E_OK &&
	       lstat(path, &there) == 0 && fstat(fd, &own) == 0 && there.st_dev == own.st_dev &&
	       there.st_ino == own.st_ino;
}

void
state_close(const char *run_dir, int fd)
{
	char path[600];

	if (fd < 0)
		return;
	if (path_of(path, sizeof path, run_dir, (int)getpid()) == E_OK)
		unlink(path);
	close(fd);
}

/* ---- read ------------------------------------------------------------------- */

static void
take_line(struct supervised *s, const char *line, size_t n, uint64_t ends[2])
{
	const char *value = memchr(line, '=', n);
	size_t key = value != NULL ? (size_t)(value - line) : 0;

	if (value == NULL)
		return;
	value++;
	n -= key + 1;
	if (key == 4 && memcmp(line, "turn", 4) == 0)
		ends[0] = strtoull(value, NULL, 10);
	else if (key == 3 && memcmp(line, "end", 3) == 0)
		ends[1] = strtoull(value, NULL, 10);
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		if (strlen(fields[i].key) != key || memcmp(fields[i].key, line, key) != 0)
			continue;
		if (fields[i].text)
			copy_text((char *)s + fields[i].at, fields[i].bytes, value, n);
		else
			put_number_at(s, i, strtoull(value, NULL, 10));
	}
}

/* Whole, or not at all. */
static bool
parse(const char *text, struct supervised *out)
{
	uint64_t ends[2] = { 0, 0 };

	memset(out, 0, sizeof *out);
	for (const char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
		take_line(out, line, (size_t)(end - line), ends);
	if (out->life[0] != '\0' && !life_is_valid(out->life))
		return false;
	return ends[0] != 0 && ends[0] == ends[1];
}

static bool
read_state(int fd, struct supervised *out)
{
	for (int i = 0; i < READ_TRIES; i++) {
		char text[STATE_BYTES + 1];
		size_t n;

		if (file_pread(fd, text, STATE_BYTES, 0, &n) != E_OK)
			return false;
		text[n] = '\0';
		if (parse(text, out))
			return true;
	}
	return false;
}

/* Somebody else holds the lock. Our own lock would not be seen: who asks holds none. */
static bool
is_locked(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static int
open_state(const char *run_dir, const char *name, int flags)
{
	char path[600];
	struct stat st;
	int fd = -1;

	if (path_join(path, sizeof path, run_dir, name) == E_OK)
		fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* The next name that is one of ours. */
static const char *
next_name(DIR *dir)
{
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		const char *digits = entry->d_name + sizeof STATE_PREFIX - 1;

		if (strncmp(entry->d_name, STATE_PREFIX, sizeof STATE_PREFIX - 1) == 0 &&
		    digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0')
			return entry->d_name;
	}
	return NULL;
}

unsigned
state_list(const char *run_dir, struct supervised *out, unsigned cap)
{
	DIR *dir = opendir(run_dir);
	const char *name;
	unsigned n = 0;

	while (n < cap && (name = next_name(dir)) != NULL) {
		int fd = open_state(run_dir, name, O_RDONLY);

		if (fd >= 0 && is_locked(fd) && read_state(fd, &out[n]))
			n++;
		if (fd >= 0)
			close(fd);
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

enum state_of
state_of(const char *run_dir, const char *life)
{
	char name[LIFE_BYTES + sizeof STATE_PREFIX];
	enum state_of is;
	int fd;

	if (!life_is_valid(life)) /* it begins with the pid of its parent */
		return STATE_NONE;
	snprintf(name, sizeof name, STATE_PREFIX "%.*s", (int)strcspn(life, "-"), life);
	fd = open_state(run_dir, name, O_RDONLY);
	if (fd < 0)
		return STATE_NONE;
	is = is_locked(fd) ? STATE_LIVES : STATE_GONE;
	close(fd);
	return is;
}

/* ---- lost ------------------------------------------------------------------- */

/* `known`: its line, where another sweeper was killed before it could write the box. */
static void
write_lost(const char *data_dir, const struct supervised *s, const struct exit_record *known)
{
	struct blackbox *x = calloc(1, sizeof *x);
	struct exit_record line = { .pid = s->command_pid,
		.start_ticks = s->command_ticks,
		.limit_bytes = s->limit_bytes };
	char id[96];
	enum err e = x != NULL ? E_OK : E_NOMEM;

	if (e == E_OK) {
		death_unseen(s->pid, &x->death);
		x->evidence.limit_bytes = s->limit_bytes;
		x->pid = (pid_t)s->command_pid;
		x->life = s->life;
		x->time_real_ns = line.time_real_ns =
		    known != NULL ? known->time_real_ns : clock_real_ns();
		if (x->time_real_ns > s->started_real_ns)
			x->uptime_ms = (x->time_real_ns - s->started_real_ns) / NS_PER_MS;
		x->method = s->method;
		x->method_why = s->why;
		x->restart_why = "its supervisor had gone";
		blackbox_id(x, id, sizeof id);
		exit_record_death(&line, &x->death);
		line.uptime_ms = x->uptime_ms;
		snprintf(line.life, sizeof line.life, "%s", s->life);
		snprintf(line.death, sizeof line.death, "%s", id);
		e = known != NULL ? E_OK : exits_append(data_dir, &line);
	}
	if (e == E_OK)
		e = blackbox_write(data_dir, x, id);
	log_warn("command_lost pid=%" PRIu64 " life=%s supervisor=%" PRIu64 " written=\"%s\"",
	    s->command_pid, s->life, s->pid, err_text(e));
	free(x);
}

/* Has its command ended without its parent?  With `survive` it may go on, and in another pid
 * namespace we cannot see whether it does. */
static bool
has_ended(const struct supervised *s)
{
	return !s->survive || (s->pid_ns == pid_namespace() &&
				  !process_lives((pid_t)s->command_pid, s->command_ticks));
}

/* The file of a parent that has gone, locked by us. False: it is to stay. */
static bool
settle(int fd, const char *data_dir, unsigned *lost)
{
	struct exit_record known;
	struct supervised s;

	if (!read_state(fd, &s) || s.life[0] == '\0' || s.command_pid == 0)
		return true;
	if (exits_find(data_dir, s.life, &known) == E_OK) {
		if (known.cause == CAUSE_LOST)
			write_lost(data_dir, &s, &known);
		return true;
	}
	if (!has_ended(&s))
		return false;
	left_kill(s.life); /* the kernel told its first process alone that we had gone */
	write_lost(data_dir, &s, NULL);
	++*lost;
	return true;
}

unsigned
state_sweep(const char *run_dir, const char *data_dir)
{
	DIR *dir = opendir(run_dir);
	unsigned lost = 0;
	const char *name;
	struct stat st;

	while ((name = next_name(dir)) != NULL) {
		int fd = open_state(run_dir, name, O_RDWR);
		char path[600];

		/* Locked by us it is ours alone, unless another sweeper was here before. */
		if (fd >= 0 && lock(fd) && fstat(fd, &st) == 0 && st.st_nlink > 0 &&
		    settle(fd, data_dir, &lost) &&
		    path_join(path, sizeof path, run_dir, name) == E_OK)
			unlink(path);
		if (fd >= 0)
			close(fd);
	}
	if (dir != NULL)
		closedir(dir);
	return lost;
}
