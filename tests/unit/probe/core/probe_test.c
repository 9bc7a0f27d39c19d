/*
 * The probe as a host uses it.  Each test runs in a process of its own, because
 * a probe that turned itself off stays off.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/core/autostart.h"
#include "probe/core/ident.h"
#include "probe/core/probe.h"
#include "schema/tables.h"
#include "tests/t.h"

static char dir[] = "/tmp/cm-probe-XXXXXX";
static char reason[256];

/* A test whose body runs in a child: its checks count by the exit code. */
#define ISOLATED(name)                              \
	static void name##_body(void);              \
	TEST(name)                                  \
	{                                           \
		pid_t pid = fork();                 \
		int status = -1;                    \
		if (pid == 0) {                     \
			t_failed_checks = 0;        \
			name##_body();              \
			exit(t_failed_checks != 0); \
		}                                   \
		waitpid(pid, &status, 0);           \
		CHECK_EQ(status, 0);                \
		empty_dir();                        \
	}                                           \
	static void name##_body(void)

/* The race detector cannot follow a child of a process with threads that starts its own. */
#if defined(__SANITIZE_THREAD__)
#define CHILD_MAY_START_A_SENDER false
#else
#define CHILD_MAY_START_A_SENDER true
#endif

extern char **environ;

static int
rings(char *name)
{
	DIR *d = opendir(dir);
	int n = 0;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.') {
			n++;
			if (name != NULL)
				snprintf(name, 300, "%s/%s", dir, e->d_name);
		}
	closedir(d);
	return n;
}

static void
empty_dir(void)
{
	char name[300];

	while (rings(name) > 0 && unlink(name) == 0)
		;
}

static int
start_in(const char *where, uint64_t bytes)
{
	struct comfymon_options o = { .run_dir = where, .ring_bytes = bytes };

	reason[0] = '\0';
	return comfymon_start(&o, reason, sizeof reason);
}

static struct wire_span
a_span(uint64_t id)
{
	return (struct wire_span){ .trace_lo = 5, .span_id = id, .name = comfymon_intern("n", 1) };
}

static bool
finish(uint64_t id, uint32_t slot)
{
	struct wire_span s = a_span(id);

	return comfymon_span_finish(&s, slot);
}

static uint64_t
lost(enum wire_loss why)
{
	struct comfymon_stats f;

	comfymon_stats(&f);
	return f.losses[why];
}

/* The ring file as its reader after a death would have it. */
static uint8_t file[2u << 20];
static bool
read_ring(const char *name)
{
	int fd = open(name, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, file, sizeof file);

	if (fd >= 0)
		close(fd);
	return n > RING_HEADER_BYTES && wire_get64(file + RING_OFF_FILE_BYTES) == (uint64_t)n;
}

static const uint8_t *
slot_in_file(unsigned i)
{
	return file + wire_get64(file + RING_OFF_OPEN) + i * SLOT_BYTES;
}

/* Text of a string id, from the file's arena. */
static void
string_in_file(uint32_t id, char *text)
{
	const uint8_t *p = file + wire_get64(file + RING_OFF_ARENA);

	text[0] = '\0';
	if (id == 0 || id > wire_get64(file + RING_OFF_ARENA_STRINGS))
		return;
	while (--id > 0)
		p += WIRE_ALIGN8(8 + wire_get32(p));
	if (wire_get32(p + 4) == wire_crc32c(0, p + 8, wire_get32(p)))
		sprintf(text, "%.*s", (int)wire_get32(p), (const char *)p + 8);
}

