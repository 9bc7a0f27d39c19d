/*
 * jobs.h - a store with jobs in it, durable or in memory, for tests of the
 * journal.
 */
#pragma once

#include <unistd.h>

#include "agent/store/store.h"
#include "tests/t.h"

#define OPS  (st->ops)
#define DAY  86400000000000ull
#define NOW  (1000 * DAY)
#define UUID "0f6ac0de-0000-4000-8000-000000000001"

static struct store *st;
static struct store_limits limits;
static bool durable;
static char dir[64];

static inline void
reopen(void)
{
	struct store_open_report report = { .text = "" };

	snprintf(dir, sizeof dir, "/tmp/store_jobs.%d", (int)getpid());
	if ((durable ? store_sqlite_open(dir, &limits, &st, &report)
		     : store_ram_new(&limits, &st)) != E_OK) {
		fprintf(stderr, "open: %s\n", report.text);
		exit(2);
	}
}

static inline void
done(void)
{
	char command[128];

	OPS->close(st);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	CHECK_EQ(system(command), 0);
	memset(&limits, 0, sizeof limits);
}

static inline struct job_row
job(enum job_state state, const char *prompt_id, uint64_t at)
{
	struct job_row j = { .probe = 3, .item = -1, .state = state, .queued_real_ns = at };

	if (job_state_is_final(state))
		j.ended_real_ns = at + 1;
	snprintf(j.prompt_id, sizeof j.prompt_id, "%s", prompt_id);
	CHECK_EQ(OPS->job_put(st, &j), E_OK);
	return j;
}

struct list {
	int64_t ids[64];
	size_t n;
};

static inline enum err
note(void *ctx, const struct job_row *j)
{
	struct list *l = ctx;

	if (l->n < 64)
		l->ids[l->n++] = j->id;
	return E_OK;
}

static inline struct list
list(const struct job_filter *f)
{
	struct list l = { .n = 0 };

	CHECK_EQ(OPS->jobs(st, f, note, &l), E_OK);
	return l;
}
#define LIST(...) list(&(struct job_filter){ __VA_ARGS__ })
