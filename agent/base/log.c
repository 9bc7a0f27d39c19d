/*
 * log.c - formats a line on the stack and writes it with one write(2).  Any
 * thread; the descriptor is swapped by dup2 so that a writer never meets a
 * closed one.
 */
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"

#define LINE_BYTES 2048

static _Atomic int log_max = LOG_INFO;
static _Atomic int log_fd = STDERR_FILENO;
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

void
log_line(enum log_level level, struct log_site *site, const char *format, ...)
{
	int saved = errno;
	char line[LINE_BYTES];
	uint32_t silent;
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
	for (size_t i = start; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';

	ssize_t ignored = write(atomic_load_explicit(&log_fd, memory_order_relaxed), line, n);

	(void)ignored; /* a log that cannot be written has nobody to tell */
	errno = saved;
}

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_max, (int)level, memory_order_relaxed);
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
