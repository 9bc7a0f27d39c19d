/*
 * blackbox.h - one file for each end of the supervised process: verdict,
 * evidence, memory curve, last lines.  Owner only, local only: the lines are
 * ComfyUI's own words and may hold what a person typed, so they are never
 * sent.  Main thread.
 *
 * DATA_DIR/deaths/ID.json, one JSON object; ID sorts by time.  Keys are only
 * ever added.
 */
#pragma once

#include <sys/types.h>

#include "agent/supervisor/death.h"
#include "agent/supervisor/output.h"

#define BLACKBOX_DIR     "deaths"
#define BLACKBOX_KEEP    50u
#define BLACKBOX_SAMPLES 120u

struct memory_sample {
	uint64_t mono_ns, bytes;
};

struct blackbox {
	struct death death;
	struct evidence evidence;
	pid_t pid;
	const char *life;
	uint64_t time_real_ns, mono_ns, uptime_ms;
	const char *method, *method_why; /* how the limit was enforced */
	uint64_t host_total_bytes, host_available_bytes;
	bool restarted;
	uint64_t restart_delay_ms;
	const char *restart_why; /* why not */
	struct memory_sample samples[BLACKBOX_SAMPLES];
	uint32_t sample_count;   /* ever taken; the newest BLACKBOX_SAMPLES are kept */
	const struct tail *tail; /* NULL: nobody kept it */
};

void blackbox_sample(struct blackbox *b, uint64_t mono_ns, uint64_t bytes);

/* Its name, from its time and pid. */
void blackbox_id(const struct blackbox *b, char *id, size_t cap);
/* Write it; older ones beyond BLACKBOX_KEEP are removed. */
MUST_CHECK enum err blackbox_write(const char *data_dir, const struct blackbox *b, const char *id);
