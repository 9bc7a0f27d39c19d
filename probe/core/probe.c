/*
 * probe.c - start, stop, fork: the life of the one probe of this process.
 * Any thread may call; the phase lets one of them work and sends the others
 * away.
 *
 * Always true: a ring is written only by the process that made it; ids given
 * out once stay valid until the process ends, in its children too.
 */
#include "probe/core/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/core/ident.h"
#include "probe/core/off.h"
#include "probe/core/sender.h"
#include "probe/core/state.h"

#define CHILD_BYTES       (256u * 1024)
#define CHILD_SLOTS       32u
#define CHILD_ARENA_SPARE (32u * 1024)
#define SLOTS             256u
#define SMALL_RING        (1u << 20)

struct gate gate;
struct probe probe = { .dir_fd = -1, .wake = { OWN_NONE, OWN_NONE } };

static bool
enter(int from)
{
	return atomic_compare_exchange_strong(&probe.phase, &from, PHASE_STARTING);
}

/* Only async-signal-safe work: other threads of the parent are gone in the middle of theirs. */
static void
in_child(void)
{
	int phase = atomic_load(&probe.phase);

	ident_forked();
	arena_forked(&probe.arena);
	atomic_store(&gate.ring, NULL);
	atomic_store(&gate.ours, false);
	if (phase == PHASE_ON)
		atomic_store(&probe.phase, PHASE_CHILD);
	else if (phase == PHASE_STARTING)
		atomic_store(&probe.phase, probe.latest != NULL ? PHASE_CHILD : PHASE_NONE);
	/* Our copies of the parent's descriptors: else its socket outlives it. */
	sender_forked();
	probe.sender = NULL;
	if (probe.latest != NULL) {
		own_close(&probe.latest->file);
		atomic_store(&probe.latest->wake, NULL);
	}
	own_close(&probe.wake[0]);
	own_close(&probe.wake[1]);
}

static void
watch_forks(void)
{
	static atomic_flag done = ATOMIC_FLAG_INIT;

	if (atomic_flag_test_and_set(&done))
		return;
	pthread_atfork(NULL, NULL, in_child);
	/* Where the kernel cannot (before 4.14), the handler alone has to do. */
	(void)madvise(&gate, sizeof gate, MADV_WIPEONFORK);
}

/*
 * A child that ran no handler: whose threads and locks, our own and those of
 * malloc, are as they were in the moment of the fork.  Nothing can be begun anew.
 */
static bool
is_stray(void)
{
	int phase = atomic_load(&probe.phase);

	return (phase == PHASE_ON || phase == PHASE_OFF) && probe.latest != NULL &&
	       !atomic_load(&gate.ours);
}

/* Strings of the ring used before, so that their ids go on. */
static void
carry_strings(struct ring_plan *plan)
{
	uint8_t *base = atomic_load(&probe.arena.base);

	if (base == NULL)
		return;
	plan->arena = base;
	plan->arena_used = atomic_load(probe.arena.used);
	plan->arena_strings = arena_count(base, &plan->arena_used);
}

/* The pair through which writers wake the sender; kept from one start to the next. */
static int
open_wake(void)
{
	int pair[2];

	if (own_get(&probe.wake[0]) >= 0 && own_get(&probe.wake[1]) >= 0)
		return 0;
	own_close(&probe.wake[0]);
	own_close(&probe.wake[1]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		return -1;
	if (own_set(&probe.wake[0], pair[0]) == 0 && own_set(&probe.wake[1], pair[1]) == 0)
		return 0;
	own_close(&probe.wake[0]);
	own_close(&probe.wake[1]);
	return -1;
}

/* Make the ring of `plan` and let writers in; the phase is STARTING and becomes ON. */
static int
open_ring(struct ring_plan *plan, char *reason, size_t cap)
{
	struct ring *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);

	if (r == NULL || (probe.arena.table == NULL && arena_init(&probe.arena, ARENA_MAX_BYTES))) {
		snprintf(reason, cap, "out of memory");
		free(r);
		return -1;
	}
	plan->dir_fd = probe.dir_fd;
	plan->slot_count = plan->file_bytes < SMALL_RING ? CHILD_SLOTS : SLOTS;
	plan->attrs = probe.attrs;
	plan->attrs_bytes = probe.attrs_bytes;
	if (ring_create(r, plan, reason, cap) != 0) {
		free(r);
		return -1;
	}
	arena_attach(&probe.arena, r);
	open_init(&probe.open, r, ++probe.epoch);
	/* The structure before it may still be in a late writer's hands: never freed. */
	r->before = probe.latest;
	probe.latest = r;
	if (probe.with_sender) {
		if (open_wake() == 0) {
			atomic_store(&r->wake, &probe.wake[1]);
			probe.sender = sender_start(r, &probe.arena, &probe.wake[0], probe.run_dir,
			    probe.attrs, probe.attrs_bytes);
		}
		if (probe.sender == NULL) {
			ring_retire(r, true);
			snprintf(reason, cap, "cannot start the sender thread");
			return -1;
		}
	}
	atomic_store(&gate.ours, true);
	atomic_store(&probe.phase, PHASE_ON);
	atomic_store_explicit(&gate.ring, r, memory_order_release);
	return 0;
}

