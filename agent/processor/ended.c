/*
 * ended.c - the span that tells how a process ended, made here because the
 * process could not.  Pipeline thread.  Its strings have ids of our own, see
 * lost.c.
 */
#include "agent/processor/internal.h"

#define NAME      "comfyui.process.exit"
#define ID_BASE   (DICT_OWN + 24u) /* behind those of lost.c and peak.c */
#define RESOURCES 2u /* a program that was replaced in its process, and the end of that process */

static const char *const keys[] = {
	NAME,
	"custom",
	"error.type",
	"error.message",
	"events",
	"exit.verdict",
	"exit.certainty",
	"exit.signal",
	"exit.code",
	"exit.restarted",
	"exit.death",
	"process.uptime_ms",
	"memory.limit_bytes",
	"memory.rss.last_bytes",
	"memory.rss.peak_bytes",
	"prompt.id",
	"node.id",
	"node.class_type",
};
enum {
	ID_NAME = ID_BASE,
	ID_TYPE,
	ID_ERROR_TYPE,
	ID_ERROR_MESSAGE,
	ID_EVENTS,
	ID_VERDICT,
	ID_CERTAINTY,
	ID_SIGNAL,
	ID_CODE,
	ID_RESTARTED,
	ID_DEATH,
	ID_UPTIME,
	ID_LIMIT,
	ID_RSS,
	ID_PEAK,
	ID_PROMPT,
	ID_NODE,
	ID_NODE_CLASS,
	ID_RESOURCE, /* the first of RESOURCES */
};
_Static_assert(ID_RESOURCE - ID_BASE == sizeof keys / sizeof keys[0], "each key has an id");
_Static_assert(ID_RESOURCE + RESOURCES <= DICT_OWN + DICT_OWN_COUNT, "all ids are ours");

/* An id keeps its string: another verdict of the same process takes the next. */
static enum err
own_resource(struct dict *d, const char *verdict, uint32_t *id)
{
	size_t bytes = strlen(verdict);
	uint32_t n;

	for (*id = ID_RESOURCE; *id < ID_RESOURCE + RESOURCES; ++*id) {
		const char *s;

		if (dict_own(d, *id, verdict) != E_OK)
			return E_NOMEM;
		s = dict_get(d, *id, &n);
		if (n == bytes && memcmp(s, verdict, n) == 0)
			return E_OK;
	}
	return E_STATE;
}

static void
put_text(struct wire_tags *t, uint32_t key, const char *text)
{
	if (text != NULL && text[0] != '\0')
		wire_tag_text(t, key, text, strlen(text));
}

static void
put_number(struct wire_tags *t, uint32_t key, uint64_t v)
{
	if (v > 0)
		wire_tag_f64(t, key, (double)v);
}

static void
put_tags(struct wire_tags *t, const struct process_end *e)
{
	if (e->error) {
		put_text(t, ID_ERROR_TYPE, e->verdict);
		put_text(t, ID_ERROR_MESSAGE, e->message);
	}
	put_text(t, ID_EVENTS, e->events);
	put_text(t, ID_VERDICT, e->verdict);
	put_text(t, ID_CERTAINTY, e->certainty);
	put_text(t, ID_RESTARTED, e->restarted ? "true" : "false");
	put_text(t, ID_DEATH, e->death);
	put_text(t, ID_PROMPT, e->prompt_id);
	put_text(t, ID_NODE, e->node_id);
	put_text(t, ID_NODE_CLASS, e->node_class);
	if (e->signal > 0)
		wire_tag_i32(t, ID_SIGNAL, e->signal);
	if (e->exit_code >= 0)
		wire_tag_i32(t, ID_CODE, e->exit_code);
	put_number(t, ID_UPTIME, e->uptime_ms);
	put_number(t, ID_LIMIT, e->limit_bytes);
	put_number(t, ID_RSS, e->rss_bytes);
	put_number(t, ID_PEAK, e->peak_bytes);
}

/* Where real time begins for a trace that is here, or for a new one of that probe. */
static int64_t
offset_of(struct processor *p, const struct probe *probe, const struct process_end *e)
{
	const struct trace *t = trace_find(p, probe, e->trace_hi, e->trace_lo);

	return t != NULL ? t->offset_ns : e->offset_ns;
}

enum err
processor_ended(struct processor *p, int64_t probe_id, const struct process_end *e)
{
	uint8_t rec[FRAME_RECORD_MAX_BYTES], *payload = rec + RECORD_HEADER_BYTES;
	struct wire_tags tags = { .buf = payload + WIRE_SPAN_FIXED_BYTES,
		.cap = sizeof rec - RECORD_HEADER_BYTES - WIRE_SPAN_FIXED_BYTES };
	struct wire_span s = { .trace_hi = e->trace_hi,
		.trace_lo = e->trace_lo,
		.span_id = e->span_id,
		.parent_id = e->parent_id,
		.name = ID_NAME,
		.type = ID_TYPE,
		.flags = e->error ? WIRE_SPAN_ERROR : 0,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE };
	struct probe *probe;
	const struct trace *fresh;
	uint64_t offset;
	enum err rv = E_OK;

	if (p->planned)
		return E_STATE;
	if ((rv = probe_get(p, probe_id, &probe)) != E_OK)
		return rv;
	for (uint32_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (dict_own(&probe->dict, ID_BASE + i, keys[i]) != E_OK)
			return E_NOMEM;
	if ((rv = own_resource(&probe->dict, e->verdict, &s.resource)) != E_OK)
		return rv;
	if (e->parent_id != 0) {
		s.flags |= WIRE_SPAN_JOB_FAILED; /* its trace is kept, as for its unfinished job */
	} else {
		s.flags |= WIRE_SPAN_LOCAL_ROOT;
		s.priority = 2; /* rare, and what one looks for */
		s.mechanism = MECHANISM_MANUAL;
	}
	offset = (uint64_t)offset_of(p, probe, e);
	s.start_ns = e->start_real_ns - offset;
	s.duration_ns = e->end_real_ns > e->start_real_ns ? e->end_real_ns - e->start_real_ns : 0;
	put_tags(&tags, e);
	s.tag_bytes = tags.used;
	s.tag_count = tags.count;
	wire_span_put(payload, &s);
	wire_record_seal(rec, 0, RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + tags.used,
	    EVENT_SPAN, RECORD_PUBLISHED);
	s.tags = tags.buf;
	rv = feed_record(p, probe, rec, &s, (int64_t)offset, &fresh);
	if (rv != E_OK)
		return rv;
	/* A repeat was counted when it came first, and has taken itself off by step.repeats. */
	p->step.received++;
	return E_OK;
}
