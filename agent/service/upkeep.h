/*
 * upkeep.h - names of ours that are taken away while we run: by a cleaner of
 * temporary directories, by a person.  The pipeline looks at them with each look
 * at the rings and tells the main thread, which makes anew what is gone: locks,
 * directories, sockets, and by a question to the pipeline the buffer.
 */
#pragma once

#include <sys/types.h>

#include "agent/service/service.h"

#define UPKEEP_FILES 5u

struct upkeep_file {
	char path[256];
	dev_t dev;
	ino_t ino;
};

/* The pipeline's; the main thread reads it while `told` is set. */
struct upkeep {
	struct upkeep_file files[UPKEEP_FILES];
	size_t count;
	bool told;  /* the main thread is at it */
	bool again; /* something could not be mended */
};

struct pipeline;
struct upkeep_hands {
	const struct service_options *o;
	struct pipeline *pipeline;
	int *data_lock, *run_lock;
};

/* The run directory made and checked; others may pass through it if they may send. */
MUST_CHECK enum err upkeep_run_dir(const struct service_options *o);
/* All is in its place: remember it. Main thread, while the pipeline runs. */
MUST_CHECK enum err upkeep_begin(const struct upkeep_hands *h);
/* Is one of them gone, or another's? Pipeline's thread. */
bool upkeep_missing(const struct upkeep *u);
/* Make anew what is gone. What cannot be done is said in the status, and tried again. Main thread.
 */
void upkeep_mend(const struct upkeep_hands *h);
