/*
 * internal.h - what the files of the journal share.
 */
#pragma once

#include "agent/journal/journal.h"

/* What the tags of one record say, as far as the journal cares. Absent: "", false, or -1. */
struct facts {
	char prompt_id[65], status[16], error_type[64], oom[16], body[96];
	char node_id[65], node_class[128];
	double item, thread, nodes, executed, cached, peak_bytes;
	bool device_error, worker_died;
};
void facts_take(struct facts *f, const struct span_seen *s);

struct row {
	struct job_row job;
	bool dirty;
	bool fresh;         /* its id came with the transaction that is open */
	bool final_on_disk; /* a notice was given */
	uint64_t node_start_ns;
	uint64_t used;
};

struct journal {
	struct journal_options o;
	struct row **rows;
	size_t count, cap;
	uint64_t clock; /* of uses */
	enum err failed;
	struct journal_counts counts;
};

/* ---- rows.c ------------------------------------------------------------ */

/* One more, empty, at hand. NULL: out of memory, remembered. */
struct row *rows_add(struct journal *j);
/* At hand, or read from the store; NULL: there is none, or it could not be read (remembered). */
struct row *rows_of_wait(struct journal *j, const struct span_seen *s, const struct facts *f);
struct row *rows_of_run(struct journal *j, const struct span_seen *s, const struct facts *f);
struct row *rows_by_id(struct journal *j, int64_t id);
bool rows_has(const struct journal *j, int64_t id); /* at hand */
/* The newest that runs, or has failed, in the trace of a node. */
struct row *rows_of_node(struct journal *j, const struct span_seen *s, const struct facts *f);
/* All of this probe in these states (a bit each) come to hand. */
void rows_gather(struct journal *j, int64_t probe, uint32_t states);
void rows_fail(struct journal *j, enum err e);
