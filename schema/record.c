/*
 * record.c - records and their payloads: header, span fields, tags, the ids
 * that a payload names.  Pure functions; any thread.
 */
#include <math.h>

#include "schema/tables.h"
#include "schema/wire.h"

static int
fail(struct wire_error *err, const char *what, size_t at)
{
	err->what = what;
	err->at = at;
	return -1;
}

uint32_t
wire_record_crc(const uint8_t *rec, uint32_t length)
{
	uint32_t crc = wire_crc32c(0, rec, 14);

	return wire_crc32c(crc, rec + RECORD_HEADER_BYTES, length - RECORD_HEADER_BYTES);
}

void
wire_record_seal(uint8_t *rec, uint64_t position, uint32_t length, uint16_t type, uint8_t state)
{
	wire_put64(rec, position);
	wire_put32(rec + 8, length);
	wire_put16(rec + 12, type);
	rec[14] = state;
	rec[15] = 0;
	wire_put32(rec + 20, 0);
	wire_put32(rec + 16, wire_record_crc(rec, length));
}

int
wire_record_get(const uint8_t *p, size_t n, struct wire_record *out, struct wire_error *err)
{
	if (n < RECORD_HEADER_BYTES)
		return fail(err, "record header cut short", 0);

	uint32_t length = wire_get32(p + 8);

	if (length < RECORD_HEADER_BYTES || length % 8 != 0 || length > FRAME_RECORD_MAX_BYTES)
		return fail(err, "record length out of range", 8);
	if (length > n)
		return fail(err, "record longer than what holds it", 8);
	if (p[14] != RECORD_PUBLISHED)
		return fail(err, "record not published", 14);
	if (wire_get32(p + 16) != wire_record_crc(p, length))
		return fail(err, "record crc32c differs", 16);
	out->position = wire_get64(p);
	out->length = length;
	out->type = wire_get16(p + 12);
	out->state = p[14];
	out->payload = p + RECORD_HEADER_BYTES;
	out->payload_bytes = length - RECORD_HEADER_BYTES;
	return (int)length;
}

void
wire_span_put(uint8_t *p, const struct wire_span *s)
{
	wire_put64(p, s->trace_hi);
	wire_put64(p + 8, s->trace_lo);
	wire_put64(p + 16, s->span_id);
	wire_put64(p + 24, s->parent_id);
	wire_put64(p + 32, s->start_ns);
	wire_put64(p + 40, s->duration_ns);
	wire_put32(p + 48, s->service);
	wire_put32(p + 52, s->name);
	wire_put32(p + 56, s->resource);
	wire_put32(p + 60, s->type);
	wire_put16(p + 64, s->flags);
	p[66] = (uint8_t)s->priority;
	p[67] = (uint8_t)s->mechanism;
	wire_put16(p + 68, s->tag_count);
	wire_put16(p + 70, (uint16_t)(s->tag_bytes / 8));
	if (s->tags != NULL && s->tag_bytes > 0)
		memcpy(p + WIRE_SPAN_FIXED_BYTES, s->tags, s->tag_bytes);
}

/* Bytes of the tag at p[0..left), 0 when it is broken. */
static uint32_t
tag_bytes(const uint8_t *p, uint32_t left)
{
	uint32_t kind, n;

	if (left < 8)
		return 0;
	kind = wire_get32(p) >> WIRE_TAG_KIND_SHIFT;
	if ((kind == WIRE_TAG_TEXT && wire_get32(p + 4) > FRAME_TEXT_MAX_BYTES) ||
	    (kind >= 8 && wire_get32(p + 4) > left))
		return 0;
	n = wire_tag_bytes(p);
	return n <= left ? n : 0;
}

int
wire_span_get(const uint8_t *p, size_t n, struct wire_span *out, struct wire_error *err)
{
	uint32_t at = 0, count = 0;

	if (n < WIRE_SPAN_FIXED_BYTES)
		return fail(err, "span cut short", 0);
	out->trace_hi = wire_get64(p);
	out->trace_lo = wire_get64(p + 8);
	out->span_id = wire_get64(p + 16);
	out->parent_id = wire_get64(p + 24);
	out->start_ns = wire_get64(p + 32);
	out->duration_ns = wire_get64(p + 40);
	out->service = wire_get32(p + 48);
	out->name = wire_get32(p + 52);
	out->resource = wire_get32(p + 56);
	out->type = wire_get32(p + 60);
	out->flags = wire_get16(p + 64);
	out->priority = (int8_t)p[66];
	out->mechanism = (int8_t)p[67];
	out->tag_count = wire_get16(p + 68);
	out->tag_bytes = (uint32_t)wire_get16(p + 70) * 8;
	out->tags = p + WIRE_SPAN_FIXED_BYTES;
	if (out->trace_lo == 0)
		return fail(err, "span without trace id", 8);
	if (out->span_id == 0)
		return fail(err, "span without span id", 16);
	if (out->tag_bytes != n - WIRE_SPAN_FIXED_BYTES)
		return fail(err, "span's tags do not fill its payload", 70);
	while (at < out->tag_bytes) {
		uint32_t one = tag_bytes(out->tags + at, out->tag_bytes - at);

		if (one == 0)
			return fail(err, "broken tag", WIRE_SPAN_FIXED_BYTES + at);
		at += one;
		count++;
	}
	if (count != out->tag_count)
		return fail(err, "span's tag count differs", 68);
	return 0;
}

