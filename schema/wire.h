/*
 * wire.h - encode and decode what frame.h draws.  libc only, no allocation,
 * no locks, no globals: any thread of either side may call.  Decoders trust
 * nothing: every length and id is checked before it is used, and a failure
 * says what was wrong and where in a struct wire_error.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "schema/frame.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the ring file is host order and only little-endian hosts are built"
#endif

#define WIRE_MUST_CHECK __attribute__((warn_unused_result))

/* What a decoder disliked: a constant text and the offset in its input. */
struct wire_error {
	const char *what;
	size_t at;
};

static inline uint16_t
wire_get16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint32_t
wire_get32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t
wire_get64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline void
wire_put16(void *p, uint16_t v)
{
	memcpy(p, &v, sizeof v);
}

static inline void
wire_put32(void *p, uint32_t v)
{
	memcpy(p, &v, sizeof v);
}

static inline void
wire_put64(void *p, uint64_t v)
{
	memcpy(p, &v, sizeof v);
}

#define WIRE_ALIGN8(n) (((n) + 7u) & ~(size_t)7u)

/* CRC-32C (Castagnoli), continued from `crc` (0 to begin). SSE4.2 where present. */
uint32_t wire_crc32c(uint32_t crc, const void *data, size_t n);

/* ---- records ---------------------------------------------------------- */

struct wire_record {
	uint64_t position;
	uint32_t length; /* with the header */
	uint16_t type;
	uint8_t state;
	const uint8_t *payload;
	uint32_t payload_bytes;
};

/* The crc that belongs into the header of the record at `rec` (header and payload complete). */
uint32_t wire_record_crc(const uint8_t *rec, uint32_t length);

/* Fill the 24 header bytes for a payload already in place behind them; state is stored as given. */
void wire_record_seal(
    uint8_t *rec, uint64_t position, uint32_t length, uint16_t type, uint8_t state);

/*
 * Read the record at p[0..n): length sane, published, crc right.  Position is
 * not judged.  Returns the record's length, or -1 and fills *err.
 */
WIRE_MUST_CHECK int wire_record_get(
    const uint8_t *p, size_t n, struct wire_record *out, struct wire_error *err);

/* A SPAN or OPEN payload, all fields of events.def. Strings are ids. */
struct wire_span {
	uint64_t trace_hi, trace_lo, span_id, parent_id;
	uint64_t start_ns, duration_ns;
	uint32_t service, name, resource, type;
	uint16_t flags;
	int8_t priority, mechanism;
	uint16_t tag_count;
	uint32_t tag_bytes; /* tag_words * 8 */
	const uint8_t *tags;
};
#define WIRE_SPAN_FIXED_BYTES 72u
/* Offsets inside a record (with its header) that writers patch in place. */
#define WIRE_SPAN_OFF_FLAGS (RECORD_HEADER_BYTES + 64u)

/* Write the 72 fixed bytes; the tags (s->tag_bytes) are copied behind them when s->tags != NULL. */
void wire_span_put(uint8_t *payload, const struct wire_span *s);

/* Decode and check a payload, tags included (kinds, lengths, count). 0 or -1 with *err. */
WIRE_MUST_CHECK int wire_span_get(
    const uint8_t *payload, size_t n, struct wire_span *out, struct wire_error *err);

/* One tag. For WIRE_TAG_TEXT text points into the input; for STR `str` is the id. */
struct wire_tag_view {
	enum wire_tag kind;
	uint32_t key; /* string id */
	uint32_t str;
	int32_t i32;
	double f64;
	const char *text;
	uint32_t text_bytes;
};

/* Bytes of a checked tag with what follows it. */
static inline uint32_t
wire_tag_bytes(const uint8_t *tag)
{
	uint32_t kind = wire_get32(tag) >> WIRE_TAG_KIND_SHIFT;

	if (kind == WIRE_TAG_STR || kind == WIRE_TAG_I32)
		return 8;
	if (kind == WIRE_TAG_TEXT || kind >= 8)
		return 8 + (uint32_t)WIRE_ALIGN8(wire_get32(tag + 4));
	return 16;
}

/* Step through checked tags of kinds that we know: *at starts at 0; false at the end. */
bool wire_tag_next(const struct wire_span *s, uint32_t *at, struct wire_tag_view *out);

/* A writer of tags into a caller's buffer. When the buffer is full the tag is left out and counted.
 */
struct wire_tags {
	uint8_t *buf;
	uint32_t used, cap;
	uint16_t count, refused;
};
void wire_tag_str(struct wire_tags *t, uint32_t key, uint32_t str);
void wire_tag_text(struct wire_tags *t, uint32_t key, const char *text,
    size_t n); /* clipped at FRAME_TEXT_MAX_BYTES on a UTF-8 boundary */
void wire_tag_i32(struct wire_tags *t, uint32_t key, int32_t v);
void wire_tag_f64(struct wire_tags *t, uint32_t key, double v); /* stores I32 when exact */

