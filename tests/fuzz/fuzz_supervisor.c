/*
 * fuzz_supervisor.c - any bytes as the files by which a supervisor and an agent
 * speak: ends of lives, orders, states.  rooms: supervisor base core schema
 *
 * The first byte says which.  What is believed can be printed, and what
 * lies there spoils nothing that is written after it.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/supervisor/exits.h"
#include "agent/supervisor/order.h"
#include "agent/supervisor/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define LIFE "1-1-a"

static char dir[64];

static int
drop(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	if (ftw->level > 0 && remove(path) != 0)
		abort();
	return 0;
}

static void
empty(void)
{
	if (nftw(dir, drop, 8, FTW_DEPTH | FTW_PHYS) != 0)
		abort();
}

static void
end(void)
{
	empty();
	rmdir(dir);
}

static void
begin(void)
{
	snprintf(dir, sizeof dir, "/dev/shm/fuzz-supervisor-%d", (int)getpid());
	if (mkdir(dir, 0700) != 0)
		abort();
	atexit(end);
}

/* Open, for a lock on it. */
static int
put(const char *name, const uint8_t *data, size_t n)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, data, n) != (ssize_t)n)
		abort();
	return fd;
}

static void
must_be_line(const char *text, size_t cap)
{
	if (memchr(text, '\0', cap) == NULL)
		abort();
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			abort();
}

/* Each life once, and an end. */
static void
walk(size_t n)
{
	char after[LIFE_BYTES] = "", first[LIFE_BYTES] = "";
	struct exit_record r;

	for (size_t lives = 0; exits_next(dir, after, &r) == E_OK; lives++) {
		if (!life_is_valid(r.life) || memchr(r.why, '\0', sizeof r.why) == NULL ||
		    strcmp(r.life, first) == 0 || lives > n)
			abort();
		if (lives == 0)
			memcpy(first, r.life, sizeof first);
		memcpy(after, r.life, sizeof after);
		if (lives > 16)
			return; /* the walk costs the whole file each time */
	}
}

static void
exits(const uint8_t *data, size_t n)
{
	struct exit_record one = {
		.life = LIFE, .pid = 7, .signal = -1, .exit_code = 3, .death = "d"
	};
	struct exit_record r;

	/* Whatever the evidence says, it comes back as it was. */
	memcpy(one.why, data, n < sizeof one.why ? n : sizeof one.why - 1);
	close(put(EXITS_FILE, data, n));
	walk(n);
	if (exits_find(dir, LIFE, &r) == E_OK &&
	    (strcmp(r.life, LIFE) != 0 || (unsigned)r.cause >= CAUSE_COUNT ||
		memchr(r.death, '\0', sizeof r.death) == NULL))
		abort();
	if (exits_append(dir, &one) != E_OK || exits_find(dir, LIFE, &r) != E_OK || r.pid != 7 ||
	    r.exit_code != 3 || strcmp(r.why, one.why) != 0)
		abort();
}

static void
order(const uint8_t *data, size_t n)
{
	struct order o;

	close(put("order-" LIFE, data, n));
	if (order_take(dir, LIFE, &o) == E_OK) {
		if ((unsigned)o.why >= ORDER_WHYS)
			abort();
		must_be_line(o.detail, sizeof o.detail);
	}
	if (order_take(dir, LIFE, &o) != E_NOTFOUND)
		abort(); /* obeyed or not, it is gone */
}

/* Of a supervisor that lives, then of one that has gone. */
static void
state(const uint8_t *data, size_t n)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	static struct supervised s[2];
	struct exit_record r;
	int fd = put(STATE_PREFIX "1", data, n);
	unsigned count;

	/* A lock of the description is another's for who asks for one of the process. */
	if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
		abort();
	count = state_list(dir, s, 2);
	if (count > 1)
		abort();
	if (count == 1) {
		must_be_line(s->life, sizeof s->life);
		must_be_line(s->method, sizeof s->method);
		must_be_line(s->why, sizeof s->why);
		must_be_line(s->verdict, sizeof s->verdict);
		must_be_line(s->death, sizeof s->death);
	}
	close(fd);
	if (state_sweep(dir, dir) > 0 &&
	    (count == 0 || exits_find(dir, s->life, &r) != E_OK || r.cause != CAUSE_LOST))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static void (*const kinds[])(const uint8_t *data, size_t n) = { exits, order, state };

	if (n == 0)
		return 0;
	if (dir[0] == '\0')
		begin();
	kinds[data[0] % 3](data + 1, n - 1);
	empty();
	return 0;
}
