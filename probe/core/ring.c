/*
 * ring.c - the ring file: made, locked, renamed, mapped; padding and wake-up.
 * Called by the starter (create, retire) and, for the rest, by any thread.
 * Nothing here waits, and no byte is touched that was not reserved on disk.
 */
#include "probe/core/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/core/ident.h"
#include "probe/core/off.h"

static int
fail(char *reason, size_t cap, const char *what, int error)
{
	if (error != 0)
		snprintf(reason, cap, "%s: errno %d (%s)", what, error, strerrordesc_np(error));
	else
		snprintf(reason, cap, "%s", what);
	return -1;
}

/* Where each part lies; page-aligned so that parts never share a page. */
static int
lay_out(struct ring *r, const struct ring_plan *plan)
{
	uint64_t slots = ((uint64_t)plan->slot_count * SLOT_BYTES + 4095) & ~UINT64_C(4095);
	uint64_t arena = (plan->arena_bytes + 4095) & ~UINT64_C(4095);
	uint64_t whole = plan->file_bytes & ~UINT64_C(4095);
	uint64_t rest = RING_HEADER_BYTES + slots + arena;

	if (whole < RING_ANY_MIN_BYTES || rest + 16384 > whole)
		return -1;
	r->map_bytes = whole;
	r->area_bytes = whole - rest;
	r->slot_count = plan->slot_count;
	r->arena_bytes = arena;
	return 0;
}

static void
point_at_parts(struct ring *r)
{
	r->area = r->map + RING_HEADER_BYTES;
	r->slots = r->area + r->area_bytes;
	r->arena = r->map + r->map_bytes - r->arena_bytes;
	r->head = ring_word_at(r->map + RING_OFF_HEAD);
	r->acked = ring_word_at(r->map + RING_OFF_ACKED);
	r->losses = ring_word_at(r->map + RING_OFF_LOSSES);
	r->beat = ring_word_at(r->map + RING_OFF_BEAT);
	r->arena_used = ring_word_at(r->map + RING_OFF_ARENA_USED);
	r->arena_strings = ring_word_at(r->map + RING_OFF_ARENA_STRINGS);
}

static void
write_header(struct ring *r, const struct ring_plan *plan)
{
	uint8_t *m = r->map;
	uint64_t mono, real;

	ident_clock_pair(&mono, &real);
	memcpy(m, RING_MAGIC, 8);
	wire_put32(m + 8, RING_VERSION);
	memcpy(m + RING_OFF_PROBE_ID, r->probe_id, FRAME_PROBE_ID_BYTES);
	memcpy(m + RING_OFF_BOOT_ID, r->boot_id, FRAME_BOOT_ID_BYTES);
	wire_put64(m + RING_OFF_PID, r->pid);
	wire_put64(m + RING_OFF_START, r->start_ticks);
	wire_put64(m + RING_OFF_FILE_BYTES, r->map_bytes);
	wire_put64(m + RING_OFF_AREA, (uint64_t)(r->area - m));
	wire_put64(m + RING_OFF_AREA_BYTES, r->area_bytes);
	wire_put64(m + RING_OFF_OPEN, (uint64_t)(r->slots - m));
	wire_put32(m + RING_OFF_OPEN_SLOTS, r->slot_count);
	wire_put32(m + RING_OFF_SLOT_BYTES, SLOT_BYTES);
	wire_put64(m + RING_OFF_ARENA, (uint64_t)(r->arena - m));
	wire_put64(m + RING_OFF_ARENA_BYTES, r->arena_bytes);
	wire_put64(m + RING_OFF_MONO, mono);
	wire_put64(m + RING_OFF_REAL, real);
	wire_put32(m + RING_OFF_ATTRS_BYTES, plan->attrs_bytes);
	if (plan->attrs_bytes > 0)
		memcpy(m + RING_OFF_ATTRS, plan->attrs, plan->attrs_bytes);
	wire_put32(m + RING_OFF_CRC,
	    wire_crc32c(wire_crc32c(0, m, RING_OFF_CRC), m + RING_OFF_ATTRS, plan->attrs_bytes));
	atomic_store(r->beat, mono);
	if (plan->arena != NULL)
		memcpy(r->arena, plan->arena, plan->arena_used);
	atomic_store(r->arena_strings, plan->arena_strings);
	atomic_store(r->arena_used, plan->arena_used);
}

/* Reserve the space, map, lock and fill the file at fd, then give it its name. */
static int
furnish(struct ring *r, const struct ring_plan *plan, const char *temp, char *reason, size_t cap)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = own_get(&r->file), error;

	do
		error = posix_fallocate(fd, 0, (off_t)r->map_bytes);
	while (error == EINTR);
	if (error != 0)
		return fail(reason, cap, "no room for the ring in the run directory", error);
	if (fcntl(fd, F_SETLK, &lock) != 0)
		return fail(reason, cap, "cannot lock the ring", errno);

	void *map = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return fail(reason, cap, "cannot map the ring", errno);
	r->map = map;
	point_at_parts(r);
	write_header(r, plan);
	if (renameat(r->dir_fd, temp, r->dir_fd, r->name) != 0) {
		error = errno;
		munmap(r->map, r->map_bytes);
		r->map = NULL;
		return fail(reason, cap, "cannot name the ring", error);
	}
	return 0;
}

