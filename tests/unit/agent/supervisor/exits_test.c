/*
 * The file of exits: what is written is found, and a hostile or torn file costs
 * no more than its broken lines.
 */
#include "agent/supervisor/exits.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/t.h"

static char dir[] = "/tmp/exits-test-XXXXXX";
static char file[64], older[64];

static void
fresh(void)
{
	snprintf(file, sizeof file, "%s/exits", dir);
	snprintf(older, sizeof older, "%s/exits.1", dir);
	unlink(file);
	rmdir(file);
	unlink(older);
}

static void
put_text(const char *path, const char *text, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	CHECK(fd >= 0 && write(fd, text, n) == (ssize_t)n);
	close(fd);
}

static struct exit_record
record(const char *life)
{
	struct exit_record r = { .pid = 4711,
		.start_ticks = 8812,
		.time_real_ns = UINT64_C(1790000000123456789),
		.cause = CAUSE_OOM_CGROUP,
		.certainty = CERTAIN,
		.signal = 9,
		.exit_code = -1,
		.limit_bytes = UINT64_C(68719476736),
		.rss_bytes = 1,
		.peak_bytes = UINT64_MAX,
		.restarted = true,
		.death = "20261125T080000.123-4711" };

	snprintf(r.life, sizeof r.life, "%s", life);
	return r;
}

TEST(finds_what_was_appended_with_every_value)
{
	struct exit_record r = record("12-1-0a0b0c0d"), got;

	fresh();
	CHECK_EQ(exits_append(dir, &r), E_OK);
	CHECK_EQ(exits_find(dir, r.life, &got), E_OK);
	CHECK_STR(got.life, r.life);
	CHECK_EQ(got.pid, r.pid);
	CHECK_EQ(got.start_ticks, r.start_ticks);
	CHECK_EQ(got.time_real_ns, r.time_real_ns);
	CHECK_EQ(got.cause, r.cause);
	CHECK_EQ(got.certainty, r.certainty);
	CHECK_EQ(got.signal, 9);
	CHECK_EQ(got.exit_code, -1);
	CHECK_EQ(got.limit_bytes, r.limit_bytes);
	CHECK_EQ(got.rss_bytes, 1);
	CHECK(got.peak_bytes == UINT64_MAX);
	CHECK(got.restarted);
	CHECK_STR(got.death, r.death);
}

TEST(brings_the_evidence_back_whatever_is_in_it)
{
	struct death d = {
		.cause = CAUSE_KILLED, .certainty = LIKELY, .signal = 9, .exit_code = -1
	};
	struct exit_record r = { .time_real_ns = 1, .uptime_ms = 8812 }, got;

	for (d.lines = 0; d.lines < DEATH_LINES; d.lines++)
		memset(d.text[d.lines], d.lines % 2 == 0 ? '%' : 'x', DEATH_LINE_BYTES - 1);
	snprintf(d.text[0], DEATH_LINE_BYTES, "ended by signal 9 (SIGKILL), a+b|c=d%%20\xc3\xa9\t");
	fresh();
	exit_record_death(&r, &d);
	snprintf(r.life, sizeof r.life, "1-1-aa");
	CHECK_EQ(exits_append(dir, &r), E_OK);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_OK);
	CHECK_EQ(got.cause, CAUSE_KILLED);
	CHECK_EQ(got.certainty, LIKELY);
	CHECK_EQ(got.signal, 9);
	CHECK_EQ(got.exit_code, -1);
	CHECK_EQ(got.uptime_ms, 8812);
	CHECK_STR(got.why, r.why);
	CHECK_EQ(strlen(got.why),
	    DEATH_LINES * DEATH_LINE_BYTES - 1 - (DEATH_LINE_BYTES - 1) + strlen(d.text[0]));
}

TEST(refuses_evidence_that_it_never_writes)
{
	static const char *const broken[] = { "%", "%4", "%zz", "%2b", "%00" };
	struct exit_record got;
	char line[128];

	fresh();
	for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
		snprintf(line, sizeof line, "exit life=1-1-aa verdict=lost why=%s\n", broken[i]);
		put_text(file, line, strlen(line));
		CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_NOTFOUND);
	}
	put_text(file, "exit life=1-1-aa verdict=lost why=a+b%2B|c\n", 43);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_OK);
	CHECK_STR(got.why, "a b+\nc");
}

