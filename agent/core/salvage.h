/*
 * salvage.h - the contract between the pipeline and the reader of dead
 * processes' rings.  Pipeline's thread; blocks on pread of a tmpfs file of at
 * most SALVAGE_FILE_MAX bytes, held in memory while a ring is open.  The file is
 * hostile data: nothing in it is believed before it was checked.
 */
#pragma once

#include "agent/core/store.h"

#define SALVAGE_FILE_MAX (64u << 20)

struct salvage;

/* What is known about how a process ended; all false: nothing is. */
struct salvage_evidence {
	bool exited; /* by itself */
	int signal;  /* killed by it, 0 none */
	bool oom;    /* the kernel's verdict */
	bool core;   /* dumped core: it crashed */
};
/* "exited" "killed.oom" "killed.signal" "crashed.segv" ... or "lost". Never NULL. */
const char *salvage_verdict(const struct salvage_evidence *e);

struct salvage_counts {
	uint64_t batches, spans; /* spans: finished and unfinished */
	uint64_t unfinished, torn;
};

/*
 * Call fn with the path of each ring file in the run directory, at most 4096.
 * Removes what a process left that died while it made its ring.
 */
typedef void (*salvage_path_fn)(void *ctx, const char *path);
MUST_CHECK enum err salvage_list(const char *run_dir, salvage_path_fn fn, void *ctx);

/*
 * Open a ring.  E_BUSY: its owner lives (F_GETLK says so).  E_INVAL: it is no
 * ring, or its header is broken; nothing can be read.  E_NOTFOUND: gone.
 * E_STATE: a newer version wrote it; a collector that knows it may come yet.
 */
MUST_CHECK enum err salvage_open(const char *path, struct salvage **out);
void salvage_free(struct salvage *s);
/* Identity, boot, clock pair, losses; end is what the ring believes to be stored. */
const struct probe_row *salvage_probe(const struct salvage *s);
/* Its last sign of life, CLOCK_MONOTONIC of its boot; did it let go of the ring in order? */
uint64_t salvage_last_mono_ns(const struct salvage *s);
bool salvage_retired(const struct salvage *s);

/*
 * Emit what lies beyond `from` (the end in the database) as checked batches,
 * then the unfinished spans.  A clock pair of 0 means the ring's own.  Stops at
 * the first error of emit and returns it.  body is good during the call only.
 */
typedef enum err (*salvage_emit_fn)(void *ctx, const uint8_t *body, size_t bytes);
MUST_CHECK enum err salvage_read(struct salvage *s, uint64_t from, uint64_t mono_ns,
    uint64_t real_ns, const struct salvage_evidence *evidence, salvage_emit_fn emit, void *ctx,
    struct salvage_counts *counts);
/* After the commit: the name goes (only if it still names the file that was read). */
MUST_CHECK enum err salvage_unlink(struct salvage *s);
