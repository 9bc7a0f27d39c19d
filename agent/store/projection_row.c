/*
 * projection_row.c - the values of a row of jobs.db.  See projection_row.h.
 */
#include "agent/store/projection_row.h"

#include <inttypes.h>
#include <stdio.h>

static void
bind_text(sqlite3_stmt *q, int i, const char *s)
{
	if (s[0] != '\0')
		sqlite3_bind_text(q, i, s, -1, SQLITE_TRANSIENT);
}

static void
bind_known(sqlite3_stmt *q, int i, uint64_t v)
{
	if (v != 0)
		sqlite3_bind_int64(q, i, (int64_t)v);
}

void
projection_bind(sqlite3_stmt *q, const struct job_row *j)
{
	char boot[2 * sizeof j->boot_id + 1], trace[33];

	for (size_t i = 0; i < sizeof j->boot_id; i++)
		snprintf(boot + 2 * i, 3, "%02x", j->boot_id[i]);
	snprintf(trace, sizeof trace, "%016" PRIx64 "%016" PRIx64, j->trace_hi, j->trace_lo);
	sqlite3_bind_int64(q, 1, j->id);
	sqlite3_bind_text(q, 2, boot, -1, SQLITE_TRANSIENT);
	sqlite3_bind_text(q, 3, j->prompt_id, -1, SQLITE_TRANSIENT);
	if (j->item >= 0)
		sqlite3_bind_int64(q, 4, j->item);
	sqlite3_bind_text(q, 5, job_state_name(j->state), -1, SQLITE_STATIC);
	bind_text(q, 6, j->reason);
	bind_text(q, 7, j->certainty);
	bind_known(q, 8, (uint64_t)j->signal);
	bind_text(q, 9, j->node_id);
	bind_text(q, 10, j->node_class);
	bind_text(q, 11, j->error_type);
	bind_known(q, 12, j->queued_real_ns);
	bind_known(q, 13, j->started_real_ns);
	bind_known(q, 14, j->ended_real_ns);
	bind_known(q, 15, j->peak_rss_bytes);
	sqlite3_bind_int64(q, 16, j->nodes);
	sqlite3_bind_int64(q, 17, j->executed);
	sqlite3_bind_int64(q, 18, j->cached);
	bind_text(q, 19, j->workflow);
	sqlite3_bind_text(q, 20, trace, -1, SQLITE_TRANSIENT);
	bind_text(q, 21, j->death);
	sqlite3_bind_int64(q, 22, (int64_t)j->version);
}
