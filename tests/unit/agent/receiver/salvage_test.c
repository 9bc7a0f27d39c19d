/*
 * salvage_test.c - rings made by hand: whole, cut, torn, forged.
 */
#include "tests/t.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/core/salvage.h"
#include "schema/tables.h"

#define AREA        4096u
#define AREA_BYTES  16384u
#define SLOTS_AT    (AREA + AREA_BYTES)
#define SLOTS       4u
#define ARENA       (SLOTS_AT + SLOTS * SLOT_BYTES)
#define ARENA_BYTES 4096u
#define FILE_BYTES  (ARENA + ARENA_BYTES)
#define SPAN_LENGTH (RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES)

static uint8_t ring[FILE_BYTES];
static uint64_t head;
static char path[128];

static const struct salvage_evidence nothing;

static void
seal_header(void)
{
	wire_put32(ring + RING_OFF_CRC, wire_crc32c(0, ring, RING_OFF_CRC));
}

static void
make_ring(void)
{
	memset(ring, 0, sizeof ring);
	memcpy(ring, RING_MAGIC, 8);
	wire_put32(ring + 8, RING_VERSION);
	memset(ring + RING_OFF_PROBE_ID, 9, 16);
	wire_put64(ring + RING_OFF_FILE_BYTES, FILE_BYTES);
	wire_put64(ring + RING_OFF_AREA, AREA);
	wire_put64(ring + RING_OFF_AREA_BYTES, AREA_BYTES);
	wire_put64(ring + RING_OFF_OPEN, SLOTS_AT);
	wire_put32(ring + RING_OFF_OPEN_SLOTS, SLOTS);
	wire_put32(ring + RING_OFF_SLOT_BYTES, SLOT_BYTES);
	wire_put64(ring + RING_OFF_ARENA, ARENA);
	wire_put64(ring + RING_OFF_ARENA_BYTES, ARENA_BYTES);
	wire_put64(ring + RING_OFF_MONO, 1000);
	wire_put64(ring + RING_OFF_REAL, 2000);
	wire_put64(ring + RING_OFF_BEAT, 700);
	wire_put32(ring + ARENA, 6);
	wire_put32(ring + ARENA + 4, wire_crc32c(0, "a.name", 6));
	memcpy(ring + ARENA + 8, "a.name", 6);
	wire_put64(ring + RING_OFF_ARENA_USED, 16);
	wire_put64(ring + RING_OFF_ARENA_STRINGS, 1);
	head = 0;
	seal_header();
}

static struct wire_span
a_span(uint64_t id)
{
	return (struct wire_span){ .trace_lo = 77,
		.span_id = id,
		.start_ns = 500,
		.duration_ns = 10,
		.name = 1,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE };
}

static void
put_record(uint64_t id, uint8_t state)
{
	uint8_t *p = ring + AREA + head % AREA_BYTES;
	struct wire_span s = a_span(id);

	wire_span_put(p + RECORD_HEADER_BYTES, &s);
	wire_record_seal(p, head, SPAN_LENGTH, EVENT_SPAN, state);
	head += SPAN_LENGTH;
	wire_put64(ring + RING_OFF_HEAD, head);
}

static void
put_slot(unsigned i, uint64_t id, uint64_t position)
{
	uint8_t *p = ring + SLOTS_AT + i * SLOT_BYTES;
	struct wire_span s = a_span(id);

	s.duration_ns = 0;
	wire_put32(p, SLOT_OPEN);
	wire_put32(p + 4, WIRE_SPAN_FIXED_BYTES);
	wire_put64(p + 8, position);
	wire_span_put(p + SLOT_HEADER_BYTES, &s);
	wire_put32(p + 24, wire_crc32c(0, p + SLOT_HEADER_BYTES, WIRE_SPAN_FIXED_BYTES));
}

static void
write_ring(size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(write(fd, ring, bytes) == (ssize_t)bytes);
	close(fd);
}

struct seen {
	uint64_t ids[256], last_end;
	bool unfinished[256];
	char error_type[32];
	uint64_t duration;
	size_t count;
	bool all_good;
};

