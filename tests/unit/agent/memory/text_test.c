/*
 * text_test.c - numbers out of the kernel's texts, well-formed, cut short and
 * hostile.
 */
#include "tests/t.h"
#include "agent/memory/text.h"

static const char status[] =
    "Name:\tpython\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t4711\n"
    "VmPeak:\t  900 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"
    "RssAnon:\t     512 kB\nRssFile:\t     256 kB\nRssShmem:\t     128 kB\n"
    "VmSwap:\t       4 kB\nThreads:\t30\n";

TEST(reads_the_status_of_a_process)
{
	struct status_text s = { 0 };

	CHECK(text_status(status, &s));
	CHECK_EQ(s.rss_bytes, 1024 * 1024);
	CHECK_EQ(s.peak_bytes, 2048 * 1024);
	CHECK_EQ(s.anon_bytes, 512 * 1024);
	CHECK_EQ(s.file_bytes, 256 * 1024);
	CHECK_EQ(s.shmem_bytes, 128 * 1024);
	CHECK_EQ(s.swap_bytes, 4 * 1024);
	CHECK_EQ(s.threads, 30);
	CHECK_EQ(s.state, 'S');
}

TEST(a_process_without_memory_has_no_status)
{
	struct status_text s = { .rss_bytes = 7 };

	CHECK(!text_status("Name:\tx\nState:\tZ (zombie)\nThreads:\t1\n", &s));
	CHECK_EQ(s.state, 'Z');
	CHECK_EQ(s.rss_bytes, 7);
	CHECK(!text_status("", &s));
	CHECK(!text_status("VmRSS", &s));
	CHECK(!text_status("VmRSS:", &s));
	CHECK(!text_status("VmRSS:\t12", &s)); /* cut short: it may have gone on */
	CHECK(!text_status("VmRSS:\tmany kB\n", &s));
	CHECK(!text_status("VmRSS:\t99999999999999999999999 kB\n", &s));
	CHECK(!text_status("VmRSS:\t18446744073709551615 kB\n", &s)); /* more bytes than fit */
	CHECK(!text_status("xVmRSS:\t12 kB\n", &s));
	CHECK_EQ(s.rss_bytes, 7);
}

TEST(a_name_cannot_forge_a_line)
{
	struct status_text s = { 0 };

	/* The kernel escapes line breaks in names; what is inside a line is not a key. */
	CHECK(text_status("Name:\tVmRSS: 1 kB\\nVmRSS: 2 kB\nVmRSS:\t3 kB\n", &s));
	CHECK_EQ(s.rss_bytes, 3 * 1024);
}

TEST(every_beginning_of_a_status_is_survived)
{
	char part[sizeof status];

	for (size_t n = 0; n < sizeof status; n++) {
		struct status_text s = { 0 };

		memcpy(part, status, n);
		part[n] = '\0';
		if (text_status(part, &s))
			CHECK_EQ(s.rss_bytes, 1024 * 1024);
	}
}

TEST(reads_the_stat_of_a_process_of_any_name)
{
	struct stat_text s = { 0 };

	CHECK(
	    text_stat("4711 (py) R 1 ) Z) S 1 4711 1 0 -1 4194560 10 20 33 40 50 60 70 80 20 0 5 0 "
		      "123456 1000 200 18446744073709551615\n",
		&s));
	CHECK_EQ(s.state, 'S');
	CHECK_EQ(s.major_faults, 33);
	CHECK_EQ(s.start_ticks, 123456);
}

TEST(a_broken_stat_says_nothing)
{
	static const char *const broken[] = { "", "4711", "4711 (x", "4711 (x)", "4711 (x) ",
		"4711 (x) S", "4711 (x) S ", "4711 (x) S 1 2 3",
		"4711 (x) S a b c d e f g h i j k l",
		"4711 (x) S 1 1 1 0 -1 1 1 1 1 1 1 1 1 1 1 1 1 1 99999999999999999999999999\n",
		"1 (x) S 1 1 1 0 -1 1 1 1 1 1 1 1 1 1 1 1 1 1" };
	struct stat_text s = { .start_ticks = 7 };

	for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
		CHECK(!text_stat(broken[i], &s));
	CHECK_EQ(s.start_ticks, 7);
}

TEST(reads_the_hosts_memory)
{
	struct host_text h = { 0 };

	CHECK(
	    text_meminfo("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable: 60 kB\nSwapTotal: 8 kB\n"
			 "SwapFree: 3 kB\n",
		&h));
	CHECK_EQ(h.total_bytes, 100 * 1024);
	CHECK_EQ(h.available_bytes, 60 * 1024);
	CHECK_EQ(h.swap_total_bytes, 8 * 1024);
	CHECK_EQ(h.swap_free_bytes, 3 * 1024);
	CHECK(!text_meminfo("MemTotal:  100 kB\n", &h)); /* before Linux 3.14 */
	CHECK(!text_meminfo("\n\n\n", &h));
}

TEST(reads_pressure_in_hundredths_of_a_percent)
{
	struct pressure_text p = { 0 };

	CHECK(text_pressure("some avg10=12.34 avg60=0.00 avg300=0.00 total=1195415\n"
			    "full avg10=0.05 avg60=0.00 avg300=0.00 total=417452\n",
	    &p));
	CHECK_EQ(p.some_x100, 1234);
	CHECK_EQ(p.full_x100, 5);
	p = (struct pressure_text){ 0 };
	CHECK(!text_pressure("", &p));
	CHECK(!text_pressure("some avg10=", &p));
	CHECK(!text_pressure("some avg10=1", &p));
	CHECK(!text_pressure("some avg10=1.", &p));
	CHECK(!text_pressure("some avg10=1.5", &p));
	CHECK(!text_pressure("some avg10=101.00\n", &p));
	CHECK(!text_pressure("full avg10=1.00\n", &p));
	CHECK_EQ(p.some_x100, 0);
}

TEST(reads_proportional_size_and_numbers)
{
	uint64_t v = 7;

	CHECK(text_pss(
	    "7f-7f ---p 0 00:00 0 [rollup]\nRss:  10 kB\nPss_Dirty: 3 kB\nPss:   8 kB\n", &v));
	CHECK_EQ(v, 8 * 1024);
	CHECK(!text_pss("Pss_Dirty: 3 kB\n", &v));
	CHECK(text_value("42\n", &v));
	CHECK_EQ(v, 42);
	CHECK(!text_value("max\n", &v));
	CHECK(!text_value("42x", &v));
	CHECK(!text_value("-1", &v));
	CHECK(!text_value("", &v));
	CHECK(text_value("9223372036854771712\n", &v)); /* "none" of version 1 */
	CHECK_EQ(v, 9223372036854771712);
}

int
main(void)
{
	RUN(reads_the_status_of_a_process);
	RUN(a_process_without_memory_has_no_status);
	RUN(a_name_cannot_forge_a_line);
	RUN(every_beginning_of_a_status_is_survived);
	RUN(reads_the_stat_of_a_process_of_any_name);
	RUN(a_broken_stat_says_nothing);
	RUN(reads_the_hosts_memory);
	RUN(reads_pressure_in_hundredths_of_a_percent);
	RUN(reads_proportional_size_and_numbers);
	return t_done();
}
