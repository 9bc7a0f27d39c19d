/*
 * job.c - names of job states.
 */
#include "agent/core/job.h"

#include <stddef.h>
#include <string.h>

static const char *const names[JOB_STATES] = {
	[JOB_QUEUED] = "queued",
	[JOB_RUNNING] = "running",
	[JOB_SUCCEEDED] = "succeeded",
	[JOB_FAILED] = "failed",
	[JOB_INTERRUPTED] = "interrupted",
	[JOB_CANCELLED] = "cancelled",
	[JOB_LOST] = "lost",
	[JOB_RESUBMITTED] = "resubmitted",
};

const char *
job_state_name(enum job_state s)
{
	return (unsigned)s < JOB_STATES ? names[s] : "unknown";
}

bool
job_state_find(const char *name, enum job_state *out)
{
	for (size_t i = 0; i < JOB_STATES; i++)
		if (strcmp(name, names[i]) == 0) {
			*out = (enum job_state)i;
			return true;
		}
	return false;
}

bool
job_state_is_final(enum job_state s)
{
	return s != JOB_QUEUED && s != JOB_RUNNING;
}
