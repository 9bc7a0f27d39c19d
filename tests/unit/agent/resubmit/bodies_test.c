/*
 * What a file of a prompt must look like to be believed, which names are
 * touched, and which lives belong together.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/process.h"
#include "agent/resubmit/internal.h"
#include "tests/t.h"

#define PROBE    "probe=00112233445566778899aabbccddeeff "
#define WORKFLOW "workflow=3fa91c02 "
#define LINE     BODY_MAGIC "number=-2.5 " WORKFLOW PROBE "secret=0 bytes=7\n"

/* Of the processor for the journal: no record is shown here. */
const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	(void)s;
	(void)id;
	*n = 0;
	return NULL;
}

static char dir[] = "/tmp/cm-resubmit-XXXXXX";

static enum err
parse(const char *text, struct body_line *out)
{
	return body_parse(text, strlen(text), strlen(text), out);
}

TEST(a_line_says_what_its_prompt_is)
{
	struct body_line b;

	REQUIRE(parse(LINE "{\"a\":1}", &b) == E_OK);
	CHECK(b.number == -2.5);
	CHECK_STR(b.workflow, "3fa91c02");
	CHECK_STR(b.probe, "00112233445566778899aabbccddeeff");
	CHECK(!b.secret);
	CHECK_EQ(b.json_at, sizeof LINE - 1);
	CHECK_EQ(b.json_bytes, 7);
	CHECK_EQ(
	    parse(BODY_MAGIC "number=0 more=x workflow=00000000 " PROBE "secret=1 bytes=0\n", &b),
	    E_OK);
	CHECK(b.secret);
	REQUIRE(parse(BODY_MAGIC "number=nan workflow=00000000 " PROBE "secret=1 bytes=0\n", &b) ==
		E_OK);
	CHECK(b.number == 0);
}

TEST(what_is_not_whole_is_refused)
{
	static const char *const texts[] = { "", "\n", "x", BODY_MAGIC "\n", LINE,
		LINE "{\"a\":12}", LINE "{\"a\"}",
		"comfymon-body 2 number=0 " WORKFLOW PROBE "secret=0 bytes=1\n1",
		BODY_MAGIC "number= " WORKFLOW PROBE "secret=0 bytes=1\n1",
		BODY_MAGIC "number=0 workflow=0123456789 " PROBE "secret=0 bytes=1\n1",
		BODY_MAGIC "number=0 workflow=012345 " PROBE "secret=0 bytes=1\n1",
		BODY_MAGIC "number=0 " WORKFLOW PROBE "secret=0 bytes=-1\n1",
		BODY_MAGIC "number=0 " WORKFLOW PROBE "secret=0 bytes=0\n",
		BODY_MAGIC "number=0 " WORKFLOW "probe=../../etc secret=0 bytes=1\n1",
		BODY_MAGIC "number=0 " WORKFLOW "secret=0 bytes=1\n1" };
	struct body_line b;

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		CHECK_EQ(parse(texts[i], &b), E_INVAL);
	for (size_t n = 0; n < sizeof LINE - 1; n++)
		CHECK_EQ(body_parse(LINE, n, sizeof LINE + 6, &b), E_INVAL);
}

static void
put(const char *name, const char *text)
{
	char path[512];
	int fd;

	snprintf(path, sizeof path, "%s/" RUN_BODIES_NAME "/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
}

static bool
there(const char *name)
{
	char path[512];

	snprintf(path, sizeof path, "%s/" RUN_BODIES_NAME "/%s", dir, name);
	return access(path, F_OK) == 0;
}

TEST(a_file_is_marked_before_it_is_sent_and_known_by_that_later)
{
	struct waiting w = { .body = "id-1.json" }, later = w;
	char *json;

	put("id-1.json", LINE "{\"a\":1}");
	body_look(dir, &w);
	CHECK(w.known && !w.missing && !w.sent);
	REQUIRE(body_read(dir, &w, &json) == E_OK);
	CHECK(memcmp(json, "{\"a\":1}", 7) == 0);
	free(json);
	CHECK_EQ(body_mark(dir, &w), E_OK);
	CHECK(!there("id-1.json") && there("id-1.json.sent"));
	body_look(dir, &later);
	CHECK(!later.missing && later.sent);
	REQUIRE(body_read(dir, &later, &json) == E_OK);
	free(json);
	body_remove(dir, &later);
	CHECK(!there("id-1.json.sent"));
	body_look(dir, &w);
	CHECK(w.missing);
}

TEST(only_names_of_such_files_are_touched)
{
	static const char *const names[] = { "../outside.json", ".hidden.json", "", "no-suffix",
		".json" };
	char path[512];

	snprintf(path, sizeof path, "%s/outside.json", dir);
	put("../outside.json", LINE "{\"a\":1}");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct waiting w = { .known = false };
		char *json;

		snprintf(w.body, sizeof w.body, "%s", names[i]);
		body_look(dir, &w);
		CHECK(w.missing);
		CHECK(body_read(dir, &w, &json) != E_OK);
		CHECK(body_mark(dir, &w) != E_OK);
		body_remove(dir, &w);
	}
	CHECK(access(path, F_OK) == 0);
	snprintf(path, sizeof path, "%s/" RUN_BODIES_NAME "/link.json", dir);
	CHECK_EQ(symlink("../outside.json", path), 0);
	struct waiting w = { .body = "link.json" };
	body_look(dir, &w);
	CHECK(w.missing);
}

TEST(lives_of_one_supervisor_belong_together)
{
	CHECK(life_same_supervisor("12-1-00c0ffee", "12-2-00c0ffee"));
	CHECK(!life_same_supervisor("1-1-00c0ffee", "1-1-deadbeef"));
	CHECK(!life_same_supervisor("12-1-00c0ffee", "12-"));
	CHECK(!life_same_supervisor("12-1-00c0ffee", "123-1-00c0ffee"));
	CHECK(!life_same_supervisor("", ""));
	CHECK(!life_same_supervisor("x-1-0", "x-1-0"));
	CHECK(!life_supervisor_lives("0-1-0") && !life_supervisor_lives("") &&
	      !life_supervisor_lives("1-1-0"));
	char life[64];
	snprintf(life, sizeof life, "%d-1-0", (int)getpid());
	CHECK(life_supervisor_lives(life));
}

int
main(void)
{
	char command[128];

	if (mkdtemp(dir) == NULL)
		return 2;
	snprintf(command, sizeof command, "%s/" RUN_BODIES_NAME, dir);
	if (mkdir(command, 0700) != 0)
		return 2;
	RUN(a_line_says_what_its_prompt_is);
	RUN(what_is_not_whole_is_refused);
	RUN(a_file_is_marked_before_it_is_sent_and_known_by_that_later);
	RUN(only_names_of_such_files_are_touched);
	RUN(lives_of_one_supervisor_belong_together);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || t_done();
}