static void
put_life(const char *path, const char *life)
{
	char line[128];

	snprintf(line, sizeof line, "exit life=%s verdict=lost\n", life);
	put_text(path, line, strlen(line));
}

/* The lives from there on, one letter each. */
static void
check_walk(const char *after, const char *want)
{
	struct exit_record got;
	char life[64], seen[16] = "";
	size_t n = 0;

	snprintf(life, sizeof life, "%s", after);
	while (n < sizeof seen - 1 && exits_next(dir, life, &got) == E_OK) {
		snprintf(life, sizeof life, "%s", got.life);
		seen[n++] = got.life[0];
	}
	CHECK_STR(seen, want);
}

TEST(goes_through_the_lives_in_order_each_once_over_both_files)
{
	struct exit_record got = { .pid = 1 };

	fresh();
	CHECK_EQ(exits_next(dir, "", &got), E_NOTFOUND);
	CHECK_EQ(got.pid, 1);
	put_life(file, "c");
	put_life(file, "d");
	check_walk("", "cd");
	put_life(older, "a");
	put_life(older, "b");
	check_walk("", "abcd");
	check_walk("b", "cd");
	check_walk("d", "");
	put_life(file, "a"); /* a second line of a life says nothing new */
	put_life(file, "d");
	put_life(file, "e");
	check_walk("a", "bcde");
	check_walk("d", "e");
	put_text(file, "exit life=f verdict=lost", 24); /* it may still grow */
	check_walk("e", "");
	put_text(file, "\n", 1);
	check_walk("e", "f");
	check_walk("9", "abcdef"); /* a life that is in no line any more: all are newer */
	unlink(file);
	check_walk("", "ab");
}

TEST(is_one_line_that_only_its_owner_may_read)
{
	struct exit_record r = record("12-1-0a0b0c0d");
	struct stat st;
	char line[EXITS_LINE_BYTES];
	int fd;

	fresh();
	CHECK_EQ(exits_append(dir, &r), E_OK);
	CHECK(stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
	fd = open(file, O_RDONLY);
	CHECK(read(fd, line, sizeof line) == st.st_size);
	close(fd);
	CHECK(strncmp(line, "exit life=12-1-0a0b0c0d pid=4711 ", 33) == 0);
	CHECK(memchr(line, '\n', (size_t)st.st_size) == line + st.st_size - 1);
}

TEST(finds_the_newest_of_a_life_among_others)
{
	struct exit_record r = record("1-1-aa"), got;

	fresh();
	CHECK_EQ(exits_append(dir, &r), E_OK);
	r.cause = CAUSE_LOST;
	CHECK_EQ(exits_append(dir, &r), E_OK);
	snprintf(r.life, sizeof r.life, "1-2-bb");
	r.cause = CAUSE_ZOMBIE;
	CHECK_EQ(exits_append(dir, &r), E_OK);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_OK);
	CHECK_EQ(got.cause, CAUSE_LOST);
	CHECK_EQ(exits_find(dir, "1-1-a", &got), E_NOTFOUND);
}

TEST(says_not_found_without_a_file_and_leaves_the_result_alone)
{
	struct exit_record got = record("9-9-99");

	fresh();
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_NOTFOUND);
	CHECK_STR(got.life, "9-9-99");
	CHECK_EQ(exits_find("/nonexistent", "1-1-aa", &got), E_NOTFOUND);
}

