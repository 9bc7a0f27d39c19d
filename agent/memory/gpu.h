/*
 * gpu.h - the devices: what each uses and who holds it.  Two makers, each of
 * which may be absent: NVIDIA through NVML, found at run time, and AMD through
 * sysfs.  One thread reads; a call may take long when a driver is busy, so
 * nobody else waits for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/memory.h"

#define GPU_HOLDERS 64u /* processes on a device that are looked at */

struct gpu_holder {
	uint64_t pid, bytes;
};

struct gpu {
	char name[64], id[64]; /* id: UUID, or the place on the bus */
	bool answers;          /* else the numbers are 0: it is lost or unplugged */
	uint64_t used_bytes, total_bytes;
	uint32_t utilisation; /* percent */
	uint32_t celsius, milliwatts;
	bool holders_known;
	uint32_t holder_count;
	struct gpu_holder holders[GPU_HOLDERS];
};

struct gpus {
	uint32_t count;
	struct gpu of[MEMORY_GPUS];
	char problem[120]; /* why none, or not all, answer; "" */
};

/* ---- nvml.c ---------------------------------------------------------------- */

struct nvml;

/* Opens the library and asks for the devices. E_NOTFOUND: there is no such library; others:
 * it is not usable; why[] says it. */
MUST_CHECK enum err nvml_open(const char *library, struct nvml **out, char why[120]);
void nvml_close(struct nvml *n);
/* Appends its devices. False: the driver wants to be opened anew (a device was lost). */
bool nvml_read(struct nvml *n, struct gpus *out);

/* ---- amd.c ----------------------------------------------------------------- */

/* Appends the devices below sys_dir ("/sys") that say how much memory they use. */
void amd_read(const char *sys_dir, struct gpus *out);
