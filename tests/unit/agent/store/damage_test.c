/*
 * damage_test.c - damaged, foreign, newer and empty files; kill -9 in the middle
 * of commits.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/store/store.h"
#include "tests/t.h"

static char dir[64], file[96];

static void
wipe(void)
{
	char command[128];

	snprintf(dir, sizeof dir, "/tmp/store_damage.%d", (int)getpid());
	snprintf(file, sizeof file, "%s/%s", dir, STORE_FILE_NAME);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0)
		abort();
}

static enum err
put(struct store *st, struct probe_row *p, uint64_t at, size_t bytes)
{
	static uint8_t blob[65536];
	struct wire_batch b = { .first = at, .end = at + 8, .span_count = 1, .real_ns = 1 };
	int64_t id;

	memset(blob, (int)(at / 8) & 0xff, bytes);
	return st->ops->raw_put(st, p, blob, bytes, &b, true, &id);
}

static struct probe_row
probe(struct store *st)
{
	struct probe_row p = { .pid = 1 };

	memset(p.probe_id, 5, sizeof p.probe_id);
	CHECK_EQ(st->ops->probe_put(st, &p), E_OK);
	return p;
}

/* A buffer with n batches of one span each, closed in order. */
static void
make(int n)
{
	struct store_open_report report;
	struct store *st;

	wipe();
	if (store_sqlite_open(dir, NULL, &st, &report) != E_OK)
		abort();
	CHECK_EQ(st->ops->begin(st), E_OK);
	struct probe_row p = probe(st);
	for (int i = 0; i < n; i++)
		CHECK_EQ(put(st, &p, (uint64_t)i * 8, 40000), E_OK);
	CHECK_EQ(st->ops->commit(st), E_OK);
	st->ops->close(st);
}

static void
poke(off_t at, int byte, size_t n)
{
	uint8_t page[16384];
	int fd = open(file, O_WRONLY);

	memset(page, byte, sizeof page);
	CHECK(fd >= 0 && pwrite(fd, page, n, at) == (ssize_t)n);
	close(fd);
}

/* Open, expect `rows` raw batches to be readable, identity to hold. */
static void
expect(int rows, bool quarantined)
{
	struct store_open_report report;
	struct store_stats s;
	struct store *st;
	struct raw_row r = { 0 };
	bool equal = false;
	int n = 0;

	enum err e = store_sqlite_open(dir, NULL, &st, &report);
	CHECK_EQ(e, E_OK);
	if (e != E_OK) {
		fprintf(stderr, "%s\n", report.text);
		return;
	}
	CHECK_EQ(report.quarantined, quarantined);
	for (;;) {
		e = st->ops->raw_next(st, r.id, &r);
		if (e == E_CORRUPT)
			continue;
		if (e != E_OK)
			break;
		n++;
		free(r.blob);
	}
	CHECK_EQ(e, E_NOTFOUND);
	CHECK_EQ(n, rows);
	CHECK_EQ(st->ops->stats(st, &s), E_OK);
	CHECK(s.identity[SIGNAL_TRACE]);
	CHECK_EQ(s.queued[SIGNAL_TRACE], rows);
	CHECK_EQ(store_recount(st, &equal), E_OK);
	CHECK(equal);
	st->ops->close(st);
	wipe();
}

TEST(an_untouched_file_opens_as_it_was)
{
	make(20);
	expect(20, false);
}

