/*
 * comfy_rss.c - see comfy_rss.h
 *
 * The descriptor stays open.  The host may close it behind our back and get
 * its number for a file of its own: that is noticed by the file's inode, and
 * then left alone.
 */
#include "probe/python/comfy_rss.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include "probe/core/own.h"

#define STATM_FIELDS 7

static struct own_fd statm = OWN_NONE;
static bool tried;
static uint64_t last_ns, last_bytes;

uint64_t
rss_parse(const char *p, size_t n)
{
	uint64_t value = 0, resident = 0;
	int field = 0;
	bool digits = false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] >= '0' && p[i] <= '9') {
			value = value * 10 + (uint64_t)(p[i] - '0');
			digits = true;
		} else if (digits && (p[i] == ' ' || p[i] == '\n')) {
			if (field++ == 1)
				resident = value;
			value = 0;
			digits = false;
		} else {
			return 0;
		}
	}
	return field == STATM_FIELDS && !digits ? resident : 0;
}

static uint64_t
measure(void)
{
	char text[160];
	int fd = own_get(&statm);
	if (fd < 0) {
		if (tried)
			return 0;
		tried = true;
		fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
		if (fd < 0 || own_set(&statm, fd) != 0)
			return 0;
	}
	ssize_t n = pread(fd, text, sizeof text, 0);
	return n > 0 ? rss_parse(text, (size_t)n) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t
rss_bytes(uint64_t now_ns)
{
	if (last_ns == 0 || now_ns - last_ns > RSS_FRESH_NS) {
		last_bytes = measure();
		last_ns = now_ns;
	}
	return last_bytes;
}

void
rss_close(void)
{
	own_close(&statm);
	tried = false;
	last_ns = 0;
}

uint64_t
rss_peak_ever(void)
{
	struct rusage u;
	return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024 : 0;
}
