/*
 * Writers, their forks, and SIGKILL between any two instructions: what a writer
 * was told is recorded is found once, what was open is found once, and nothing
 * else is found.  The ledger lies in memory that outlives the killed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/core/salvage.h"
#include "probe/core/probe.h"
#include "schema/tables.h"
#include "tests/t.h"

#define ROUNDS  80
#define THREADS 8u
#define FORKS   3u
#define WRITERS (THREADS + FORKS)
#define SPANS   65536u /* of one writer, more than a ring holds */
#define ROOM    (8u << 20)

/* What one writer knows of itself: span n of it has id writer << 32 | n, from 1 on. */
struct row {
	_Atomic uint64_t told;   /* spans 1..told were finished, says the probe */
	_Atomic uint64_t opened; /* this one has a slot */
	_Atomic uint64_t begun;  /* no later one was ever spoken of */
};

static struct row *ledger;
static uint8_t (*seen)[SPANS];
static char dir[] = "/tmp/cm-death-XXXXXX";
static unsigned seed;
static struct {
	uint64_t finished, unfinished, torn, in_progress_kept, in_progress_gone, rings, full;
} sums;
static unsigned full; /* bit by writer: its ring had to drop spans, even such as had a slot */

static unsigned
chance(unsigned below)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 16) % below;
}

static void
pause_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* Span after span, every second one with a slot, until there is no room. */
static void *
write_on(void *arg)
{
	uint64_t who = (uintptr_t)arg;
	struct row *row = &ledger[who];

	for (uint64_t n = 1; n < SPANS; n++) {
		struct wire_span s = { .trace_lo = 1 + who,
			.span_id = who << 32 | n,
			.start_ns = n,
			.name = comfymon_intern("a name", 6),
			.priority = WIRE_PRIORITY_NONE,
			.mechanism = WIRE_PRIORITY_NONE };
		uint32_t slot = COMFYMON_NO_SLOT;

		atomic_store(&row->begun, n);
		if (n % 2 == 0 && (slot = comfymon_span_open(&s)) != COMFYMON_NO_SLOT)
			atomic_store(&row->opened, n);
		if (!comfymon_span_finish(&s, slot))
			break;
		atomic_store(&row->told, n);
	}
	return NULL;
}

static void
live_until_killed(unsigned with)
{
	struct comfymon_options o = { .run_dir = dir, .ring_bytes = ROOM };
	char reason[200];
	pthread_t t;

	seed = with;
	if (comfymon_start(&o, reason, sizeof reason) != 0)
		_exit(1);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&t, NULL, write_on, (void *)i);
	for (uintptr_t i = 0; i < FORKS; i++) {
		pause_us(chance(300));
		if (fork() == 0) {
			write_on((void *)(THREADS + i));
			break;
		}
	}
	for (;;)
		pause();
}

static enum err
look(void *ctx, const uint8_t *body, size_t bytes)
{
	unsigned *writers = ctx;
	struct wire_record r;
	struct wire_error err;
	struct wire_batch b;
	struct wire_span s;

	if (wire_batch_check(body, bytes, &b, &err) != 0) {
		fprintf(stderr, "%s at %zu\n", err.what, err.at);
		CHECK(false);
		return E_OK;
	}
	for (size_t at = 0; at < b.records_bytes; at += r.length) {
		CHECK(wire_record_get(b.records + at, b.records_bytes - at, &r, &err) > 0);
		if (r.type != EVENT_SPAN)
			continue;
		CHECK(wire_span_get(r.payload, r.payload_bytes, &s, &err) == 0);
		CHECK(s.span_id >> 32 < WRITERS && (uint32_t)s.span_id < SPANS);
		*writers |= 1u << (s.span_id >> 32) % WRITERS;
		seen[(s.span_id >> 32) % WRITERS][(uint32_t)s.span_id % SPANS]++;
		if ((s.flags & WIRE_SPAN_UNFINISHED) != 0)
			sums.unfinished++;
		else
			sums.finished++;
	}
	return E_OK;
}

