/*
 * Orders: taken once, by the life that they are meant for, and whatever lies in
 * their place is gone after one look.
 */
#include "agent/supervisor/order.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/t.h"

static char dir[] = "/tmp/order-test-XXXXXX";
static char file[64];

static void
put_text(const char *text, size_t n)
{
	int fd;

	unlink(file);
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0 && write(fd, text, n) == (ssize_t)n);
	close(fd);
}

TEST(is_taken_once_and_by_its_own_life)
{
	struct order o = { .why = ORDER_WHYS };
	struct stat st;

	CHECK_EQ(order_give(dir, "1-1-aa", ORDER_NO_PROGRESS, "prompt 7 stands still"), E_OK);
	CHECK(stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
	CHECK_EQ(order_take(dir, "1-2-bb", &o), E_NOTFOUND);
	CHECK_EQ(order_take(dir, "1-1-aa", &o), E_OK);
	CHECK_EQ(o.why, ORDER_NO_PROGRESS);
	CHECK_STR(o.detail, "prompt 7 stands still");
	CHECK_EQ(order_take(dir, "1-1-aa", &o), E_NOTFOUND);
}

TEST(every_reason_has_a_name_that_comes_back_and_a_verdict)
{
	static const enum cause causes[ORDER_WHYS] = { CAUSE_ZOMBIE, CAUSE_HANG, CAUSE_HANG,
		CAUSE_CUDA_POISONED, CAUSE_LIMIT_SOFT };

	for (unsigned i = 0; i < ORDER_WHYS; i++) {
		struct order o = { .why = ORDER_WHYS };

		CHECK_EQ(order_give(dir, "1-1-aa", (enum order_why)i, ""), E_OK);
		CHECK_EQ(order_take(dir, "1-1-aa", &o), E_OK);
		CHECK_EQ(o.why, i);
		CHECK_STR(o.detail, "");
		CHECK_EQ(order_cause(o.why), causes[i]);
	}
}

TEST(the_newest_order_wins)
{
	struct order o = { .why = ORDER_WHYS };

	CHECK_EQ(order_give(dir, "1-1-aa", ORDER_ZOMBIE, "first"), E_OK);
	CHECK_EQ(order_give(dir, "1-1-aa", ORDER_HTTP_SILENT, "second"), E_OK);
	CHECK_EQ(order_take(dir, "1-1-aa", &o), E_OK);
	CHECK_STR(o.detail, "second");
}

TEST(a_detail_is_one_clean_line_of_bounded_length)
{
	char text[600];
	struct order o;

	memset(text, 'z', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	memcpy(text, "a\nb\x1b[2J\xff", 8);
	CHECK_EQ(order_give(dir, "1-1-aa", ORDER_ZOMBIE, text), E_OK);
	CHECK_EQ(order_take(dir, "1-1-aa", &o), E_OK);
	CHECK(strncmp(o.detail, "a?b?[2J?zzz", 11) == 0);
	CHECK_EQ(strlen(o.detail), sizeof o.detail - 1);
}

TEST(a_life_that_is_no_word_names_no_file)
{
	struct order o;

	CHECK_EQ(order_give(dir, "../x", ORDER_ZOMBIE, ""), E_INVAL);
	CHECK_EQ(order_give(dir, "", ORDER_ZOMBIE, ""), E_INVAL);
	CHECK_EQ(order_take(dir, "a/b", &o), E_INVAL);
	CHECK_EQ(order_give("/nonexistent", "1-1-aa", ORDER_ZOMBIE, ""), E_NOTFOUND);
}

TEST(what_is_no_order_is_refused_and_gone)
{
	static const char *const texts[] = { "", "why=zombie", "why=zombie detail=x", "why=\n",
		"why=zombies detail=x\n", "why=zombi detail=x\n", "detail=x why=zombie\n",
		"why=zombie\ndetail=x\n", "WHY=zombie detail=x\n" };
	struct order o = { .why = ORDER_WHYS };
	char large[4096];

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		put_text(texts[i], strlen(texts[i]));
		CHECK_EQ(order_take(dir, "1-1-aa", &o), E_INVAL);
		CHECK(access(file, F_OK) != 0);
	}
	memset(large, 'x', sizeof large);
	memcpy(large, "why=zombie detail=", 18);
	put_text(large, sizeof large);
	CHECK_EQ(order_take(dir, "1-1-aa", &o), E_INVAL);
	CHECK(access(file, F_OK) != 0);
	CHECK(symlink("/etc/passwd", file) == 0);
	CHECK_EQ(order_take(dir, "1-1-aa", &o), E_INVAL);
	CHECK(access(file, F_OK) != 0);
	CHECK(mkfifo(file, 0600) == 0);
	CHECK_EQ(order_take(dir, "1-1-aa", &o), E_INVAL);
	CHECK(access(file, F_OK) != 0);
	CHECK_EQ(o.why, ORDER_WHYS);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(file, sizeof file, "%s/order-1-1-aa", dir);
	RUN(is_taken_once_and_by_its_own_life);
	RUN(every_reason_has_a_name_that_comes_back_and_a_verdict);
	RUN(the_newest_order_wins);
	RUN(a_detail_is_one_clean_line_of_bounded_length);
	RUN(a_life_that_is_no_word_names_no_file);
	RUN(what_is_no_order_is_refused_and_gone);
	unlink(file);
	rmdir(dir);
	return t_done();
}
