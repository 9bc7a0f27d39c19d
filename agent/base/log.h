/*
 * log.h - the log: one line `TIME LEVEL event key=value ...` a message, to
 * stderr or a file.  Any thread; errno is kept; a message never blocks on more
 * than one write(2).  A call site that speaks more than LOG_BURST times within
 * LOG_WINDOW_S is silent for the rest of it, and then says how often it was.
 *
 * The text is `event key=value ...`: log_warn("listen_failed path=%s", path).
 * Control characters become '?', so a peer's bytes cannot forge a line.
 */
#pragma once

#include <stdint.h>

#include "agent/base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#define LOG_BURST    10u
#define LOG_WINDOW_S 60u

/* State of one call site; zero to begin. */
struct log_site {
	_Atomic uint64_t window; /* seconds, monotonic */
	_Atomic uint32_t said, silent;
};

void log_line(enum log_level level, struct log_site *site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define LOG_AT(level, ...)                                       \
	do {                                                     \
		static struct log_site log_site_here_;           \
		log_line((level), &log_site_here_, __VA_ARGS__); \
	} while (0)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_info(...)  LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)

/* Messages above this level are not written. LOG_INFO at start. */
void log_set_level(enum log_level level);
/* "error" "warn" "info" "debug"; E_INVAL for others. */
MUST_CHECK enum err log_level_parse(const char *name, enum log_level *out);
/* From now on a line that standard error does not take at once is dropped: the next one says how
 * many. */
void log_never_wait(void);
/* Append to a file (0600, no symlink) instead of stderr; NULL goes back to stderr. */
MUST_CHECK enum err log_open(const char *path);
