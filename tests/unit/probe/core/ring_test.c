/* The ring file: many writers against one reader, laps, holes, a full ring, what is left behind. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/core/batch.h"
#include "probe/core/ident.h"
#include "probe/core/probe.h"
#include "probe/core/ring.h"
#include "tests/t.h"

#define WRITERS     4
#define PER_WRITER  250000u
#define SMALL_BYTES (128u * 1024)

static char dir[] = "/tmp/cm-ring-XXXXXX";
static int dir_fd = -1;
static struct ring ring;
static struct arena arena;
static struct batch_reader reader;
static uint8_t frame[FRAME_MAX_BYTES];

static int
files_in_dir(void)
{
	DIR *d = opendir(dir);
	int n = 0;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static int
make(uint64_t bytes)
{
	struct ring_plan plan = {
		.dir_fd = dir_fd, .file_bytes = bytes, .slot_count = 8, .arena_bytes = 8192
	};
	char reason[200] = "";
	int rv = ring_create(&ring, &plan, reason, sizeof reason);

	if (rv != 0) {
		fprintf(stderr, "%s\n", reason);
		return -1;
	}
	arena_init(&arena, 8192);
	arena_attach(&arena, &ring);
	batch_reader_init(&reader, &ring, &arena);
	return 0;
}

static void
unmake(void)
{
	ring_retire(&ring, true);
	arena_fini(&arena);
	munmap(ring.map, ring.map_bytes);
}

/* A record of an event id that no build knows: any payload is welcome. */
static bool
put(uint32_t payload_bytes, uint64_t value)
{
	uint32_t length = RECORD_HEADER_BYTES + payload_bytes;
	uint64_t position;
	uint8_t *p = ring_reserve(&ring, length, 900, &position);

	if (p == NULL)
		return false;
	for (uint32_t i = 0; i < payload_bytes; i += 8)
		wire_put64(p + RECORD_HEADER_BYTES + i, value + i);
	ring_publish(&ring, p, position, length, 900);
	return true;
}

/* Pack from `from`; checks the frame, releases it; the number of records, or -1. */
static int
take(uint64_t *from, uint64_t now, struct wire_batch *b)
{
	struct wire_error err;
	uint64_t end;
	size_t n = batch_pack(&reader, *from, now, frame, &end);

	if (n == 0)
		return 0;
	if (wire_batch_check(frame, n, b, &err) != 0) {
		fprintf(stderr, "%s at %zu\n", err.what, err.at);
		return -1;
	}
	if (b->first != *from || b->end != end)
		return -1;
	*from = end;
	atomic_store(ring.acked, end);
	return (int)b->record_count;
}

static void *
write_many(void *arg)
{
	uint64_t who = (uintptr_t)arg, x = who * 7919 + 1;

	for (uint64_t i = 0; i < PER_WRITER; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		while (!put(8 + (uint32_t)(x >> 33) % 48 / 8 * 8, who << 48 | i << 8))
			sched_yield();
	}
	return NULL;
}

