/*
 * base_test.c - buffers, files, clocks, wakers and the log.
 */
#include "tests/t.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"

static char dir[64];

TEST(a_buffer_refuses_beyond_its_cap_and_remembers_it)
{
	struct buf b;

	buf_init(&b, 300);
	for (int i = 0; i < 3; i++)
		CHECK(buf_printf(&b, "%0*d", 90, i));
	CHECK_EQ(b.used, 270);
	CHECK(!buf_put(&b, "0123456789012345678901234567890123456789", 40));
	CHECK(b.failed && b.used == 270);
	CHECK(!buf_put(&b, "x", 1));
	buf_reset(&b);
	CHECK(buf_puts(&b, "again"));
	buf_free(&b);
}

TEST(a_file_is_written_whole_and_read_within_its_limit)
{
	char path[128], link[128], *text;
	size_t n;

	CHECK_EQ(path_join(path, sizeof path, dir, "f"), E_OK);
	CHECK_EQ(path_join(link, sizeof link, dir, "l"), E_OK);
	CHECK_EQ(file_write_atomic(path, "one", 3), E_OK);
	CHECK_EQ(file_write_atomic(path, "second", 6), E_OK);
	REQUIRE(file_read_all(path, 100, &text, &n) == E_OK);
	CHECK_STR(text, "second");
	free(text);
	CHECK_EQ(file_read_all(path, 5, &text, &n), E_FULL);
	CHECK(symlink(path, link) == 0);
	CHECK_EQ(file_read_all(link, 100, &text, &n), E_INVAL);
	unlink(link);
	CHECK(mkfifo(link, 0600) == 0);
	CHECK_EQ(file_read_all(link, 100, &text, &n), E_INVAL); /* and does not hang */
	unlink(link);
	unlink(path);
}

TEST(a_directory_that_others_may_write_is_refused)
{
	char path[128];

	CHECK_EQ(path_join(path, sizeof path, dir, "a/b"), E_OK);
	CHECK_EQ(dir_prepare(path), E_OK);
	CHECK_EQ(dir_prepare(path), E_OK);
	CHECK(chmod(path, 0777) == 0);
	CHECK_EQ(dir_prepare(path), E_PERM);
	rmdir(path);
	CHECK(symlink("/tmp", path) == 0);
	CHECK_EQ(dir_prepare(path), E_INVAL);
	unlink(path);
	CHECK_EQ(path_join(path, sizeof path, dir, "a"), E_OK);
	rmdir(path);
}

TEST(a_wake_before_the_wait_is_kept_and_a_deadline_ends_the_wait)
{
	struct waker w;
	uint64_t now;

	waker_init(&w);
	waker_wake(&w);
	CHECK(waker_wait(&w, WAKER_FOREVER));
	now = clock_mono_ns();
	CHECK(!waker_wait(&w, now + 20 * NS_PER_MS));
	CHECK(clock_mono_ns() - now >= 20 * NS_PER_MS);
	waker_stop(&w);
	CHECK(waker_wait(&w, WAKER_FOREVER) && waker_wait(&w, WAKER_FOREVER));
	waker_fini(&w);
}

TEST(the_log_keeps_errno_swallows_a_flood_and_lets_no_line_be_forged)
{
	char path[128], *text;
	unsigned lines = 0;
	size_t n;

	CHECK_EQ(path_join(path, sizeof path, dir, "log"), E_OK);
	REQUIRE(log_open(path) == E_OK);
	for (int i = 0; i < 100; i++) {
		errno = ENOENT;
		log_warn("flood text=%s", "a\nforged");
		CHECK_EQ(errno, ENOENT);
	}
	CHECK_EQ(log_open(NULL), E_OK);
	REQUIRE(file_read_all(path, 1 << 20, &text, &n) == E_OK);
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	CHECK_EQ(lines, LOG_BURST);
	CHECK(strstr(text, " warn flood text=a?forged\n") != NULL);
	free(text);
	unlink(path);
}

TEST(a_boot_id_that_cannot_be_read_now_is_said_to_be_unknown)
{
	static const uint8_t none[16];
	struct rlimit was, least;
	uint8_t id[16], again[16];

	CHECK(clock_boot_id(id));
	CHECK(memcmp(id, none, sizeof id) != 0);
	REQUIRE(getrlimit(RLIMIT_NOFILE, &was) == 0);
	least = (struct rlimit){ 0, was.rlim_max };
	REQUIRE(setrlimit(RLIMIT_NOFILE, &least) == 0);
	CHECK(!clock_boot_id(again));
	CHECK(memcmp(again, none, sizeof again) == 0);
	REQUIRE(setrlimit(RLIMIT_NOFILE, &was) == 0);
	CHECK(clock_boot_id(again));
	CHECK(memcmp(again, id, sizeof id) == 0);
}

TEST(threads_that_can_be_had_are_given_back)
{
	for (int i = 0; i < 50; i++)
		CHECK_EQ(threads_available(64), E_OK);
}

int
main(void)
{
	snprintf(dir, sizeof dir, "/tmp/basetest-%d", (int)getpid());
	mkdir(dir, 0700);
	RUN(a_buffer_refuses_beyond_its_cap_and_remembers_it);
	RUN(a_file_is_written_whole_and_read_within_its_limit);
	RUN(a_directory_that_others_may_write_is_refused);
	RUN(a_wake_before_the_wait_is_kept_and_a_deadline_ends_the_wait);
	RUN(the_log_keeps_errno_swallows_a_flood_and_lets_no_line_be_forged);
	RUN(a_boot_id_that_cannot_be_read_now_is_said_to_be_unknown);
	RUN(threads_that_can_be_had_are_given_back);
	rmdir(dir);
	return t_done();
}
