/*
 * Files of prompts that wait: whole or not at all, within their room, in a
 * directory that is ours alone.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/core/bodies.h"
#include "probe/core/probe.h"
#include "tests/t.h"

static char dir[] = "/tmp/cm-bodies-XXXXXX";
static char path[COMFYMON_BODY_PATH_BYTES];
static const char *name;
static uint64_t bytes;

static enum comfymon_body
keep(const char *prompt_id, const char *json, size_t n)
{
	struct comfymon_body_text b = { .prompt_id = prompt_id,
		.number = -2,
		.workflow = UINT64_C(0x3fa91c0200000000),
		.json = json,
		.json_bytes = n };

	return comfymon_body_write(&b, path, &name, &bytes);
}

static int
files(void)
{
	char folder[64];
	DIR *d;
	int n = 0;

	snprintf(folder, sizeof folder, "%s/" RUN_BODIES_NAME, dir);
	if ((d = opendir(folder)) == NULL)
		return -1;
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

TEST(writes_one_line_and_the_prompt)
{
	char line[256], text[256] = "", probe_id[33];
	struct comfymon_stats stats;
	struct stat st;

	comfymon_stats(&stats);
	for (int i = 0; i < 16; i++)
		snprintf(probe_id + 2 * i, 3, "%02x", stats.probe_id[i]);
	int n = snprintf(line, sizeof line,
	    "comfymon-body 1 number=-2 workflow=3fa91c02 probe=%s secret=0 bytes=7\n{\"a\":1}",
	    probe_id);

	CHECK_EQ(keep("an-id", "{\"a\":1}", 7), COMFYMON_BODY_WRITTEN);
	CHECK_EQ(bytes, n);
	CHECK(strncmp(name, "an-id-", 6) == 0 && strlen(name) == 6 + 16 + 5);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK_EQ(read(fd, text, sizeof text - 1), n);
	CHECK_STR(text, line);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	close(fd);
	CHECK_EQ(files(), 1);
	comfymon_body_remove(path, bytes);
	CHECK_EQ(files(), 0);
}

TEST(one_id_twice_is_two_files)
{
	char first[COMFYMON_BODY_PATH_BYTES];

	CHECK_EQ(keep("twice", "1", 1), COMFYMON_BODY_WRITTEN);
	strcpy(first, path);
	CHECK_EQ(keep("twice", "2", 1), COMFYMON_BODY_WRITTEN);
	CHECK_EQ(files(), 2);
	comfymon_body_remove(path, bytes);
	comfymon_body_remove(first, bytes);
	CHECK_EQ(files(), 0);
}

TEST(an_id_that_is_no_name_is_refused)
{
	static const char *const ids[] = { "", "../up", "a/b", ".hidden",
		"01234567890123456789012345678901234567890123456789012345678901234" };

	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		CHECK_EQ(keep(ids[i], "1", 1), COMFYMON_BODY_FAILED);
	CHECK_EQ(files(), 0);
}

TEST(what_is_too_large_is_not_begun)
{
	CHECK_EQ(keep("large", "", BODY_JSON_MAX_BYTES + 1), COMFYMON_BODY_TOO_LARGE);
	CHECK_EQ(files(), 0);
}

/* The first. Left by lives before: they count, and make room when somebody has removed them. */
TEST(all_of_them_keep_to_their_room)
{
	char other[128];

	snprintf(other, sizeof other, "%s/" RUN_BODIES_NAME, dir);
	CHECK_EQ(mkdir(other, 0700), 0);
	snprintf(other, sizeof other, "%s/" RUN_BODIES_NAME "/left-0000000000000000.json", dir);
	int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK_EQ(ftruncate(fd, (off_t)BODY_ALL_MAX_BYTES - 16), 0);
	close(fd);
	CHECK_EQ(keep("fits", "1", 1), COMFYMON_BODY_NO_ROOM);
	CHECK_EQ(files(), 1);
	CHECK_EQ(unlink(other), 0);
	CHECK_EQ(keep("fits", "1", 1), COMFYMON_BODY_WRITTEN);
	comfymon_body_remove(path, bytes);
}

TEST(a_folder_that_others_may_enter_or_a_link_is_refused)
{
	char folder[64], elsewhere[64];

	snprintf(folder, sizeof folder, "%s/" RUN_BODIES_NAME, dir);
	snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", dir);
	CHECK_EQ(chmod(folder, 0710), 0);
	CHECK_EQ(keep("id", "1", 1), COMFYMON_BODY_FAILED);
	CHECK_EQ(rename(folder, elsewhere), 0);
	CHECK_EQ(chmod(elsewhere, 0700), 0);
	CHECK_EQ(symlink(elsewhere, folder), 0);
	CHECK_EQ(keep("id", "1", 1), COMFYMON_BODY_FAILED);
	CHECK_EQ(unlink(folder), 0);
	CHECK_EQ(rename(elsewhere, folder), 0);
	CHECK_EQ(keep("id", "1", 1), COMFYMON_BODY_WRITTEN);
	comfymon_body_remove(path, bytes);
}

/* The last: a probe that is off writes none, and still removes. */
TEST(who_is_off_still_removes)
{
	CHECK_EQ(keep("id", "1", 1), COMFYMON_BODY_WRITTEN);
	comfymon_stop(0);
	comfymon_body_remove(path, bytes);
	CHECK_EQ(files(), 0);
	CHECK_EQ(keep("id", "1", 1), COMFYMON_BODY_FAILED);
	CHECK_EQ(files(), 0);
}

int
main(void)
{
	struct comfymon_options o = { .run_dir = dir };
	char reason[256], command[128];

	if (mkdtemp(dir) == NULL || comfymon_start(&o, reason, sizeof reason) != 0)
		return 2;
	RUN(all_of_them_keep_to_their_room);
	RUN(writes_one_line_and_the_prompt);
	RUN(one_id_twice_is_two_files);
	RUN(an_id_that_is_no_name_is_refused);
	RUN(what_is_too_large_is_not_begun);
	RUN(a_folder_that_others_may_enter_or_a_link_is_refused);
	RUN(who_is_off_still_removes);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || t_done();
}