/* The text of an id in a batch's dictionary. */
static void
lookup(const struct wire_batch *b, uint32_t want, char *out, size_t cap)
{
	struct wire_error err;
	const char *s;
	uint32_t id, n;
	size_t at = 0;

	out[0] = '\0';
	while (wire_dict_next(b->dict, b->dict_bytes, &at, &id, &s, &n, &err) == 1)
		if (id == want)
			snprintf(out, cap, "%.*s", (int)n, s);
}

static enum err
look(void *ctx, const uint8_t *body, size_t bytes)
{
	struct seen *seen = ctx;
	struct wire_record r;
	struct wire_error err;
	struct wire_batch b;
	struct wire_span s;

	if (wire_batch_check(body, bytes, &b, &err) != 0 || b.first < seen->last_end) {
		seen->all_good = false;
		return E_OK;
	}
	seen->last_end = b.end;
	for (size_t at = 0; at < b.records_bytes; at += r.length) {
		struct wire_tag_view tag;
		uint32_t t = 0;
		char key[64];

		if (wire_record_get(b.records + at, b.records_bytes - at, &r, &err) < 0 ||
		    wire_span_get(r.payload, r.payload_bytes, &s, &err) != 0 ||
		    seen->count == 256) {
			seen->all_good = false;
			return E_OK;
		}
		seen->unfinished[seen->count] = (s.flags & WIRE_SPAN_UNFINISHED) != 0;
		seen->ids[seen->count++] = s.span_id;
		while (wire_tag_next(&s, &t, &tag)) {
			lookup(&b, tag.key, key, sizeof key);
			if (strcmp(key, "error.type") != 0)
				continue;
			lookup(&b, tag.str, seen->error_type, sizeof seen->error_type);
			seen->duration = s.duration_ns;
		}
	}
	return E_OK;
}

static enum err
read_ring(uint64_t from, struct seen *seen, struct salvage_counts *counts)
{
	struct salvage *s;
	enum err e = salvage_open(path, &s);

	memset(seen, 0, sizeof *seen);
	memset(counts, 0, sizeof *counts);
	seen->all_good = true;
	if (e != E_OK)
		return e;
	e = salvage_read(s, from, 0, 0, &nothing, look, seen, counts);
	salvage_free(s);
	return e;
}

TEST(reads_from_the_stored_end_and_ends_open_spans_as_lost)
{
	struct salvage_counts c;
	struct seen seen;

	make_ring();
	for (uint64_t i = 1; i <= 3; i++)
		put_record(i, RECORD_PUBLISHED);
	put_slot(0, 10, SLOT_NO_POSITION);
	put_slot(1, 2, SPAN_LENGTH); /* its finish is there */
	put_slot(2, 1, 0);           /* its finish is stored */
	write_ring(FILE_BYTES);
	CHECK_EQ(read_ring(SPAN_LENGTH, &seen, &c), E_OK);
	CHECK(seen.all_good);
	CHECK_EQ(seen.count, 3);
	CHECK_EQ(seen.ids[0], 2);
	CHECK_EQ(seen.ids[1], 3);
	CHECK_EQ(seen.ids[2], 10);
	CHECK(seen.unfinished[2] && !seen.unfinished[0]);
	CHECK_STR(seen.error_type, "lost");
	CHECK_EQ(seen.duration, 200); /* up to the beat */
	CHECK_EQ(c.unfinished, 1);
	CHECK_EQ(c.torn, 0);
}

TEST(a_finish_that_was_never_published_leaves_its_span_unfinished)
{
	struct salvage_counts c;
	struct seen seen;

	make_ring();
	put_record(1, RECORD_PUBLISHED);
	put_record(2, RECORD_BUSY);
	put_record(3, RECORD_PUBLISHED);
	put_slot(0, 2, SPAN_LENGTH);
	write_ring(FILE_BYTES);
	CHECK_EQ(read_ring(0, &seen, &c), E_OK);
	CHECK(seen.all_good);
	CHECK_EQ(seen.count, 3);
	CHECK_EQ(seen.ids[0], 1);
	CHECK_EQ(seen.ids[1], 3);
	CHECK_EQ(seen.ids[2], 2);
	CHECK(seen.unfinished[2]);
	CHECK_EQ(c.torn, 1);
}