TEST(four_writers_and_a_reader_agree_on_a_million_records)
{
	uint64_t seen[WRITERS] = { 0 }, from = 0;
	uint32_t total = 0;
	pthread_t t[WRITERS];
	struct wire_batch b;
	int n, wrong = 0;

	REQUIRE(make(SMALL_BYTES) == 0);
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_create(&t[i], NULL, write_many, (void *)i);
	while (total < WRITERS * PER_WRITER && (n = take(&from, comfymon_now_ns(), &b)) >= 0) {
		const uint8_t *p = b.records;

		if (n == 0)
			sched_yield();
		for (int i = 0; i < n; i++, p += wire_get32(p + 8)) {
			uint64_t v = wire_get64(p + RECORD_HEADER_BYTES), who = v >> 48;

			wrong += who >= WRITERS || (v & 0xffffffffffff) >> 8 != seen[who & 3]++;
			for (uint32_t k = 8; k < wire_get32(p + 8) - RECORD_HEADER_BYTES; k += 8)
				wrong += wire_get64(p + RECORD_HEADER_BYTES + k) != v + k;
		}
		total += (uint32_t)n;
	}
	CHECK_EQ(total, WRITERS * PER_WRITER);
	CHECK_EQ(wrong, 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(atomic_load(&ring.losses[WIRE_LOSS_TORN]), 0);
	CHECK(from > 100 * ring.area_bytes);
	unmake();
}

TEST(refuses_when_full_and_goes_on_after_a_release)
{
	uint64_t from = 0, wrote = 0;
	struct wire_batch b;

	REQUIRE(make(SMALL_BYTES) == 0);
	while (put(40, wrote))
		wrote++;
	CHECK(atomic_load(ring.head) <= ring.area_bytes);
	CHECK(atomic_load(ring.head) + 64 > ring.area_bytes);
	CHECK(!put(40, 0));
	CHECK_EQ(take(&from, 1, &b), wrote);
	CHECK(put(40, 0));
	CHECK_EQ(take(&from, 1, &b), 1);
	unmake();
}

TEST(the_padding_before_the_end_counts_as_room_that_is_taken)
{
	uint64_t position;

	REQUIRE(make(SMALL_BYTES) == 0);
	while (ring.area_bytes - atomic_load(ring.head) >= 128)
		REQUIRE(put(40, 0));
	uint64_t left = ring.area_bytes - atomic_load(ring.head);

	/* Room for the record alone, not for it and what is left before the end. */
	atomic_store(ring.acked, 64);
	CHECK(ring_reserve(&ring, (uint32_t)left + 64, 900, &position) == NULL);
	CHECK(ring_reserve(&ring, 128, 900, &position) == NULL);
	atomic_store(ring.acked, 192);
	CHECK(ring_reserve(&ring, 136, 900, &position) != NULL);
	CHECK_EQ(position, ring.area_bytes);
	unmake();
}

TEST(a_record_that_does_not_fit_before_the_end_begins_at_the_start_again)
{
	uint64_t from = 0, wrote = 0, got = 0;
	struct wire_batch b;
	int n;

	REQUIRE(make(SMALL_BYTES) == 0);
	/* Sizes that leave gaps of 8, 16 and more bytes at the end of the area. */
	for (uint32_t i = 0; i < 20000; i++) {
		uint32_t bytes = 8 * (1 + i % 37);

		if (!put(bytes, i)) {
			while ((n = take(&from, 1, &b)) > 0)
				got += (uint64_t)n;
			REQUIRE(n == 0 && put(bytes, i));
		}
		REQUIRE(atomic_load(ring.head) - atomic_load(ring.acked) <= ring.area_bytes);
		wrote++;
	}
	while ((n = take(&from, 1, &b)) > 0)
		got += (uint64_t)n;
	CHECK_EQ(got, wrote);
	CHECK_EQ(from, atomic_load(ring.head));
	unmake();
}

TEST(a_record_of_the_last_lap_does_not_count)
{
	uint64_t from = 0, end, position;
	struct wire_batch b;

	REQUIRE(make(SMALL_BYTES) == 0);
	uint32_t payload = 8 * (uint32_t)(ring.area_bytes / 16 / 8) - RECORD_HEADER_BYTES;

	while (atomic_load(ring.head) < ring.area_bytes - ring.area_bytes / 16)
		REQUIRE(put(payload, 1));
	while (take(&from, 1, &b) > 0)
		;
	while (put(payload, 2) && atomic_load(ring.head) < ring.area_bytes + 3000)
		;
	while (take(&from, 1, &b) > 0)
		;
	/* Reserved on the next lap where a published record lay, header not yet written. */
	position = atomic_fetch_add(ring.head, payload + RECORD_HEADER_BYTES);
	CHECK_EQ(position, from);
	CHECK_EQ(batch_pack(&reader, from, 2, frame, &end), 0);
	CHECK_EQ(end, from);
	unmake();
}

TEST(steps_over_a_busy_record_when_it_is_a_second_old)
{
	struct wire_batch b;
	uint64_t from = 0, position, now = 5 * NS_PER_S;

	REQUIRE(make(SMALL_BYTES) == 0);
	REQUIRE(put(16, 1));
	REQUIRE(ring_reserve(&ring, 64, 900, &position) != NULL);
	REQUIRE(put(16, 2));
	CHECK_EQ(take(&from, now, &b), 1);
	CHECK_EQ(from, position);
	CHECK_EQ(take(&from, now + NS_PER_S - 1, &b), 0);
	CHECK_EQ(take(&from, now + NS_PER_S, &b), 2);
	CHECK_EQ(wire_get16(b.records + 12), EVENT_LOSS);
	CHECK_EQ(wire_get64(b.records + RECORD_HEADER_BYTES), position);
	CHECK_EQ(wire_get64(b.records + RECORD_HEADER_BYTES + 8), position + 64);
	CHECK_EQ(b.losses[WIRE_LOSS_TORN], 1);
	CHECK_EQ(from, atomic_load(ring.head));
	unmake();
}

TEST(steps_over_a_hole_without_a_header_to_the_next_record_and_counts_it_once)
{
	struct wire_batch b;
	uint64_t from = 0, hole, again, now = 5 * NS_PER_S;

	REQUIRE(make(SMALL_BYTES) == 0);
	REQUIRE(put(16, 1));
	hole = atomic_fetch_add(ring.head, 104);
	REQUIRE(put(16, 2));
	CHECK_EQ(take(&from, now, &b), 1);
	again = from;
	CHECK_EQ(take(&from, now + 2 * NS_PER_S, &b), 2);
	CHECK_EQ(wire_get64(b.records + RECORD_HEADER_BYTES + 8), hole + 104);
	/* A collector that asks again gets the same, at once, and it is not counted twice. */
	atomic_store(ring.acked, again);
	CHECK_EQ(take(&again, now, &b), 2);
	CHECK_EQ(b.losses[WIRE_LOSS_TORN], 1);
	CHECK_EQ(again, from);
	unmake();
}

TEST(a_damaged_record_becomes_a_loss_and_spares_the_rest)
{
	struct wire_batch b;
	uint64_t from = 0, now = NS_PER_S;

	REQUIRE(make(SMALL_BYTES) == 0);
	REQUIRE(put(16, 1) && put(16, 2) && put(16, 3));
	ring.area[40 + 30] ^= 1;
	CHECK_EQ(take(&from, now, &b), 1);
	CHECK_EQ(take(&from, 3 * now, &b), 2);
	CHECK_EQ(from, 120);
	unmake();
}

TEST(a_batch_from_before_what_is_kept_says_what_is_gone)
{
	struct wire_batch b;
	uint64_t from = 0;

	REQUIRE(make(SMALL_BYTES) == 0);
	REQUIRE(put(16, 1) && put(16, 2));
	atomic_store(ring.acked, 40);
	CHECK_EQ(take(&from, 1, &b), 2);
	CHECK_EQ(b.first, 0);
	CHECK_EQ(wire_get16(b.records + 12), EVENT_LOSS);
	CHECK_EQ(wire_get64(b.records + RECORD_HEADER_BYTES + 8), 40);
	unmake();
}

TEST(a_span_with_an_unknown_string_is_left_out_alone)
{
	struct wire_span s = { .trace_lo = 1, .span_id = 2, .name = 77 };
	struct wire_batch b;
	uint64_t from = 0, position;
	uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES;

	REQUIRE(make(SMALL_BYTES) == 0);
	for (int i = 0; i < 2; i++) {
		uint8_t *p = ring_reserve(&ring, length, EVENT_SPAN, &position);

		REQUIRE(p != NULL);
		wire_span_put(p + RECORD_HEADER_BYTES, &s);
		ring_publish(&ring, p, position, length, EVENT_SPAN);
		s.name = 0;
	}
	CHECK_EQ(take(&from, 1, &b), 2);
	CHECK_EQ(b.span_count, 1);
	CHECK_EQ(b.losses[WIRE_LOSS_OTHER], 1);
	unmake();
}

TEST(the_last_id_of_a_full_arena_can_be_sent)
{
	struct ring_plan plan = {
		.dir_fd = dir_fd, .file_bytes = 4u << 20, .slot_count = 8, .arena_bytes = 2u << 20
	};
	struct wire_span s = { .trace_lo = 1, .span_id = 2 };
	uint32_t length = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES, hash, id;
	char text[16], reason[200] = "";
	uint64_t from = 0, position;
	struct wire_batch b;
	uint8_t *p;

	REQUIRE(ring_create(&ring, &plan, reason, sizeof reason) == 0);
	REQUIRE(arena_init(&arena, plan.arena_bytes) == 0);
	arena_attach(&arena, &ring);
	batch_reader_init(&reader, &ring, &arena);
	do {
		size_t n = (size_t)snprintf(text, sizeof text, "%x", s.name);

		arena_find(&arena, text, n, &hash);
		id = arena_add(&arena, text, n, hash);
		s.name = id != 0 ? id : s.name;
	} while (id != 0);
	CHECK(s.name > 60000); /* it was the number of ids that ended it, not the bytes */
	p = ring_reserve(&ring, length, EVENT_SPAN, &position);
	REQUIRE(p != NULL);
	wire_span_put(p + RECORD_HEADER_BYTES, &s);
	ring_publish(&ring, p, position, length, EVENT_SPAN);
	CHECK_EQ(take(&from, 1, &b), 1);
	CHECK_EQ(b.span_count, 1);
	unmake();
}

TEST(batches_keep_to_their_size)
{
	struct wire_batch b;
	uint64_t from = 0, got = 0;
	int n;

	REQUIRE(make(4u << 20) == 0);
	for (int i = 0; i < 30; i++)
		REQUIRE(put(60000, 1));
	while ((n = take(&from, 1, &b)) > 0) {
		CHECK(BATCH_FIXED_BYTES + b.records_bytes + b.dict_bytes <= FRAME_BATCH_MAX_BYTES);
		got += (uint64_t)n;
	}
	CHECK_EQ(got, 30);
	unmake();
}

TEST(the_file_is_whole_locked_private_and_named_after_its_probe)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	uint8_t head[RING_HEADER_BYTES];
	struct stat st;
	int fd, status;

	REQUIRE(make(SMALL_BYTES) == 0);
	CHECK_EQ(files_in_dir(), 1);
	CHECK(strncmp(ring.name, "ring-", 5) == 0 && strlen(ring.name) == 5 + 32 + 3);
	REQUIRE(fstatat(dir_fd, ring.name, &st, 0) == 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_EQ(st.st_size, SMALL_BYTES);
	CHECK(st.st_blocks * 512 >= st.st_size);
	pid_t pid = fork();
	if (pid == 0) {
		/* The lock is seen by others, and not inherited. */
		fd = openat(dir_fd, ring.name, O_RDWR);
		_exit(fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK ||
		      lock.l_pid != getppid() || pread(fd, head, sizeof head, 0) != sizeof head ||
		      memcmp(head, RING_MAGIC, 8) != 0 ||
		      wire_get32(head + RING_OFF_CRC) != wire_crc32c(0, head, RING_OFF_CRC) ||
		      wire_get64(head + RING_OFF_PID) != (uint64_t)getppid() ||
		      wire_get64(head + RING_OFF_START) == 0);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	CHECK_EQ(fcntl(own_get(&ring.file), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	unmake();
	CHECK_EQ(files_in_dir(), 0);
}

TEST(a_late_writer_of_a_retired_ring_harms_nobody)
{
	uint8_t before[RING_HEADER_BYTES], after[RING_HEADER_BYTES];
	uint64_t position;
	uint8_t *p;
	int fd;

	REQUIRE(make(SMALL_BYTES) == 0);
	p = ring_reserve(&ring, 1024, 900, &position);
	REQUIRE(p != NULL);
	fd = openat(dir_fd, ring.name, O_RDONLY);
	ring_retire(&ring, true);
	CHECK(pread(fd, before, sizeof before, 0) == sizeof before);
	memset(p + RECORD_HEADER_BYTES, 1, 1000);
	ring_publish(&ring, p, position, 1024, 900);
	CHECK(put(16, 1));
	/* The file is the collector's now: not even its head moves. */
	CHECK(pread(fd, after, sizeof after, 0) == sizeof after);
	CHECK(memcmp(before, after, sizeof before) == 0);
	close(fd);
	arena_fini(&arena);
	munmap(ring.map, ring.map_bytes);
}

TEST(a_ring_that_would_be_too_small_is_refused_and_leaves_nothing)
{
	struct ring_plan plan = {
		.dir_fd = dir_fd, .file_bytes = 32768, .slot_count = 8, .arena_bytes = 8192
	};
	char reason[200] = "";

	CHECK_EQ(ring_create(&ring, &plan, reason, sizeof reason), -1);
	CHECK(strstr(reason, "small") != NULL);
	CHECK_EQ(files_in_dir(), 0);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY)) < 0)
		return 2;
	RUN(four_writers_and_a_reader_agree_on_a_million_records);
	RUN(refuses_when_full_and_goes_on_after_a_release);
	RUN(the_padding_before_the_end_counts_as_room_that_is_taken);
	RUN(a_record_that_does_not_fit_before_the_end_begins_at_the_start_again);
	RUN(a_record_of_the_last_lap_does_not_count);
	RUN(steps_over_a_busy_record_when_it_is_a_second_old);
	RUN(steps_over_a_hole_without_a_header_to_the_next_record_and_counts_it_once);
	RUN(a_damaged_record_becomes_a_loss_and_spares_the_rest);
	RUN(a_batch_from_before_what_is_kept_says_what_is_gone);
	RUN(a_span_with_an_unknown_string_is_left_out_alone);
	RUN(the_last_id_of_a_full_arena_can_be_sent);
	RUN(batches_keep_to_their_size);
	RUN(the_file_is_whole_locked_private_and_named_after_its_probe);
	RUN(a_late_writer_of_a_retired_ring_harms_nobody);
	RUN(a_ring_that_would_be_too_small_is_refused_and_leaves_nothing);
	close(dir_fd);
	rmdir(dir);
	return t_done();
}
