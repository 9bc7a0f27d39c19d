/*
 * internal.h - what the files of the sampler share.
 */
#pragma once

#include <pthread.h>

#include "agent/base/thread.h"
#include "agent/memory/gpu.h"
#include "agent/memory/jobs.h"
#include "agent/memory/memory.h"
#include "agent/memory/order.h"
#include "agent/memory/process.h"
#include "agent/memory/series.h"

/* Places in a point of a process, and in one of a device. */
enum { V_RSS, V_PEAK, V_ANON, V_SWAP, V_GPU, V_GROUP };
enum { V_USED, V_USED_PEAK, V_BUSY, V_CELSIUS, V_WATTS, V_OURS };

enum slot_state {
	PLACE_FREE,
	PLACE_NEW, /* asked for, the sampler opens it */
	PLACE_LIVING,
	PLACE_GONE, /* its series stays until somebody needs the place */
};

struct slot {
	enum slot_state state;
	uint64_t pid, start_ticks;
	uint64_t job;                   /* span id of the one that runs, 0 none */
	uint32_t devices;               /* bits of those that it was seen on */
	struct gpu_order told, visible; /* its indices: torch's word; its environment's */
	uint64_t gpu_bytes;
	uint64_t ended_ns; /* monotonic, when it was seen to be gone */
	bool earlier_boot; /* pid and ticks are of another life of the host */
	struct process_sample now;
	struct series series;
	/* the sampler's alone */
	struct process process;
	uint64_t due_ns, more_ns, sampled_ns;
	uint32_t seconds; /* how often `more` was read */
};

struct device {
	bool known;
	bool lists; /* its driver has named holders */
	struct gpu now;
	struct series series;
	uint64_t sampled_ns;
};

struct keep; /* keep.c */

struct memory {
	char proc_dir[200], sys_dir[200], nvml[200];
	uint64_t slow_ns, fast_ns;
	struct keep *keep; /* NULL: nothing is kept */
	int meminfo_fd, pressure_fd;
	struct thread sampler, reader;
	struct gpus read; /* the reader's alone */
	struct waker wake_sampler, wake_reader;
	bool started, reader_stuck;

	pthread_mutex_t lock; /* all below; held for copies, never across a read */
	pthread_cond_t reader_idle;
	bool reader_busy;
	unsigned living;
	struct slot slots[MEMORY_PROCESSES];
	struct device devices[MEMORY_GPUS];
	struct jobs jobs;
	struct host_text host;
	struct pressure_text host_pressure;
	char gpu_problem[120];
	uint64_t samples, sampler_cpu_ns, gpu_reads, gpu_read_ns, not_followed;
};

/* sampler.c */
void sampler_run(void *m);
/* devices.c */
void devices_run(void *m);
/* Under the lock: what a read said. */
void devices_take(struct memory *m, const struct gpus *read, uint64_t now_ns);

/* ---- keep.c: in the data directory ------------------------------------------ */

enum keep_kind { KEEP_PROCESS = 1, KEEP_DEVICE = 2 };

/* Reads what is there into m, before its threads start. */
MUST_CHECK enum err keep_open(struct memory *m, const char *data_dir, struct keep **out);
/* From now on it writes; a failure is logged. */
MUST_CHECK enum err keep_start(struct keep *k);
void keep_close(struct keep *k);
/* Append a minute, either thread; a failure is logged once and ends the keeping. A process is known
 * by pid and ticks, a device by its id. */
void keep_minute(struct keep *k, enum keep_kind kind, uint64_t pid, uint64_t start_ticks,
    const char *id, const char *name, const struct point *minute);
/* Append one that has ended; the same. */
void keep_ran(struct keep *k, enum span_kind kind, const struct ran *r);

/* jobs_view.c: the jobs of a process and their nodes, from copies. Members of the process's
 * object. */
void jobs_view(struct outbuf *b, const struct jobs *all, const struct memory_process_now *p,
    bool earlier_boot, int64_t since_ns, int64_t ahead_ns);

/* memory.c, under the lock (or before the threads start): a place for a process or device, NULL
 * when there is none. What is longest gone makes room. */
struct slot *slot_find(struct memory *m, uint64_t pid, uint64_t start_ticks, bool earlier_boot);
struct slot *slot_take(struct memory *m, uint64_t pid, uint64_t start_ticks, bool earlier_boot);
/* Under the lock. */
void slot_now(const struct memory *m, const struct slot *s, struct memory_process_now *out);
void device_now(const struct gpu *g, struct memory_gpu_now *out);
/* devices.c, the same: where a device is or was by its id, else a free place. */
struct device *device_take(struct memory *m, const char *id, unsigned index);
