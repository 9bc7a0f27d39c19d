/*
 * spanview_internal.h - the view of one bundle, shared by spanview.c (which
 * walks) and span_build.c (which makes one span); nobody else includes it.
 */
#pragma once

#include "agent/core/normalise.h"
#include "agent/core/span_internal.h"

enum { HAVE_KEY = 1, HAVE_SERVICE = 2, HAVE_NAME = 4, HAVE_TYPE = 8 };
enum key_role { ROLE_PLAIN, ROLE_STATUS, ROLE_SERVICE, ROLE_ENV, ROLE_OURS };

/* One string of the dictionary and what it becomes in each place where it is used. */
struct entry {
	uint32_t id, stamp, slot; /* stamp: the last span that had it as a key, and where */
	uint8_t have, role;
	bool main_service;
	uint16_t common; /* index + 1 of the common tag with this key */
	struct span_text raw, key, service, name, type;
};

struct service_of {
	uint64_t span_id;
	uint32_t service; /* 0: the main one */
};

struct spanview {
	const struct span_identity *id;
	struct arena arena; /* everything of the open bundle */
	struct wire_bundle bundle;
	size_t trace_at;
	struct entry *entries;
	size_t entry_count, entry_cap;
	uint32_t *table; /* id -> entry + 1 */
	size_t table_mask, table_cap;
	/* the current trace */
	struct wire_trace trace;
	bool with_open, services_differ, root_given;
	uint32_t spans, given;
	size_t record_at, root_at;
	struct service_of *services;
	size_t services_mask, services_cap;
	/* the current span */
	uint32_t stamp;
	uint32_t common_stamp[COMMON_MAX];
	struct span_tag *tags;
	uint32_t tag_count, tag_cap;
	struct span_text numbers[2]; /* -<mechanism>, tid */
	char scratch[NORM_SCRATCH_BYTES];
};

#define NO_ROOT SIZE_MAX

/* spanview.c: room for n elements; hash of an id; a dictionary entry or NULL; its service form. */
MUST_CHECK bool view_fit(void *pp, size_t *cap, size_t n, size_t size);
struct entry *view_entry(struct spanview *v, uint32_t id);
MUST_CHECK bool view_service(struct spanview *v, struct entry *e);
/* span_build.c: false: no memory. */
MUST_CHECK bool view_span_build(struct spanview *v, const uint8_t *record, struct span_model *out);

static inline size_t
view_spread(uint64_t id)
{
	return (size_t)(id * 0x9e3779b97f4a7c15u >> 32);
}
