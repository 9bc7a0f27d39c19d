/*
 * job_json.c - see job_json.h.
 */
#include "agent/core/job_json.h"

#include <stdio.h>

#include "agent/core/json.h"

static void
put_null(struct outbuf *b, const char *key)
{
	put_key(b, key);
	put_raw(b, "null");
}

static void
put_text(struct outbuf *b, const char *key, const char *text)
{
	if (text[0] != '\0')
		put_str(b, key, text);
	else
		put_null(b, key);
}

/* Where 0 means that it is not known, or has not come. */
static void
put_known(struct outbuf *b, const char *key, uint64_t value)
{
	if (value != 0)
		put_u64(b, key, value);
	else
		put_null(b, key);
}

void
job_put_json(struct outbuf *b, const struct job_row *j)
{
	char boot[2 * sizeof j->boot_id + 1];

	for (size_t i = 0; i < sizeof j->boot_id; i++)
		snprintf(boot + 2 * i, 3, "%02x", j->boot_id[i]);
	put_raw(b, "{");
	put_str(b, "boot_id", boot);
	put_text(b, "prompt_id", j->prompt_id);
	if (j->item >= 0)
		put_i64(b, "item", j->item);
	else
		put_null(b, "item");
	put_str(b, "state", job_state_name(j->state));
	put_text(b, "reason", j->reason);
	put_known(b, "signal", j->signal > 0 ? (uint64_t)j->signal : 0);
	put_text(b, "node_id", j->node_id);
	put_text(b, "node_class", j->node_class);
	put_known(b, "queued_ns", j->queued_real_ns);
	put_known(b, "started_ns", j->started_real_ns);
	put_known(b, "ended_ns", j->ended_real_ns);
	put_known(b, "peak_rss_bytes", j->peak_rss_bytes);
	if ((j->trace_hi | j->trace_lo) != 0)
		put_hex(b, "trace_id", j->trace_hi, j->trace_lo, true);
	else
		put_null(b, "trace_id");
	put_text(b, "workflow", j->workflow);
	put_i64(b, "id", j->id);
	put_u64(b, "version", j->version);
	put_text(b, "certainty", j->certainty);
	put_text(b, "error_type", j->error_type);
	put_bool(b, "device_error", j->device_error);
	put_u64(b, "nodes", j->nodes);
	put_u64(b, "executed", j->executed);
	put_u64(b, "cached", j->cached);
	put_text(b, "death", j->death);
	put_raw(b, "}");
}
