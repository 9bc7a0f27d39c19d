/*
 * clockshift.c - a shim for LD_PRELOAD: the wall clock of one process is wrong.
 *
 * CLOCK_SHIFT_FILE names a file with a decimal number of seconds that is added
 * to CLOCK_REALTIME, read again every 10 ms: a test writes it to set the clock.
 * CLOCK_MONOTONIC is left alone, as settimeofday leaves it.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define AGAIN_NS 10000000

static _Atomic int64_t shift, read_at;

static int64_t
monotonic(void)
{
	struct timespec t;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t
seconds(void)
{
	int64_t now = monotonic();
	const char *path = getenv("CLOCK_SHIFT_FILE");
	char text[32] = "";
	int fd;

	if (path == NULL || (atomic_load(&read_at) != 0 && now - atomic_load(&read_at) < AGAIN_NS))
		return atomic_load(&shift);
	atomic_store(&read_at, now);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) > 0)
			atomic_store(&shift, strtoll(text, NULL, 10));
		close(fd);
	}
	return atomic_load(&shift);
}

int
clock_gettime(clockid_t which, struct timespec *t)
{
	int rv = (int)syscall(SYS_clock_gettime, which, t);

	if (rv == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
		t->tv_sec += seconds();
	return rv;
}

int
gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out != NULL)
		*out = now.tv_sec;
	return now.tv_sec;
}
