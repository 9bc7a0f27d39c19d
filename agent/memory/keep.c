/*
 * keep.c - what is known on disk, so that a restart of the agent forgets no more
 * than a minute.  Heads of records as in keep_file.h.
 *
 * `memory`: minutes, about two days of one process and one device.
 *	8   kind  u16, 0 u16  12 crc32c of the host's boot id
 *	16  pid   24 start ticks   32 real time of the end, ns (i64)
 *	40  span, ms   44 six values of 32 bits
 *	68  id, 44 bytes with NUL   112 name, 32 bytes with NUL
 *
 * `memory.jobs`: jobs and nodes that have ended, the last four thousand.
 *	8   kind  u16, flags u16   12 crc32c of the host's boot id
 *	16  pid   24 start ticks   32 real time of the end, ns (i64)   40 duration, ns
 *	48  span id   56 prompt u32, device u32
 *	64  seven numbers of 64 bits   120 id[65] name[64] status[16] top[240], NUL in each
 */
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/memory/internal.h"
#include "agent/memory/keep_file.h"
#include "schema/wire.h"

#define MINUTE_MAGIC 0x314d4d43u /* "CMM1" */
#define MINUTE_BYTES 144u
#define ID_BYTES     44u
#define NAME_BYTES   32u

#define RAN_MAGIC      0x314a4d43u /* "CMJ1" */
#define RAN_BYTES      512u
#define RAN_NODE       2u /* kinds: 1 is a job */
#define RAN_UNFINISHED 1u
#define RAN_PARTIAL    2u
#define RAN_TEXT       120u

#define AGE_NS (24 * 3600 * (int64_t)NS_PER_S)

struct keep {
	struct memory *m; /* while it reads */
	struct keep_file *minutes, *ran;
	uint32_t boot;
	int64_t ahead_ns, now_ns; /* of the clocks, while it reads */
};

static uint32_t
boot_crc(void)
{
	uint8_t id[FRAME_BOOT_ID_BYTES];

	(void)!clock_boot_id(id); /* with zeros they pass for those of another boot */
	return wire_crc32c(0, id, sizeof id);
}

/* A record's end in our time; false: it is too old, or of a time to come. */
static bool
end_of(const struct keep *k, const uint8_t *p, int64_t *t_ns)
{
	int64_t real_ns = (int64_t)wire_get64(p + 32);

	*t_ns = real_ns - k->ahead_ns;
	return real_ns <= k->now_ns && real_ns >= k->now_ns - AGE_NS;
}

/* ---- minutes ------------------------------------------------------------------- */

static void
take_minute(void *ctx, const uint8_t *p)
{
	struct keep *k = ctx;
	const char *id = (const char *)p + 68, *name = id + ID_BYTES;
	struct point point = { .span_ms = wire_get32(p + 40) };
	uint16_t kind = wire_get16(p + 8);

	if (id[ID_BYTES - 1] != '\0' || name[NAME_BYTES - 1] != '\0' || !end_of(k, p, &point.t_ns))
		return;
	for (unsigned i = 0; i < SERIES_VALUES; i++)
		point.v[i] = wire_get32(p + 44 + 4 * i);
	if (kind == KEEP_PROCESS) {
		struct slot *s = slot_take(
		    k->m, wire_get64(p + 16), wire_get64(p + 24), wire_get32(p + 12) != k->boot);

		if (s == NULL)
			return;
		s->state = PLACE_GONE; /* until it says hello */
		s->ended_ns = point.t_ns > 0 ? (uint64_t)point.t_ns : 0;
		series_restore(&s->series, &point);
	} else if (kind == KEEP_DEVICE && id[0] != '\0') {
		struct device *d = device_take(k->m, id, 0);

		if (d == NULL)
			return;
		memcpy(d->now.name, name, NAME_BYTES);
		series_restore(&d->series, &point);
	}
}

static void
put_text(uint8_t *to, size_t cap, const char *text)
{
	size_t n = strnlen(text, cap - 1);

	memset(to, 0, cap);
	memcpy(to, text, n);
}

static void
put_head(const struct keep *k, uint8_t *p, uint32_t kind_and_flags, uint64_t pid, uint64_t ticks,
    int64_t end_ns)
{
	int64_t ahead = (int64_t)(clock_real_ns() - clock_mono_ns());

	wire_put32(p + 8, kind_and_flags);
	wire_put32(p + 12, k->boot);
	wire_put64(p + 16, pid);
	wire_put64(p + 24, ticks);
	wire_put64(p + 32, (uint64_t)(end_ns + ahead));
}

