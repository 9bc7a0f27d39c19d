/*
 * projection_test.c - jobs.db follows the journal, whatever is done to it.
 */
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/store/projection.h"
#include "agent/store/store.h"
#include "tests/t.h"

#define NOW  (1000 * 86400 * NS_PER_S)
#define UUID "0f6ac0de-0000-4000-8000-000000000001"

static char dir[64], path[128];
static struct store *st;
static struct projection *p;
static struct projection_state state;
static struct store_limits limits;
static uint64_t now = NS_PER_S;

static void
begin(void)
{
	struct store_open_report report;

	snprintf(dir, sizeof dir, "/tmp/projection_test.%d", (int)getpid());
	snprintf(path, sizeof path, "%s/" PROJECTION_FILE_NAME, dir);
	if (store_sqlite_open(dir, &limits, &st, &report) != E_OK ||
	    projection_new(dir, &p) != E_OK)
		exit(2);
}

static void
end(void)
{
	char command[128];

	projection_free(p);
	st->ops->close(st);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	CHECK_EQ(system(command), 0);
	memset(&limits, 0, sizeof limits);
}

static struct job_row
job(enum job_state s)
{
	struct job_row j = { .probe = 1,
		.item = -1,
		.state = s,
		.prompt_id = UUID,
		.queued_real_ns = NOW,
		.trace_lo = 0xab };

	if (job_state_is_final(s))
		j.ended_real_ns = NOW + NS_PER_S;
	CHECK_EQ(st->ops->job_put(st, &j), E_OK);
	return j;
}

static void
sync_it(void)
{
	now += 60 * NS_PER_S;
	projection_sync(p, st, now, &state);
}

/* As a stranger would ask: a connection of its own. -1: it could not. */
static long
ask(const char *sql)
{
	sqlite3 *db;
	sqlite3_stmt *q;
	long v = -1;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
	    sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK) {
		if (sqlite3_step(q) == SQLITE_ROW)
			v = (long)sqlite3_column_int64(q, 0);
		sqlite3_finalize(q);
	}
	sqlite3_close(db);
	return v;
}

static void
write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

TEST(jobs_come_over_and_change)
{
	struct job_row j;
	struct stat s;

	begin();
	j = job(JOB_QUEUED);
	sync_it();
	CHECK_EQ(ask("SELECT count(*) FROM job WHERE state = 'queued' AND item IS NULL"
		     " AND trace_id = '000000000000000000000000000000ab'"),
	    1);
	j.state = JOB_FAILED;
	j.signal = 9;
	snprintf(j.reason, sizeof j.reason, "oom_cgroup");
	CHECK_EQ(st->ops->job_put(st, &j), E_OK);
	sync_it();
	CHECK_EQ(ask("SELECT count(*) FROM job"), 1);
	CHECK_EQ(ask("SELECT signal FROM job WHERE reason = 'oom_cgroup'"), 9);
	CHECK_EQ(ask("SELECT count(*) FROM recent WHERE state = 'failed'"), 1);
	CHECK_EQ(state.behind, 0);
	CHECK_EQ(state.next_mono_ns, 0);
	CHECK_EQ(state.written, 2);
	CHECK_EQ(stat(path, &s), 0);
	CHECK_EQ(s.st_mode & 0777, 0600);
	sync_it(); /* nothing has changed */
	CHECK_EQ(state.written, 2);
	end();
}

TEST(a_new_collector_goes_on_where_it_was)
{
	begin();
	job(JOB_QUEUED);
	sync_it();
	projection_free(p);
	job(JOB_QUEUED);
	CHECK_EQ(projection_new(dir, &p), E_OK);
	sync_it();
	CHECK_EQ(state.written, 1);
	CHECK_EQ(ask("SELECT count(*) FROM job"), 2);
	end();
}

