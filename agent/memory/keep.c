/*
 * keep.c - minutes on disk, so that a restart of the agent forgets no more than
 * one.  Two files in the data directory: `memory`, and `memory.1` that it becomes
 * at 1 MiB (about two days of one process and one device).  Written with one
 * write(2) a record and not synced: it is a picture, no promise.
 *
 *	0   magic "CMM1"      4  crc32c of what follows
 *	8   kind  u16, 0 u16  12 crc32c of the host's boot id
 *	16  pid   24 start ticks   32 real time of the end, ns (i64)
 *	40  span, ms   44 six values of 32 bits
 *	68  id, 44 bytes with NUL   112 name, 32 bytes with NUL
 *
 * Only records whose checksum holds are believed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/memory/internal.h"
#include "schema/wire.h"

#define MAGIC        0x314d4d43u /* "CMM1" */
#define RECORD_BYTES 144u
#define FILE_BYTES   (1u << 20)
#define ID_BYTES     44u
#define NAME_BYTES   32u
#define AGE_NS       (24 * 3600 * (int64_t)NS_PER_S)

struct keep {
	char path[512], older[512];
	pthread_mutex_t lock;
	int fd; /* -1: it failed, nothing is kept any more */
	uint64_t bytes;
	uint32_t boot;
};

static uint32_t
boot_crc(void)
{
	uint8_t id[FRAME_BOOT_ID_BYTES];

	(void)!clock_boot_id(id); /* with zeros they pass for those of another boot */
	return wire_crc32c(0, id, sizeof id);
}

/* ---- reading ------------------------------------------------------------------ */

struct kept {
	uint16_t kind;
	uint32_t boot;
	uint64_t pid, start_ticks;
	int64_t real_ns;
	struct point point;
	char id[ID_BYTES], name[NAME_BYTES];
};

static bool
decode(const uint8_t *p, struct kept *k)
{
	if (wire_get32(p) != MAGIC || wire_get32(p + 4) != wire_crc32c(0, p + 8, RECORD_BYTES - 8))
		return false;
	k->kind = wire_get16(p + 8);
	k->boot = wire_get32(p + 12);
	k->pid = wire_get64(p + 16);
	k->start_ticks = wire_get64(p + 24);
	k->real_ns = (int64_t)wire_get64(p + 32);
	k->point.span_ms = wire_get32(p + 40);
	for (unsigned i = 0; i < SERIES_VALUES; i++)
		k->point.v[i] = wire_get32(p + 44 + 4 * i);
	memcpy(k->id, p + 68, ID_BYTES);
	memcpy(k->name, p + 68 + ID_BYTES, NAME_BYTES);
	return k->id[ID_BYTES - 1] == '\0' && k->name[NAME_BYTES - 1] == '\0';
}

static void
take(struct memory *m, const struct kept *k, uint32_t boot)
{
	if (k->kind == KEEP_PROCESS) {
		struct slot *s = slot_take(m, k->pid, k->start_ticks, k->boot != boot);

		if (s == NULL)
			return;
		s->state = SLOT_GONE; /* until it says hello */
		s->ended_ns = k->point.t_ns > 0 ? (uint64_t)k->point.t_ns : 0;
		series_restore(&s->series, &k->point);
	} else if (k->kind == KEEP_DEVICE && k->id[0] != '\0') {
		struct device *d = device_take(m, k->id, 0);

		if (d == NULL)
			return;
		memcpy(d->now.name, k->name, NAME_BYTES);
		series_restore(&d->series, &k->point);
	}
}

static void
read_one(struct memory *m, const char *path, uint32_t boot)
{
	int64_t ahead = (int64_t)(clock_real_ns() - clock_mono_ns());
	int64_t now = (int64_t)clock_real_ns();
	struct kept k;
	size_t bytes;
	char *text;
	enum err e = file_read_all(path, 2 * FILE_BYTES, &text, &bytes);

	if (e == E_NOTFOUND)
		return;
	if (e != E_OK) {
		log_warn("memory_not_restored path=%s error=\"%s\"", path, err_text(e));
		return;
	}
	for (size_t at = 0; at + RECORD_BYTES <= bytes; at += RECORD_BYTES) {
		if (!decode((const uint8_t *)text + at, &k) || k.real_ns > now ||
		    k.real_ns < now - AGE_NS)
			continue;
		k.point.t_ns = k.real_ns - ahead;
		take(m, &k, boot);
	}
	free(text);
}

