/*
 * quarantine.c - a damaged file is moved aside and what is good in it comes
 * over into a new one.  The owner's thread only.  At most two damaged files are
 * kept.  Where page 1 is unreadable the page of a new database takes its place:
 * the schema, and so the roots of all tables, are the same in every file.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/store/sqlite.h"

#define MARK      STORE_FILE_NAME ".corrupt-"
#define KEEP_MAX  2
#define PATH_ROOM 600

static void
remove_set(const char *dir, const char *name)
{
	char path[PATH_ROOM];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	unlink(path);
	snprintf(path, sizeof path, "%s/%s-wal", dir, name);
	unlink(path);
}

/* Remove the oldest copies until fewer than KEEP_MAX are left; names sort by time. */
static void
thin_out(const char *dir)
{
	char names[KEEP_MAX + 1][128];
	size_t n;

	do {
		DIR *d = opendir(dir);
		struct dirent *entry;

		n = 0;
		if (d == NULL)
			return;
		while (n <= KEEP_MAX && (entry = readdir(d)) != NULL) {
			size_t len = strlen(entry->d_name);

			if (strncmp(entry->d_name, MARK, strlen(MARK)) == 0 &&
			    len < sizeof names[0] && strcmp(entry->d_name + len - 4, "-wal") != 0)
				memcpy(names[n++], entry->d_name, len + 1);
		}
		closedir(d);
		if (n >= KEEP_MAX) {
			size_t oldest = 0;

			for (size_t i = 1; i < n; i++)
				if (strcmp(names[i], names[oldest]) < 0)
					oldest = i;
			remove_set(dir, names[oldest]);
			n--;
		}
	} while (n >= KEEP_MAX);
}

enum err
move_aside(const char *dir, char aside[512])
{
	char from[PATH_ROOM], to[PATH_ROOM + 8], stamp[32];
	time_t t = (time_t)(clock_real_ns() / NS_PER_S);
	struct tm tm;

	thin_out(dir);
	gmtime_r(&t, &tm);
	strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
	snprintf(from, sizeof from, "%s/" STORE_FILE_NAME, dir);
	for (int i = 0; i < 100; i++) {
		snprintf(to, sizeof to, "%s/" MARK "%s-%02d", dir, stamp, i);
		if (access(to, F_OK) != 0)
			break;
	}
	if (strlen(to) >= 512)
		return E_INVAL;
	/* the log first: alone it is nobody's, beside a new file it would be replayed into it */
	char wal_from[PATH_ROOM + 8], wal_to[PATH_ROOM + 16];

	snprintf(wal_from, sizeof wal_from, "%s-wal", from);
	snprintf(wal_to, sizeof wal_to, "%s-wal", to);
	if (rename(wal_from, wal_to) != 0 && errno != ENOENT)
		return err_from_errno(errno);
	if (rename(from, to) != 0)
		return err_from_errno(errno);
	memcpy(aside, to, strlen(to) + 1);
	return E_OK;
}

static sqlite3 *
open_damaged(const char *path)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(
	    path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db,
		    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;"
		    " PRAGMA cell_size_check = ON; SELECT count(*) FROM sqlite_schema;"
		    " SELECT 1 FROM chunk, raw, segment, delivery WHERE 0",
		    NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		return db;
	db_close(db, true);
	return NULL;
}

/* Page 1 of `fresh` over page 1 of `aside`, with the size of the latter. */
static bool
transplant(const char *fresh, const char *aside)
{
	uint8_t page[STORE_PAGE_BYTES];
	struct stat st;
	size_t got = 0;
	bool ok = false;
	int from, to = open(aside, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (to < 0 || file_open_read(fresh, &from) != E_OK) {
		if (to >= 0)
			close(to);
		return false;
	}
	if (file_pread(from, page, sizeof page, 0, &got) == E_OK && got == sizeof page &&
	    fstat(to, &st) == 0 && st.st_size > (off_t)sizeof page) {
		uint32_t pages = htobe32((uint32_t)(st.st_size / STORE_PAGE_BYTES));

		memcpy(page + 28, &pages, 4);
		memset(page + 32, 0, 8); /* free pages: none that we know of */
		ok = pwrite(to, page, sizeof page, 0) == (ssize_t)sizeof page;
	}
	close(from);
	close(to);
	return ok;
}

/* Bring over what can be read of `aside` into the open, new database. */
static enum err
salvage(struct sqlite_store *s, const char *aside, struct store_open_report *report)
{
	char path[PATH_ROOM];
	struct copy_result r = { 0 };
	sqlite3 *src = open_damaged(aside);
	enum err e = E_OK;

	if (src == NULL) {
		snprintf(path, sizeof path, "%s/" STORE_FILE_NAME, s->dir);
		sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
		if (transplant(path, aside))
			src = open_damaged(aside);
	}
	if (src != NULL) {
		sq_finalize(s);
		e = copy_rows(src, s->db, &r);
		db_close(src, true);
	}
	report->rows_salvaged = r.rows;
	report->rows_lost = r.lost;
	return e;
}

enum err
quarantine(struct sqlite_store *s, struct store_open_report *report)
{
	enum err e;

	memset(report, 0, sizeof *report);
	report->migrated_from = -1;
	sqlite_detach(s, true);
	e = move_aside(s->dir, report->moved_to);
	if (e != E_OK)
		return common_fail(&s->c, e, "a damaged buffer cannot be moved aside");
	e = sqlite_attach(s, NULL);
	if (e == E_OK)
		e = salvage(s, report->moved_to, report);
	if (e == E_OK)
		e = sqlite_load(s);
	if (e == E_OK)
		e = sqlite_begin(&s->c.base);
	if (e != E_OK)
		return e;
	s->c.now.total[TOTAL_QUARANTINED]++;
	e = sqlite_reconcile(s, &report->spans_lost);
	/* the counters on disk may be anything now: write all that are not 0 */
	memset(&s->c.saved, 0, sizeof s->c.saved);
	if (e == E_OK)
		e = sqlite_commit(&s->c.base);
	if (e != E_OK)
		sqlite_rollback(&s->c.base);
	report->quarantined = true;
	s->c.base.salvages++;
	snprintf(report->text, sizeof report->text,
	    "damaged buffer moved aside: %llu rows salvaged, %llu lost, %llu spans lost",
	    (unsigned long long)report->rows_salvaged, (unsigned long long)report->rows_lost,
	    (unsigned long long)report->spans_lost);
	return e;
}
