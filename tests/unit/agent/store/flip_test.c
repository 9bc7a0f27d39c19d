/*
 * flip_test.c - bytes of a whole buffer file changed at random: it opens or is
 * moved aside and salvaged, every span is either there or counted as lost, the
 * counters agree with the rows, and what is handed out is what was put in.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/store/store.h"
#include "tests/t.h"

#define RAW    12u
#define CHUNKS 12u
#define SPANS  (RAW + CHUNKS)
#define NOW    1700000000000000000ull

#ifdef NDEBUG
#define ROUNDS 1000
#else
#define ROUNDS 100
#endif

static char dir[64], file[96];
static uint8_t *kept;
static size_t kept_bytes;
static uint32_t seed = 4711;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(seed >> 4) * n) >> 28);
}

static void
clear(void)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL)
		(void)unlinkat(dirfd(d), entry->d_name, 0);
	if (d != NULL)
		closedir(d);
}

static void
keep(void)
{
	struct stat s;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &s) != 0 || (kept = malloc((size_t)s.st_size)) == NULL ||
	    read(fd, kept, (size_t)s.st_size) != s.st_size)
		abort();
	kept_bytes = (size_t)s.st_size;
	close(fd);
}

/* The file as it was, alone. */
static void
bring_back(void)
{
	int fd;

	clear();
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, kept, kept_bytes) != (ssize_t)kept_bytes)
		abort();
	close(fd);
}

/* Any blob is one byte, many times; so a changed one is seen. */
static bool
is_whole(const uint8_t *p, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (p[i] != p[0])
			return false;
	return true;
}

static void
make(void)
{
	static uint8_t blob[30000];
	struct store_open_report report;
	struct probe_row p = { .pid = 1, .probe_id = { 3 } };
	struct store *st;
	int32_t d;
	int64_t id;

	if (store_sqlite_open(dir, NULL, &st, &report) != E_OK)
		abort();
	CHECK_EQ(st->ops->begin(st), E_OK);
	CHECK_EQ(st->ops->probe_put(st, &p), E_OK);
	for (uint64_t i = 0; i < RAW; i++) {
		struct wire_batch b = {
			.first = i * 8, .end = i * 8 + 8, .span_count = 1, .real_ns = NOW
		};

		memset(blob, (int)i + 1, sizeof blob);
		CHECK_EQ(st->ops->raw_put(st, &p, blob, sizeof blob, &b, true, &id), E_OK);
	}
	for (uint32_t i = 0; i < CHUNKS; i++) {
		struct chunk_row c = { .probe = p.id,
			.class = (enum chunk_class)(i % 4),
			.spans = 1,
			.created_real_ns = NOW,
			.blob = blob,
			.blob_bytes = 3000 + i * 1000 };

		if (i == CHUNKS / 2)
			CHECK_EQ(st->ops->destinations_set(st, (const char *const[]){ "a" }, 1, &d),
			    E_OK);
		memset(blob, (int)i + 100, sizeof blob);
		CHECK_EQ(st->ops->count_received(st, SIGNAL_TRACE, 1), E_OK);
		CHECK_EQ(st->ops->chunk_put(st, &c), E_OK);
	}
	CHECK_EQ(st->ops->commit(st), E_OK);
	st->ops->close(st);
}

/* Change up to eight places; the ten bytes that say whose file it is stay. */
static void
flip(void)
{
	struct stat s;
	int fd = open(file, O_RDWR | O_CLOEXEC);
	unsigned places = 1 + rnd(8);

	CHECK(fd >= 0 && fstat(fd, &s) == 0);
	for (unsigned i = 0; i < places; i++) {
		off_t at = (off_t)rnd((uint32_t)s.st_size);
		uint8_t bytes[16];
		size_t n = 1 + rnd(sizeof bytes);

		if (rnd(4) == 0)
			at = at / 16384 * 16384 + (off_t)rnd(64); /* heads of pages */
		if ((at < 72 && at + (off_t)n > 60))              /* user_version, application_id */
			continue;
		for (size_t k = 0; k < n; k++)
			bytes[k] = (uint8_t)rnd(256);
		CHECK(pwrite(fd, bytes, n, at) == (ssize_t)n);
	}
	close(fd);
}