/* ---- writing ------------------------------------------------------------------ */

/* For appending; what is no whole record at its end is cut off. */
static enum err
open_file(struct keep *k)
{
	struct stat st;

	k->fd = open(k->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->fd < 0)
		return err_from_errno(errno);
	if (fstat(k->fd, &st) != 0 || !S_ISREG(st.st_mode))
		return E_IO;
	k->bytes = (uint64_t)st.st_size - (uint64_t)st.st_size % RECORD_BYTES;
	if (k->bytes != (uint64_t)st.st_size && ftruncate(k->fd, (off_t)k->bytes) != 0)
		return err_from_errno(errno);
	return E_OK;
}

static void
give_up(struct keep *k, enum err e)
{
	log_warn("memory_not_kept path=%s error=\"%s\"", k->path, err_text(e));
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

static enum err
turn_over(struct keep *k)
{
	close(k->fd);
	k->fd = -1;
	return rename(k->path, k->older) != 0 ? err_from_errno(errno) : open_file(k);
}

enum err
keep_open(struct memory *m, const char *data_dir, struct keep **out)
{
	struct keep *k = calloc(1, sizeof *k);
	enum err e;

	if (k == NULL)
		return E_NOMEM;
	k->fd = -1;
	k->boot = boot_crc();
	e = path_join(k->path, sizeof k->path, data_dir, "memory");
	if (e == E_OK)
		e = path_join(k->older, sizeof k->older, data_dir, "memory.1");
	if (e != E_OK) {
		free(k);
		return e;
	}
	read_one(m, k->older, k->boot);
	read_one(m, k->path, k->boot);
	pthread_mutex_init(&k->lock, NULL);
	*out = k;
	return E_OK;
}

enum err
keep_start(struct keep *k)
{
	enum err e = open_file(k);

	if (e != E_OK)
		give_up(k, e);
	return e;
}

void
keep_close(struct keep *k)
{
	if (k == NULL)
		return;
	if (k->fd >= 0)
		close(k->fd);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

static void
put_text(uint8_t *to, size_t cap, const char *text)
{
	size_t n = strnlen(text, cap - 1);

	memset(to, 0, cap);
	memcpy(to, text, n);
}

static void
encode(uint8_t *p, const struct keep *k, enum keep_kind kind, uint64_t pid, uint64_t ticks,
    const struct point *minute)
{
	int64_t ahead = (int64_t)(clock_real_ns() - clock_mono_ns());

	wire_put32(p, MAGIC);
	wire_put32(p + 8, (uint32_t)kind);
	wire_put32(p + 12, k->boot);
	wire_put64(p + 16, pid);
	wire_put64(p + 24, ticks);
	wire_put64(p + 32, (uint64_t)(minute->t_ns + ahead));
	wire_put32(p + 40, minute->span_ms);
	for (unsigned i = 0; i < SERIES_VALUES; i++)
		wire_put32(p + 44 + 4 * i, minute->v[i]);
}

void
keep_minute(struct keep *k, enum keep_kind kind, uint64_t pid, uint64_t start_ticks, const char *id,
    const char *name, const struct point *minute)
{
	uint8_t p[RECORD_BYTES];
	ssize_t n;

	encode(p, k, kind, pid, start_ticks, minute);
	put_text(p + 68, ID_BYTES, id);
	put_text(p + 68 + ID_BYTES, NAME_BYTES, name);
	wire_put32(p + 4, wire_crc32c(0, p + 8, RECORD_BYTES - 8));
	pthread_mutex_lock(&k->lock);
	if (k->fd >= 0 && k->bytes + RECORD_BYTES > FILE_BYTES) {
		enum err e = turn_over(k);

		if (e != E_OK)
			give_up(k, e);
	}
	if (k->fd >= 0) {
		n = write(k->fd, p, RECORD_BYTES);
		if (n != (ssize_t)RECORD_BYTES)
			give_up(k, n < 0 ? err_from_errno(errno) : E_FULL);
		else
			k->bytes += RECORD_BYTES;
	}
	pthread_mutex_unlock(&k->lock);
}
