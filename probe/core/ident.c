/*
 * ident.c - clocks, the id generator, the process's pid, start and boot.  Any
 * thread.  The generator is splitmix64 with a stream of its own per thread:
 * two threads, or a parent and its child, never share a state.
 */
#include "probe/core/ident.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "probe/core/probe.h"

static atomic_uint forks = 1;

static __thread struct {
	uint64_t state, step;
	unsigned forks; /* value of the counter above when seeded, 0 never */
} rng;

uint64_t
comfymon_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void
ident_clock_pair(uint64_t *mono_ns, uint64_t *real_ns)
{
	struct timespec m, r;

	clock_gettime(CLOCK_MONOTONIC, &m);
	clock_gettime(CLOCK_REALTIME, &r);
	*mono_ns = (uint64_t)m.tv_sec * NS_PER_S + (uint64_t)m.tv_nsec;
	*real_ns = (uint64_t)r.tv_sec * NS_PER_S + (uint64_t)r.tv_nsec;
}

static uint64_t
mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void
ident_random(void *p, size_t n)
{
	uint8_t *at = p;

	while (n > 0) {
		ssize_t got = getrandom(at, n, GRND_NONBLOCK);

		if (got <= 0)
			break;
		at += got;
		n -= (size_t)got;
	}
	for (uint64_t k = comfymon_now_ns() ^ (uintptr_t)&k ^ (uint64_t)getpid() << 40; n > 0;
	     n--, k++)
		*at++ = (uint8_t)mix(k * UINT64_C(0x9e3779b97f4a7c15));
}

void
ident_forked(void)
{
	atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

uint64_t
comfymon_random_id(void)
{
	unsigned now = atomic_load_explicit(&forks, memory_order_relaxed);
	uint64_t id;

	if (rng.forks != now) {
		ident_random(&rng.state, sizeof rng.state);
		ident_random(&rng.step, sizeof rng.step);
		rng.step |= 1;
		rng.forks = now;
	}
	do {
		rng.state += rng.step;
		id = mix(rng.state);
	} while (id == 0);
	return id;
}

void
comfymon_new_trace_id(uint64_t *hi, uint64_t *lo)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	*hi = (uint64_t)t.tv_sec << 32;
	*lo = comfymon_random_id();
}

static ssize_t
read_small(const char *path, char *buf, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	buf[0] = '\0';
	if (fd < 0)
		return -1;
	n = read(fd, buf, cap - 1);
	close(fd);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

void
ident_process(uint64_t *pid, uint64_t *start_ticks, uint8_t boot_id[FRAME_BOOT_ID_BYTES])
{
	char text[1024], *p;
	unsigned nibbles = 0;

	*pid = (uint64_t)getpid();
	*start_ticks = 0;
	memset(boot_id, 0, FRAME_BOOT_ID_BYTES);
	/* The name in parentheses may hold anything: count fields after the last ')'. */
	if (read_small("/proc/self/stat", text, sizeof text) > 0 &&
	    (p = strrchr(text, ')')) != NULL) {
		p++;
		for (int field = 3; field < 22 && p != NULL; field++)
			p = strchr(p + 1, ' ');
		if (p != NULL)
			*start_ticks = strtoull(p, NULL, 10);
	}
	if (read_small("/proc/sys/kernel/random/boot_id", text, sizeof text) <= 0)
		return;
	for (p = text; *p != '\0' && nibbles < 2 * FRAME_BOOT_ID_BYTES; p++) {
		int v = *p >= '0' && *p <= '9'   ? *p - '0'
			: *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
						 : -1;
		if (v < 0)
			continue;
		boot_id[nibbles / 2] = (uint8_t)(boot_id[nibbles / 2] << 4 | v);
		nibbles++;
	}
}