ISOLATED(a_string_keeps_its_id_and_lies_in_the_file)
{
	char text[FRAME_STRING_MAX_BYTES + 1], name[300], want[32];
	uint32_t id[500];

	REQUIRE(start_in(dir, 1u << 20) == 0);
	CHECK_EQ(comfymon_intern("", 0), 0);
	for (int i = 0; i < 500; i++)
		id[i] = comfymon_intern(want, (size_t)sprintf(want, "string number %d", i));
	REQUIRE(rings(name) == 1 && read_ring(name));
	for (int i = 0; i < 500; i++) {
		size_t n = (size_t)sprintf(want, "string number %d", i);

		CHECK(id[i] != 0 && comfymon_intern(want, n) == id[i]);
		string_in_file(id[i], text);
		CHECK_STR(text, want);
	}
	memset(text, 'x', sizeof text);
	CHECK(comfymon_intern(text, FRAME_STRING_MAX_BYTES) != 0);
	CHECK_EQ(comfymon_intern(text, FRAME_STRING_MAX_BYTES + 1), 0);
	CHECK_EQ(lost(WIRE_LOSS_TOO_LARGE), 1);
}

static pthread_barrier_t together;

static void *
intern_many(void *arg)
{
	uint32_t *ids = arg;
	char s[32];

	for (int i = 0; i < 2000; i++) {
		size_t n = (size_t)sprintf(s, "shared %d", i);

		pthread_barrier_wait(&together);
		ids[i] = comfymon_intern(s, n);
	}
	return NULL;
}

