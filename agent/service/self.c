/*
 * self.c - what the agent's own process takes.  Any thread; a small read.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/service/pipeline.h"

static uint64_t
time_ns(struct timeval t)
{
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_usec * 1000;
}

void
self_now(struct status_self *out)
{
	unsigned long long pages = 0;
	struct rusage used;
	FILE *f = fopen("/proc/self/statm", "re");

	*out = (struct status_self){ 0 };
	if (f != NULL && fscanf(f, "%*u %llu", &pages) == 1)
		out->rss_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	if (f != NULL)
		fclose(f);
	if (getrusage(RUSAGE_SELF, &used) == 0)
		out->cpu_ns = time_ns(used.ru_utime) + time_ns(used.ru_stime);
}
