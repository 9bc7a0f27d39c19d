/*
 * store_sqlite.c - the SQLite store as an object: its ops, its opening and its
 * end.  The owner's thread only.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/store/projection_check.h"
#include "agent/store/sqlite.h"

#define CAP_DEFAULT (1ull << 30)

static int
on_wal(void *ctx, sqlite3 *db, const char *name, int pages)
{
	(void)db;
	(void)name;
	((struct sqlite_store *)ctx)->wal_pages = pages;
	return SQLITE_OK;
}

enum err
sqlite_attach(struct sqlite_store *s, int *from)
{
	char path[600];
	enum err e;

	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, s->dir);
	e = db_open(path, &s->c.limits, &s->db, from, s->c.error);
	if (e != E_OK)
		return e;
	s->damaged = s->suspect = false;
	s->wal_pages = 0;
	sqlite3_wal_hook(s->db, on_wal, s);
	e = sqlite_load(s);
	if (e != E_OK)
		sqlite_detach(s, true);
	return e;
}

void
sqlite_detach(struct sqlite_store *s, bool keep_wal)
{
	sq_finalize(s);
	db_close(s->db, keep_wal);
	s->db = NULL;
}

static void
sqlite_close(struct store *st)
{
	struct sqlite_store *s = sqlite_of(st);

	sqlite_rollback(st);
	if (s->db != NULL && !s->reader && !s->suspect && !s->damaged)
		sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite_detach(s, s->reader || s->suspect || s->damaged);
	common_fini(&s->c);
	free(s);
}

enum err
store_sqlite_open(const char *dir, const struct store_limits *limits, struct store **out,
    struct store_open_report *report)
{
	struct sqlite_store *s = calloc(1, sizeof *s);
	char path[600];
	int64_t size = -1;
	enum err e;

	memset(report, 0, sizeof *report);
	report->migrated_from = -1;
	if (s == NULL)
		return E_NOMEM;
	s->c.base.ops = &sqlite_ops;
	limits_settle(&s->c.limits, limits, CAP_DEFAULT);
	if (strlen(dir) >= sizeof s->dir - 64) {
		free(s);
		return E_INVAL;
	}
	snprintf(s->dir, sizeof s->dir, "%s", dir);
	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, dir);
	e = db_check_file(dir, path, &size, s->c.error);
	if (e == E_OK) {
		e = sqlite_attach(s, &report->migrated_from);
		if (e == E_CORRUPT)
			e = quarantine(s, report);
	}
	if (e != E_OK) {
		snprintf(report->text, sizeof report->text, "%s", s->c.error);
		sqlite_detach(s, true);
		common_fini(&s->c);
		free(s);
		return e;
	}
	report->created = size < 0;
	report->zero_length = size == 0;
	if (report->zero_length)
		snprintf(
		    report->text, sizeof report->text, "the buffer file was empty: begun anew");
	*out = &s->c.base;
	return E_OK;
}

enum err
store_recount(struct store *st, bool *equal)
{
	struct sqlite_store *s = sqlite_of(st);
	struct counters real;
	enum err e;

	*equal = true;
	if (st->ops != &sqlite_ops) /* the volatile one has no second count */
		return E_OK;
	e = sqlite_recount(s, &real);
	if (e != E_OK)
		return e;
	for (int i = 0; i < SIGNAL_COUNT; i++)
		*equal = *equal && real.v[i][COUNT_QUEUED] == s->c.now.v[i][COUNT_QUEUED];
	real.total[TOTAL_QUARANTINED] = s->c.now.total[TOTAL_QUARANTINED];
	*equal = *equal && memcmp(real.total, s->c.now.total, sizeof real.total) == 0 &&
		 memcmp(real.open, s->c.now.open, sizeof real.open) == 0;
	return E_OK;
}

/* Jobs, and who is to be told of them. */
static void
check_journal(struct sqlite_store *s, struct store_check *c)
{
	uint64_t count[JOB_STATES];
	int64_t orphans = 0;

	if (s->no_jobs)
		return;
	if (sqlite_jobs_count(&s->c.base, count) == E_OK)
		for (int i = 0; i < JOB_STATES; i++)
			c->jobs += count[i];
	if (sqlite_notice_count(&s->c.base, &c->notices) != E_OK ||
	    sq_number(s, STMT_NOTICE_ORPHANS, &orphans) != E_OK)
		c->bad++;
	c->orphans = (uint64_t)orphans;
}

void
check_counters(struct sqlite_store *s, struct store_check *c)
{
	struct store_stats stats;

	c->done = true;
	c->identity = sqlite_stats(&s->c.base, &stats) == E_OK;
	for (int i = 0; i < SIGNAL_COUNT && c->identity; i++)
		c->identity = stats.identity[i];
	if (store_recount(&s->c.base, &c->recount) != E_OK)
		c->recount = false;
	check_journal(s, c);
}

enum err
sqlite_check(struct store *st, struct store_check *c, uint64_t until_mono_ns)
{
	struct sqlite_store *s = sqlite_of(st);
	enum err e = check_rows(s->db, c, until_mono_ns);

	if (e == E_OK) /* all tables are read: `after` is a version of jobs from here on */
		e = projection_check(s->dir, st, c, until_mono_ns);
	if (e == E_OK)
		check_counters(s, c);
	return e == E_TIMEOUT ? E_OK : e;
}

const struct store_ops sqlite_ops = {
	.name = "sqlite",
	.close = sqlite_close,
	.begin = sqlite_begin,
	.commit = sqlite_commit,
	.rollback = sqlite_rollback,
	.probe_put = sqlite_probe_put,
	.probe_get = sqlite_probe_get,
	.probe_by_row = sqlite_probe_by_row,
	.probe_next = sqlite_probe_next,
	.probe_close = sqlite_probe_close,
	.raw_put = sqlite_raw_put,
	.raw_next = sqlite_raw_next,
	.raw_delete = sqlite_raw_delete,
	.segment_put = sqlite_segment_put,
	.segment_next = sqlite_segment_next,
	.segment_delete = sqlite_segment_delete,
	.chunk_put = sqlite_chunk_put,
	.destinations_set = sqlite_destinations_set,
	.lease = sqlite_lease,
	.settle = sqlite_settle,
	.unlease = sqlite_unlease,
	.split = sqlite_split,
	.count_received = sqlite_count_received,
	.count_dropped = sqlite_count_dropped,
	.count_sampled_out = sqlite_count_sampled_out,
	.maintain = sqlite_maintain,
	.mend = sqlite_mend,
	.stats = sqlite_stats,
	.rejected = sqlite_rejected,
	.destination_stats = sqlite_destination_stats,
	.chunks = sqlite_chunks,
	.check = sqlite_check,
	.job_put = sqlite_job_put,
	.job_get = sqlite_job_get,
	.jobs = sqlite_jobs,
	.jobs_changed = sqlite_jobs_changed,
	.jobs_count = sqlite_jobs_count,
	.notice_put = sqlite_notice_put,
	.notice_next = sqlite_notice_next,
	.notice_settle = sqlite_notice_settle,
	.notice_count = sqlite_notice_count,
	.meta_put = sqlite_meta_put,
	.meta_get = sqlite_meta_get,
};