TEST(steps_over_a_hole_and_counts_it_once)
{
	struct salvage_counts c;
	struct seen seen;

	make_ring();
	put_record(1, RECORD_PUBLISHED);
	put_record(2, RECORD_PUBLISHED);
	put_record(3, RECORD_PUBLISHED);
	memset(ring + AREA + SPAN_LENGTH, 0, SPAN_LENGTH);
	write_ring(FILE_BYTES);
	CHECK_EQ(read_ring(0, &seen, &c), E_OK);
	CHECK_EQ(seen.count, 2);
	CHECK_EQ(seen.ids[1], 3);
	CHECK_EQ(c.torn, 1);
}

TEST(the_last_lap_never_counts)
{
	struct salvage_counts c;
	struct seen seen;

	make_ring();
	put_record(1, RECORD_PUBLISHED);
	head = AREA_BYTES * 3; /* the same place three laps later, never written */
	wire_put64(ring + RING_OFF_HEAD, head + SPAN_LENGTH);
	wire_put64(ring + RING_OFF_ACKED, head);
	write_ring(FILE_BYTES);
	CHECK_EQ(read_ring(0, &seen, &c), E_OK);
	CHECK_EQ(seen.count, 0);
	CHECK_EQ(c.torn, 1);
}

TEST(a_file_cut_anywhere_is_read_as_far_as_it_goes)
{
	struct salvage_counts c;
	struct seen seen;

	make_ring();
	for (uint64_t i = 1; i <= 100; i++)
		put_record(i, RECORD_PUBLISHED);
	put_slot(0, 1000, SLOT_NO_POSITION);
	for (size_t n = 0; n < FILE_BYTES; n += 509) {
		write_ring(n);

		enum err e = read_ring(0, &seen, &c);

		CHECK(n < RING_HEADER_BYTES ? e == E_INVAL : e == E_OK);
		CHECK(seen.all_good);
	}
}

TEST(flipped_bits_make_no_span_that_was_not_there)
{
	struct salvage_counts c;
	struct seen seen;
	unsigned seed = 1;

	for (int round = 0; round < 300; round++) {
		make_ring();
		for (uint64_t i = 1; i <= 100; i++)
			put_record(i, RECORD_PUBLISHED);
		for (int i = 0; i < 200; i++)
			ring[RING_HEADER_BYTES +
			     (unsigned)rand_r(&seed) % (FILE_BYTES - RING_HEADER_BYTES)] ^=
			    (uint8_t)(1 << rand_r(&seed) % 8);
		write_ring(FILE_BYTES);
		CHECK_EQ(read_ring(0, &seen, &c), E_OK);
		CHECK(seen.all_good);
		for (size_t i = 0; i < seen.count; i++)
			CHECK(seen.ids[i] >= 1 && seen.ids[i] <= 100);
	}
}

TEST(refuses_what_is_no_ring)
{
	struct salvage *s;

	make_ring();
	ring[RING_OFF_AREA] ^= 1; /* the header's crc says no */
	write_ring(FILE_BYTES);
	CHECK_EQ(salvage_open(path, &s), E_INVAL);
	unlink(path);
	CHECK(symlink("/etc/passwd", path) == 0);
	CHECK_EQ(salvage_open(path, &s), E_INVAL);
	unlink(path);
	CHECK_EQ(salvage_open(path, &s), E_NOTFOUND);
}

TEST(a_ring_of_a_newer_version_waits_for_a_collector_that_knows_it)
{
	struct salvage *s;

	make_ring();
	wire_put32(ring + 8, RING_VERSION + 1);
	seal_header();
	write_ring(FILE_BYTES);
	CHECK_EQ(salvage_open(path, &s), E_STATE);
	unlink(path);
}

TEST(reads_on_from_an_end_in_the_middle_of_a_word)
{
	struct salvage_counts c;
	struct seen seen;

	make_ring();
	put_record(1, RECORD_PUBLISHED);
	put_record(2, RECORD_PUBLISHED);
	put_record(3, RECORD_PUBLISHED);
	write_ring(FILE_BYTES);
	CHECK_EQ(read_ring(SPAN_LENGTH - 3, &seen, &c), E_OK);
	CHECK(seen.all_good && seen.count == 2 && seen.ids[0] == 2);
}

