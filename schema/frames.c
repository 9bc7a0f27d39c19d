/*
 * frames.c - the three frames of the socket and their parts: attrs, dictionary,
 * hello, batch, stored.  Pure functions; any thread.  Layouts: frame.h.
 */
#include "schema/tables.h"
#include "schema/wire.h"

static int
fail(struct wire_error *err, const char *what, size_t at)
{
	err->what = what;
	err->at = at;
	return -1;
}

/* crc32c of p[0..n) with the four bytes at `field` taken as 0. */
static uint32_t
crc_without(const uint8_t *p, size_t n, size_t field)
{
	static const uint8_t zero[4];
	uint32_t crc = wire_crc32c(0, p, field);

	crc = wire_crc32c(crc, zero, sizeof zero);
	return wire_crc32c(crc, p + field + 4, n - field - 4);
}

/* Magic and version of a frame; every frame has them at 0 and 4. */
static int
head_check(const uint8_t *p, size_t n, const char *magic, size_t fixed, struct wire_error *err)
{
	if (n < fixed)
		return fail(err, "frame cut short", n);
	if (memcmp(p, magic, 4) != 0)
		return fail(err, "wrong magic", 0);
	if (wire_get16(p + 4) != 1)
		return fail(err, "unknown version", 4);
	return 0;
}

size_t
wire_dict_put(uint8_t *p, uint32_t id, const char *s, uint32_t n)
{
	size_t total = wire_dict_entry_bytes(n);

	wire_put32(p, id);
	wire_put32(p + 4, n);
	memcpy(p + 8, s, n);
	memset(p + 8 + n, 0, total - 8 - n);
	return total;
}

int
wire_dict_next(const uint8_t *dict, size_t n, size_t *at, uint32_t *id, const char **s,
    uint32_t *bytes, struct wire_error *err)
{
	if (*at >= n)
		return 0;
	if (n - *at < 8)
		return fail(err, "dictionary entry cut short", *at);

	uint32_t len = wire_get32(dict + *at + 4);

	if (len > FRAME_STRING_MAX_BYTES || wire_dict_entry_bytes(len) > n - *at)
		return fail(err, "dictionary string too long", *at + 4);
	*id = wire_get32(dict + *at);
	*s = (const char *)dict + *at + 8;
	*bytes = len;
	*at += wire_dict_entry_bytes(len);
	return 1;
}

void
wire_attr_put(struct wire_attrs *a, const char *key, const char *value)
{
	size_t k = strlen(key), v = value != NULL ? strlen(value) : 0;

	if (v == 0)
		return;
	if (k > UINT16_MAX || v > UINT16_MAX || a->cap - a->used < 4 + k + v) {
		a->full = true;
		return;
	}
	wire_put16(a->buf + a->used, (uint16_t)k);
	wire_put16(a->buf + a->used + 2, (uint16_t)v);
	memcpy(a->buf + a->used + 4, key, k);
	memcpy(a->buf + a->used + 4 + k, value, v);
	a->used += (uint32_t)(4 + k + v);
}

int
wire_attr_next(const uint8_t *attrs, size_t n, size_t *at, const char **key, uint16_t *key_bytes,
    const char **value, uint16_t *value_bytes, struct wire_error *err)
{
	if (*at >= n)
		return 0;
	if (n - *at < 4)
		return fail(err, "attribute cut short", *at);
	*key_bytes = wire_get16(attrs + *at);
	*value_bytes = wire_get16(attrs + *at + 2);
	if ((size_t)4 + *key_bytes + *value_bytes > n - *at)
		return fail(err, "attribute longer than its block", *at);
	*key = (const char *)attrs + *at + 4;
	*value = *key + *key_bytes;
	*at += (size_t)4 + *key_bytes + *value_bytes;
	return 1;
}

bool
wire_attr_find(const uint8_t *attrs, size_t n, const char *key, char *value, size_t cap)
{
	const char *k, *v;
	uint16_t kn, vn;
	struct wire_error err;
	size_t at = 0;

	value[0] = '\0';
	while (wire_attr_next(attrs, n, &at, &k, &kn, &v, &vn, &err) == 1) {
		if (kn != strlen(key) || memcmp(k, key, kn) != 0)
			continue;

		size_t m = vn < cap ? vn : cap - 1;

		memcpy(value, v, m);
		value[m] = '\0';
		return true;
	}
	return false;
}