int
comfymon_start(const struct comfymon_options *o, char *reason, size_t cap)
{
	struct ring_plan plan = { 0 };

	if (!enter(PHASE_NONE)) {
		if (comfymon_is_on())
			return 0;
		snprintf(reason, cap, "%s", comfymon_off_reason());
		return -1;
	}
	if (probe.dir_fd >= 0)
		close(probe.dir_fd);
	probe.dir_fd = -1;
	if (o->attrs_bytes > sizeof probe.attrs) {
		snprintf(reason, cap, "the identity is too large");
		goto off;
	}
	if (o->attrs_bytes > 0)
		memcpy(probe.attrs, o->attrs, o->attrs_bytes);
	probe.attrs_bytes = o->attrs_bytes;
	probe.with_sender = o->sender;
	probe.dir_fd = rundir_open(o->run_dir, probe.run_dir, reason, cap);
	if (probe.dir_fd < 0)
		goto off;
	plan.file_bytes = rundir_ring_bytes(probe.dir_fd, o->ring_bytes, reason, cap);
	if (plan.file_bytes == 0)
		goto off;
	plan.arena_bytes = plan.file_bytes / 8;
	if (plan.arena_bytes > ARENA_MAX_BYTES)
		plan.arena_bytes = ARENA_MAX_BYTES;
	carry_strings(&plan);
	watch_forks();
	if (open_ring(&plan, reason, cap) == 0)
		return 0;
off:
	if (probe.dir_fd >= 0)
		close(probe.dir_fd);
	probe.dir_fd = -1;
	probe.run_dir[0] = '\0';
	off_turn("%s", reason);
	return -1;
}

/* The run directory may have been removed, and another made in its place. */
static void
renew_dir(char *reason, size_t cap)
{
	char path[RUNDIR_PATH_BYTES];
	struct stat st;
	int fd;

	if (fstat(probe.dir_fd, &st) != 0 || st.st_nlink > 0)
		return;
	fd = rundir_open(probe.run_dir, path, reason, cap);
	if (fd < 0)
		return;
	(void)dup3(fd, probe.dir_fd, O_CLOEXEC);
	close(fd);
}

/* The first record in a forked child. */
static void
start_child(void)
{
	struct ring_plan plan = { 0 };
	char reason[200] = "";

	renew_dir(reason, sizeof reason);
	carry_strings(&plan);
	plan.arena_bytes = (plan.arena_used + CHILD_ARENA_SPARE + 4095) & ~UINT64_C(4095);
	plan.file_bytes = CHILD_BYTES;
	/* Few strings fit beside the records; many make the file longer by themselves. */
	if (plan.arena_bytes > CHILD_BYTES / 4)
		plan.file_bytes += plan.arena_bytes - CHILD_BYTES / 4;
	plan.file_bytes = rundir_child_bytes(probe.dir_fd, plan.file_bytes, reason, sizeof reason);
	if (plan.file_bytes == 0 || open_ring(&plan, reason, sizeof reason) != 0) {
		atomic_fetch_add(&probe.losses[WIRE_LOSS_FORK], 1);
		off_turn("child process: %s", reason);
	}
}

struct ring *
probe_ring_slow(void)
{
	if (atomic_load(&probe.phase) == PHASE_CHILD && enter(PHASE_CHILD))
		start_child();
	else if (is_stray())
		off_turn("made without fork handlers (clone, _Fork)");
	return atomic_load_explicit(&gate.ring, memory_order_acquire);
}

void
probe_lose(void)
{
	int phase = atomic_load_explicit(&probe.phase, memory_order_relaxed);

	if (phase == PHASE_OFF)
		atomic_fetch_add(&probe.losses[WIRE_LOSS_OFF], 1);
	else if (phase == PHASE_STARTING && probe.latest != NULL)
		atomic_fetch_add(&probe.losses[WIRE_LOSS_FORK], 1);
}

void
comfymon_stop(uint32_t timeout_ms)
{
	struct ring *r;
	int after = PHASE_NONE;

	if (is_stray())
		return; /* ring and thread are its parent's */
	if (enter(PHASE_OFF))
		after = PHASE_OFF; /* its thread and its ring are still to be let go */
	else if (!enter(PHASE_ON) && !enter(PHASE_CHILD))
		return;
	r = probe.latest;
	atomic_store(&gate.ring, NULL);
	if (probe.sender != NULL)
		sender_stop(probe.sender, timeout_ms);
	probe.sender = NULL;
	/* A ring without a record is worth nothing; any other is the collector's to close. */
	if (r != NULL && atomic_load(&r->file.fd) >= 0)
		ring_retire(r, atomic_load(r->head) == 0);
	probe.run_dir[0] = '\0';
	atomic_store(&probe.phase, after);
}

bool
comfymon_is_on(void)
{
	int phase = atomic_load(&probe.phase);

	return phase == PHASE_ON || phase == PHASE_CHILD;
}

const char *
comfymon_run_dir(void)
{
	return comfymon_is_on() ? probe.run_dir : "";
}

void
comfymon_stats(struct comfymon_stats *out)
{
	struct ring *r = probe.latest;

	memset(out, 0, sizeof *out);
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		out->losses[i] = atomic_load(&probe.losses[i]);
	if (r == NULL || atomic_load(&r->file.fd) < 0)
		return;
	out->head = atomic_load(r->head);
	out->acknowledged = atomic_load(r->acked);
	out->area_bytes = r->area_bytes;
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		out->losses[i] += atomic_load(&r->losses[i]);
	for (unsigned i = 0; i < RING_COUNTS; i++) {
		out->spans += atomic_load(&r->counts[i].spans);
		out->records += atomic_load(&r->counts[i].others);
	}
	out->records += out->spans;
	out->open_slots_used = open_used(&probe.open);
	out->strings = (uint32_t)atomic_load(r->arena_strings);
	memcpy(out->probe_id, r->probe_id, sizeof out->probe_id);
	sender_figures(&out->batches, &out->reconnects, &out->connected);
}