void
keep_minute(struct keep *k, enum keep_kind kind, uint64_t pid, uint64_t start_ticks, const char *id,
    const char *name, const struct point *minute)
{
	uint8_t p[MINUTE_BYTES];

	put_head(k, p, (uint32_t)kind, pid, start_ticks, minute->t_ns);
	wire_put32(p + 40, minute->span_ms);
	for (unsigned i = 0; i < SERIES_VALUES; i++)
		wire_put32(p + 44 + 4 * i, minute->v[i]);
	put_text(p + 68, ID_BYTES, id);
	put_text(p + 68 + ID_BYTES, NAME_BYTES, name);
	keep_file_put(k->minutes, p);
}

/* ---- jobs and nodes --------------------------------------------------------------- */

_Static_assert(RAN_TEXT + sizeof((struct ran *)NULL)->id + sizeof((struct ran *)NULL)->name +
		       sizeof((struct ran *)NULL)->status + RAN_TOP_BYTES <=
		   RAN_BYTES,
    "a record holds its texts");
_Static_assert(RAN_BYTES <= KEEP_RECORD_MOST, "records are made on the stack");

/* The next text; false when it does not end. */
static bool
get_text(const uint8_t **p, char *to, size_t cap)
{
	memcpy(to, *p, cap);
	*p += cap;
	return to[cap - 1] == '\0';
}

static void
take_ran(void *ctx, const uint8_t *p)
{
	struct keep *k = ctx;
	const uint8_t *text = p + RAN_TEXT;
	struct ran r = { .pid = wire_get64(p + 16),
		.start_ticks = wire_get64(p + 24),
		.earlier_boot = wire_get32(p + 12) != k->boot,
		.unfinished = (wire_get16(p + 10) & RAN_UNFINISHED) != 0,
		.partial = (wire_get16(p + 10) & RAN_PARTIAL) != 0,
		.span_id = wire_get64(p + 48),
		.prompt = wire_get32(p + 56),
		.gpu = wire_get32(p + 60) };

	if (!end_of(k, p, &r.to_ns) || !get_text(&text, r.id, sizeof r.id) ||
	    !get_text(&text, r.name, sizeof r.name) ||
	    !get_text(&text, r.status, sizeof r.status) || !get_text(&text, r.top, sizeof r.top))
		return;
	r.from_ns = r.to_ns - (int64_t)wire_get64(p + 40);
	for (unsigned i = 0; i < RAN_NUMBERS; i++)
		r.bytes[i] = wire_get64(p + 64 + 8 * i);
	jobs_put(&k->m->jobs, wire_get16(p + 8) == RAN_NODE ? SPAN_NODE : SPAN_WORKFLOW, &r);
}

void
keep_ran(struct keep *k, enum span_kind kind, const struct ran *r)
{
	uint8_t p[RAN_BYTES] = { 0 }, *text = p + RAN_TEXT;
	uint32_t flags = (r->unfinished ? RAN_UNFINISHED : 0) | (r->partial ? RAN_PARTIAL : 0);

	put_head(k, p, (kind == SPAN_NODE ? RAN_NODE : 1u) | flags << 16, r->pid, r->start_ticks,
	    r->to_ns);
	wire_put64(p + 40, (uint64_t)(r->to_ns - r->from_ns));
	wire_put64(p + 48, r->span_id);
	wire_put32(p + 56, r->prompt);
	wire_put32(p + 60, r->gpu);
	for (unsigned i = 0; i < RAN_NUMBERS; i++)
		wire_put64(p + 64 + 8 * i, r->bytes[i]);
	put_text(text, sizeof r->id, r->id);
	put_text(text += sizeof r->id, sizeof r->name, r->name);
	put_text(text += sizeof r->name, sizeof r->status, r->status);
	put_text(text + sizeof r->status, sizeof r->top, r->top);
	keep_file_put(k->ran, p);
}

/* ---- both --------------------------------------------------------------------------- */

enum err
keep_open(struct memory *m, const char *data_dir, struct keep **out)
{
	struct keep *k = calloc(1, sizeof *k);
	enum err e;

	if (k == NULL)
		return E_NOMEM;
	k->m = m;
	k->boot = boot_crc();
	k->now_ns = (int64_t)clock_real_ns();
	k->ahead_ns = k->now_ns - (int64_t)clock_mono_ns();
	e = keep_file_open(
	    data_dir, "memory", MINUTE_MAGIC, MINUTE_BYTES, take_minute, k, &k->minutes);
	if (e == E_OK)
		e = keep_file_open(
		    data_dir, "memory.jobs", RAN_MAGIC, RAN_BYTES, take_ran, k, &k->ran);
	if (e != E_OK) {
		keep_close(k);
		return e;
	}
	*out = k;
	return E_OK;
}

enum err
keep_start(struct keep *k)
{
	enum err e = keep_file_start(k->minutes);

	return e == E_OK ? keep_file_start(k->ran) : e;
}

void
keep_close(struct keep *k)
{
	if (k == NULL)
		return;
	keep_file_close(k->minutes);
	keep_file_close(k->ran);
	free(k);
}
