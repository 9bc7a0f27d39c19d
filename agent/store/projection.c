/*
 * projection.c - the journal copied into a file of its own.  See projection.h.
 */
#include "agent/store/projection.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/store/common.h"
#include "agent/store/migrations.h"
#include "agent/store/projection_row.h"

#define VERSION     1
#define AGAIN_NS    NS_PER_S        /* a stranger holds it */
#define LATER_NS    (30 * NS_PER_S) /* the disk is full, or it is not ours */
#define BEHIND_MAX  1000u
#define FORGET_EACH 256u /* rows between two looks at what the store has forgotten */
#define FORGET_ROWS 512u /* of the oldest, at one look */

struct projection {
	char path[600];
	sqlite3 *db;
	sqlite3_stmt *put, *upto, *oldest;
	unsigned salvages; /* of the store when it was opened */
	dev_t device;
	ino_t inode;
	uint64_t done;       /* version reached */
	uint64_t since_look; /* rows since retention looked */
	uint64_t rest_until_ns;
	int told; /* code of the problem that was logged */
	struct projection_state state;
};

enum err
projection_new(const char *dir, struct projection **out)
{
	struct projection *p = calloc(1, sizeof *p);

	if (p == NULL)
		return E_NOMEM;
	if ((size_t)snprintf(p->path, sizeof p->path, "%s/" PROJECTION_FILE_NAME, dir) >=
	    sizeof p->path) {
		free(p);
		return E_INVAL;
	}
	p->since_look = FORGET_EACH;
	*out = p;
	return E_OK;
}

static int
run(struct projection *p, const char *sql)
{
	return sqlite3_exec(p->db, sql, NULL, NULL, NULL);
}

/* Somebody has deleted it, or put another one in its place. */
static bool
is_gone(const struct projection *p)
{
	struct stat st;

	return lstat(p->path, &st) != 0 || st.st_dev != p->device || st.st_ino != p->inode;
}

static void
close_it(struct projection *p)
{
	sqlite3_finalize(p->put);
	sqlite3_finalize(p->upto);
	sqlite3_finalize(p->oldest);
	sqlite3_close(p->db);
	p->put = p->upto = p->oldest = NULL;
	p->db = NULL;
	p->done = 0;
}

void
projection_free(struct projection *p)
{
	if (p == NULL)
		return;
	close_it(p);
	free(p);
}

/* ---- opening ------------------------------------------------------------ */

