/*
 * process.h - the contract of the processor: batches in, chunks and one
 * segment out.  A processor is a plain object without threads; the pipeline's
 * thread drives it.  It never touches the store: it says what the next
 * transaction must do.
 *
 *	processor_restore(...)	at start, once for each segment row
 *	processor_feed(...)	once for each batch, in the order of its probe's stream
 *	processor_step(...)	decide and emit; fills a struct step
 *	-- the caller applies the step in the transaction that also deletes the raw
 *	   rows it fed, or moves the probes' ends past batches that got no row --
 *	processor_commit(...)	the transaction is durable: forget what left
 *	processor_abort(...)	it failed: keep everything, try again later
 */
#pragma once

#include "agent/core/memory.h"
#include "agent/core/store.h"

struct processor;

/* Spans that tell of jobs, which others want to see as they come. */
enum span_kind { SPAN_PLAIN, SPAN_QUEUE_WAIT, SPAN_WORKFLOW, SPAN_NODE };
struct span_seen {
	int64_t probe;
	uint64_t pid, start_ticks; /* of its process; 0: it never said */
	enum span_kind kind;       /* never SPAN_PLAIN */
	bool open;                 /* it has begun; else it has ended */
	int64_t offset_ns;         /* of its trace: real time less monotonic */
	const struct wire_span *span;
	const void *strings;
};
/* A string by its id, not terminated, good until the call returns; NULL and 0: unknown. */
const char *span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n);
/* One of its tags, a number or a text; neither key nor text is terminated. */
struct seen_tag {
	const char *key, *text;
	uint32_t key_bytes, text_bytes;
	bool is_number;
	double number;
};
/* The next one, from *at 0 on; what has no key or no value that is known is passed over. seen.c */
bool span_seen_next(const struct span_seen *s, uint32_t *at, struct seen_tag *out);
bool seen_is(const struct seen_tag *tag, const char *key);
/* Clipped on a character's boundary, terminated. */
void seen_copy(char *to, size_t cap, const char *from, size_t n);
/* Called from processor_feed for each such record of a batch that is no repeat, in the order of
 * its probe's stream.  What segments bring back was seen by an earlier run. */
typedef void (*processor_seen_fn)(void *ctx, const struct span_seen *s);

/* The same of each that is open now, for who was not there when it came: after a restart. */
void processor_open_jobs(struct processor *p, processor_seen_fn fn, void *ctx);

/* Sampling rates of the Datadog agent, "service:x,env:y" -> rate. Owned by the processor. */
struct processor_options {
	const char *service, *env, *version, *hostname; /* the agent's own, fallback for identity */
	const char *sample_rate;                        /* text of DD_TRACE_SAMPLE_RATE or "" */
	const char *sampling_rules;                     /* JSON or "" */
	double rate_limit;                              /* traces per second, < 0 none */
	uint64_t memory_cap_bytes;                      /* open spans in memory, 4 MB */
	uint64_t disk_cap_bytes;                        /* 16 MB */
	uint64_t partial_after_ms;                      /* 30 s */
	uint32_t partial_spans;                         /* 300 */
	processor_seen_fn seen;                         /* NULL: nobody */
	void *seen_ctx;
	const struct memory_watch *memory; /* NULL: nobody samples; borrowed */
	bool forward_rejected; /* rejected traces are sent with priority -1 (destination is an
				  agent) */
};

/* What one transaction must do besides ending the batches fed since the last commit. */
struct step {
	struct chunk_row *chunks; /* to chunk_put */
	size_t chunk_count;
	struct segment_row *segments; /* to segment_put, then tell processor_commit their ids */
	size_t segment_count;
	int64_t *dead_segments; /* to segment_delete */
	size_t dead_count;
	uint64_t sampled_out; /* spans decided out and not forwarded */
	uint64_t dropped[DROP_REASONS];
	uint64_t received; /* spans born here: unfinished spans made of lost opens */
	uint64_t repeats; /* spans of the raw batches that were here already: take off `received` */
	uint64_t next_ms; /* call again after this long even without input; 0 none */
};

enum err processor_new(const struct processor_options *o, struct processor **out);
void processor_free(struct processor *p);

/* How a process ended, for the span that tells of it. Texts are UTF-8; NULL or "": left out. */
struct process_end {
	uint64_t trace_hi, trace_lo, span_id; /* always the same for the same end */
	uint64_t parent_id; /* the job that it ended, 0: none, it is a trace of its own */
	uint64_t start_real_ns, end_real_ns;
	int64_t offset_ns; /* real time less monotonic, for a trace that is not at hand */
	bool error, restarted;
	const char *verdict, *certainty, *message, *death;
	const char *events; /* Datadog's span events, JSON */
	const char *prompt_id, *node_id, *node_class;
	int signal, exit_code;                                  /* -1 none */
	uint64_t uptime_ms, limit_bytes, rss_bytes, peak_bytes; /* 0 unknown */
};

/* Known identity of a probe row; call before its first feed and when it changes. */
MUST_CHECK enum err processor_probe(struct processor *p, const struct probe_row *probe);
/* The probe's ring is gone: its open spans end as `lost` unless salvage closed them. */
MUST_CHECK enum err processor_probe_gone(struct processor *p, int64_t probe);
MUST_CHECK enum err processor_restore(struct processor *p, const struct segment_row *s);
/*
 * E_INVAL: malformed as a whole, nothing was taken, the caller counts its spans
 * as dropped.  E_NOMEM: it may have been taken in part; roll the transaction
 * back, reset, restore.
 */
MUST_CHECK enum err processor_feed(struct processor *p, const struct raw_row *raw);
/*
 * A span of that probe tells how its process ended: of a job's trace, or of one of its own that
 * is kept whatever sampling says.  Counted in `received` of the step; fed once, like a batch.
 */
MUST_CHECK enum err processor_ended(
    struct processor *p, int64_t probe, const struct process_end *end);
MUST_CHECK enum err processor_step(
    struct processor *p, uint64_t now_mono_ns, uint64_t now_real_ns, const struct step **out);
void processor_commit(struct processor *p);
void processor_abort(struct processor *p);
/* Forget everything, as a restart would: the segments and what is fed again bring it back. */
void processor_reset(struct processor *p);

/* The body of a Datadog agent's reply ({"rate_by_service":{...}}); E_INVAL when it is none. */
enum err processor_agent_rates(struct processor *p, const char *json, size_t n);

/* Open traces, for the views. */
typedef void (*processor_open_fn)(
    void *ctx, const struct wire_trace *t, const uint8_t *dict, size_t dict_bytes, int64_t probe);
void processor_open_traces(struct processor *p, processor_open_fn fn, void *ctx);
uint64_t processor_open_spans(const struct processor *p);

/* What a probe told of its hooks; names of those that are not attached, the first few. */
#define PROCESSOR_HOOK_NAMES 16u
#define PROCESSOR_HOOK_BYTES 96u
struct processor_hooks {
	uint32_t attached, missing;
	char names[PROCESSOR_HOOK_NAMES][PROCESSOR_HOOK_BYTES]; /* "module:attribute" */
};
/* False: it told nothing since we started. */
bool processor_hooks(const struct processor *p, int64_t probe, struct processor_hooks *out);

/* Since the start, for status and metrics; `now` of what is held. */
struct processor_stats {
	uint64_t traces_now, spans_now, memory_now;
	uint64_t repeats, unknown_records, malformed_batches, malformed_records;
	uint64_t partial_flushes, cap_flushes, kept_failures, lost_spans, rewrites;
	char last_problem[160]; /* of a probe's rules or a batch */
};
void processor_stats(const struct processor *p, struct processor_stats *out);
