/*
 * resident.c - resident memory from /proc/self/statm.  See resident.h
 */
#include "probe/python/resident.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int statm = -1;
static pid_t owner;
static uint64_t page_bytes;

uint64_t
resident_bytes(void)
{
	int saved = errno;
	char text[128], *end;
	ssize_t n;
	uint64_t pages = 0;

	if (statm < 0 || owner != getpid()) { /* a child's is its parent's memory */
		if (statm >= 0)
			close(statm);
		statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
		owner = getpid();
		page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	}
	n = statm >= 0 ? pread(statm, text, sizeof text - 1, 0) : -1;
	if (n < 0 && statm >= 0)
		statm = -1; /* not ours any more: leave it alone */
	if (n > 0) {
		text[n] = '\0';
		(void)strtoull(text, &end, 10);
		pages = strtoull(end, NULL, 10);
	}
	errno = saved;
	return pages * page_bytes;
}
