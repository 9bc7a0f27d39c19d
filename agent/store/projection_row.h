/*
 * projection_row.h - a job as a row of jobs.db (schema/jobs/jobs.sql), for who
 * writes it and for who compares.
 */
#pragma once

#include <sqlite3.h>

#include "agent/core/job.h"

#define PROJECTION_COLUMNS                                                                 \
	"id, boot_id, prompt_id, item, state, reason, certainty, signal, node_id,"         \
	" node_class, error_type, queued_ns, started_ns, ended_ns, peak_rss_bytes, nodes," \
	" nodes_executed, nodes_cached, workflow, trace_id, death, version"
#define PROJECTION_VALUES                                                             \
	"?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17," \
	" ?18, ?19, ?20, ?21, ?22"

/* Values of these columns, in this order; what is unknown stays NULL. */
void projection_bind(sqlite3_stmt *q, const struct job_row *j);
