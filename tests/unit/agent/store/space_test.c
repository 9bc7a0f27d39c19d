/*
 * space_test.c - a disk that is really full (a small tmpfs in a mount namespace
 * of its own), the ballast, the floor, the order in which chunks lose, and a
 * buffer read without a collector.  Skips the tmpfs, visibly, where nobody may
 * mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/store/store.h"
#include "tests/t.h"

#define NOW     (1000 * 86400 * NS_PER_S)
#define MB      (1u << 20)
#define BATCH   (200u * 1024)
#define BALLAST (6u * MB) /* of a cap of 64 MB */

static char dir[64];
static struct store *st;
static uint8_t blob[BATCH];

static bool
mount_small(void)
{
	char map[64];
	unsigned uid = geteuid();
	int fd;

	if (unshare(CLONE_NEWNS) != 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
			return false;
		snprintf(map, sizeof map, "0 %u 1", uid);
		fd = open("/proc/self/uid_map", O_WRONLY);
		if (fd < 0 || write(fd, map, strlen(map)) < 0)
			return false;
		close(fd);
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=0700") == 0;
}

static void
wipe(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0 || mkdir(dir, 0700) != 0)
		abort();
}

static void
open_with(const struct store_limits *limits)
{
	struct store_open_report report;

	if (store_sqlite_open(dir, limits, &st, &report) != E_OK) {
		fprintf(stderr, "open: %s\n", report.text);
		abort();
	}
	CHECK(!report.quarantined);
}

static struct probe_row
probe(void)
{
	struct probe_row p = { .pid = 1, .probe_id = { 9 } };

	CHECK_EQ(st->ops->probe_put(st, &p), E_OK);
	return p;
}

static enum err
put(struct probe_row *p, int64_t *id)
{
	struct wire_batch b = {
		.first = p->end, .end = p->end + 8, .span_count = 1, .real_ns = NOW
	};

	memset(blob, (int)(p->end / 8) & 0xff, sizeof blob);
	return st->ops->raw_put(st, p, blob, sizeof blob, &b, true, id);
}