static enum err
see(void *ctx, const struct chunk_row *c, const struct probe_row *p, enum delivery_state state,
    bool queued)
{
	(void)p;
	(void)state;
	(void)queued;
	CHECK(is_whole(c->blob, c->blob_bytes));
	++*(unsigned *)ctx;
	return E_OK;
}

/* Read all of it the way the collector does: batches, views, deliveries. */
static enum err
use(struct store *st, unsigned *seen)
{
	struct raw_row r = { 0 };
	struct lease l;
	uint64_t next;
	unsigned bad = 0;
	enum err e;

	while ((e = st->ops->raw_next(st, r.id, &r)) == E_OK || e == E_CORRUPT) {
		bad += e == E_CORRUPT;
		if (bad > RAW) {
			CHECK(!"bad rows without end");
			return E_STATE;
		}
		if (e == E_OK) {
			CHECK(is_whole(r.blob, r.blob_bytes));
			free(r.blob);
			++*seen;
		}
	}
	if (e == E_NOTFOUND)
		e = st->ops->chunks(st, 0, see, seen);
	for (int i = 0; e == E_OK && i < 100; i++) {
		e = st->ops->lease(st, 1, false, NOW, &l, &next);
		if (e == E_OK) {
			CHECK(is_whole(l.chunk.blob, l.chunk.blob_bytes));
			struct settlement g = {
				.chunk = l.chunk.id, .destination = 1, .kind = SETTLE_SENT
			};

			e = st->ops->settle(st, &g);
			lease_free(&l);
		}
	}
	return e == E_NOTFOUND ? E_OK : e;
}

/* Open, use; damage that shows only then is dealt with by the next transaction. */
static void
live(unsigned *aside)
{
	struct store_open_report report;
	struct store_stats s;
	struct store *st;
	bool equal = false;
	unsigned seen = 0;
	enum err e = store_sqlite_open(dir, NULL, &st, &report);

	CHECK_EQ(e, E_OK);
	if (e != E_OK) {
		fprintf(stderr, "%s\n", report.text);
		return;
	}
	*aside += report.quarantined;
	for (int i = 0; i < 4; i++) {
		seen = 0;
		e = use(st, &seen);
		if (e == E_OK)
			e = st->ops->maintain(st, NOW, true);
		if (e == E_OK) /* it may be the first to read a page */
			e = store_recount(st, &equal);
		if (e == E_OK)
			break;
		CHECK(e == E_CORRUPT || e == E_IO);
		e = st->ops->begin(st);
		CHECK_EQ(e, E_OK);
		if (e == E_OK)
			CHECK_EQ(st->ops->commit(st), E_OK);
	}
	CHECK_EQ(e, E_OK);
	CHECK_EQ(st->ops->stats(st, &s), E_OK);
	CHECK(s.identity[SIGNAL_TRACE]);
	CHECK(equal || !report.quarantined);
	CHECK(seen <= SPANS);
	*aside += s.quarantined > 0 && !report.quarantined;
	st->ops->close(st);
}

TEST(whatever_bytes_change_the_buffer_lives_and_counts)
{
	unsigned aside = 0;

	for (int i = 0; i < ROUNDS; i++) {
		struct store_verify_report verified;
		char error[STORE_ERROR_BYTES] = "";
		int before = t_failed_checks;
		uint32_t was = seed;

		bring_back();
		flip();
		if (store_verify(dir, &verified, error) == E_OK) /* it reads, and changes nothing */
			CHECK(verified.rows <= SPANS);
		else
			CHECK(error[0] != '\0');
		live(&aside);
		if (t_failed_checks != before)
			fprintf(stderr, "... round %d, seed %u\n", i, was);
		if (t_failed_checks > before + 20)
			break;
	}
	printf("%d files, %u moved aside\n", ROUNDS, aside);
	CHECK(aside > ROUNDS / 20);
}

int
main(void)
{
	snprintf(dir, sizeof dir, "%s/store_flip.%d",
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
	snprintf(file, sizeof file, "%s/%s", dir, STORE_FILE_NAME);
	if (mkdir(dir, 0700) != 0)
		abort();
	make();
	keep();
	RUN(whatever_bytes_change_the_buffer_lives_and_counts);
	clear();
	rmdir(dir);
	free(kept);
	return t_done();
}