TEST(refuses_words_that_would_break_the_line)
{
	static const char *const lives[] = { "", "1 2", "1-1-aa\n", "G",
		"1-1-aa=", "../../etc/passwd",
		"0123456789012345678901234567890123456789012345678901234567890123" };
	static const char *const deaths[] = { "a b", "a\nexit life=1", "\x7f", "\xff" };
	struct exit_record r;

	fresh();
	for (size_t i = 0; i < sizeof lives / sizeof lives[0]; i++) {
		CHECK(!life_is_valid(lives[i]));
		if (strlen(lives[i]) >= sizeof r.life)
			continue;
		r = record(lives[i]);
		CHECK_EQ(exits_append(dir, &r), E_INVAL);
	}
	for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
		r = record("1-1-aa");
		snprintf(r.death, sizeof r.death, "%s", deaths[i]);
		CHECK_EQ(exits_append(dir, &r), E_INVAL);
	}
	CHECK(access(file, F_OK) != 0);
}

TEST(skips_broken_lines)
{
	static const char *const broken[] = {
		"exit life=1-1-aa verdict=zombie signal=x",
		"exit life=1-1-aa verdict=zombie signal=999",
		"exit life=1-1-aa verdict=zombie pid=-4",
		"exit life=1-1-aa verdict=zombie pid=99999999999999999999999999",
		"exit life=1-1-aa verdict=nonsense",
		"exit life=1-1-aa verdict=zombie certainty=maybe",
		"exit life=1-1-aa",
		"exit verdict=zombie",
		"exit life=1-1-aa verdict=zombie noise",
		"exits life=1-1-aa verdict=zombie",
		"",
		" ",
		"=",
	};
	struct exit_record r = record("1-1-aa"), got;
	char long_line[4 * EXITS_LINE_BYTES];

	fresh();
	CHECK_EQ(exits_append(dir, &r), E_OK);
	for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
		put_text(file, broken[i], strlen(broken[i]));
		put_text(file, "\n", 1);
	}
	put_text(file, "exit life=1-1-aa verdict=zombie \0\n", 34);
	memset(long_line, 'x', sizeof long_line);
	memcpy(long_line, "exit life=1-1-aa verdict=zombie death=", 38);
	long_line[sizeof long_line - 1] = '\n';
	put_text(file, long_line, sizeof long_line);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_OK);
	CHECK_EQ(got.cause, CAUSE_OOM_CGROUP);
}

TEST(skips_keys_that_it_does_not_know)
{
	static const char line[] = "exit new=1 life=1-1-aa colour=red verdict=hang more=\n";
	struct exit_record got;

	fresh();
	put_text(file, line, sizeof line - 1);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_OK);
	CHECK_EQ(got.cause, CAUSE_HANG);
	CHECK_EQ(got.signal, -1);
	CHECK_STR(got.death, "");
}

TEST(a_torn_line_is_not_taken_and_does_not_spoil_the_next)
{
	static const char torn[] = "exit life=1-1-aa verdict=zom";
	struct exit_record r = record("1-2-bb"), got;

	fresh();
	put_text(file, torn, sizeof torn - 1);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_NOTFOUND);
	CHECK_EQ(exits_append(dir, &r), E_OK);
	CHECK_EQ(exits_find(dir, "1-2-bb", &got), E_OK);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_NOTFOUND);
	/* Whole but for its end: it may still grow. */
	fresh();
	put_text(file, "exit life=1-1-aa verdict=zombie", 31);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_NOTFOUND);
}

TEST(turns_over_at_its_size_and_finds_what_is_in_the_older_one)
{
	struct exit_record r = record("1-1-aa"), got;
	struct stat st;

	fresh();
	CHECK_EQ(exits_append(dir, &r), E_OK);
	snprintf(r.life, sizeof r.life, "1-2-bb");
	for (int i = 0; i < 2000 && stat(older, &st) != 0; i++)
		CHECK_EQ(exits_append(dir, &r), E_OK);
	CHECK(stat(older, &st) == 0 && st.st_size > EXITS_MAX_BYTES);
	CHECK(st.st_size < EXITS_MAX_BYTES + EXITS_LINE_BYTES);
	CHECK(stat(file, &st) == 0 && st.st_size < EXITS_LINE_BYTES);
	CHECK_EQ(exits_find(dir, "1-2-bb", &got), E_OK);
	snprintf(r.life, sizeof r.life, "1-3-cc");
	put_text(older, "exit life=1-3-cc verdict=lost\n", 30);
	CHECK_EQ(exits_find(dir, "1-3-cc", &got), E_OK);
}