TEST(a_strangers_transaction_delays_it_and_nothing_else)
{
	sqlite3 *db;
	uint64_t asked;

	begin();
	job(JOB_QUEUED);
	sync_it();
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	job(JOB_QUEUED);
	asked = clock_mono_ns();
	sync_it();
	CHECK(clock_mono_ns() - asked < NS_PER_S / 2);
	CHECK_EQ(state.behind, 1);
	CHECK(state.next_mono_ns > now);
	CHECK(state.problem[0] != '\0');
	CHECK_EQ(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sync_it();
	CHECK_EQ(state.behind, 0);
	/* A reader in the middle of its reading holds it up in the same way. */
	CHECK_EQ(sqlite3_exec(db, "BEGIN; SELECT * FROM job LIMIT 1", NULL, NULL, NULL), SQLITE_OK);
	job(JOB_QUEUED);
	sync_it();
	CHECK_EQ(state.behind, 1);
	sqlite3_close(db);
	sync_it();
	CHECK_EQ(ask("SELECT count(*) FROM job"), 3);
	end();
}

TEST(a_file_that_is_gone_or_damaged_is_made_anew)
{
	begin();
	job(JOB_QUEUED);
	sync_it();
	CHECK_EQ(unlink(path), 0);
	sync_it();
	CHECK_EQ(ask("SELECT count(*) FROM job"), 1);

	FILE *f = fopen(path, "r+");

	CHECK(f != NULL && fseek(f, 4096, SEEK_SET) == 0);
	for (int i = 0; i < 3 * 4096; i++)
		CHECK(fputc(0x55, f) != EOF);
	CHECK_EQ(fclose(f), 0);
	for (int i = 0; i < 3; i++) {
		job(JOB_QUEUED);
		sync_it();
	}
	CHECK_EQ(ask("SELECT count(*) FROM job"), 4);
	CHECK_EQ(state.behind, 0);
	end();
}

TEST(damage_met_at_the_start_is_no_matter)
{
	begin();
	job(JOB_QUEUED);
	sync_it();
	projection_free(p);
	/* As after a power loss: the host came up again, and a page is torn. */
	sqlite3 *db;

	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(
	    sqlite3_exec(db, "UPDATE about SET boot = 'another'", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);

	FILE *f = fopen(path, "r+");

	CHECK(f != NULL && fseek(f, 4096 + 20, SEEK_SET) == 0 && fputs("torn torn torn", f) >= 0 &&
	      fclose(f) == 0);
	CHECK_EQ(projection_new(dir, &p), E_OK);
	sync_it();
	CHECK_EQ(ask("SELECT count(*) FROM job"), 1);
	CHECK_EQ(state.behind, 0);
	end();
}

TEST(what_is_not_ours_is_left_alone)
{
	sqlite3 *db;

	begin();
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(
	    sqlite3_exec(db, "CREATE TABLE mine(x); INSERT INTO mine VALUES(7)", NULL, NULL, NULL),
	    SQLITE_OK);
	sqlite3_close(db);
	job(JOB_QUEUED);
	sync_it();
	CHECK_EQ(state.behind, 1);
	CHECK_EQ(ask("SELECT x FROM mine"), 7);
	write_file("a shopping list, longer than a hundred bytes, so that it might be taken for "
		   "a database by somebody in a hurry");
	sync_it();
	CHECK_EQ(state.behind, 1);
	CHECK(state.problem[0] != '\0');

	char back[16];
	FILE *f = fopen(path, "r");

	CHECK(f != NULL && fgets(back, sizeof back, f) != NULL && fclose(f) == 0);
	CHECK_STR(back, "a shopping list");
	CHECK_EQ(unlink(path), 0);
	sync_it();
	CHECK_EQ(state.behind, 0);
	end();
}

/* What verify says of it, with nobody at the buffer. */
static struct store_verify_report
verify(void)
{
	struct store_open_report report;
	struct store_verify_report v;
	char error[STORE_ERROR_BYTES];

	projection_free(p);
	st->ops->close(st);
	CHECK_EQ(store_verify(dir, &v, error), E_OK);
	CHECK_EQ(store_sqlite_open(dir, &limits, &st, &report), E_OK);
	CHECK_EQ(projection_new(dir, &p), E_OK);
	return v;
}

static void
change(const char *sql)
{
	sqlite3 *db;

	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

TEST(a_store_at_work_compares_it_in_slices)
{
	struct store_check at = { 0 };
	uint64_t equal = 0, differ = 0;
	unsigned slices = 0;

	begin();
	for (int i = 0; i < 20; i++)
		job(JOB_SUCCEEDED);
	sync_it();
	change("UPDATE job SET reason = 'somebody was here' WHERE id = 7");
	for (bool done = false; !done; done = at.done) {
		at = (struct store_check){ .table = at.table, .after = at.after };
		REQUIRE(st->ops->check(st, &at, 1) == E_OK); /* its time is over: a row at once */
		equal += at.jobs_db.equal;
		differ += at.jobs_db.differ;
		slices++;
	}
	CHECK_EQ(at.jobs_db.is, PROJECTION_READ);
	CHECK_EQ(equal, 19);
	CHECK_EQ(differ, 1);
	CHECK(slices > 20);
	CHECK_EQ(at.jobs, 20);
	sync_it(); /* nothing of it stands in the way */
	end();
}

TEST(verify_compares_it_with_the_journal)
{
	struct store_verify_report v;
	struct job_row a;

	begin();
	a = job(JOB_RUNNING);
	job(JOB_SUCCEEDED);
	v = verify();
	CHECK_EQ(v.jobs, 2);
	CHECK_EQ(v.jobs_db.is, PROJECTION_ABSENT);
	sync_it();
	v = verify();
	CHECK_EQ(v.jobs_db.is, PROJECTION_READ);
	CHECK_EQ(v.jobs_db.equal, 2);
	CHECK_EQ(v.jobs_db.behind + v.jobs_db.differ, 0);
	a.state = JOB_FAILED; /* written down nowhere else yet */
	CHECK_EQ(st->ops->job_put(st, &a), E_OK);
	v = verify();
	CHECK_EQ(v.jobs_db.equal, 1);
	CHECK_EQ(v.jobs_db.behind, 1);
	sync_it();
	change("UPDATE job SET reason = 'somebody was here' WHERE id = 2");
	v = verify();
	CHECK_EQ(v.bad, 0);
	CHECK_EQ(v.jobs_db.equal, 1);
	CHECK_EQ(v.jobs_db.differ, 1);
	{
		sqlite3 *db;

		CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
		CHECK_EQ(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
		CHECK_EQ(verify().jobs_db.is, PROJECTION_HELD);
		sqlite3_close(db);
	}
	change("DELETE FROM job");
	CHECK_EQ(verify().jobs_db.differ, 2);
	change("UPDATE about SET buffer = 1");
	CHECK_EQ(verify().jobs_db.is, PROJECTION_OF_ANOTHER);
	unlink(path);
	write_file("no database");
	CHECK_EQ(verify().jobs_db.is, PROJECTION_UNREADABLE);
	end();
}

TEST(another_buffer_begins_it_anew)
{
	struct store_open_report report;
	char buffer[128];

	begin();
	for (int i = 0; i < 5; i++)
		job(JOB_QUEUED);
	sync_it();
	projection_free(p);
	st->ops->close(st);
	snprintf(buffer, sizeof buffer, "%s/" STORE_FILE_NAME, dir);
	CHECK_EQ(unlink(buffer), 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	CHECK_EQ(projection_new(dir, &p), E_OK);
	job(JOB_RUNNING);
	sync_it();
	CHECK_EQ(ask("SELECT count(*) FROM job"), 1);
	CHECK_EQ(ask("SELECT count(*) FROM job WHERE state = 'running'"), 1);
	end();
}

/* The rows of a damaged buffer that could be saved: versions may have been given before. */
TEST(a_salvage_of_the_buffer_begins_it_anew)
{
	struct store_open_report report;
	char file[128];
	sqlite3 *db;

	begin();
	for (int i = 0; i < 10; i++)
		job(JOB_SUCCEEDED);
	sync_it();
	projection_free(p);
	st->ops->close(st);
	snprintf(file, sizeof file, "%s/" STORE_FILE_NAME, dir);
	CHECK_EQ(sqlite3_open(file, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_exec(db, "UPDATE job SET crc = crc + 1 WHERE id > 5", NULL, NULL, NULL),
	    SQLITE_OK);
	sqlite3_close(db);
	CHECK_EQ(store_repair(dir, NULL, &report), E_OK);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	CHECK_EQ(projection_new(dir, &p), E_OK);
	job(JOB_FAILED);
	sync_it();
	CHECK_EQ(ask("SELECT count(*) FROM job"), 6);
	CHECK_EQ(ask("SELECT count(*) FROM job WHERE state = 'failed'"), 1);
	end();
}

TEST(ten_thousand_jobs_come_in_slices_and_old_ones_go)
{
	uint64_t cpu;
	unsigned calls = 0;

	limits.jobs_max = 4000;
	begin();
	CHECK_EQ(st->ops->begin(st), E_OK);
	for (int i = 0; i < 10000; i++)
		job(i % 10 == 0 ? JOB_FAILED : JOB_SUCCEEDED);
	CHECK_EQ(st->ops->commit(st), E_OK);
	cpu = clock_thread_cpu_ns();
	do {
		sync_it();
		calls++;
	} while (state.next_mono_ns != 0 && calls < 100);
	cpu = clock_thread_cpu_ns() - cpu;
	CHECK_EQ(calls, 10000 / PROJECTION_ROWS + 1);
	CHECK_EQ(ask("SELECT count(*) FROM job"), 10000);
	/* The store forgets, a slice at a time; what is forgotten there goes here. */
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(st->ops->maintain(st, NOW, true), E_OK);
		job(JOB_QUEUED);
		for (int k = 0; i % 5 == 0 && k < 256; k++)
			job(JOB_QUEUED);
		sync_it();
	}
	CHECK_EQ(ask("SELECT count(*) FROM job WHERE state = 'queued'"), 200 + 40 * 256);
	CHECK(ask("SELECT count(*) FROM job WHERE state <> 'queued'") < 1000);
	printf("# %.1f us of CPU a job\n", (double)cpu / 1e7);
	end();
}

int
main(void)
{
	RUN(jobs_come_over_and_change);
	RUN(a_new_collector_goes_on_where_it_was);
	RUN(a_strangers_transaction_delays_it_and_nothing_else);
	RUN(a_file_that_is_gone_or_damaged_is_made_anew);
	RUN(damage_met_at_the_start_is_no_matter);
	RUN(what_is_not_ours_is_left_alone);
	RUN(a_store_at_work_compares_it_in_slices);
	RUN(verify_compares_it_with_the_journal);
	RUN(another_buffer_begins_it_anew);
	RUN(a_salvage_of_the_buffer_begins_it_anew);
	RUN(ten_thousand_jobs_come_in_slices_and_old_ones_go);
	return t_done();
}