/* The first number of a query. */
static int
number(struct projection *p, const char *sql, int64_t *out)
{
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(p->db, sql, -1, &q, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(q, 0);
	sqlite3_finalize(q);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Zeros and false when it cannot be read now. */
static bool
boot_text(char out[33])
{
	uint8_t boot[16];
	bool known = clock_boot_id(boot);

	for (size_t i = 0; i < sizeof boot; i++)
		snprintf(out + 2 * i, 3, "%02x", boot[i]);
	return known;
}

/* Was it written since the host came up? What was written before may be torn. */
static int
is_of_this_boot(struct projection *p, bool *is)
{
	char boot[33];
	bool known;
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(p->db, "SELECT boot FROM about", -1, &q, NULL);

	*is = false;
	if (rc != SQLITE_OK)
		return rc;
	known = boot_text(boot);
	rc = sqlite3_step(q);
	if (rc == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(q, 0);

		*is = known && text != NULL && strcmp(text, boot) == 0;
		rc = SQLITE_OK;
	}
	sqlite3_finalize(q);
	return rc;
}

static int
create(struct projection *p)
{
	char text[192], boot[33];
	int rc = run(p, "BEGIN IMMEDIATE");

	(void)boot_text(boot); /* with zeros it is made anew the next time */
	snprintf(text, sizeof text,
	    "UPDATE about SET boot = '%s'; PRAGMA application_id = %d; PRAGMA user_version = %d",
	    boot, PROJECTION_APPLICATION_ID, VERSION);
	if (rc == SQLITE_OK)
		rc = run(p, projection_schema);
	if (rc == SQLITE_OK)
		rc = run(p, text);
	return rc == SQLITE_OK ? run(p, "COMMIT") : rc;
}

/* Ours, whole, and of this version? SQLITE_NOTADB: somebody else's. */
static int
examine(struct projection *p, bool *usable)
{
	int64_t application = 0, version = 0, tables = 0;
	int rc = number(p, "PRAGMA application_id", &application);

	*usable = false;
	if (rc == SQLITE_OK)
		rc = number(p, "PRAGMA user_version", &version);
	if (rc == SQLITE_OK)
		rc = number(p, "SELECT count(*) FROM sqlite_master", &tables);
	if (rc != SQLITE_OK)
		return rc;
	if (application == 0 && tables == 0) {
		rc = create(p);
		*usable = rc == SQLITE_OK;
		return rc;
	}
	if (application != PROJECTION_APPLICATION_ID)
		return SQLITE_NOTADB;
	if (version != VERSION)
		return SQLITE_OK;
	return is_of_this_boot(p, usable);
}

static int
open_file(struct projection *p)
{
	mode_t mask = umask(077);
	struct stat st;
	int rc = sqlite3_open_v2(p->path, &p->db,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
	    NULL);

	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(p->db, 0);
		sqlite3_db_config(p->db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
		rc = run(p, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF;"
			    " PRAGMA trusted_schema = OFF; PRAGMA cache_size = -256;"
			    " PRAGMA temp_store = MEMORY");
	}
	umask(mask);
	if (rc == SQLITE_OK && stat(p->path, &st) == 0) {
		p->device = st.st_dev;
		p->inode = st.st_ino;
	}
	return rc;
}

/* Was it ours before it was damaged? Its first page says so. */
static bool
was_ours(const char *path)
{
	unsigned char h[72];
	FILE *f = fopen(path, "re");
	size_t n = f != NULL ? fread(h, 1, sizeof h, f) : 0;
	uint32_t id = (uint32_t)h[68] << 24 | (uint32_t)h[69] << 16 | (uint32_t)h[70] << 8 | h[71];

	if (f != NULL)
		fclose(f);
	return n == sizeof h && memcmp(h, "SQLite format 3", 16) == 0 &&
	       id == PROJECTION_APPLICATION_ID;
}

static void
remove_file(const struct projection *p)
{
	char journal[640];

	snprintf(journal, sizeof journal, "%s-journal", p->path);
	log_warn("jobs_db_made_anew path=%s", p->path);
	(void)unlink(p->path);
	(void)unlink(journal);
}

/* A number that tells this buffer from one that was there before, 0: it cannot be had. */
static int64_t
buffer_of(struct store *st)
{
	int64_t id = 0;
	size_t n;

	if (st->ops->meta_get(st, STORE_META_JOBS_DB, &id, sizeof id, &n) == E_OK && n == sizeof id)
		return id;
	if (getrandom(&id, sizeof id, GRND_NONBLOCK) != (ssize_t)sizeof id)
		id = (int64_t)clock_real_ns();
	id = (id & INT64_MAX) | 1;
	return st->ops->meta_put(st, STORE_META_JOBS_DB, &id, sizeof id) == E_OK ? id : 0;
}

/* How far it came with this buffer; with another one it begins anew. */
static int
take_up(struct projection *p, struct store *st)
{
	int64_t upto = 0, buffer = 0, ours = buffer_of(st);
	char text[128];
	int rc = ours != 0 ? number(p, "SELECT buffer FROM about", &buffer) : SQLITE_IOERR;

	if (rc == SQLITE_OK && buffer != ours) {
		snprintf(text, sizeof text,
		    "BEGIN IMMEDIATE; DELETE FROM job; UPDATE about SET upto = 0, buffer = %" PRId64
		    "; COMMIT",
		    ours);
		rc = run(p, text);
		if (rc != SQLITE_OK)
			run(p, "ROLLBACK");
	}
	if (rc == SQLITE_OK)
		rc = number(p, "SELECT upto FROM about", &upto);
	p->done = (uint64_t)upto;
	return rc;
}

static int
open_it(struct projection *p, struct store *st)
{
	bool usable = false;
	int rc = SQLITE_OK;

	for (int tries = 0; tries < 2 && !usable; tries++) {
		rc = open_file(p);
		if (rc == SQLITE_OK)
			rc = examine(p, &usable);
		if (usable || rc == SQLITE_BUSY || rc == SQLITE_FULL ||
		    (rc != SQLITE_OK && !was_ours(p->path)))
			break;
		close_it(p);
		remove_file(p);
	}
	if (usable)
		rc = take_up(p, st);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(p->db,
		    "INSERT OR REPLACE INTO job(" PROJECTION_COLUMNS ") VALUES(" PROJECTION_VALUES
		    ")",
		    -1, SQLITE_PREPARE_PERSISTENT, &p->put, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(p->db, "UPDATE about SET upto = ?1", -1,
		    SQLITE_PREPARE_PERSISTENT, &p->upto, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(p->db, "SELECT id FROM job ORDER BY id LIMIT 512", -1,
		    SQLITE_PREPARE_PERSISTENT, &p->oldest, NULL);
	p->salvages = st->salvages;
	return rc;
}

/* ---- rows --------------------------------------------------------------- */

struct slice {
	struct projection *p;
	uint64_t last, rows;
	int rc;
};

static enum err
put(void *ctx, const struct job_row *j)
{
	struct slice *s = ctx;
	sqlite3_stmt *q = s->p->put;

	projection_bind(q, j);
	s->rc = sqlite3_step(q);
	sqlite3_reset(q);
	sqlite3_clear_bindings(q);
	s->last = j->version;
	s->rows++;
	return s->rc == SQLITE_DONE ? E_OK : E_IO;
}

/* What the store has forgotten goes here too. It forgets the oldest first. */
static int
forget(struct projection *p, struct store *st)
{
	int64_t gone[FORGET_ROWS];
	size_t count = 0;
	struct job_row j;
	char sql[64];
	int rc = SQLITE_ROW;

	while (count < FORGET_ROWS && (rc = sqlite3_step(p->oldest)) == SQLITE_ROW) {
		int64_t id = sqlite3_column_int64(p->oldest, 0);

		if (st->ops->job_get(st, id, &j) == E_NOTFOUND)
			gone[count++] = id;
	}
	sqlite3_reset(p->oldest);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return rc;
	rc = SQLITE_OK;
	for (size_t i = 0; rc == SQLITE_OK && i < count; i++) {
		snprintf(sql, sizeof sql, "DELETE FROM job WHERE id = %" PRId64, gone[i]);
		rc = run(p, sql);
	}
	return rc;
}

static int
write_slice(struct projection *p, struct store *st, struct slice *s)
{
	int rc = run(p, "BEGIN IMMEDIATE");

	if (rc != SQLITE_OK)
		return rc;
	s->last = p->done;
	if (st->ops->jobs_changed(st, p->done, PROJECTION_ROWS, put, s) != E_OK && s->rc == 0)
		s->rc = SQLITE_IOERR; /* the buffer could not be read: later */
	rc = s->rc == 0 || s->rc == SQLITE_DONE ? SQLITE_OK : s->rc;
	if (rc == SQLITE_OK && s->rows > 0) {
		sqlite3_bind_int64(p->upto, 1, (int64_t)s->last);
		rc = sqlite3_step(p->upto);
		rc = rc == SQLITE_DONE ? SQLITE_OK : rc;
		sqlite3_reset(p->upto);
	}
	if (rc == SQLITE_OK && p->since_look + s->rows >= FORGET_EACH)
		rc = forget(p, st);
	if (rc == SQLITE_OK)
		rc = run(p, "COMMIT");
	if (rc != SQLITE_OK) {
		run(p, "ROLLBACK");
		return rc;
	}
	p->since_look = p->since_look + s->rows >= FORGET_EACH ? 0 : p->since_look + s->rows;
	p->done = s->last;
	p->state.written += s->rows;
	return SQLITE_OK;
}

static enum err
count_one(void *ctx, const struct job_row *j)
{
	(void)j;
	++*(uint64_t *)ctx;
	return E_OK;
}

static void
stay_behind(struct projection *p, struct store *st, uint64_t now_mono_ns, int rc)
{
	bool held = (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;
	const char *why = rc == SQLITE_NOTADB ? "it is not ours" : sqlite3_errstr(rc);

	p->state.next_mono_ns = now_mono_ns + (held ? AGAIN_NS : LATER_NS);
	p->state.behind = 0;
	if (st->ops->jobs_changed(st, p->done, BEHIND_MAX, count_one, &p->state.behind) != E_OK)
		p->state.behind = BEHIND_MAX;
	snprintf(p->state.problem, sizeof p->state.problem, "%s", why);
	if (!held && p->told != rc)
		log_warn("jobs_db_not_written path=%s error=\"%s\"", p->path, why);
	if (!held) {
		p->told = rc;
		close_it(p); /* looked at anew next time: damage, another file, a full disk */
	}
}

void
projection_sync(
    struct projection *p, struct store *st, uint64_t now_mono_ns, struct projection_state *out)
{
	struct slice s = { .p = p };
	int rc = SQLITE_OK;

	if (p->db != NULL && (is_gone(p) || p->salvages != st->salvages))
		close_it(p);
	if (p->db == NULL)
		rc = open_it(p, st);
	if (rc == SQLITE_OK)
		rc = write_slice(p, st, &s);
	if (rc != SQLITE_OK) {
		stay_behind(p, st, now_mono_ns, rc);
	} else {
		p->told = SQLITE_OK;
		p->state.problem[0] = '\0';
		p->state.behind = s.rows == PROJECTION_ROWS;
		p->state.next_mono_ns = s.rows == PROJECTION_ROWS ? now_mono_ns : 0;
	}
	*out = p->state;
}
