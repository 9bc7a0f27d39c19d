/* Resident memory, as the kernel tells it. */
#include "probe/python/comfy_rss.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/t.h"

#define MB (1024u * 1024)

/* Touched memory that is gone when it is given back, whatever the allocator. */
static char *
take(void)
{
	char *p = mmap(NULL, 64 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, 64 * MB);
	return p;
}

static void
give_back(char *p)
{
	munmap(p, 64 * MB);
}

static uint64_t
parsed(const char *text)
{
	return rss_parse(text, strlen(text));
}

TEST(reads_the_second_of_seven_numbers)
{
	CHECK_EQ(parsed("2871 1432 1081 10 0 512 0\n"), 1432);
	CHECK_EQ(parsed("2871 1432 1081 10 0 512\n"), 0);
	CHECK_EQ(parsed("2871 1432 1081 10 0 512 0"), 0);
	CHECK_EQ(parsed("2871 1432 1081 10 0 512 0 7\n"), 0);
	CHECK_EQ(parsed("a log of the host's\n"), 0);
	CHECK_EQ(parsed(""), 0);
}

TEST(follows_what_is_touched)
{
	uint64_t before = rss_bytes(1);
	char *p = take();
	uint64_t after = rss_bytes(1 + 2 * RSS_FRESH_NS);
	CHECK(before > 0);
	CHECK(p[5] == 1 && after >= before + 60 * MB);
	CHECK(rss_peak_ever() + MB >= after);
	give_back(p);
	rss_close();
}

TEST(gives_a_fresh_reading_again)
{
	uint64_t before = rss_bytes(10 * (uint64_t)RSS_FRESH_NS);
	char *p = take();
	CHECK_EQ(rss_bytes(10 * (uint64_t)RSS_FRESH_NS + 5), before);
	CHECK(p[7] == 1);
	give_back(p);
	rss_close();
}

/* The number that the next open() gives. */
static int
next_fd(void)
{
	int fd = open("/dev/null", O_RDONLY);
	close(fd);
	return fd;
}

TEST(leaves_a_file_alone_that_took_the_number_of_ours)
{
	int fd = next_fd();
	CHECK(rss_bytes(1) > 0);
	CHECK(next_fd() != fd);
	int other = open("/dev/zero", O_RDONLY);
	CHECK_EQ(dup2(other, fd), fd);
	CHECK_EQ(rss_bytes(1 + 2 * RSS_FRESH_NS), 0);
	rss_close();
	CHECK(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	close(other);
}

TEST(a_child_measures_itself)
{
	char *p = take();
	uint64_t ours = rss_bytes(1);
	pid_t pid = fork();
	if (pid == 0) {
		give_back(p);
		rss_close();
		_exit(rss_bytes(1) + 32 * MB < ours ? 0 : 1);
	}
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	give_back(p);
	rss_close();
}

int
main(void)
{
	RUN(reads_the_second_of_seven_numbers);
	RUN(follows_what_is_touched);
	RUN(gives_a_fresh_reading_again);
	RUN(leaves_a_file_alone_that_took_the_number_of_ours);
	RUN(a_child_measures_itself);
	return t_done();
}
