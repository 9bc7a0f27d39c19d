/*
 * log.c - formats a line on the stack and writes it with one write(2).  Any
 * thread; the descriptor is swapped by dup2 so that a writer never meets a
 * closed one.
 */
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"

#define LINE_BYTES 2048

static _Atomic int log_max = LOG_INFO;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic bool log_waits = true;
static _Atomic uint32_t log_dropped;
static const char *const names[] = { "error", "warn", "info", "debug" };

/* May this site speak?  *silent is how many messages it swallowed before. */
static bool
site_allows(struct log_site *site, uint32_t *silent)
{
	uint64_t now = clock_mono_ns() / NS_PER_S + 1; /* 0 means never */
	uint64_t window = atomic_load_explicit(&site->window, memory_order_relaxed);

	*silent = 0;
	if (window == 0 || now - window >= LOG_WINDOW_S) {
		atomic_store_explicit(&site->window, now, memory_order_relaxed);
		atomic_store_explicit(&site->said, 1, memory_order_relaxed);
		*silent = atomic_exchange_explicit(&site->silent, 0, memory_order_relaxed);
		return true;
	}
	if (atomic_fetch_add_explicit(&site->said, 1, memory_order_relaxed) < LOG_BURST)
		return true;
	atomic_fetch_add_explicit(&site->silent, 1, memory_order_relaxed);
	return false;
}

static size_t
stamp(char *line, size_t cap, enum log_level level)
{
	uint64_t now = clock_real_ns();
	time_t s = (time_t)(now / NS_PER_S);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(line, cap, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(
	    line + n, cap - n, ".%03uZ %s ", (unsigned)(now % NS_PER_S / NS_PER_MS), names[level]);
	return n;
}

/* A pipe that poll calls writable takes a line; a terminal is open without waiting
 * (log_never_wait). */
static void
put_line(int fd, const char *line, size_t n, uint32_t dropped)
{
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	bool waits = atomic_load_explicit(&log_waits, memory_order_relaxed);

	/* A log that cannot be written has nobody to tell. */
	if ((!waits && poll(&ready, 1, 0) <= 0) || (write(fd, line, n) < 0 && !waits))
		atomic_fetch_add_explicit(&log_dropped, dropped + 1, memory_order_relaxed);
}

void
log_line(enum log_level level, struct log_site *site, const char *format, ...)
{
	int saved = errno;
	char line[LINE_BYTES];
	uint32_t silent, dropped;
	size_t start, n;
	va_list ap;
	int m;

	if ((int)level > atomic_load_explicit(&log_max, memory_order_relaxed) ||
	    !site_allows(site, &silent))
		return;
	start = n = stamp(line, sizeof line, level);
	errno = saved; /* %m */
	va_start(ap, format);
	m = vsnprintf(line + n, sizeof line - n - 1, format, ap);
	va_end(ap);
	if (m > 0)
		n += (size_t)m < sizeof line - n - 1 ? (size_t)m : sizeof line - n - 2;
	if (silent > 0 && sizeof line - n > 32)
		n += (size_t)snprintf(line + n, sizeof line - n, " suppressed=%u", silent);
	dropped = atomic_exchange_explicit(&log_dropped, 0, memory_order_relaxed);
	if (dropped > 0 && sizeof line - n > 32)
		n += (size_t)snprintf(line + n, sizeof line - n, " dropped=%u", dropped);
	for (size_t i = start; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	put_line(atomic_load_explicit(&log_fd, memory_order_relaxed), line, n, dropped);
	errno = saved;
}

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_max, (int)level, memory_order_relaxed);
}

void
log_never_wait(void)
{
	int own = file_terminal(STDERR_FILENO);

	if (own >= 0)
		atomic_store_explicit(&log_fd, own, memory_order_relaxed);
	atomic_store_explicit(&log_waits, false, memory_order_relaxed);
}

enum err
log_level_parse(const char *name, enum log_level *out)
{
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0) {
			*out = (enum log_level)i;
			return E_OK;
		}
	return E_INVAL;
}

enum err
log_open(const char *path)
{
	int fd, old = atomic_load_explicit(&log_fd, memory_order_relaxed);

	if (path == NULL) {
		atomic_store_explicit(&log_fd, STDERR_FILENO, memory_order_relaxed);
		if (old != STDERR_FILENO)
			close(old);
		return E_OK;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
	if (fd < 0)
		return err_from_errno(errno);
	if (old != STDERR_FILENO) {
		if (dup3(fd, old, O_CLOEXEC) < 0) {
			close(fd);
			return E_IO;
		}
		close(fd);
		return E_OK;
	}
	atomic_store_explicit(&log_fd, fd, memory_order_relaxed);
	return E_OK;
}
