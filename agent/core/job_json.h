/*
 * job_json.h - a job as outsiders see it: a line of `jobs --json`, the answer of
 * /job/ID, what a webhook is told.  Keys are only ever added; what is not known
 * is null.
 */
#pragma once

#include "agent/core/job.h"
#include "agent/core/outbuf.h"

/* One object, without a line end. */
void job_put_json(struct outbuf *b, const struct job_row *j);
