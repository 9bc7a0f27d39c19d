/*
 * clock.c - clocks with a shift for tests.  Any thread.
 */
#include "agent/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t shift_mono, shift_real;

static uint64_t
read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t
clock_mono_ns(void)
{
	return read_clock(CLOCK_MONOTONIC) +
	       (uint64_t)atomic_load_explicit(&shift_mono, memory_order_relaxed);
}

uint64_t
clock_real_ns(void)
{
	return read_clock(CLOCK_REALTIME) +
	       (uint64_t)atomic_load_explicit(&shift_real, memory_order_relaxed);
}

uint64_t
clock_thread_cpu_ns(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool
clock_boot_id(uint8_t out[16])
{
	char text[64];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	bool silent = fd < 0 && (errno == ENOENT || errno == EACCES);
	unsigned digits = 0;

	if (fd >= 0)
		close(fd);
	memset(out, 0, 16);
	for (ssize_t i = 0; i < n && digits < 32; i++) {
		int v = hex(text[i]);

		if (v < 0)
			continue; /* the dashes */
		out[digits / 2] = (uint8_t)(out[digits / 2] << 4 | v);
		digits++;
	}
	return silent || digits == 32;
}

void
clock_test_shift(int64_t mono_ns, int64_t real_ns)
{
	atomic_store_explicit(&shift_mono, mono_ns, memory_order_relaxed);
	atomic_store_explicit(&shift_real, real_ns, memory_order_relaxed);
}
