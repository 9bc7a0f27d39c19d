/*
 * span_internal.h - shared by span_text.c, span_identity.c and spanview.c;
 * nobody else includes it.
 */
#pragma once

#include "agent/core/spanview.h"

/* ---- texts in memory that is given back all at once -------------------- */

struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	uint8_t bytes[];
};

struct arena {
	struct arena_block *blocks;
};

void *arena_take(struct arena *a, size_t n); /* 8-byte aligned; NULL: no memory */
void arena_reset(struct arena *a);           /* keeps one block */
void arena_fini(struct arena *a);

/* Copy a text with its msgpack header in front. false: no memory. */
MUST_CHECK bool text_put(struct arena *a, const char *s, size_t n, struct span_text *out);

static inline bool
text_is(struct span_text t, const char *s, size_t n)
{
	return t.n == n && memcmp(t.s, s, n) == 0;
}

/* ---- keys that we write ourselves --------------------------------------- */

enum own_key {
	OWN_PRIORITY,
	OWN_DM,
	OWN_TID,
	OWN_RULE_PSR,
	OWN_LIMIT_PSR,
	OWN_AGENT_PSR,
	OWN_TOP_LEVEL,
	OWN_MEASURED,
	OWN_BASE_SERVICE,
	OWN_PARTIAL,
	OWN_UNFINISHED,
	OWN_KEPT,
	OWN_HOSTNAME,
	OWN_COUNT,
};

/* A tag of the process that goes on its spans unless they say it themselves. */
enum common_where { ON_EVERY, ON_MAIN_SERVICE };
struct common_tag {
	struct span_tag tag;
	enum common_where where;
};
#define COMMON_MAX 64u

struct mapping {
	char *from, *to; /* in the arena, terminated */
	size_t from_bytes, to_bytes;
};
#define MAPPING_MAX 32u

struct span_identity {
	struct arena arena;
	/* what it was made from */
	int64_t probe;
	uint64_t pid, real_ns;
	uint32_t attrs_bytes;
	uint8_t *attrs;

	struct span_text service; /* main service: mapped and normalised */
	struct span_text own[OWN_COUNT];
	struct span_text hostname, text_true, text_failure;
	char language[33];
	struct common_tag common[COMMON_MAX];
	uint32_t common_count;
	struct mapping mapping[MAPPING_MAX];
	uint32_t mapping_count;
};

/* Mapped by DD_SERVICE_MAPPING and normalised; scratch has NORM_SCRATCH_BYTES. */
struct norm_text identity_service(
    const struct span_identity *id, const char *s, size_t n, char *scratch);