int
ring_create(struct ring *r, const struct ring_plan *plan, char *reason, size_t cap)
{
	char temp[RING_NAME_BYTES], hex[2 * FRAME_PROBE_ID_BYTES + 1];

	memset(r, 0, sizeof *r);
	own_set(&r->file, -1);
	atomic_store(&r->wake_at, RING_WAKE_NEVER);
	r->dir_fd = plan->dir_fd;
	if (plan->attrs_bytes > FRAME_ATTRS_MAX_BYTES || plan->arena_used > plan->arena_bytes)
		return fail(reason, cap, "the ring's identity or strings are too large", 0);
	if (lay_out(r, plan) != 0)
		return fail(reason, cap, "the ring would be too small", 0);
	ident_process(&r->pid, &r->start_ticks, r->boot_id);
	ident_random(r->probe_id, sizeof r->probe_id);
	for (unsigned i = 0; i < FRAME_PROBE_ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", r->probe_id[i]);
	snprintf(temp, sizeof temp, RUN_NEW_PREFIX "%s" RUN_NEW_SUFFIX, hex);
	snprintf(r->name, sizeof r->name, RING_NAME_FORMAT, hex);

	int fd = openat(r->dir_fd, temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return fail(reason, cap, "cannot make a file in the run directory", errno);
	if (own_set(&r->file, fd) != 0)
		fail(reason, cap, "cannot examine the ring", errno);
	else if (furnish(r, plan, temp, reason, cap) == 0)
		return 0;
	unlinkat(r->dir_fd, temp, 0);
	own_set(&r->file, -1);
	close(fd);
	return -1;
}

/* A lock of another kind, asked for through the same file, meets the one that we hold. */
static bool
lock_is_held(int fd)
{
	struct flock seen = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &seen) != 0 || seen.l_type != F_UNLCK;
}

const char *
ring_fault(struct ring *r)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	uint64_t acked = atomic_load(r->acked), head = atomic_load(r->head);
	int fd = own_get(&r->file);
	struct stat st;

	if (fd < 0)
		return "the host closed the ring's descriptor";
	if (!lock_is_held(fd) && fcntl(fd, F_SETLK, &lock) != 0)
		return "the ring's lock was lost";
	/* Without a name it still serves the living: only after a kill nobody finds it. */
	if (fstat(fd, &st) != 0)
		return "the ring's descriptor is not the ring's";
	if (acked > head || head - acked > r->area_bytes)
		return "the ring's positions contradict each other";
	return NULL;
}

void
ring_retire(struct ring *r, bool unlink_it)
{
	int fd = own_get(&r->file);

	if (unlink_it)
		unlinkat(r->dir_fd, r->name, 0);
	atomic_store(&r->wake, NULL);
	if (r->map != NULL) {
		atomic_store(ring_word_at(r->map + RING_OFF_RETIRED), 1);
		(void)mmap(r->area, (size_t)(r->arena - r->area), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		if (fd >= 0)
			(void)mmap(r->map, RING_HEADER_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_FIXED, fd, 0);
	}
	own_close(&r->file);
}

void
ring_pad(struct ring *r, uint64_t position, uint64_t offset, uint64_t bytes)
{
	uint8_t *p = r->area + offset, head[14];
	uint32_t crc;

	if (bytes < RECORD_HEADER_BYTES)
		return; /* the reader knows that no header fits there */
	/*
	 * The filler is one record however long it is, shorter than the record
	 * that did not fit.  Its payload is what lay there: the crc covers it.
	 */
	atomic_store_explicit(ring_word_at(p + 8),
	    ring_state_word((uint32_t)bytes, EVENT_PAD, RECORD_BUSY), memory_order_relaxed);
	atomic_store_explicit(ring_word_at(p), position, memory_order_release);
	wire_put64(head, position);
	wire_put32(head + 8, (uint32_t)bytes);
	wire_put16(head + 12, EVENT_PAD);
	crc = wire_crc32c(0, head, sizeof head);
	crc = wire_crc32c(crc, p + RECORD_HEADER_BYTES, bytes - RECORD_HEADER_BYTES);
	atomic_store_explicit(ring_word_at(p + 16), crc, memory_order_relaxed);
	atomic_store_explicit(ring_word_at(p + 8),
	    ring_state_word((uint32_t)bytes, EVENT_PAD, RECORD_PUBLISHED), memory_order_release);
}

void
ring_wake(struct ring *r)
{
	/* Of several writers that come here at once, one has the sender to wake. */
	if (atomic_exchange(&r->wake_at, RING_WAKE_NEVER) != RING_WAKE_NEVER)
		ring_rouse(r);
}

void
ring_rouse(struct ring *r)
{
	const struct own_fd *wake = atomic_load(&r->wake);
	int before = errno, fd = wake != NULL ? own_get(wake) : -1;

	if (wake == NULL)
		return;
	if (fd < 0 || (send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN))
		off_turn("the host closed the sender's descriptor");
	errno = before;
}
