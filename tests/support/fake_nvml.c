/*
 * fake_nvml.c - NVIDIA's management library for hosts without it: as many
 * devices as a test wants, lost ones, slow ones, old ones.  FAKE_OLD leaves out
 * what came later, FAKE_BARE what can be done without, FAKE_BROKEN what cannot.
 */
#include "tests/support/fake_nvml.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUBLIC    __attribute__((visibility("default")))
#define NOT_FOUND 6
#define TOO_SMALL 7
#define LOST      15
#define GIB       (1ull << 30)

PUBLIC struct fake_nvml fake_nvml = { .gpus = 2, .lost = -1, .holders = 1, .held = GIB };

#ifdef FAKE_BROKEN
#define nvmlInit_v2 nvmlInit_of_another_version
#endif

struct fake_device {
	unsigned index;
};
static struct fake_device devices[FAKE_NVML_MOST];

PUBLIC int nvmlInit_v2(void);
PUBLIC int nvmlShutdown(void);
PUBLIC const char *nvmlErrorString(int code);
PUBLIC int nvmlDeviceGetCount_v2(unsigned *n);
PUBLIC int nvmlDeviceGetHandleByIndex_v2(unsigned i, struct fake_device **d);
PUBLIC int nvmlDeviceGetName(struct fake_device *d, char *text, unsigned cap);
PUBLIC int nvmlDeviceGetUUID(struct fake_device *d, char *text, unsigned cap);
PUBLIC int nvmlDeviceGetMemoryInfo(struct fake_device *d, unsigned long long m[3]);
PUBLIC int nvmlDeviceGetUtilizationRates(struct fake_device *d, unsigned u[2]);
PUBLIC int nvmlDeviceGetTemperature(struct fake_device *d, int sensor, unsigned *celsius);
PUBLIC int nvmlDeviceGetPowerUsage(struct fake_device *d, unsigned *milliwatts);

static unsigned
from_environment(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static int
answer(const struct fake_device *d)
{
	unsigned slow = fake_nvml.slow_ms;
	struct timespec nap = { slow / 1000, (long)(slow % 1000) * 1000000 };

	if (slow > 0)
		nanosleep(&nap, NULL);
	return (int)d->index == fake_nvml.lost ? LOST : 0;
}

int
nvmlInit_v2(void)
{
	fake_nvml.inits++;
	fake_nvml.gpus = from_environment("FAKE_NVML_GPUS", fake_nvml.gpus);
	fake_nvml.pid = from_environment("FAKE_NVML_PID", fake_nvml.pid);
	for (unsigned i = 0; i < FAKE_NVML_MOST; i++) {
		devices[i].index = i;
		if (fake_nvml.used[i] == 0)
			fake_nvml.used[i] = (i + 1) * GIB;
	}
	return fake_nvml.init_result;
}

int
nvmlShutdown(void)
{
	fake_nvml.shutdowns++;
	return 0;
}

int
nvmlDeviceGetCount_v2(unsigned *n)
{
	*n = fake_nvml.gpus;
	return fake_nvml.count_result;
}

int
nvmlDeviceGetHandleByIndex_v2(unsigned i, struct fake_device **d)
{
	if (i >= fake_nvml.gpus || (int)i == fake_nvml.lost)
		return i >= fake_nvml.gpus ? NOT_FOUND : LOST;
	*d = &devices[i];
	return 0;
}

int
nvmlDeviceGetMemoryInfo(struct fake_device *d, unsigned long long m[3])
{
	fake_nvml.reads++;
	m[0] = 80 * GIB;
	m[2] = fake_nvml.used[d->index] + GIB / 2; /* with what the driver keeps */
	m[1] = m[0] - m[2];
	return answer(d);
}

#ifndef FAKE_BARE
const char *
nvmlErrorString(int code)
{
	return code == LOST ? "GPU is lost" : "Unknown Error";
}

int
nvmlDeviceGetName(struct fake_device *d, char *text, unsigned cap)
{
	snprintf(text, cap, "Fake GPU %u", d->index);
	return 0;
}

int
nvmlDeviceGetUUID(struct fake_device *d, char *text, unsigned cap)
{
	snprintf(text, cap, "GPU-fa4e0000-0000-4000-8000-%012u", d->index);
	return 0;
}

int
nvmlDeviceGetUtilizationRates(struct fake_device *d, unsigned u[2])
{
	u[0] = 50 + d->index;
	u[1] = 10;
	return 0;
}

int
nvmlDeviceGetTemperature(struct fake_device *d, int sensor, unsigned *celsius)
{
	*celsius = 60 + d->index;
	return sensor == 0 ? 0 : NOT_FOUND;
}

int
nvmlDeviceGetPowerUsage(struct fake_device *d, unsigned *milliwatts)
{
	*milliwatts = 300500 + d->index;
	return 0;
}

struct process_1 {
	unsigned pid;
	unsigned long long used;
};
struct process_2 {
	unsigned pid;
	unsigned long long used;
	unsigned instance, compute_instance;
};

static int
room_for_holders(unsigned *count)
{
	unsigned room = *count;

	*count = fake_nvml.holders;
	if (fake_nvml.processes_result != 0)
		return fake_nvml.processes_result;
	return fake_nvml.holders > room ? TOO_SMALL : 0;
}

#ifdef FAKE_OLD
PUBLIC int nvmlDeviceGetComputeRunningProcesses(
    struct fake_device *d, unsigned *count, struct process_1 *infos);

int
nvmlDeviceGetComputeRunningProcesses(
    struct fake_device *d, unsigned *count, struct process_1 *infos)
{
	int rv = room_for_holders(count);

	(void)d;
	for (unsigned i = 0; rv == 0 && i < *count; i++)
		infos[i] = (struct process_1){ fake_nvml.pid + i, fake_nvml.held };
	return rv;
}
#else
struct memory_2 {
	unsigned version;
	unsigned long long total, reserved, free, used;
};
PUBLIC int nvmlDeviceGetMemoryInfo_v2(struct fake_device *d, struct memory_2 *m);
PUBLIC int nvmlDeviceGetComputeRunningProcesses_v3(
    struct fake_device *d, unsigned *count, struct process_2 *infos);
PUBLIC int nvmlDeviceGetGraphicsRunningProcesses_v3(
    struct fake_device *d, unsigned *count, struct process_2 *infos);

int
nvmlDeviceGetMemoryInfo_v2(struct fake_device *d, struct memory_2 *m)
{
	if (m->version != (sizeof *m | 2u << 24))
		return 25; /* argument version mismatch */
	fake_nvml.reads++;
	m->total = 80 * GIB;
	m->reserved = GIB / 2;
	m->used = fake_nvml.used[d->index];
	m->free = m->total - m->used - m->reserved;
	return answer(d);
}

int
nvmlDeviceGetComputeRunningProcesses_v3(
    struct fake_device *d, unsigned *count, struct process_2 *infos)
{
	int rv = room_for_holders(count);

	(void)d;
	for (unsigned i = 0; rv == 0 && i < *count; i++)
		infos[i] = (struct process_2){ fake_nvml.pid + i, fake_nvml.held, ~0u, ~0u };
	return rv;
}

int
nvmlDeviceGetGraphicsRunningProcesses_v3(
    struct fake_device *d, unsigned *count, struct process_2 *infos)
{
	return nvmlDeviceGetComputeRunningProcesses_v3(d, count, infos);
}
#endif
#endif
