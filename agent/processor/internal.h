/*
 * internal.h - what the files of the processor share.  Everything belongs to
 * the pipeline's thread; nothing here locks or blocks.
 *
 * The state of a trace is the bytes of its records in the order in which they
 * came, and three flags about what has left already: every other field can be
 * had again by walking them.  That is why a restart that feeds the same bytes
 * ends in the same state.
 */
#pragma once

#include "agent/core/process.h"
#include "agent/processor/sampling.h"
#include "schema/tables.h"

#define CHUNK_TARGET_BYTES (256u * 1024) /* a chunk is closed at about this size */
#define DICT_IDS_MAX       (256u * 1024) /* highest string id of a probe */
#define DICT_BYTES_MAX     (8u * 1024 * 1024)
#define DICT_OWN           0x0fffff00u /* ids from here on are ours: lost.c, peak.c, ended.c */
#define DICT_OWN_COUNT     48u
#define SEGMENTS_MAX       64u /* of a probe; then one replaces them */
#define LINGER_NS          1000000000ull

/* Beside BUNDLE_*, in segments only. */
#define SEGMENT_ROOT_DONE 0x8000u
#define SEGMENT_FAILED    0x4000u
#define SEGMENT_INHERITED 0x2000u
#define SEGMENT_JOB_DONE  0x1000u

/* ---- dict.c: the strings of one probe ---------------------------------- */

struct dict {
	struct dict_entry *entries; /* DICT_OWN_COUNT of ours, then by id */
	uint32_t entry_cap;
	char *bytes;
	uint32_t used, cap;
	uint32_t epoch; /* of the marks */
	uint32_t *ids;  /* marked since dict_begin */
	uint32_t id_count, id_cap;
	size_t marked_bytes; /* encoded size of the marked */
	bool failed;         /* a mark was lost for want of memory */
};

void dict_fini(struct dict *d);
/* Do these strings agree with what is known? E_INVAL: an id changed its string or is too high. */
MUST_CHECK enum err dict_check(const struct dict *d, const uint8_t *dict, size_t n);
/* Learn them, after dict_check. E_FULL: over DICT_BYTES_MAX (forget unused ones, try again). */
MUST_CHECK enum err dict_learn(struct dict *d, const uint8_t *dict, size_t n);
MUST_CHECK enum err dict_own(struct dict *d, uint32_t id, const char *s);
void dict_begin(struct dict *d);
/* Mark every id that a checked record names. Unknown ids are left out. */
void dict_mark(struct dict *d, const uint8_t *rec, uint32_t length);
/* Encode the marked strings, ascending; p has room for marked_bytes. */
size_t dict_put(struct dict *d, uint8_t *p);
/* Forget what is not marked. */
MUST_CHECK enum err dict_keep_marked(struct dict *d);
/* A known string, or n 0. Valid until the dictionary learns. */
const char *dict_get(const struct dict *d, uint32_t id, uint32_t *n);
/* What a span of that name is; told when the name was learnt. */
enum span_kind dict_kind(const struct dict *d, uint32_t id);

/* ---- traces ------------------------------------------------------------ */

enum trace_flag {
	TRACE_ROOT_DONE = 1,
	TRACE_JOB_DONE = 2,
	TRACE_FAILED = 4, /* a job failed or was killed */
	TRACE_ERROR = 8,
	TRACE_UNFINISHED = 16,
	TRACE_OPENED = 32,  /* had a span that outlived a batch */
	TRACE_PARTIAL = 64, /* a part of it has left */
	TRACE_DECIDED = 128,
	TRACE_DECISION_SAVED = 256, /* a segment holds it */
};

enum plan { PLAN_NONE, PLAN_ALL, PLAN_PART };

struct link {
	struct link *prev, *next;
};

struct trace {
	struct trace *chain; /* of its hash slot */
	struct trace *touched_next, *plan_next;
	struct link age, mine; /* of the processor, of its probe */
	struct probe *probe;
	uint64_t hi, lo;
	uint8_t *buf;
	uint32_t used, cap, records;
	uint32_t saved;  /* bytes of buf in segments */
	uint32_t *table; /* span id -> offset / 8 + 1 of its newest record */
	uint32_t table_size, table_count;
	uint32_t spans, opens;
	uint32_t root; /* offset + 1 of the local root's newest record */
	int64_t offset_ns;
	uint64_t due_ns, touched_ns;
	uint16_t flags;
	uint8_t plan;
	bool touched, lingers;
	int8_t inherited_priority, inherited_mechanism;
	struct decision decision;
};

struct hooks; /* hooks.c */

struct probe {
	struct probe *next;
	int64_t id;
	uint64_t pid, start_ticks; /* 0: it never said */
	struct dict dict;
	struct sampler *sampler;
	struct hooks *hooks;             /* NULL: nothing was told */
	uint32_t attrs_bytes, attrs_crc; /* what the sampler was made from */
	uint64_t end_mono_ns;            /* its last sign of life */
	struct link traces;              /* open ones, oldest first */
	int64_t *segments;               /* ids of its rows, ascending */
	size_t segment_count, segment_cap;
	int64_t last_segment;
	bool gone;
	/* of the step that is planned: */
	struct trace *plan_head[CHUNK_ERROR + 1], **plan_tail[CHUNK_ERROR + 1];
	bool save;          /* a trace that stays has something that no segment holds */
	bool rewrite;       /* a trace leaves that a segment holds: one segment replaces all */
	size_t new_segment; /* index + 1 in step.segments */
};