bool
wire_tag_next(const struct wire_span *s, uint32_t *at, struct wire_tag_view *out)
{
	const uint8_t *p = s->tags + *at;
	uint32_t word, value;

	for (;; p = s->tags + *at) {
		if (*at >= s->tag_bytes)
			return false;
		*at += wire_tag_bytes(p);
		word = wire_get32(p);
		if (word >> WIRE_TAG_KIND_SHIFT < WIRE_TAG_KINDS)
			break;
	}
	value = wire_get32(p + 4);
	memset(out, 0, sizeof *out);
	out->kind = (enum wire_tag)(word >> WIRE_TAG_KIND_SHIFT);
	out->key = word & WIRE_TAG_KEY_MASK;
	switch (out->kind) {
	case WIRE_TAG_STR:
		out->str = value;
		break;
	case WIRE_TAG_TEXT:
		out->text = (const char *)p + 8;
		out->text_bytes = value;
		break;
	case WIRE_TAG_I32:
		out->i32 = (int32_t)value;
		out->f64 = out->i32;
		break;
	case WIRE_TAG_F64:
		memcpy(&out->f64, p + 8, 8);
		break;
	}
	return true;
}

/* Room for n more bytes and one more tag, or NULL (counted as refused). */
static uint8_t *
tag_room(struct wire_tags *t, uint32_t n)
{
	if (t->cap - t->used < n || t->count == UINT16_MAX) {
		t->refused++;
		return NULL;
	}

	uint8_t *p = t->buf + t->used;

	t->used += n;
	t->count++;
	return p;
}

static void
tag_head(uint8_t *p, uint32_t key, enum wire_tag kind, uint32_t value)
{
	wire_put32(p, (key & WIRE_TAG_KEY_MASK) | ((uint32_t)kind << WIRE_TAG_KIND_SHIFT));
	wire_put32(p + 4, value);
}

void
wire_tag_str(struct wire_tags *t, uint32_t key, uint32_t str)
{
	uint8_t *p = tag_room(t, 8);

	if (p != NULL)
		tag_head(p, key, WIRE_TAG_STR, str);
}

void
wire_tag_text(struct wire_tags *t, uint32_t key, const char *text, size_t n)
{
	if (n > FRAME_TEXT_MAX_BYTES) {
		n = FRAME_TEXT_MAX_BYTES;
		while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}

	uint32_t padded = (uint32_t)WIRE_ALIGN8(n);
	uint8_t *p = tag_room(t, 8 + padded);

	if (p == NULL)
		return;
	tag_head(p, key, WIRE_TAG_TEXT, (uint32_t)n);
	memcpy(p + 8, text, n);
	memset(p + 8 + n, 0, padded - n);
}

void
wire_tag_i32(struct wire_tags *t, uint32_t key, int32_t v)
{
	uint8_t *p = tag_room(t, 8);

	if (p != NULL)
		tag_head(p, key, WIRE_TAG_I32, (uint32_t)v);
}

void
wire_tag_f64(struct wire_tags *t, uint32_t key, double v)
{
	if (v >= INT32_MIN && v <= INT32_MAX && v == (double)(int32_t)v && !signbit(v)) {
		wire_tag_i32(t, key, (int32_t)v);
		return;
	}

	uint8_t *p = tag_room(t, 16);

	if (p == NULL)
		return;
	tag_head(p, key, WIRE_TAG_F64, 0);
	memcpy(p + 8, &v, 8);
}

void
wire_record_ids(const struct wire_record *r, wire_id_fn fn, void *ctx)
{
	const uint8_t *p = r->payload;

	if (r->type == EVENT_HOOK && r->payload_bytes >= 8 && wire_get32(p) != 0)
		fn(ctx, wire_get32(p));
	if ((r->type != EVENT_SPAN && r->type != EVENT_OPEN) ||
	    r->payload_bytes < WIRE_SPAN_FIXED_BYTES)
		return;
	for (int i = 0; i < 4; i++) {
		uint32_t id = wire_get32(p + 48 + 4 * i);

		if (id != 0)
			fn(ctx, id);
	}
	p += WIRE_SPAN_FIXED_BYTES;
	for (uint32_t left = r->payload_bytes - WIRE_SPAN_FIXED_BYTES; left > 0;) {
		uint32_t n = tag_bytes(p, left), word = wire_get32(p);

		if (n == 0)
			return;
		if ((word & WIRE_TAG_KEY_MASK) != 0)
			fn(ctx, word & WIRE_TAG_KEY_MASK);
		if (word >> WIRE_TAG_KIND_SHIFT == WIRE_TAG_STR && wire_get32(p + 4) != 0)
			fn(ctx, wire_get32(p + 4));
		p += n;
		left -= n;
	}
}