static uint64_t
free_bytes(void)
{
	struct statvfs v;

	return statvfs(dir, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
}

static bool
ballast_is_there(void)
{
	char path[96];
	struct stat s;

	snprintf(path, sizeof path, "%s/ballast", dir);
	return stat(path, &s) == 0 && s.st_blocks * 512 >= (off_t)BALLAST;
}

/* Take up all but `left` bytes as somebody else would. */
static void
somebody_fills(uint64_t left)
{
	char path[96];
	uint64_t n = free_bytes();
	int fd;

	snprintf(path, sizeof path, "%s/somebody", dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (n > left)
		CHECK_EQ(posix_fallocate(fd, 0, (off_t)(n - left)), 0);
	close(fd);
}

static void
somebody_goes(void)
{
	char path[96];

	snprintf(path, sizeof path, "%s/somebody", dir);
	unlink(path);
}

static void
holds(uint64_t rows)
{
	struct store_stats s;
	bool equal = false;

	CHECK_EQ(st->ops->stats(st, &s), E_OK);
	CHECK(s.identity[SIGNAL_TRACE]);
	CHECK_EQ(s.queued[SIGNAL_TRACE], rows);
	CHECK_EQ(store_recount(st, &equal), E_OK);
	CHECK(equal);
}

/* Put until the store says that it is full; rows taken. */
static uint64_t
put_until_full(struct probe_row *p, int64_t *first)
{
	uint64_t n = 0;
	int64_t id;

	for (;; n++) {
		enum err e = put(p, &id);

		if (e != E_OK) {
			CHECK_EQ(e, E_FULL);
			CHECK(store_last_error(st)[0] != '\0');
			return n;
		}
		if (n == 0)
			*first = id;
		if (n > 1000) {
			CHECK(!"the disk never fills");
			return n;
		}
	}
}

TEST(a_full_disk_stops_intake_and_nothing_else)
{
	struct store_limits limits = { .cap_bytes = 64 * MB };
	int64_t id, first = 0;
	uint64_t rows;

	open_with(&limits);
	struct probe_row p = probe();
	CHECK_EQ(st->ops->maintain(st, NOW, true), E_OK);
	CHECK(ballast_is_there());

	somebody_fills(8 * MB);
	rows = put_until_full(&p, &first);
	CHECK(rows > 5);
	CHECK(!ballast_is_there()); /* given up: there is room to delete in */
	CHECK(free_bytes() > BALLAST / 2);
	holds(rows);
	CHECK_EQ(put(&p, &id), E_FULL); /* what is free now belongs to deletes */

	for (uint64_t i = 0; i < rows; i++) {
		struct raw_row r = { 0 };

		CHECK_EQ(st->ops->raw_next(st, 0, &r), E_OK);
		free(r.blob);
		CHECK_EQ(st->ops->raw_delete(st, r.id), E_OK);
		CHECK_EQ(st->ops->count_dropped(st, SIGNAL_TRACE, DROP_TOO_OLD, 1), E_OK);
		if (i % 8 == 7)
			CHECK_EQ(st->ops->maintain(st, NOW, false), E_OK);
	}
	holds(0);
	somebody_goes();
	CHECK_EQ(st->ops->maintain(st, NOW, true), E_OK);
	CHECK(ballast_is_there());
	CHECK_EQ(put(&p, &id), E_OK);
	holds(1);
	st->ops->close(st);
	open_with(&limits);
	holds(1);
	st->ops->close(st);
}

TEST(what_was_taken_on_a_filling_disk_is_there_after_a_kill)
{
	struct store_limits limits = { .cap_bytes = 64 * MB };
	uint64_t told = 0;
	int fds[2], status, before = t_failed_checks;

	CHECK_EQ(pipe(fds), 0);
	if (fork() == 0) {
		int64_t first = 0;

		open_with(&limits);
		struct probe_row p = probe();
		CHECK_EQ(st->ops->maintain(st, NOW, true), E_OK);
		somebody_fills(8 * MB);
		told = put_until_full(&p, &first);
		status =
		    write(fds[1], &told, sizeof told) == sizeof told ? t_failed_checks - before : 1;
		_exit(status); /* without closing: as killed */
	}
	close(fds[1]);
	CHECK(read(fds[0], &told, sizeof told) == sizeof told);
	close(fds[0]);
	CHECK(wait(&status) > 0 && status == 0);
	CHECK(told > 5);
	open_with(&limits); /* on a disk that is still full but for the ballast */
	holds(told);
	st->ops->close(st);
	somebody_goes();
}

TEST(a_start_on_a_full_disk_says_so_or_works)
{
	struct store_limits limits = { .cap_bytes = 64 * MB };
	struct store_open_report report;

	somebody_fills(0);
	CHECK_EQ(store_sqlite_open(dir, &limits, &st, &report), E_FULL);
	CHECK(strstr(report.text, "full") != NULL);
	somebody_goes();
	open_with(&limits);
	holds(0);
	st->ops->close(st);
}

TEST(below_the_floor_intake_stops_and_history_goes)
{
	struct store_limits limits = { .cap_bytes = 64 * MB, .free_floor_bytes = 4 * MB };
	struct chunk_row c = { .class = CHUNK_NORMAL,
		.spans = 1,
		.created_real_ns = NOW,
		.blob = blob,
		.blob_bytes = 5000 };
	struct store_stats s;
	int64_t id;

	open_with(&limits);
	struct probe_row p = probe();
	c.probe = p.id;
	CHECK_EQ(put(&p, &id), E_OK);
	CHECK_EQ(st->ops->count_received(st, SIGNAL_TRACE, 1), E_OK);
	CHECK_EQ(st->ops->chunk_put(st, &c), E_OK); /* no destination: history at once */
	somebody_fills(3 * MB);
	clock_test_shift(2 * NS_PER_S, 0); /* the kernel is asked once a second */
	CHECK_EQ(put(&p, &id), E_FULL);
	CHECK_EQ(st->ops->maintain(st, NOW, false), E_OK);
	CHECK_EQ(st->ops->stats(st, &s), E_OK);
	CHECK_EQ(s.history_bytes, 0);
	CHECK_EQ(s.sent[SIGNAL_TRACE], 1);
	holds(1);
	somebody_goes();
	clock_test_shift(4 * NS_PER_S, 0);
	CHECK_EQ(put(&p, &id), E_OK);
	holds(2);
	clock_test_shift(0, 0);
	st->ops->close(st);
}

static int64_t
put_chunk(const struct probe_row *p, enum chunk_class class)
{
	struct chunk_row c = { .probe = p->id,
		.signal = class == CHUNK_PROFILE ? SIGNAL_PROFILE : SIGNAL_TRACE,
		.class = class,
		.spans = 1,
		.created_real_ns = NOW,
		.blob = blob,
		.blob_bytes = BATCH };

	CHECK_EQ(st->ops->count_received(st, c.signal, 1), E_OK);
	CHECK_EQ(st->ops->chunk_put(st, &c), E_OK);
	return c.id;
}

struct present {
	int64_t ids[16];
	size_t n;
};

static enum err
see(void *ctx, const struct chunk_row *c, const struct probe_row *p, enum delivery_state state,
    bool queued)
{
	struct present *seen = ctx;

	(void)p;
	(void)state;
	(void)queued;
	if (seen->n < 16)
		seen->ids[seen->n++] = c->id;
	return E_OK;
}

static bool
is_there(int64_t id)
{
	struct present seen = { .n = 0 };

	CHECK_EQ(st->ops->chunks(st, 0, see, &seen), E_OK);
	for (size_t i = 0; i < seen.n; i++)
		if (seen.ids[i] == id)
			return true;
	return false;
}

/* Two of each kind, history first in order; the batch that does not fit pushes one out. */
TEST(who_loses_goes_by_class_then_age_and_never_while_it_is_sent)
{
	struct store_limits limits = { .cap_bytes = 4 * MB, .reserve_bytes = 64 * 1024 };
	int64_t order[10], id;
	struct lease l;
	uint64_t next;
	int32_t d;
	size_t gone = 0;

	open_with(&limits);
	struct probe_row p = probe();
	order[0] = put_chunk(&p, CHUNK_ERROR); /* history: no destination yet */
	order[1] = put_chunk(&p, CHUNK_NORMAL);
	CHECK_EQ(st->ops->destinations_set(st, (const char *const[]){ "a" }, 1, &d), E_OK);
	order[8] = put_chunk(&p, CHUNK_ERROR);
	order[6] = put_chunk(&p, CHUNK_NORMAL);
	order[4] = put_chunk(&p, CHUNK_PROFILE);
	order[2] = put_chunk(&p, CHUNK_SAMPLED_OUT);
	order[9] = put_chunk(&p, CHUNK_ERROR);
	order[7] = put_chunk(&p, CHUNK_NORMAL);
	order[5] = put_chunk(&p, CHUNK_PROFILE);
	order[3] = put_chunk(&p, CHUNK_SAMPLED_OUT);
	/* on its way out: the oldest error */
	CHECK_EQ(st->ops->lease(st, d, false, NOW, &l, &next), E_OK);
	CHECK_EQ(l.chunk.id, order[8]);
	lease_free(&l);

	for (int i = 0; i < 64 && put(&p, &id) == E_OK; i++) {
		size_t first = gone;

		while (gone < 10 && (gone == 8 || !is_there(order[gone])))
			gone++;
		for (size_t k = gone; k < 10; k++)
			CHECK(is_there(order[k])); /* nobody lost out of turn */
		CHECK(gone - first <= 3);
	}
	CHECK_EQ(gone, 10);
	CHECK(is_there(order[8]));
	st->ops->close(st);
}

TEST(a_buffer_is_read_without_a_copy_and_left_as_it_was)
{
	struct store_limits limits = { .cap_bytes = 256 * MB, .history_bytes = 256 * MB };
	struct store_verify_report verified;
	struct rusage before, after;
	struct present seen = { .n = 0 };
	struct stat was, is;
	char error[STORE_ERROR_BYTES], wal[96];
	int status, failed = t_failed_checks;

	if (fork() == 0) { /* dies without closing: the log is still there */
		open_with(&limits);
		struct probe_row p = probe();
		for (int i = 0; i < 200; i++)
			(void)put_chunk(&p, CHUNK_NORMAL);
		_exit(t_failed_checks - failed);
	}
	CHECK(wait(&status) > 0 && status == 0);
	snprintf(wal, sizeof wal, "%s/buffer.db-wal", dir);
	CHECK(stat(wal, &was) == 0 && was.st_size > 0);
	getrusage(RUSAGE_SELF, &before);
	REQUIRE(store_snapshot(dir, &st, error) == E_OK);
	CHECK_EQ(st->ops->chunks(st, 0, see, &seen), E_OK);
	CHECK_EQ(seen.n, 16);
	holds(0);
	CHECK(st->ops->count_received(st, SIGNAL_TRACE, 1) != E_OK);
	st->ops->close(st);
	CHECK_EQ(store_verify(dir, &verified, error), E_OK);
	CHECK_EQ(verified.rows, 200);
	CHECK(verified.bad == 0 && verified.identity && verified.recount);
	getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CHECK(after.ru_maxrss - before.ru_maxrss < 16 * 1024); /* of 40 MB */
#endif
	CHECK(stat(wal, &is) == 0 && is.st_size == was.st_size);
	CHECK(is.st_mtim.tv_sec == was.st_mtim.tv_sec && is.st_mtim.tv_nsec == was.st_mtim.tv_nsec);
}

int
main(void)
{
	snprintf(dir, sizeof dir, "/tmp/store_space.%d", (int)getpid());
	wipe();
	RUN(who_loses_goes_by_class_then_age_and_never_while_it_is_sent);
	wipe();
	RUN(a_buffer_is_read_without_a_copy_and_left_as_it_was);
	wipe();
	if (mount_small()) {
		RUN(a_full_disk_stops_intake_and_nothing_else);
		(void)umount(dir);
		CHECK_EQ(mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=0700"), 0);
		RUN(what_was_taken_on_a_filling_disk_is_there_after_a_kill);
		(void)umount(dir);
		CHECK_EQ(mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=0700"), 0);
		RUN(a_start_on_a_full_disk_says_so_or_works);
		RUN(below_the_floor_intake_stops_and_history_goes);
		(void)umount(dir);
	} else {
		printf("SKIP: the tests of a full disk may not mount here (%s)\n", strerror(errno));
	}
	rmdir(dir);
	return t_done();
}
