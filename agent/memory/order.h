/*
 * order.h - which device a process means by its index: torch's order is not the
 * driver's.  Best is what torch itself says (the UUID of each, in the records of
 * jobs); else CUDA_VISIBLE_DEVICES as the process was started with; else the
 * driver's order.  The last two take it that CUDA counts as the driver does,
 * which it does among cards of one kind, or with CUDA_DEVICE_ORDER=PCI_BUS_ID.
 * Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/memory.h"
#include "agent/core/process.h"

#define ORDER_ID_BYTES 64u

/* By the process's index: a UUID or how one begins, or the driver's index as a number; "": none. */
struct gpu_order {
	bool given;
	uint32_t count;
	char id[MEMORY_GPUS][ORDER_ID_BYTES];
};

/* The value of CUDA_VISIBLE_DEVICES; what stands behind an entry that CUDA would not take is not
 * visible. */
void order_visible(struct gpu_order *o, const char *value);
/* The same out of /proc/PID/environ: texts, each with its NUL. */
void order_environ(struct gpu_order *o, const char *environ, size_t n);
/* What the record of a job says; as it was when it says nothing. */
void order_told(struct gpu_order *o, const struct span_seen *s);
/* The driver's index of the process's i-th device, by the ids that the driver told; false: it has
 * none, or one that the driver does not list (a part of a card, say). */
bool order_find(const struct gpu_order *o, unsigned i, const char ids[MEMORY_GPUS][ORDER_ID_BYTES],
    unsigned *out);