ISOLATED(threads_that_intern_the_same_get_the_same)
{
	static uint32_t ids[4][2000];
	struct comfymon_stats f;
	pthread_t t[4];

	REQUIRE(start_in(dir, 1u << 20) == 0);
	pthread_barrier_init(&together, NULL, 4);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, intern_many, ids[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (int i = 1; i < 4; i++)
		CHECK(memcmp(ids[0], ids[i], sizeof ids[0]) == 0);
	comfymon_stats(&f);
	CHECK_EQ(f.strings, 2000);
}

ISOLATED(a_full_arena_is_counted_and_known_strings_go_on)
{
	uint32_t first, id = 1;
	char s[64];

	REQUIRE(start_in(dir, 256 * 1024) == 0);
	first = comfymon_intern("first", 5);
	for (int i = 0; i < 5000 && id != 0; i++)
		id = comfymon_intern(s, (size_t)sprintf(s, "a string of some length %d", i));
	CHECK_EQ(id, 0);
	CHECK_EQ(lost(WIRE_LOSS_ARENA_FULL), 1);
	CHECK_EQ(comfymon_intern("first", 5), first);
	CHECK(finish(1, COMFYMON_NO_SLOT));
}

ISOLATED(texts_that_never_come_again_leave_room_for_names)
{
	char text[32];
	uint32_t first, id = 1;
	int i = 0;

	REQUIRE(start_in(dir, 1u << 20) == 0);
	first = comfymon_intern_value("first", 5);
	for (; id != 0 && i < 100000; i++)
		id = comfymon_intern_value(text, (size_t)sprintf(text, "value number %d", i));
	CHECK(i > 1000 && i < 100000);
	CHECK_EQ(lost(WIRE_LOSS_ARENA_FULL), 1);
	CHECK(first != 0 && comfymon_intern_value("first", 5) == first);
	for (i = 0; i < 200; i++)
		CHECK(comfymon_intern(text, (size_t)sprintf(text, "name number %d", i)) != 0);
}

ISOLATED(an_open_span_is_in_the_file_until_it_finishes)
{
	uint8_t buf[1024];
	struct wire_tags tags = { .buf = buf, .cap = sizeof buf };
	struct wire_span s, back;
	struct wire_error err;
	char name[300], text[FRAME_STRING_MAX_BYTES + 1];
	uint32_t slot;

	REQUIRE(start_in(dir, 1u << 20) == 0);
	s = a_span(77);
	for (int i = 0; i < 60; i++)
		wire_tag_f64(&tags, comfymon_intern("key", 3), i + 0.5);
	s.tags = buf;
	s.tag_bytes = tags.used;
	s.tag_count = tags.count;
	slot = comfymon_span_open(&s);
	REQUIRE(slot != COMFYMON_NO_SLOT && rings(name) == 1 && read_ring(name));
	const uint8_t *p = slot_in_file(0);

	CHECK_EQ(wire_get32(p), SLOT_OPEN);
	CHECK(wire_get64(p + 8) == SLOT_NO_POSITION);
	CHECK_EQ(wire_get32(p + 24), wire_crc32c(0, p + 32, wire_get32(p + 4)));
	REQUIRE(wire_span_get(p + 32, wire_get32(p + 4), &back, &err) == 0);
	CHECK_EQ(back.span_id, 77);
	CHECK(back.tag_count > 0 && back.tag_count < s.tag_count); /* cut to the slot */
	string_in_file(back.name, text);
	CHECK_STR(text, "n");
	CHECK(comfymon_span_finish(&s, slot));
	CHECK(comfymon_span_finish(&s, slot)); /* a second time: a span without a slot */
	REQUIRE(read_ring(name));
	CHECK_EQ(wire_get32(p), SLOT_FREE);
	/* OPEN record, then SPAN record whose position the slot was given. */
	const uint8_t *area = file + RING_HEADER_BYTES;
	uint32_t open_bytes = wire_get32(area + 8);

	CHECK_EQ(wire_get16(area + 12), EVENT_OPEN);
	CHECK_EQ(wire_get16(area + open_bytes + 12), EVENT_SPAN);
	CHECK_EQ(wire_get64(p + 8), open_bytes);
	CHECK_EQ(wire_get16(area + open_bytes + WIRE_SPAN_OFF_FLAGS), WIRE_SPAN_OPENED);
	CHECK_EQ(wire_get16(area + 2 * open_bytes + WIRE_SPAN_OFF_FLAGS), 0);
}

ISOLATED(a_full_table_counts_and_a_handle_works_once)
{
	struct comfymon_stats f;
	struct wire_span s;
	uint32_t slot[256];

	REQUIRE(start_in(dir, 1u << 20) == 0);
	s = a_span(1);
	for (int i = 0; i < 256; i++)
		REQUIRE((slot[i] = comfymon_span_open(&s)) != COMFYMON_NO_SLOT);
	CHECK_EQ(comfymon_span_open(&s), COMFYMON_NO_SLOT);
	CHECK_EQ(lost(WIRE_LOSS_OPEN_FULL), 1);
	CHECK(finish(1, slot[9]));
	uint32_t again = comfymon_span_open(&s);

	CHECK(again != COMFYMON_NO_SLOT && again != slot[9]);
	CHECK(finish(1, slot[9])); /* recorded, but the slot is another's now */
	comfymon_stats(&f);
	CHECK_EQ(f.open_slots_used, 256);
	for (int i = 0; i < 256; i++)
		CHECK(finish(1, i == 9 ? again : slot[i]));
	comfymon_stats(&f);
	CHECK_EQ(f.open_slots_used, 0);
}

ISOLATED(a_record_that_is_too_large_is_refused_and_counted)
{
	static uint8_t big[FRAME_RECORD_MAX_BYTES];
	struct wire_span s;

	REQUIRE(start_in(dir, 1u << 20) == 0);
	CHECK(!comfymon_record(900, big, sizeof big));
	CHECK(comfymon_record(900, big, sizeof big - RECORD_HEADER_BYTES));
	CHECK(comfymon_record(900, big, 3));
	s = a_span(1);
	s.tags = big;
	s.tag_bytes = sizeof big;
	CHECK(!comfymon_span_finish(&s, COMFYMON_NO_SLOT));
	CHECK_EQ(comfymon_span_open(&s), COMFYMON_NO_SLOT);
	CHECK_EQ(lost(WIRE_LOSS_TOO_LARGE), 2);
}

ISOLATED(a_forked_child_writes_in_a_ring_of_its_own)
{
	char name[300], text[FRAME_STRING_MAX_BYTES + 1];
	struct comfymon_stats before, f;
	uint32_t id, slot;
	struct wire_span s;
	int status;

	REQUIRE(start_in(dir, 1u << 20) == 0);
	id = comfymon_intern("from the parent", 15);
	s = a_span(1);
	slot = comfymon_span_open(&s);
	comfymon_stats(&before);
	pid_t pid = fork();
	if (pid == 0) {
		t_failed_checks = 0;
		CHECK_EQ(rings(NULL), 1); /* lazily: not before there is something to say */
		CHECK(comfymon_is_on());
		CHECK_EQ(comfymon_intern("from the parent", 15), id);
		CHECK(finish(2, slot)); /* the slot is the parent's and stays so */
		CHECK_EQ(rings(NULL), 2);
		CHECK(comfymon_intern("from the child", 14) > id);
		comfymon_stats(&f);
		CHECK(memcmp(f.probe_id, before.probe_id, sizeof f.probe_id) != 0);
		CHECK_EQ(f.spans, 1);
		for (unsigned i = 0; i < 16; i++)
			sprintf(text + 2 * i, "%02x", f.probe_id[i]);
		snprintf(name, sizeof name, "%s/ring-%.32s.cm", dir, text);
		CHECK(read_ring(name));
		string_in_file(id, text);
		CHECK_STR(text, "from the parent");
		CHECK_EQ(wire_get64(file + RING_OFF_PID), getpid());
		_exit(t_failed_checks != 0);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	comfymon_stats(&f);
	CHECK_EQ(f.head, before.head);
	CHECK_EQ(f.open_slots_used, 1);
	CHECK(finish(1, slot));
}

/* In a child: a span, the end of the host, and what the probe says of it. */
static int
writes_as_a_stray(uint32_t slot)
{
	if (finish(2, slot) || comfymon_is_on() || comfymon_intern("from a stray", 12) != 0)
		return 1;
	if (strstr(comfymon_off_reason(), "fork handlers") == NULL)
		return 2;
	comfymon_stop(0);
	return 0;
}

/* Two writers that do not know of each other would share its strings and slots, and its end. */
ISOLATED(a_child_that_ran_no_fork_handler_leaves_its_parents_ring_alone)
{
	struct comfymon_stats before, f;
	uint32_t slot;
	struct wire_span s;
	int status = -1;
	pid_t pid;

	REQUIRE(start_in(dir, 1u << 20) == 0);
	s = a_span(1);
	slot = comfymon_span_open(&s);
	comfymon_stats(&before);
	for (int i = 0; i < 2; i++) {
		pid = i == 0 ? _Fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			_exit(writes_as_a_stray(slot));
		waitpid(pid, &status, 0);
		CHECK_EQ(status, 0);
	}
	comfymon_stats(&f);
	CHECK_EQ(f.head, before.head);
	CHECK_EQ(f.strings, before.strings);
	CHECK(comfymon_is_on() && finish(1, slot));
	CHECK_EQ(rings(NULL), 1);
}

static int
write_beside_parent(void *arg)
{
	return finish(2, COMFYMON_NO_SLOT) ? *(int *)arg : 1;
}

ISOLATED(a_child_that_shares_our_memory_writes_as_a_thread_does)
{
	static uint8_t stack[256 * 1024];
	struct comfymon_stats f;
	int status = -1, none = 0;
	pid_t pid;

	REQUIRE(start_in(dir, 1u << 20) == 0 && finish(1, COMFYMON_NO_SLOT));
	pid = clone(
	    write_beside_parent, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &none);
	REQUIRE(pid > 0);
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	comfymon_stats(&f);
	CHECK_EQ(f.spans, 2);
	CHECK(comfymon_is_on() && finish(3, COMFYMON_NO_SLOT));
	CHECK_EQ(rings(NULL), 1);
}

ISOLATED(a_child_that_says_nothing_leaves_nothing)
{
	int status;

	REQUIRE(start_in(dir, 1u << 20) == 0 && finish(1, COMFYMON_NO_SLOT));
	pid_t pid = fork();
	if (pid == 0)
		_exit(rings(NULL) != 1);
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	/* Its copy of the descriptor is gone, our lock is not. */
	CHECK(finish(2, COMFYMON_NO_SLOT));
}

ISOLATED(the_ninth_child_goes_without)
{
	int go[2], status, off = 0;
	pid_t pid[9];

	REQUIRE(start_in(dir, 1u << 20) == 0 && pipe(go) == 0);
	for (int i = 0; i < 9; i++) {
		int said[2];
		char c;

		REQUIRE(pipe(said) == 0);
		if ((pid[i] = fork()) == 0) {
			bool took = finish(9, COMFYMON_NO_SLOT);

			c = took || strstr(comfymon_off_reason(), "child") == NULL ||
				    lost(WIRE_LOSS_FORK) == 0
				? 'y'
				: 'n';
			_exit(write(said[1], &c, 1) != 1 || close(go[1]) != 0 ||
			      read(go[0], &c, 1) != 0);
		}
		CHECK(read(said[0], &c, 1) == 1);
		off += c == 'n';
		CHECK_EQ(c, i < 8 ? 'y' : 'n');
		close(said[0]);
		close(said[1]);
	}
	CHECK_EQ(off, 1);
	close(go[1]);
	for (int i = 0; i < 9; i++) {
		waitpid(pid[i], &status, 0);
		CHECK_EQ(status, 0);
	}
}

ISOLATED(exec_and_spawn_leave_the_parents_ring_alone)
{
	char sh[] = "/bin/true", *argv[] = { sh, NULL };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char name[300];
	int status;
	pid_t pid;

	REQUIRE(start_in(dir, 1u << 20) == 0 && finish(1, COMFYMON_NO_SLOT));
	REQUIRE(posix_spawn(&pid, sh, NULL, NULL, argv, environ) == 0);
	waitpid(pid, &status, 0);
	CHECK(finish(2, COMFYMON_NO_SLOT));
	CHECK_EQ(rings(name), 1);
	if ((pid = fork()) == 0) {
		int fd = open(name, O_RDWR);

		_exit(fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
}

ISOLATED(ids_are_never_zero_nor_shared_with_a_child)
{
	uint64_t hi, lo, mine[100], theirs[100];
	int said[2], status;

	REQUIRE(start_in(dir, 1u << 20) == 0 && pipe(said) == 0);
	(void)comfymon_random_id();
	pid_t pid = fork();
	for (int i = 0; i < 100; i++)
		mine[i] = comfymon_random_id();
	if (pid == 0)
		_exit(write(said[1], mine, sizeof mine) != sizeof mine);
	REQUIRE(read(said[0], theirs, sizeof theirs) == sizeof theirs);
	for (int i = 0; i < 100; i++) {
		CHECK(mine[i] != 0);
		for (int k = 0; k < 100; k++)
			CHECK(mine[i] != theirs[k] && (i == k || mine[i] != mine[k]));
	}
	waitpid(pid, &status, 0);
	comfymon_new_trace_id(&hi, &lo);
	CHECK_EQ(hi & 0xffffffff, 0);
	CHECK(hi >> 32 <= (uint64_t)time(NULL) && hi >> 32 > (uint64_t)time(NULL) - 60);
}

ISOLATED(stop_removes_a_ring_without_records_and_leaves_any_other)
{
	uint32_t id;

	REQUIRE(start_in(dir, 1u << 20) == 0);
	id = comfymon_intern("kept", 4);
	CHECK_EQ(rings(NULL), 1);
	comfymon_stop(0);
	CHECK_EQ(rings(NULL), 0);
	CHECK(!finish(1, COMFYMON_NO_SLOT));
	REQUIRE(start_in(dir, 1u << 20) == 0);
	CHECK_EQ(comfymon_intern("kept", 4), id); /* constants keep their ids */
	CHECK(finish(1, COMFYMON_NO_SLOT));
	comfymon_stop(0);
	CHECK_EQ(rings(NULL), 1);
}

ISOLATED(spans_with_a_sender_survive_threads_and_forks_at_once)
{
	struct comfymon_options o = { .run_dir = dir, .ring_bytes = 1u << 20, .sender = true };
	int status;

	REQUIRE(comfymon_start(&o, reason, sizeof reason) == 0);
	for (int i = 0; i < 20; i++) {
		REQUIRE(finish((uint64_t)i + 1, COMFYMON_NO_SLOT));
		pid_t pid = fork();
		if (pid == 0) {
			bool ok = i % 5 != 0 || !CHILD_MAY_START_A_SENDER ||
				  finish(1000, COMFYMON_NO_SLOT);

			comfymon_stop(0); /* the files stay: the parent's is among them */
			_exit(!ok);
		}
		waitpid(pid, &status, 0);
		CHECK_EQ(status, 0);
	}
	comfymon_stop(0);
}

ISOLATED(autostart_starts_the_agent_once_and_leaves_no_child)
{
	char script[128], out[128], text[256] = "";
	FILE *f;

	snprintf(script, sizeof script, "%s/agent", dir);
	snprintf(out, sizeof out, "%s/out", dir);
	REQUIRE((f = fopen(script, "w")) != NULL);
	fprintf(f,
	    "#!/bin/sh\n[ -e /proc/$$/fd/9 ] || closed=1\necho ${closed:-0} \"$COMFYMON_RUN_DIR "
	    "$*\" $(cut -d' ' -f6 /proc/$$/stat) $$ "
	    "> %s.tmp\nmv %s.tmp %s\n",
	    out, out, out);
	fclose(f);
	chmod(script, 0700);
	REQUIRE(dup2(2, 9) == 9); /* what a careless host leaves open across exec */
	CHECK_EQ(comfymon_autostart("/nowhere/comfymon", dir, reason, sizeof reason),
	    COMFYMON_AUTOSTART_FAILED);
	CHECK(strstr(reason, "No such file") != NULL);
	CHECK_EQ(
	    comfymon_autostart(script, dir, reason, sizeof reason), COMFYMON_AUTOSTART_STARTED);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	for (int i = 0; i < 300 && access(out, F_OK) != 0; i++)
		nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
	REQUIRE((f = fopen(out, "r")) != NULL);
	int closed = 0, sid = 0, pid = -1;
	char flag[64], verb[64];

	CHECK_EQ(fscanf(f, "%d %255s %63s %63s %d %d", &closed, text, verb, flag, &sid, &pid), 6);
	fclose(f);
	CHECK_EQ(closed, 1);
	CHECK_STR(text, dir);
	CHECK_STR(verb, "agent");
	CHECK_STR(flag, "--autostarted");
	CHECK_EQ(sid, pid);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 2;
	RUN(a_string_keeps_its_id_and_lies_in_the_file);
	RUN(threads_that_intern_the_same_get_the_same);
	RUN(a_full_arena_is_counted_and_known_strings_go_on);
	RUN(texts_that_never_come_again_leave_room_for_names);
	RUN(an_open_span_is_in_the_file_until_it_finishes);
	RUN(a_full_table_counts_and_a_handle_works_once);
	RUN(a_record_that_is_too_large_is_refused_and_counted);
	RUN(a_forked_child_writes_in_a_ring_of_its_own);
	RUN(a_child_that_ran_no_fork_handler_leaves_its_parents_ring_alone);
	RUN(a_child_that_shares_our_memory_writes_as_a_thread_does);
	RUN(a_child_that_says_nothing_leaves_nothing);
	RUN(the_ninth_child_goes_without);
	RUN(exec_and_spawn_leave_the_parents_ring_alone);
	RUN(ids_are_never_zero_nor_shared_with_a_child);
	RUN(stop_removes_a_ring_without_records_and_leaves_any_other);
	RUN(spans_with_a_sender_survive_threads_and_forks_at_once);
	RUN(autostart_starts_the_agent_once_and_leaves_no_child);
	rmdir(dir);
	return t_done();
}