TEST(an_open_alone_writes_nothing)
{
	struct store_open_report report;
	struct stat before, after;
	struct store *st = NULL;
	char wal[112];

	make(20);
	snprintf(wal, sizeof wal, "%s-wal", file);
	CHECK_EQ(stat(file, &before), 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	CHECK(stat(wal, &after) != 0 || after.st_size == 0);
	st->ops->close(st);
	CHECK_EQ(stat(file, &after), 0);
	CHECK(after.st_mtim.tv_sec == before.st_mtim.tv_sec &&
	      after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
	wipe();
}

TEST(a_zeroed_header_loses_no_row)
{
	make(20);
	poke(0, 0, 100);
	expect(20, true);
}

TEST(a_garbage_first_page_loses_no_row)
{
	make(20);
	poke(0, 0xa5, 16384);
	expect(20, true);
}

TEST(a_flipped_blob_costs_its_row_alone)
{
	struct stat st;

	make(20);
	CHECK_EQ(stat(file, &st), 0);
	poke(st.st_size - 8000, 0x5a, 16);
	expect(19, false);
}

/* Slices that end at each row: the bad one is passed, and counted once. */
TEST(a_flipped_blob_is_found_while_the_store_works)
{
	struct store_open_report report;
	struct store_check c = { 0 };
	struct store *st;
	struct stat file_st;

	make(20);
	CHECK_EQ(stat(file, &file_st), 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	poke(file_st.st_size - 8000, 0x5a, 16);
	for (int i = 0; i < 100 && !c.done; i++)
		CHECK_EQ(st->ops->check(st, &c, 1), E_OK);
	CHECK(c.done && c.identity && c.recount);
	CHECK_EQ(c.rows, 19);
	CHECK_EQ(c.bad, 1);
	CHECK_EQ(st->ops->begin(st), E_OK);
	CHECK_EQ(st->ops->meta_put(st, "k", "v", 1), E_OK);
	CHECK_EQ(st->ops->commit(st), E_OK);
	CHECK_EQ(st->salvages, 0);
	st->ops->close(st);
	wipe();
}

static struct store *
open_store(void)
{
	struct store_open_report report;
	struct store *st = NULL;

	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	return st;
}

/* More than the cache and the heap that SQLite may have, so that the copy does not fit there. */
TEST(a_removed_file_is_written_anew_with_all_that_it_held)
{
	struct store *st;
	bool mended = true;

	make(1000);
	st = open_store();
	CHECK_EQ(st->ops->mend(st, &mended), E_OK);
	CHECK(!mended);
	struct probe_row p = probe(st);
	CHECK_EQ(put(st, &p, p.end, 40000), E_OK); /* in the log alone */
	CHECK_EQ(unlink(file), 0);
	CHECK_EQ(st->ops->mend(st, &mended), E_OK);
	CHECK(mended);
	CHECK_EQ(put(st, &p, p.end, 40000), E_OK); /* it works on */
	CHECK_EQ(st->ops->mend(st, &mended), E_OK);
	CHECK(!mended);
	st->ops->close(st);
	expect(1002, false);
}

TEST(what_was_put_in_the_files_place_goes_aside)
{
	char other[128], command[300];
	struct store *st;
	bool mended;

	make(20);
	st = open_store();
	snprintf(command, sizeof command,
	    "cd %s && echo not ours > x && chmod 600 x && mv x " STORE_FILE_NAME, dir);
	CHECK_EQ(system(command), 0);
	CHECK_EQ(st->ops->mend(st, &mended), E_OK);
	CHECK(mended);
	st->ops->close(st);
	snprintf(other, sizeof other, "grep -q 'not ours' %s/" STORE_FILE_NAME ".corrupt-*", dir);
	CHECK_EQ(system(other), 0);
	expect(20, false);
}

TEST(a_removed_directory_is_made_anew)
{
	char command[128];
	struct store *st;
	struct stat made;
	bool mended;

	make(20);
	st = open_store();
	snprintf(command, sizeof command, "rm -rf %s", dir);
	CHECK_EQ(system(command), 0);
	CHECK_EQ(st->ops->mend(st, &mended), E_OK);
	CHECK(mended);
	CHECK_EQ(stat(dir, &made), 0);
	CHECK_EQ(made.st_mode & 0777, 0700);
	CHECK_EQ(stat(file, &made), 0);
	CHECK_EQ(made.st_mode & 0777, 0600);
	st->ops->close(st);
	expect(20, false);
}

TEST(a_file_that_cannot_be_written_anew_is_used_as_it_is)
{
	struct store *st;
	bool mended;

	make(20);
	st = open_store();
	struct probe_row p = probe(st);
	CHECK_EQ(unlink(file), 0);
	CHECK_EQ(mkdir(file, 0700), 0); /* in the way, and no file */
	CHECK(st->ops->mend(st, &mended) != E_OK);
	CHECK(!mended);
	CHECK_EQ(put(st, &p, p.end, 40000), E_OK);
	CHECK_EQ(rmdir(file), 0);
	CHECK_EQ(st->ops->mend(st, &mended), E_OK);
	CHECK(mended);
	st->ops->close(st);
	expect(21, false);
}

TEST(an_empty_file_is_begun_anew)
{
	struct store_open_report report;
	struct store *st;

	make(1);
	CHECK_EQ(truncate(file, 0), 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	CHECK(report.zero_length && !report.created);
	st->ops->close(st);
	wipe();
}

TEST(a_newer_or_foreign_file_is_refused_unharmed)
{
	struct store_open_report report;
	struct store *st;
	struct stat before, after;

	make(3);
	uint8_t version[4] = { 0, 0, 0, 99 };
	int fd = open(file, O_WRONLY);
	CHECK_EQ(pwrite(fd, version, 4, 60), 4);
	close(fd);
	CHECK_EQ(stat(file, &before), 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_STATE);
	CHECK_EQ(stat(file, &after), 0);
	CHECK(before.st_mtim.tv_nsec == after.st_mtim.tv_nsec && before.st_size == after.st_size);
	wipe();
}

TEST(a_symlink_or_an_open_mode_is_refused)
{
	struct store_open_report report;
	struct store *st;

	make(1);
	CHECK_EQ(chmod(file, 0644), 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_PERM);
	CHECK_EQ(unlink(file), 0);
	CHECK_EQ(symlink("/etc/passwd", file), 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_PERM);
	wipe();
}

/* The child commits one batch after another and says so in a pipe, until it is killed. */
static void
child(int out)
{
	struct store_open_report report;
	struct store *st;

	if (store_sqlite_open(dir, NULL, &st, &report) != E_OK)
		_exit(2);
	struct probe_row p = probe(st);
	for (;;) {
		uint64_t end = p.end;

		if (st->ops->begin(st) != E_OK || put(st, &p, end, 3000) != E_OK ||
		    st->ops->commit(st) != E_OK)
			_exit(3);
		end = p.end;
		if (write(out, &end, sizeof end) != sizeof end)
			_exit(4);
	}
}

TEST(nothing_acknowledged_is_lost_by_kill)
{
	struct store_open_report report;
	struct store *st;
	uint64_t acked = 0, end;
	int kills = 0;

	wipe();
	for (int i = 0; i < 40; i++) {
		int fds[2], status;

		CHECK_EQ(pipe(fds), 0);
		pid_t pid = fork();
		if (pid == 0) {
			close(fds[0]);
			child(fds[1]);
		}
		close(fds[1]);
		/* Some die before their first commit; on a slow disk all would. */
		if (i % 4 == 0)
			poll(&(struct pollfd){ .fd = fds[0], .events = POLLIN }, 1, 10000);
		usleep((useconds_t)(5000 + (i * 7919) % 20000));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		kills += WIFSIGNALED(status);
		while (read(fds[0], &end, sizeof end) == sizeof end)
			acked = end;
		close(fds[0]);
	}
	CHECK_EQ(kills, 40);
	CHECK(acked > 0);
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	CHECK(!report.quarantined);
	struct probe_row p = probe(st);
	CHECK(p.end >= acked);
	CHECK(p.end <= acked + 8 * 40); /* each kill may fall between commit and word */
	struct store_stats s;
	CHECK_EQ(st->ops->stats(st, &s), E_OK);
	CHECK_EQ(s.queued[SIGNAL_TRACE], p.end / 8);
	CHECK(s.identity[SIGNAL_TRACE]);
	st->ops->close(st);
	wipe();
}

/*
 * The last leaf of the only table that has several becomes a copy of its first:
 * behind the highest rows come the lowest again.
 */
static void
close_the_circle(void)
{
	enum { PAGE = 16384, INTERIOR = 5 };
	static uint8_t page[PAGE];
	int fd = open(file, O_RDWR | O_CLOEXEC);
	off_t first = 0, last = 0;

	REQUIRE(fd >= 0);
	for (off_t at = PAGE; last == 0 && pread(fd, page, PAGE, at) == PAGE; at += PAGE) {
		size_t cell = (size_t)page[12] << 8 | page[13]; /* where its first cell is */

		if (page[0] != INTERIOR || cell > PAGE - 4)
			continue;
		first = (off_t)(page[cell + 2] << 8 | page[cell + 3]); /* its left child */
		last = (off_t)(page[10] << 8 | page[11]);              /* the rightmost one */
	}
	CHECK(first > 0 && last > 0 && first != last);
	CHECK(pread(fd, page, PAGE, (first - 1) * PAGE) == PAGE);
	CHECK(pwrite(fd, page, PAGE, (last - 1) * PAGE) == PAGE);
	close(fd);
}

TEST(a_walk_through_a_tree_that_bites_its_tail_ends)
{
	struct store_open_report report;
	struct raw_row r = { 0 };
	struct store_stats s;
	struct store *st;
	enum err e = E_OK;
	int seen = 0;

	make(12);
	close_the_circle();
	CHECK_EQ(store_sqlite_open(dir, NULL, &st, &report), E_OK);
	for (int tries = 0; tries < 3 && e != E_NOTFOUND; tries++) {
		for (seen = 0; seen <= 12; seen++) {
			e = st->ops->raw_next(st, r.id, &r);
			if (e != E_OK)
				break;
			free(r.blob);
		}
		CHECK(seen <= 12);
		r.id = 0;
		CHECK_EQ(st->ops->begin(st), E_OK); /* sets the file aside, if that is not done */
		CHECK_EQ(st->ops->commit(st), E_OK);
	}
	CHECK_EQ(e, E_NOTFOUND);
	CHECK_EQ(seen, 10); /* all but those of the leaf that was written over */
	CHECK_EQ(st->salvages, 1);
	CHECK_EQ(st->ops->stats(st, &s), E_OK);
	CHECK(s.identity[SIGNAL_TRACE]);
	st->ops->close(st);
	wipe();
}

int
main(void)
{
	RUN(an_untouched_file_opens_as_it_was);
	RUN(an_open_alone_writes_nothing);
	RUN(a_zeroed_header_loses_no_row);
	RUN(a_garbage_first_page_loses_no_row);
	RUN(a_flipped_blob_costs_its_row_alone);
	RUN(a_flipped_blob_is_found_while_the_store_works);
	RUN(a_removed_file_is_written_anew_with_all_that_it_held);
	RUN(what_was_put_in_the_files_place_goes_aside);
	RUN(a_removed_directory_is_made_anew);
	RUN(a_file_that_cannot_be_written_anew_is_used_as_it_is);
	RUN(an_empty_file_is_begun_anew);
	RUN(a_newer_or_foreign_file_is_refused_unharmed);
	RUN(a_symlink_or_an_open_mode_is_refused);
	RUN(a_walk_through_a_tree_that_bites_its_tail_ends);
	RUN(nothing_acknowledged_is_lost_by_kill);
	return t_done();
}
