/*
 * nvml.c - NVIDIA's management library, by dlopen alone: nothing of it is
 * needed to build, and a host without it costs one failed look-up.
 *
 * The interface is NVIDIA's public, versioned C ABI (NVML API reference):
 * functions answer 0 or a code, structures below are those of the versions
 * that their names say.  What is absent is done without.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/memory/gpu.h"

#define NVML_SUCCESS         0
#define NVML_NO_VALUE        UINT64_MAX /* a number that the driver may not tell */
#define NVML_TEMPERATURE_GPU 0
#define NVML_MEMORY_2        (sizeof(struct nvml_memory_2) | 2u << 24)

typedef void *nvml_device;

struct nvml_memory {
	unsigned long long total, free, used;
};
struct nvml_memory_2 { /* `used` without what the driver keeps for itself */
	unsigned version;
	unsigned long long total, reserved, free, used;
};
struct nvml_utilisation {
	unsigned gpu, memory;
};
struct nvml_process_1 {
	unsigned pid;
	unsigned long long used;
};
struct nvml_process_2 { /* of the functions _v2 and _v3 */
	unsigned pid;
	unsigned long long used;
	unsigned instance, compute_instance;
};

typedef int (*processes_fn)(nvml_device d, unsigned *count, void *infos);

struct nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	const char *(*error_text)(int code);
	int (*count)(unsigned *n);
	int (*handle)(unsigned i, nvml_device *d);
	int (*name)(nvml_device d, char *text, unsigned cap);
	int (*uuid)(nvml_device d, char *text, unsigned cap);
	int (*memory)(nvml_device d, struct nvml_memory *m);
	int (*memory_2)(nvml_device d, struct nvml_memory_2 *m);
	int (*utilisation)(nvml_device d, struct nvml_utilisation *u);
	int (*temperature)(nvml_device d, int sensor, unsigned *celsius);
	int (*power)(nvml_device d, unsigned *milliwatts);
	processes_fn compute, graphics;
	bool compute_is_old, graphics_is_old; /* infos are nvml_process_1 */
	unsigned device_count;
	nvml_device devices[MEMORY_GPUS];
};

/* POSIX promises that a pointer to a function survives this; ISO C has no cast for it. */
#define FIND(n, field, symbol) find((n)->library, (symbol), &(n)->field, sizeof(n)->field)

static bool
find(void *library, const char *symbol, void *field, size_t n)
{
	void *p = dlsym(library, symbol);

	_Static_assert(sizeof p == sizeof(int (*)(void)), "dlsym's answer holds a function");
	memcpy(field, &p, n);
	return p != NULL;
}

static bool
find_all(struct nvml *n)
{
	bool needed = FIND(n, init, "nvmlInit_v2") && FIND(n, shutdown, "nvmlShutdown") &&
		      FIND(n, count, "nvmlDeviceGetCount_v2") &&
		      FIND(n, handle, "nvmlDeviceGetHandleByIndex_v2");
	bool newer = FIND(n, memory_2, "nvmlDeviceGetMemoryInfo_v2");
	bool older = FIND(n, memory, "nvmlDeviceGetMemoryInfo");

	(void)FIND(n, error_text, "nvmlErrorString");
	(void)FIND(n, name, "nvmlDeviceGetName");
	(void)FIND(n, uuid, "nvmlDeviceGetUUID");
	(void)FIND(n, utilisation, "nvmlDeviceGetUtilizationRates");
	(void)FIND(n, temperature, "nvmlDeviceGetTemperature");
	(void)FIND(n, power, "nvmlDeviceGetPowerUsage");
	if (!FIND(n, compute, "nvmlDeviceGetComputeRunningProcesses_v3") &&
	    !FIND(n, compute, "nvmlDeviceGetComputeRunningProcesses_v2"))
		n->compute_is_old = FIND(n, compute, "nvmlDeviceGetComputeRunningProcesses");
	if (!FIND(n, graphics, "nvmlDeviceGetGraphicsRunningProcesses_v3") &&
	    !FIND(n, graphics, "nvmlDeviceGetGraphicsRunningProcesses_v2"))
		n->graphics_is_old = FIND(n, graphics, "nvmlDeviceGetGraphicsRunningProcesses");
	return needed && (newer || older);
}

static void
say(const struct nvml *n, char why[120], const char *what, int code)
{
	const char *text = n->error_text != NULL ? n->error_text(code) : NULL;

	snprintf(why, 120, "NVML: %s: %s (%d)", what, text != NULL ? text : "error", code);
}

/* The devices by index; one that does not answer keeps its place, without a handle. */
static enum err
find_devices(struct nvml *n, char why[120])
{
	unsigned count = 0;
	int rv = n->count(&count);

	if (rv != NVML_SUCCESS) {
		say(n, why, "device count", rv);
		return E_IO;
	}
	n->device_count = count < MEMORY_GPUS ? count : MEMORY_GPUS;
	for (unsigned i = 0; i < n->device_count; i++) {
		rv = n->handle(i, &n->devices[i]);
		if (rv != NVML_SUCCESS) {
			n->devices[i] = NULL;
			say(n, why, "a device", rv);
		}
	}
	return E_OK;
}

