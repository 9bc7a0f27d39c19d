/*
 * normalise.h - what Datadog's own agent does to the fields of a span before it
 * stores them: legal services, names and tag values, lengths, times, UTF-8.
 * Used when a chunk is encoded, so that a destination without an agent behind
 * it gets the same values.
 *
 * Pure functions, any thread, no allocation.  A text that is right already is
 * returned as it came (the result points into the input, or to a constant); else the result lies
 * in `scratch`, which the caller owns and which must hold NORM_SCRATCH_BYTES.
 * The result lives as long as both, and must be used before scratch is given
 * to the next call.  Lengths are bytes; results are not terminated and always
 * valid UTF-8.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NORM_SERVICE_MAX    100u
#define NORM_NAME_MAX       100u
#define NORM_TYPE_MAX       100u
#define NORM_TAG_MAX        200u /* characters of env, version of a tag rule */
#define NORM_RESOURCE_MAX   5000u
#define NORM_META_KEY_MAX   200u   /* then "..." */
#define NORM_META_VALUE_MAX 25000u /* then "..." */
#define NORM_SCRATCH_BYTES  (NORM_META_VALUE_MAX + 8u)

struct norm_text {
	const char *s;
	size_t n;
};

/* Empty or nothing legal in it: "unnamed-service" ("unnamed-<lang>-service" with a lang). */
struct norm_text norm_service(const char *s, size_t n, const char *lang, char *scratch);
/* Operation name; nothing legal: "unnamed_operation". */
struct norm_text norm_name(const char *s, size_t n, char *scratch);
/* The rules of a tag's value: for env. May be empty. */
struct norm_text norm_tag_value(const char *s, size_t n, char *scratch);
/* Cut at NORM_RESOURCE_MAX. Empty: the caller puts the (normalised) name. */
struct norm_text norm_resource(const char *s, size_t n, char *scratch);
struct norm_text norm_type(const char *s, size_t n, char *scratch);
struct norm_text norm_meta_key(const char *s, size_t n, char *scratch);
/* `key` decides whether the value is exempt from cutting (_dd.*.json and the like). */
struct norm_text norm_meta_value(
    const char *key, size_t key_bytes, const char *s, size_t n, char *scratch);
/* Any text: broken bytes become U+FFFD, cut at `limit` on a character (limit + 3 <= scratch). */
struct norm_text norm_utf8(const char *s, size_t n, size_t limit, char *scratch);

/* An http.status_code that may stay: an integer 100..599. */
bool norm_status_code_ok(const char *s, size_t n);
/* Duration negative or beyond the end of time: 0. Start before 2000: now less duration. */
void norm_times(int64_t *start_ns, int64_t *duration_ns, uint64_t now_real_ns);
/* A span that is its own parent in its own trace has none. */
uint64_t norm_parent(uint64_t trace_lo, uint64_t span_id, uint64_t parent_id);