/* Both find it full; the second one must not put the first one's new file in place of the old
 * lines. */
TEST(two_parents_turn_it_over_once)
{
	struct exit_record r = record("12-1-0a0b0c0d");
	struct stat st;
	int fd, status = -1;
	pid_t pid;

	fresh();
	while (stat(file, &st) != 0 || st.st_size <= EXITS_MAX_BYTES)
		CHECK_EQ(exits_append(dir, &r), E_OK);
	fd = open(file, O_RDONLY);
	CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
	pid = fork();
	if (pid == 0)
		_exit(exits_append(dir, &r) == E_OK ? 0 : 1);
	usleep(200 * 1000);
	CHECK(rename(file, older) == 0);
	put_text(file, "", 0);
	(void)flock(fd, LOCK_UN); /* the child holds this description, too */
	close(fd);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(stat(older, &st) == 0 && st.st_size > EXITS_MAX_BYTES);
	CHECK(stat(file, &st) == 0 && st.st_size > 0);
}

TEST(reads_no_more_than_the_newest_part_of_a_file_that_somebody_blew_up)
{
	static const char wanted[] = "exit life=1-1-aa verdict=lost\n";
	struct exit_record got;

	fresh();
	put_text(file, wanted, sizeof wanted - 1);
	CHECK(truncate(file, 1 << 30) == 0); /* a hole of NULs */
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_NOTFOUND);
	put_text(file, "\n", 1);
	put_text(file, wanted, sizeof wanted - 1);
	CHECK_EQ(exits_find(dir, "1-1-aa", &got), E_OK);
}

TEST(follows_no_link_and_opens_no_fifo)
{
	struct exit_record r = record("1-1-aa"), got;

	fresh();
	CHECK(symlink("/dev/null", file) == 0);
	CHECK(exits_append(dir, &r) != E_OK);
	CHECK(exits_find(dir, "1-1-aa", &got) != E_OK);
	fresh();
	CHECK(mkfifo(file, 0600) == 0);
	CHECK(exits_append(dir, &r) != E_OK);
	CHECK(exits_find(dir, "1-1-aa", &got) != E_OK);
	fresh();
	CHECK(mkdir(file, 0700) == 0);
	CHECK(exits_append(dir, &r) != E_OK);
}

TEST(every_cause_and_certainty_comes_back_from_its_name)
{
	enum certainty c;
	enum cause v;

	for (unsigned i = 0; i < CAUSE_COUNT; i++)
		CHECK(cause_from_name(cause_name((enum cause)i), &v) && v == (enum cause)i);
	for (unsigned i = 0; i <= UNSURE; i++)
		CHECK(certainty_from_name(certainty_name((enum certainty)i), &c) &&
		      c == (enum certainty)i);
	CHECK(!cause_from_name("", &v));
	CHECK(!cause_from_name("unknown", &v));
	CHECK(!certainty_from_name("Certain", &c));
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	RUN(finds_what_was_appended_with_every_value);
	RUN(brings_the_evidence_back_whatever_is_in_it);
	RUN(refuses_evidence_that_it_never_writes);
	RUN(goes_through_the_lives_in_order_each_once_over_both_files);
	RUN(is_one_line_that_only_its_owner_may_read);
	RUN(finds_the_newest_of_a_life_among_others);
	RUN(says_not_found_without_a_file_and_leaves_the_result_alone);
	RUN(refuses_words_that_would_break_the_line);
	RUN(skips_broken_lines);
	RUN(skips_keys_that_it_does_not_know);
	RUN(a_torn_line_is_not_taken_and_does_not_spoil_the_next);
	RUN(turns_over_at_its_size_and_finds_what_is_in_the_older_one);
	RUN(two_parents_turn_it_over_once);
	RUN(reads_no_more_than_the_newest_part_of_a_file_that_somebody_blew_up);
	RUN(follows_no_link_and_opens_no_fifo);
	RUN(every_cause_and_certainty_comes_back_from_its_name);
	fresh();
	rmdir(dir);
	return t_done();
}
