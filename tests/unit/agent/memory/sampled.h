/*
 * sampled.h - for tests of the sampler with its threads: on this process and
 * children of its own, on a folder that looks like /proc, and on a library that
 * looks like NVIDIA's.
 */
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/memory/internal.h"
#include "tests/support/fake_nvml.h"
#include "tests/t.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static char dir[64], proc_dir[80], data_dir[80];

static inline void
nap_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static inline struct memory *
sampler(const struct memory_options *o)
{
	struct memory_options all = *o;
	struct memory *m = NULL;

	if (all.slow_ms == 0)
		all.slow_ms = 20;
	if (all.fast_ms == 0)
		all.fast_ms = 5;
	CHECK_EQ(memory_new(&all, &m), E_OK);
	if (m == NULL || memory_start(m) != E_OK)
		exit(2);
	return m;
}
#define SAMPLER(...) sampler(&(struct memory_options){ __VA_ARGS__ })

static struct memory_now now;

/* Until the condition holds, ten seconds at most. */
#define WAIT_FOR(m, condition)                                 \
	do {                                                   \
		for (int w_ = 0; w_ < 2000; w_++, nap_ms(5)) { \
			memory_now((m), &now);                 \
			if (condition)                         \
				break;                         \
		}                                              \
		CHECK(condition);                              \
	} while (0)

/* ---- a folder that looks like /proc --------------------------------------------------- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static inline void
put(const char *name, const char *format, uint64_t v)
{
	char path[300], text[1000];
	int fd, n = snprintf(text, sizeof text, format, v);

	snprintf(path, sizeof path, "%s/%s", proc_dir, name);
	for (char *p = path + strlen(proc_dir) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		(void)mkdir(path, 0700);
		*p = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT, 0600); /* in place, as long as before */
	CHECK(fd >= 0 && pwrite(fd, text, (size_t)n, 0) == n);
	if (fd >= 0)
		close(fd);
}
#pragma GCC diagnostic pop

static inline void
put_rss(uint64_t pid, uint64_t kib)
{
	char name[40];

	snprintf(name, sizeof name, "%" PRIu64 "/status", pid);
	put(name, "Name:\tx\nState:\tS (sleeping)\nVmHWM:\t       4 kB\nVmRSS:\t%8" PRIu64 " kB\n",
	    kib);
}

static inline void
put_process(uint64_t pid, uint64_t kib)
{
	char name[40];

	put_rss(pid, kib);
	snprintf(name, sizeof name, "%" PRIu64 "/stat", pid);
	put(name, "1 (x) S 1 1 1 0 -1 1 1 1 55 1 1 1 1 1 1 1 1 0 %" PRIu64 " 1\n", 1000);
	snprintf(name, sizeof name, "%" PRIu64 "/fd/0", pid);
	put(name, "%" PRIu64, 0);
	put("meminfo", "MemTotal: 2000 kB\nMemAvailable: %" PRIu64 " kB\n", 900);
	put("pressure/memory", "some avg10=1.50 x\nfull avg10=0.25 %" PRIu64 "\n", 0);
}

/* ---- devices ----------------------------------------------------------------------------- */

static inline const char *
fake_library(struct fake_nvml **fake)
{
	static char path[500];
	char self[400];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	void *handle;

	self[n > 0 ? n : 0] = '\0';
	if (strrchr(self, '/') != NULL)
		*strrchr(self, '/') = '\0';
	snprintf(path, sizeof path, "%s/fake_nvml_fake.so", self);
	handle = dlopen(path, RTLD_NOW); /* for good */
	*fake = handle != NULL ? dlsym(handle, "fake_nvml") : NULL;
	if (*fake == NULL)
		exit(2);
	(*fake)->gpus = 2;
	(*fake)->pid = 101;
	(*fake)->slow_ms = 0;
	return path;
}

/* ---- folders ------------------------------------------------------------------------------- */

static inline bool
folders_make(void)
{
	snprintf(dir, sizeof dir, "/tmp/memory_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return false;
	snprintf(proc_dir, sizeof proc_dir, "%s/proc", dir);
	snprintf(data_dir, sizeof data_dir, "%s/data", dir);
	return mkdir(proc_dir, 0700) == 0 && mkdir(data_dir, 0700) == 0;
}

static inline bool
folders_remove(void)
{
	char command[100];

	snprintf(command, sizeof command, "rm -r %s", dir);
	return system(command) == 0;
}
