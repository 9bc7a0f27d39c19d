/*
 * store_jobs_file_test.c - the journal of jobs in its file: damaged, written by
 * an older version, salvaged, verified.
 */
#include <sqlite3.h>

#include "tests/contract/jobs.h"

TEST(a_row_with_a_flipped_byte_is_passed_over)
{
	struct job_row back;
	char path[128];
	sqlite3 *db;

	reopen();
	job(JOB_SUCCEEDED, UUID, NOW);
	job(JOB_SUCCEEDED, UUID, NOW);
	OPS->close(st);
	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, dir);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(
	    sqlite3_exec(db, "UPDATE job SET state = 3 WHERE id = 1", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	reopen();
	CHECK_EQ(OPS->job_get(st, 1, &back), E_NOTFOUND);
	CHECK_EQ(LIST(.limit = 0).n, 1);
	done();
}

TEST(verify_counts_jobs_and_notices_and_finds_what_belongs_to_none)
{
	struct store_verify_report v;
	char error[STORE_ERROR_BYTES], path[128];
	struct job_row told;
	sqlite3 *db;

	reopen();
	told = job(JOB_FAILED, UUID, NOW);
	job(JOB_SUCCEEDED, UUID, NOW);
	job(JOB_LOST, UUID, NOW);
	CHECK_EQ(OPS->notice_put(st, told.id, JOB_FAILED), E_OK);
	CHECK_EQ(OPS->notice_put(st, 3, JOB_LOST), E_OK);
	OPS->close(st);
	CHECK_EQ(store_verify(dir, &v, error), E_OK);
	CHECK_EQ(v.jobs, 3);
	CHECK_EQ(v.notices, 2);
	CHECK_EQ(v.orphans, 0);
	CHECK_EQ(v.bad, 0);
	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, dir);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(
	    sqlite3_exec(db, "DELETE FROM job WHERE id = 3; UPDATE job SET crc = 1 WHERE id = 2",
		NULL, NULL, NULL),
	    SQLITE_OK);
	sqlite3_close(db);
	CHECK_EQ(store_verify(dir, &v, error), E_OK);
	CHECK_EQ(v.jobs, 2);
	CHECK_EQ(v.orphans, 1);
	CHECK_EQ(v.bad, 1);
	reopen();
	done();
}

/* A file of the first version, with a probe in it, becomes one of this. */
TEST(an_older_file_gets_the_tables)
{
	struct store_open_report report;
	struct probe_row p = { .pid = 9 };
	char path[128];
	sqlite3 *db;

	reopen();
	CHECK_EQ(OPS->probe_put(st, &p), E_OK);
	OPS->close(st);
	snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, dir);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_exec(db, "DROP TABLE job; DROP TABLE notice; PRAGMA user_version = 1",
		     NULL, NULL, NULL),
	    SQLITE_OK);
	sqlite3_close(db);
	/* Who only looks changes nothing: to them it has no jobs. */
	struct store_verify_report verified;
	char error[STORE_ERROR_BYTES];

	CHECK_EQ(store_verify(dir, &verified, error), E_OK);
	CHECK_EQ(verified.bad, 0);
	CHECK(verified.identity && verified.recount);
	CHECK_EQ(store_snapshot(dir, &st, error), E_OK);
	CHECK_EQ(LIST(.limit = 0).n, 0);
	OPS->close(st);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	CHECK_EQ(report.migrated_from, 1);
	CHECK_EQ(job(JOB_QUEUED, UUID, NOW).id, 1);
	CHECK_EQ(OPS->probe_by_row(st, 1, &p), E_OK);
	CHECK_EQ(p.pid, 9);
	done();
}

/* What a damaged file still holds comes over, with the notices of it. */
TEST(jobs_survive_a_salvage)
{
	struct store_open_report report;
	struct job_row back;
	struct notice_row n;
	uint64_t next;

	reopen();
	back = job(JOB_FAILED, UUID, NOW);
	job(JOB_QUEUED, "other", NOW);
	CHECK_EQ(OPS->notice_put(st, back.id, JOB_FAILED), E_OK);
	OPS->close(st);
	CHECK_EQ(store_repair(dir, NULL, &report), E_OK);
	CHECK_EQ(report.rows_lost, 0);
	reopen();
	CHECK_EQ(LIST(.limit = 0).n, 2);
	CHECK_EQ(OPS->job_get(st, back.id, &back), E_OK);
	CHECK_EQ(back.state, JOB_FAILED);
	CHECK_EQ(OPS->notice_next(st, NOW, &n, &next), E_OK);
	CHECK_EQ(n.job, back.id);
	done();
}

int
main(void)
{
	durable = true;
	RUN(a_row_with_a_flipped_byte_is_passed_over);
	RUN(verify_counts_jobs_and_notices_and_finds_what_belongs_to_none);
	RUN(an_older_file_gets_the_tables);
	RUN(jobs_survive_a_salvage);
	return t_done();
}