static void
nothing_listed(void *ctx, const char *file)
{
	(void)file;
	++*(int *)ctx;
}

static bool
write_temporary(const char *file, time_t age)
{
	struct timespec times[2] = { { .tv_sec = time(NULL) - age },
		{ .tv_sec = time(NULL) - age } };
	int fd = open(file, O_RDWR | O_CREAT | O_EXCL, 0600);
	bool ok = fd >= 0 && futimens(fd, times) == 0;

	close(fd);
	return ok;
}

TEST(what_a_probe_left_that_died_while_it_made_its_ring_is_swept)
{
	char dir[] = "/tmp/cm-sweep-XXXXXX", old[64], fresh[64], other[64];
	int listed = 0;

	REQUIRE(mkdtemp(dir) != NULL);
	snprintf(old, sizeof old, "%s/new-0123.tmp", dir);
	snprintf(fresh, sizeof fresh, "%s/new-4567.tmp", dir);
	snprintf(other, sizeof other, "%s/newer.tmp", dir);
	REQUIRE(write_temporary(old, 3600) && write_temporary(fresh, 5));
	REQUIRE(write_temporary(other, 3600));
	CHECK_EQ(salvage_list(dir, nothing_listed, &listed), E_OK);
	CHECK_EQ(listed, 0);
	CHECK(access(old, F_OK) != 0);
	CHECK(access(fresh, F_OK) == 0); /* it may not be locked yet */
	CHECK(unlink(fresh) == 0 && unlink(other) == 0 && rmdir(dir) == 0);
}

TEST(a_ring_with_an_owner_is_left_alone)
{
	struct salvage *s = NULL;
	int ready[2];
	char c;

	make_ring();
	write_ring(FILE_BYTES);
	REQUIRE(pipe(ready) == 0);

	pid_t pid = fork();

	if (pid == 0) {
		struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		int fd = open(path, O_RDWR);

		if (fcntl(fd, F_SETLK, &l) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	REQUIRE(read(ready[0], &c, 1) == 1);
	CHECK_EQ(salvage_open(path, &s), E_BUSY);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	REQUIRE(salvage_open(path, &s) == E_OK);
	CHECK_EQ(salvage_unlink(s), E_OK);
	CHECK(access(path, F_OK) != 0);
	salvage_free(s);
	close(ready[0]);
	close(ready[1]);
}

TEST(names_the_death_by_its_evidence)
{
	CHECK_STR(salvage_verdict(&nothing), "lost");
	CHECK_STR(
	    salvage_verdict(&(struct salvage_evidence){ .oom = true, .signal = 9 }), "killed.oom");
	CHECK_STR(salvage_verdict(&(struct salvage_evidence){ .signal = 9 }), "killed.signal");
	CHECK_STR(salvage_verdict(&(struct salvage_evidence){ .signal = SIGSEGV, .core = true }),
	    "crashed.segv");
	CHECK_STR(salvage_verdict(&(struct salvage_evidence){ .exited = true }), "exited");
}

int
main(void)
{
	snprintf(path, sizeof path, "/tmp/salvagetest-%d-" RUN_RING_PREFIX "x" RUN_RING_SUFFIX,
	    (int)getpid());
	RUN(reads_from_the_stored_end_and_ends_open_spans_as_lost);
	RUN(a_finish_that_was_never_published_leaves_its_span_unfinished);
	RUN(steps_over_a_hole_and_counts_it_once);
	RUN(the_last_lap_never_counts);
	RUN(a_file_cut_anywhere_is_read_as_far_as_it_goes);
	RUN(flipped_bits_make_no_span_that_was_not_there);
	RUN(refuses_what_is_no_ring);
	RUN(a_ring_of_a_newer_version_waits_for_a_collector_that_knows_it);
	RUN(reads_on_from_an_end_in_the_middle_of_a_word);
	RUN(what_a_probe_left_that_died_while_it_made_its_ring_is_swept);
	RUN(a_ring_with_an_owner_is_left_alone);
	RUN(names_the_death_by_its_evidence);
	unlink(path);
	return t_done();
}