#define DECIDED_SETS 1024u
#define DECIDED_WAYS 4u

struct decided {
	uint64_t hi, lo;
	int64_t probe; /* 0: free */
	uint32_t stamp;
	struct decision decision;
};

#define OPTION_TEXTS 6

struct processor {
	struct processor_options o;
	char *texts[OPTION_TEXTS]; /* what o points to */
	struct sampler_rates *rates;
	struct probe *probes;
	struct trace **slots;
	uint32_t slot_count, trace_count;
	struct link age; /* oldest wait first */
	struct trace *touched, **touched_tail;
	uint64_t memory_bytes;
	struct decided *decided; /* DECIDED_SETS * DECIDED_WAYS */
	uint32_t stamp;
	bool planned; /* between step and commit or abort */
	struct step step;
	size_t chunk_cap, segment_cap, dead_cap;
	struct processor_stats stats;
};

/* trace.c */
void link_init(struct link *l);
void link_remove(struct link *l);
void link_append(struct link *head, struct link *l);
struct trace *trace_of_age(struct link *l);
struct trace *trace_of_mine(struct link *l);
struct trace *trace_find(struct processor *p, const struct probe *probe, uint64_t hi, uint64_t lo);
MUST_CHECK enum err trace_new(
    struct processor *p, struct probe *probe, uint64_t hi, uint64_t lo, struct trace **out);
/* Append a checked SPAN or OPEN record. E_EXISTS: a repeat, nothing changed. */
MUST_CHECK enum err trace_add(
    struct processor *p, struct trace *t, const uint8_t *rec, const struct wire_span *s);
void trace_touch(struct processor *p, struct trace *t);
/* Is the OPEN record at offset still open? */
bool trace_open_at(const struct trace *t, uint32_t at);
/* Drop all records but those of open spans. */
void trace_keep_open(struct processor *p, struct trace *t);
/* Out of every list but the touched, and freed. */
void trace_free(struct processor *p, struct trace *t);

/* decided.c */
const struct decision *decided_find(
    const struct processor *p, const struct probe *probe, uint64_t hi, uint64_t lo);
void decided_put(struct processor *p, const struct trace *t);

/* pack.c: one bundle being written. */
struct pack {
	uint8_t *buf;
	size_t used, cap, trace_at;
	struct dict *dict;
	uint32_t traces, spans, trace_records;
	uint64_t start_ns, end_ns; /* real, of its spans */
};
MUST_CHECK enum err pack_begin(struct pack *k, struct dict *dict);
MUST_CHECK enum err pack_trace_begin(struct pack *k);
MUST_CHECK enum err pack_record(struct pack *k, const uint8_t *rec, int64_t offset_ns);
void pack_trace_end(struct pack *k, const struct trace *t, uint16_t flags);
/* The finished bundle becomes the caller's (heap). */
MUST_CHECK enum err pack_end(struct pack *k, uint8_t **blob, size_t *bytes);
void pack_abandon(struct pack *k);

/* plan.c: which traces leave with this step. */
void plan_step(struct processor *p, uint64_t now_ns);
/* Forget a plan; every trace is as before it. */
void plan_clear(struct processor *p);
/* emit.c: the plan as chunks. */
MUST_CHECK enum err emit_chunks(struct processor *p, struct probe *probe, uint64_t now_real_ns);
/* segments.c */
MUST_CHECK enum err segment_emit(struct processor *p, struct probe *probe);
MUST_CHECK enum err segment_add(struct probe *probe, int64_t id);
void segment_commit(struct processor *p, struct probe *probe);
/* lost.c */
MUST_CHECK enum err lost_close(struct processor *p, struct probe *probe);
/* peak.c: a job begins or ends. */
void peak_job(
    const struct processor *p, const struct probe *probe, const struct wire_span *s, bool open);
/* The record of a job or node that ended, with its peaks: made in room (FRAME_RECORD_MAX_BYTES)
 * and *s with it, or rec itself where nothing is known. */
const uint8_t *peak_add(const struct processor *p, struct probe *probe, const uint8_t *rec,
    struct wire_span *s, uint8_t *room);
/* probes.c */
struct probe *probe_find(struct processor *p, int64_t id);
MUST_CHECK enum err probe_get(struct processor *p, int64_t id, struct probe **out);
void probe_free(struct probe *probe);
void hooks_take(struct probe *probe, const uint8_t *payload, size_t n);
void hooks_free(struct hooks *h);
/* Learn a dictionary; when it is full, forget what no open trace uses. */
MUST_CHECK enum err probe_learn(struct probe *probe, const uint8_t *dict, size_t n);
/* Free those that are gone and hold nothing. */
void probes_forget(struct processor *p);
/* feed.c: *fresh becomes its trace, NULL for a repeat. */
MUST_CHECK enum err feed_record(struct processor *p, struct probe *probe, const uint8_t *rec,
    const struct wire_span *s, int64_t offset_ns, const struct trace **fresh);