size_t
wire_hello_put(uint8_t *p, size_t cap, const struct wire_hello *h)
{
	size_t n = HELLO_FIXED_BYTES + (size_t)h->attrs_bytes;

	if (n > cap || h->attrs_bytes > FRAME_ATTRS_MAX_BYTES)
		return 0;
	memcpy(p, HELLO_MAGIC, 4);
	wire_put16(p + 4, 1);
	wire_put16(p + 6, 0);
	memcpy(p + 8, h->probe_id, FRAME_PROBE_ID_BYTES);
	memcpy(p + 24, h->boot_id, FRAME_BOOT_ID_BYTES);
	wire_put64(p + 40, h->pid);
	wire_put64(p + 48, h->start_ticks);
	wire_put64(p + 56, h->acknowledged);
	wire_put64(p + 64, h->head);
	wire_put64(p + 72, h->mono_ns);
	wire_put64(p + 80, h->real_ns);
	wire_put32(p + 88, h->attrs_bytes);
	if (h->attrs_bytes > 0)
		memcpy(p + HELLO_FIXED_BYTES, h->attrs, h->attrs_bytes);
	wire_put32(p + 92, crc_without(p, n, 92));
	return n;
}

int
wire_hello_get(const uint8_t *p, size_t n, struct wire_hello *out, struct wire_error *err)
{
	const char *k, *v;
	uint16_t kn, vn;
	size_t at = 0;
	int rv;

	if (head_check(p, n, HELLO_MAGIC, HELLO_FIXED_BYTES, err) != 0)
		return -1;
	memcpy(out->probe_id, p + 8, FRAME_PROBE_ID_BYTES);
	memcpy(out->boot_id, p + 24, FRAME_BOOT_ID_BYTES);
	out->pid = wire_get64(p + 40);
	out->start_ticks = wire_get64(p + 48);
	out->acknowledged = wire_get64(p + 56);
	out->head = wire_get64(p + 64);
	out->mono_ns = wire_get64(p + 72);
	out->real_ns = wire_get64(p + 80);
	out->attrs_bytes = wire_get32(p + 88);
	out->attrs = p + HELLO_FIXED_BYTES;
	if (out->attrs_bytes > FRAME_ATTRS_MAX_BYTES || out->attrs_bytes != n - HELLO_FIXED_BYTES)
		return fail(err, "hello's attributes do not fill it", 88);
	if (wire_get32(p + 92) != crc_without(p, n, 92))
		return fail(err, "hello's crc32c differs", 92);
	while ((rv = wire_attr_next(out->attrs, out->attrs_bytes, &at, &k, &kn, &v, &vn, err)) == 1)
		;
	return rv;
}

void
wire_batch_seal(uint8_t *p, const struct wire_batch *b)
{
	memcpy(p, BATCH_MAGIC, 4);
	wire_put16(p + 4, 1);
	wire_put16(p + 6, b->flags);
	memcpy(p + 8, b->probe_id, FRAME_PROBE_ID_BYTES);
	memcpy(p + 24, b->boot_id, FRAME_BOOT_ID_BYTES);
	wire_put64(p + 40, b->first);
	wire_put64(p + 48, b->end);
	wire_put64(p + 56, b->mono_ns);
	wire_put64(p + 64, b->real_ns);
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		wire_put64(p + 72 + 8 * i, b->losses[i]);
	wire_put32(p + 136, b->records_bytes);
	wire_put32(p + 140, b->dict_bytes);
	wire_put32(p + 144, b->record_count);
	wire_put32(p + 148, b->span_count);
	wire_put32(p + 156, 0);
	wire_put32(p + 152,
	    crc_without(p, BATCH_FIXED_BYTES + (size_t)b->records_bytes + b->dict_bytes, 152));
}

int
wire_batch_head(const uint8_t *p, size_t n, struct wire_batch *out, struct wire_error *err)
{
	if (head_check(p, n, BATCH_MAGIC, BATCH_FIXED_BYTES, err) != 0)
		return -1;
	out->flags = wire_get16(p + 6);
	memcpy(out->probe_id, p + 8, FRAME_PROBE_ID_BYTES);
	memcpy(out->boot_id, p + 24, FRAME_BOOT_ID_BYTES);
	out->first = wire_get64(p + 40);
	out->end = wire_get64(p + 48);
	out->mono_ns = wire_get64(p + 56);
	out->real_ns = wire_get64(p + 64);
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		out->losses[i] = wire_get64(p + 72 + 8 * i);
	out->records_bytes = wire_get32(p + 136);
	out->dict_bytes = wire_get32(p + 140);
	out->record_count = wire_get32(p + 144);
	out->span_count = wire_get32(p + 148);
	out->records = p + BATCH_FIXED_BYTES;
	if ((uint64_t)out->records_bytes + out->dict_bytes != n - BATCH_FIXED_BYTES)
		return fail(err, "batch's parts do not fill it", 136);
	out->dict = out->records + out->records_bytes;
	if (out->first > out->end)
		return fail(err, "batch ends before it begins", 40);
	return 0;
}

