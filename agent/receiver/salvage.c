/*
 * salvage.c - the ring file of a dead process: found, proven dead, read whole
 * with pread, its header judged.  libc and schema only; pipeline's thread.
 *
 * Dead is who holds no POSIX lock (F_GETLK).  We never set one, so closing our
 * descriptor releases nobody's.  The file is hostile: offsets and sizes are
 * believed only where they lie inside what was read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/receiver/salvage_ring.h"

#define LIST_MAX    4096
#define SWEEP_AGE_S 60

const char *
salvage_verdict(const struct salvage_evidence *e)
{
	if (e->oom)
		return "killed.oom";
	if (e->signal == SIGSEGV)
		return "crashed.segv";
	if (e->signal == SIGBUS)
		return "crashed.bus";
	if (e->signal == SIGABRT)
		return "crashed.abort";
	if (e->core)
		return "crashed";
	if (e->signal != 0)
		return "killed.signal";
	return e->exited ? "exited" : "lost";
}

/* E_BUSY while somebody holds a lock on it. */
static enum err
is_dead(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_GETLK, &l) != 0)
		return err_from_errno(errno);
	return l.l_type == F_UNLCK ? E_OK : E_BUSY;
}

static bool
is_named(const char *name, const char *prefix, const char *suffix)
{
	size_t n = strlen(name), p = strlen(prefix), q = strlen(suffix);

	return n > p + q && strncmp(name, prefix, p) == 0 && strcmp(name + n - q, suffix) == 0;
}

/* A ring that never got its name: its maker died, as it holds no lock and has had time to take one.
 */
static void
sweep(const char *path)
{
	struct stat st;
	int fd;

	if (file_open_read(path, &fd) != E_OK)
		return;
	if (is_dead(fd) == E_OK && fstat(fd, &st) == 0 && st.st_mtime + SWEEP_AGE_S < time(NULL) &&
	    unlink(path) == 0)
		log_info("unnamed_ring_removed path=%s", path);
	close(fd);
}

enum err
salvage_list(const char *run_dir, salvage_path_fn fn, void *ctx)
{
	DIR *d = opendir(run_dir);
	struct dirent *entry;
	unsigned count = 0;
	char path[512];

	if (d == NULL)
		return err_from_errno(errno);
	while ((entry = readdir(d)) != NULL && count < LIST_MAX) {
		bool ring = is_named(entry->d_name, RUN_RING_PREFIX, RUN_RING_SUFFIX);

		if ((!ring && !is_named(entry->d_name, RUN_NEW_PREFIX, RUN_NEW_SUFFIX)) ||
		    path_join(path, sizeof path, run_dir, entry->d_name) != E_OK)
			continue;
		count++;
		if (ring)
			fn(ctx, path);
		else
			sweep(path);
	}
	closedir(d);
	return E_OK;
}

static bool
inside(const struct salvage *s, uint64_t at, uint64_t n)
{
	return at >= RING_HEADER_BYTES && at % 8 == 0 && at <= s->bytes && n <= s->bytes - at;
}

static bool
header_crc(const struct salvage *s, uint32_t attrs_bytes)
{
	uint32_t crc = wire_crc32c(0, s->file, RING_OFF_CRC);

	crc = wire_crc32c(crc, s->file + RING_OFF_ATTRS, attrs_bytes);
	return crc == wire_get32(s->file + RING_OFF_CRC);
}

static void
fill_probe(struct salvage *s, uint32_t attrs_bytes)
{
	struct probe_row *p = &s->probe;
	const uint8_t *f = s->file;

	memset(p, 0, sizeof *p);
	memcpy(p->probe_id, f + RING_OFF_PROBE_ID, sizeof p->probe_id);
	memcpy(p->boot_id, f + RING_OFF_BOOT_ID, sizeof p->boot_id);
	p->pid = wire_get64(f + RING_OFF_PID);
	p->start_ticks = wire_get64(f + RING_OFF_START);
	p->end = s->acknowledged;
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		p->losses[i] = wire_get64(f + RING_OFF_LOSSES + 8 * i);
	p->mono_ns = wire_get64(f + RING_OFF_MONO);
	p->real_ns = p->seen_real_ns = wire_get64(f + RING_OFF_REAL);
	p->attrs_bytes = attrs_bytes;
	memcpy(p->attrs, f + RING_OFF_ATTRS, attrs_bytes);
}