/* Call fn for every string id that a record's payload names (0 is skipped). */
typedef void (*wire_id_fn)(void *ctx, uint32_t id);
void wire_record_ids(const struct wire_record *r, wire_id_fn fn, void *ctx);

/* ---- dictionary ------------------------------------------------------- */

static inline size_t
wire_dict_entry_bytes(size_t n)
{
	return WIRE_ALIGN8(8 + n);
}

/* Append one entry; the caller made room (wire_dict_entry_bytes). Returns bytes written. */
size_t wire_dict_put(uint8_t *p, uint32_t id, const char *s, uint32_t n);

/* Step through a dictionary: 1 an entry, 0 end, -1 broken (with *err). */
WIRE_MUST_CHECK int wire_dict_next(const uint8_t *dict, size_t n, size_t *at, uint32_t *id,
    const char **s, uint32_t *bytes, struct wire_error *err);

/* ---- attrs ------------------------------------------------------------ */

struct wire_attrs {
	uint8_t *buf;
	uint32_t used, cap;
	bool full;
};
void wire_attr_put(
    struct wire_attrs *a, const char *key, const char *value); /* empty value: left out */
WIRE_MUST_CHECK int wire_attr_next(const uint8_t *attrs, size_t n, size_t *at, const char **key,
    uint16_t *key_bytes, const char **value, uint16_t *value_bytes, struct wire_error *err);
/* Find a key; copies a terminated, clipped value; false (and "") when absent or broken. */
bool wire_attr_find(const uint8_t *attrs, size_t n, const char *key, char *value, size_t cap);

/* ---- frames ----------------------------------------------------------- */

struct wire_hello {
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint8_t boot_id[FRAME_BOOT_ID_BYTES];
	uint64_t pid, start_ticks, acknowledged, head, mono_ns, real_ns;
	const uint8_t *attrs;
	uint32_t attrs_bytes;
};
/* Encode into p[0..cap); returns bytes, or 0 when it does not fit. */
size_t wire_hello_put(uint8_t *p, size_t cap, const struct wire_hello *h);
WIRE_MUST_CHECK int wire_hello_get(
    const uint8_t *p, size_t n, struct wire_hello *out, struct wire_error *err);

struct wire_batch {
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint8_t boot_id[FRAME_BOOT_ID_BYTES];
	uint64_t first, end, mono_ns, real_ns;
	uint64_t losses[WIRE_LOSS_COUNT];
	uint16_t flags;
	uint32_t record_count, span_count;
	const uint8_t *records, *dict;
	uint32_t records_bytes, dict_bytes;
};
/* Write the fixed part in front of records and dictionary that are already at p +
 * BATCH_FIXED_BYTES; sets the crc. */
void wire_batch_seal(uint8_t *p, const struct wire_batch *b);
/* Header and sizes only, no crc: of a body that was checked before. */
WIRE_MUST_CHECK int wire_batch_head(
    const uint8_t *p, size_t n, struct wire_batch *out, struct wire_error *err);
/* The same and the crc: what the sender meant. */
WIRE_MUST_CHECK int wire_batch_peek(
    const uint8_t *p, size_t n, struct wire_batch *out, struct wire_error *err);
/*
 * Everything: each record published with a right crc and a rising position in
 * [first,end), each payload well formed, every id in the dictionary, ids
 * ascending, counts equal. After 0 the records may be walked without checks.
 */
WIRE_MUST_CHECK int wire_batch_check(
    const uint8_t *p, size_t n, struct wire_batch *out, struct wire_error *err);

struct wire_stored {
	uint8_t probe_id[FRAME_PROBE_ID_BYTES];
	uint64_t end;
	uint16_t status;
};
void wire_stored_put(uint8_t p[STORED_BYTES], const struct wire_stored *s);
WIRE_MUST_CHECK int wire_stored_get(
    const uint8_t *p, size_t n, struct wire_stored *out, struct wire_error *err);

/* ---- bundle ----------------------------------------------------------- */

struct wire_bundle {
	uint32_t trace_count, span_count;
	const uint8_t *traces, *dict;
	uint32_t traces_bytes, dict_bytes;
};
struct wire_trace {
	uint64_t trace_hi, trace_lo;
	int64_t offset_ns;
	uint32_t records_bytes, record_count;
	uint16_t flags;
	int8_t priority, mechanism;
	uint32_t has;
	double rule_psr, limit_psr, agent_psr;
	const uint8_t *records;
};
void wire_bundle_seal(uint8_t *p, const struct wire_bundle *b);
WIRE_MUST_CHECK int wire_bundle_get(const uint8_t *p, size_t n, struct wire_bundle *out,
    struct wire_error *err); /* header, crc, sizes */
void wire_trace_put(uint8_t p[BUNDLE_TRACE_BYTES], const struct wire_trace *t);
/* Step through the traces of a bundle: 1, 0 end, -1 broken. Records are checked for length and
 * payload. */
WIRE_MUST_CHECK int wire_trace_next(
    const struct wire_bundle *b, size_t *at, struct wire_trace *out, struct wire_error *err);