enum err
nvml_open(const char *library, struct nvml **out, char why[120])
{
	struct nvml *n = calloc(1, sizeof *n);
	enum err e;
	int rv;

	why[0] = '\0';
	if (n == NULL)
		return E_NOMEM;
	/* dlerror is not told: it names paths, and most hosts have no such library. */
	n->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (n->library == NULL) {
		snprintf(why, 120, "NVML: no %.80s", library);
		free(n);
		return E_NOTFOUND;
	}
	if (!find_all(n)) {
		snprintf(why, 120, "NVML: functions are missing");
		dlclose(n->library);
		free(n);
		return E_INVAL;
	}
	rv = n->init();
	if (rv != NVML_SUCCESS) {
		say(n, why, "start", rv);
		dlclose(n->library);
		free(n);
		return E_IO;
	}
	e = find_devices(n, why);
	if (e != E_OK) {
		nvml_close(n);
		return e;
	}
	*out = n;
	return E_OK;
}

void
nvml_close(struct nvml *n)
{
	if (n == NULL)
		return;
	(void)n->shutdown(); /* nothing to do about it */
	dlclose(n->library);
	free(n);
}

/* ---- one device ------------------------------------------------------------- */

static int
read_memory(const struct nvml *n, nvml_device d, struct gpu *g)
{
	struct nvml_memory_2 two = { .version = NVML_MEMORY_2 };
	struct nvml_memory one = { 0 };
	int rv = -1;

	if (n->memory_2 != NULL && (rv = n->memory_2(d, &two)) == NVML_SUCCESS) {
		g->used_bytes = two.used;
		g->total_bytes = two.total;
	} else if (n->memory != NULL && (rv = n->memory(d, &one)) == NVML_SUCCESS) {
		g->used_bytes = one.used;
		g->total_bytes = one.total;
	}
	return rv;
}

static void
add_holder(struct gpu *g, uint64_t pid, uint64_t bytes)
{
	if (bytes == NVML_NO_VALUE) {
		g->holders_known = false;
		return;
	}
	for (uint32_t i = 0; i < g->holder_count; i++)
		if (g->holders[i].pid == pid) { /* it computes and draws: told twice, the same */
			if (bytes > g->holders[i].bytes)
				g->holders[i].bytes = bytes;
			return;
		}
	if (g->holder_count < GPU_HOLDERS)
		g->holders[g->holder_count++] = (struct gpu_holder){ pid, bytes };
}

/* False: it cannot say. More processes than there is room for are an error of the call. */
static bool
read_holders(processes_fn list, bool old, nvml_device d, struct gpu *g)
{
	union {
		struct nvml_process_1 one[GPU_HOLDERS];
		struct nvml_process_2 two[GPU_HOLDERS];
	} infos;
	unsigned count = GPU_HOLDERS;

	memset(&infos, 0, sizeof infos);
	if (list == NULL || list(d, &count, &infos) != NVML_SUCCESS || count > GPU_HOLDERS)
		return false;
	for (unsigned i = 0; i < count; i++) {
		if (old)
			add_holder(g, infos.one[i].pid, infos.one[i].used);
		else
			add_holder(g, infos.two[i].pid, infos.two[i].used);
	}
	return true;
}

static void
read_text(int (*fn)(nvml_device d, char *text, unsigned cap), nvml_device d, char *to)
{
	char text[128] = "";

	if (fn == NULL || fn(d, text, sizeof text) != NVML_SUCCESS)
		return;
	text[sizeof text - 1] = '\0';
	snprintf(to, 64, "%.63s", text);
}

static int
read_device(const struct nvml *n, nvml_device d, struct gpu *g)
{
	struct nvml_utilisation u = { 0 };
	unsigned v = 0;
	int rv = read_memory(n, d, g);

	if (rv != NVML_SUCCESS)
		return rv;
	g->answers = true;
	read_text(n->name, d, g->name);
	read_text(n->uuid, d, g->id);
	if (n->utilisation != NULL && n->utilisation(d, &u) == NVML_SUCCESS)
		g->utilisation = u.gpu;
	if (n->temperature != NULL && n->temperature(d, NVML_TEMPERATURE_GPU, &v) == NVML_SUCCESS)
		g->celsius = v;
	if (n->power != NULL && n->power(d, &v) == NVML_SUCCESS)
		g->milliwatts = v;
	g->holders_known = true;
	if (!read_holders(n->compute, n->compute_is_old, d, g))
		g->holders_known = false;
	(void)read_holders(n->graphics, n->graphics_is_old, d, g);
	return NVML_SUCCESS;
}

bool
nvml_read(struct nvml *n, struct gpus *out)
{
	bool well = true;

	for (unsigned i = 0; i < n->device_count && out->count < MEMORY_GPUS; i++) {
		struct gpu *g = &out->of[out->count++];
		int rv;

		memset(g, 0, sizeof *g);
		if (n->devices[i] == NULL) {
			well = false;
			continue;
		}
		rv = read_device(n, n->devices[i], g);
		if (rv != NVML_SUCCESS) {
			say(n, out->problem, "memory of a device", rv);
			well = false;
		}
	}
	return well;
}