static void
salvage_ring(void *ctx, const char *path)
{
	static const struct salvage_evidence nothing;
	struct salvage_counts c = { .batches = 0 };
	unsigned writers = 0;
	struct salvage *s;
	enum err e;

	(void)ctx;
	/* A forked child dies when the kernel comes to it. */
	for (int i = 0; (e = salvage_open(path, &s)) == E_BUSY && i < 2000; i++)
		pause_us(1000);
	CHECK_EQ(e, E_OK);
	if (e != E_OK)
		return;
	CHECK_EQ(salvage_read(s, 0, 0, 0, &nothing, look, &writers, &c), E_OK);
	CHECK_EQ(salvage_unlink(s), E_OK);
	if (salvage_probe(s)->losses[WIRE_LOSS_RING_FULL] > 0)
		full |= writers;
	salvage_free(s);
	sums.torn += c.torn;
	sums.rings++;
}

static void
compare(uint64_t who)
{
	uint64_t told = atomic_load(&ledger[who].told), begun = atomic_load(&ledger[who].begun);
	unsigned wrong = 0;

	for (uint64_t n = 1; n < SPANS; n++) {
		uint8_t least =
		    n <= told || (n == atomic_load(&ledger[who].opened) && (full >> who & 1) == 0);
		uint8_t most = n <= begun;

		wrong += seen[who][n] < least || seen[who][n] > most;
	}
	CHECK_EQ(wrong, 0);
	if (begun > told && seen[who][begun] != 0)
		sums.in_progress_kept++;
	else if (begun > told)
		sums.in_progress_gone++;
}

static void
remove_rest(void)
{
	DIR *d = opendir(dir);

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static void
one_round(unsigned with)
{
	pid_t pid;

	memset(ledger, 0, WRITERS * sizeof *ledger);
	memset(seen, 0, WRITERS * sizeof *seen);
	full = 0;
	seed = with * 7919 + 1;
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		live_until_killed(seed);
	}
	/* Every fourth time a forked child has come to write too. */
	for (int i = 0; atomic_load(&ledger[with % 4 == 0 ? THREADS : 0].begun) == 0 && i < 20000;
	     i++)
		pause_us(50);
	pause_us(chance(1500));
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK_EQ(salvage_list(dir, salvage_ring, NULL), E_OK);
	for (uint64_t who = 0; who < WRITERS; who++)
		compare(who);
	sums.full += full & 1;
	remove_rest(); /* of a child that died while it made its ring */
}

TEST(every_span_is_found_once_whenever_its_process_is_killed)
{
	for (unsigned i = 0; i < ROUNDS && t_failed_checks == 0; i++)
		one_round(i);
	printf("finished %llu unfinished %llu torn %llu kept %llu gone %llu rings %llu full %llu\n",
	    (unsigned long long)sums.finished, (unsigned long long)sums.unfinished,
	    (unsigned long long)sums.torn, (unsigned long long)sums.in_progress_kept,
	    (unsigned long long)sums.in_progress_gone, (unsigned long long)sums.rings,
	    (unsigned long long)sums.full);
	/* Not hollow: kills came in the middle of writing, of open spans, and children had rings.
	 */
	CHECK(sums.finished > ROUNDS && sums.unfinished > 0 && sums.in_progress_kept > 0);
	CHECK(sums.rings > ROUNDS && sums.full < ROUNDS);
}

int
main(void)
{
	size_t rows = WRITERS * sizeof *ledger;

	ledger = mmap(NULL, rows, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	seen = calloc(WRITERS, sizeof *seen);
	if (ledger == MAP_FAILED || seen == NULL || mkdtemp(dir) == NULL)
		return 2;
	RUN(every_span_is_found_once_whenever_its_process_is_killed);
	rmdir(dir);
	free(seen);
	return t_done();
}
