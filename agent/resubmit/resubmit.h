/*
 * resubmit.h - jobs that waited when their process died are put into the queue
 * of the one that follows.  A thread of its own; see README.md.
 */
#pragma once

#include "agent/core/status.h"

struct resubmit;

struct resubmit_options {
	const char *run_dir;
	uint64_t give_up_ms; /* without a ComfyUI that answers; 0: ten minutes */
};

MUST_CHECK enum err resubmit_new(const struct resubmit_options *o, struct resubmit **out);
/* The view is good until resubmit_stop. Looks at what earlier agents have left. */
MUST_CHECK enum err resubmit_start(struct resubmit *r, const struct agent_view *view);
/* A probe has ended for good. Any thread, never waits; harmless before the start and after the
 * stop. */
void resubmit_wake(struct resubmit *r);
/* Waits for a question to the pipeline, or a slice of one to ComfyUI. Idempotent. */
void resubmit_stop(struct resubmit *r);
void resubmit_free(struct resubmit *r); /* stops it; NULL is fine */