static enum err
judge_header(struct salvage *s)
{
	const uint8_t *f = s->file;
	uint32_t attrs_bytes;

	if (s->bytes < RING_HEADER_BYTES || memcmp(f, RING_MAGIC, 8) != 0)
		return E_INVAL;
	if (wire_get32(f + 8) > RING_VERSION)
		return E_STATE;
	if (wire_get32(f + 8) != RING_VERSION)
		return E_INVAL;
	attrs_bytes = wire_get32(f + RING_OFF_ATTRS_BYTES);
	if (attrs_bytes > FRAME_ATTRS_MAX_BYTES || !header_crc(s, attrs_bytes))
		return E_INVAL;
	s->area = wire_get64(f + RING_OFF_AREA);
	s->area_bytes = wire_get64(f + RING_OFF_AREA_BYTES);
	s->slots_at = wire_get64(f + RING_OFF_OPEN);
	s->slots = wire_get32(f + RING_OFF_OPEN_SLOTS);
	s->slot_bytes = wire_get32(f + RING_OFF_SLOT_BYTES);
	s->arena = wire_get64(f + RING_OFF_ARENA);
	s->arena_bytes = wire_get64(f + RING_OFF_ARENA_BYTES);
	s->head = wire_get64(f + RING_OFF_HEAD);
	s->acknowledged = wire_get64(f + RING_OFF_ACKED);
	s->beat = wire_get64(f + RING_OFF_BEAT);
	/* A cut file loses what was cut: each part stands for itself. */
	if (!inside(s, s->area, s->area_bytes) || s->area_bytes % 8 != 0)
		s->area_bytes = 0;
	if (s->slot_bytes < SLOT_HEADER_BYTES || s->slot_bytes > FRAME_RECORD_MAX_BYTES / 2 ||
	    s->slot_bytes % 8 != 0 || !inside(s, s->slots_at, (uint64_t)s->slots * s->slot_bytes))
		s->slots = 0;
	if (!inside(s, s->arena, 0))
		s->arena_bytes = 0;
	else if (s->arena_bytes > s->bytes - s->arena)
		s->arena_bytes = s->bytes - s->arena;
	if (s->head % 8 != 0 || s->acknowledged % 8 != 0 || s->acknowledged > s->head ||
	    s->head - s->acknowledged > s->area_bytes || s->head > UINT64_MAX / 2) {
		/* Impossible positions: no record can be told from an old lap. */
		s->area_bytes = 0;
		s->head = s->acknowledged = s->head > UINT64_MAX / 2 ? 0 : s->head & ~UINT64_C(7);
	}
	fill_probe(s, attrs_bytes);
	return E_OK;
}

static enum err
load(struct salvage *s)
{
	struct stat st;
	enum err e;

	if ((e = is_dead(s->fd)) != E_OK)
		return e;
	if (fstat(s->fd, &st) != 0)
		return E_IO;
	if (st.st_size < (off_t)RING_HEADER_BYTES || (uint64_t)st.st_size > SALVAGE_FILE_MAX)
		return E_INVAL;
	s->device = st.st_dev;
	s->inode = st.st_ino;
	s->file = malloc((size_t)st.st_size);
	if (s->file == NULL)
		return E_NOMEM;
	e = file_pread(s->fd, s->file, (size_t)st.st_size, 0, &s->bytes);
	return e != E_OK ? e : judge_header(s);
}

enum err
salvage_open(const char *path, struct salvage **out)
{
	struct salvage *s;
	enum err e;

	if (strlen(path) >= sizeof s->path)
		return E_INVAL;
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return E_NOMEM;
	s->fd = -1;
	memcpy(s->path, path, strlen(path) + 1);
	e = file_open_read(path, &s->fd);
	if (e == E_OK)
		e = load(s);
	if (e != E_OK) {
		salvage_free(s);
		return e;
	}
	*out = s;
	return E_OK;
}

void
salvage_free(struct salvage *s)
{
	if (s == NULL)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s->file);
	free(s);
}

const struct probe_row *
salvage_probe(const struct salvage *s)
{
	return &s->probe;
}

uint64_t
salvage_last_mono_ns(const struct salvage *s)
{
	return s->beat;
}

bool
salvage_retired(const struct salvage *s)
{
	return wire_get64(s->file + RING_OFF_RETIRED) == 1;
}

enum err
salvage_unlink(struct salvage *s)
{
	struct stat st;

	if (lstat(s->path, &st) != 0)
		return errno == ENOENT ? E_OK : err_from_errno(errno);
	if (st.st_dev != s->device || st.st_ino != s->inode)
		return E_STATE;
	return unlink(s->path) == 0 ? E_OK : err_from_errno(errno);
}