int
wire_batch_peek(const uint8_t *p, size_t n, struct wire_batch *out, struct wire_error *err)
{
	if (wire_batch_head(p, n, out, err) != 0)
		return -1;
	if (wire_get32(p + 152) != crc_without(p, n, 152))
		return fail(err, "batch's crc32c differs", 152);
	return 0;
}

/* Ids of the dictionary while checking: a bitmap of the first 64 Ki, a walk for the few beyond. */
struct seen {
	uint64_t bits[1024];
	const uint8_t *dict;
	size_t dict_bytes;
	bool missing;
};

static void
id_in_dictionary(void *ctx, uint32_t id)
{
	struct seen *seen = ctx;
	struct wire_error err;
	const char *s;
	uint32_t have, n;
	size_t at = 0;

	if (id < 64 * 1024) {
		if ((seen->bits[id / 64] >> (id % 64) & 1) == 0)
			seen->missing = true;
		return;
	}
	while (wire_dict_next(seen->dict, seen->dict_bytes, &at, &have, &s, &n, &err) == 1)
		if (have == id)
			return;
	seen->missing = true;
}

static int
dict_check(const struct wire_batch *b, struct seen *seen, struct wire_error *err)
{
	uint32_t id, last = 0, n;
	const char *s;
	size_t at = 0;
	int rv;

	while ((rv = wire_dict_next(b->dict, b->dict_bytes, &at, &id, &s, &n, err)) == 1) {
		if (id <= last || id > WIRE_TAG_KEY_MASK)
			return fail(err, "dictionary ids not ascending", at);
		last = id;
		if (id < 64 * 1024)
			seen->bits[id / 64] |= (uint64_t)1 << (id % 64);
	}
	return rv;
}

static int
payload_check(const struct wire_record *r, size_t at, struct wire_error *err)
{
	const struct event_desc *event = event_find(r->type);
	struct wire_span span;

	if (event == NULL)
		return 0; /* a newer probe: skipped and counted later */
	if (event->tail == TAIL_NONE && r->payload_bytes < event->fixed_bytes)
		return fail(err, "payload shorter than its event", at);
	if (event->tail == TAIL_NONE)
		return 0;
	if (wire_span_get(r->payload, r->payload_bytes, &span, err) != 0) {
		err->at += at + RECORD_HEADER_BYTES;
		return -1;
	}
	return 0;
}

int
wire_batch_check(const uint8_t *p, size_t n, struct wire_batch *out, struct wire_error *err)
{
	struct seen seen = { .missing = false };
	uint32_t records = 0, spans = 0;
	struct wire_record r;
	size_t at = 0;

	if (wire_batch_peek(p, n, out, err) != 0)
		return -1;
	seen.dict = out->dict;
	seen.dict_bytes = out->dict_bytes;
	if (dict_check(out, &seen, err) != 0)
		return -1;
	for (uint64_t last = out->first; at < out->records_bytes; at += r.length, records++) {
		if (wire_record_get(out->records + at, out->records_bytes - at, &r, err) < 0) {
			err->at += BATCH_FIXED_BYTES + at;
			return -1;
		}
		if (r.position < last || r.position >= out->end)
			return fail(err, "record's position out of order", BATCH_FIXED_BYTES + at);
		last = r.position + 1;
		if (payload_check(&r, BATCH_FIXED_BYTES + at, err) != 0)
			return -1;
		wire_record_ids(&r, id_in_dictionary, &seen);
		if (seen.missing)
			return fail(err, "string id not in the dictionary", BATCH_FIXED_BYTES + at);
		spans += r.type == EVENT_SPAN;
	}
	if (records != out->record_count || spans != out->span_count)
		return fail(err, "batch's counts differ", 144);
	return 0;
}

void
wire_stored_put(uint8_t p[STORED_BYTES], const struct wire_stored *s)
{
	memset(p, 0, STORED_BYTES);
	memcpy(p, STORED_MAGIC, 4);
	wire_put16(p + 4, 1);
	wire_put16(p + 6, s->status);
	memcpy(p + 8, s->probe_id, FRAME_PROBE_ID_BYTES);
	wire_put64(p + 24, s->end);
	wire_put32(p + 32, crc_without(p, STORED_BYTES, 32));
}

int
wire_stored_get(const uint8_t *p, size_t n, struct wire_stored *out, struct wire_error *err)
{
	if (head_check(p, n, STORED_MAGIC, STORED_BYTES, err) != 0)
		return -1;
	if (wire_get32(p + 32) != crc_without(p, n, 32))
		return fail(err, "stored frame's crc32c differs", 32);
	memcpy(out->probe_id, p + 8, FRAME_PROBE_ID_BYTES);
	out->end = wire_get64(p + 24);
	out->status = wire_get16(p + 6);
	return 0;
}
