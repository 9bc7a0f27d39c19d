/*
 * span.h - a span as Python and the hooks see it.
 *
 * A span is a Python object (trace() hands it out) and a C struct (hooks drive
 * it without a Python call).  Life: new -> begun -> ended; ended only once.
 * What it says is encoded at once into `tags`, so the end is one copy into the
 * ring.  GIL held everywhere.  When the probe is off, or the process has forked
 * since the span began, the end writes nothing.
 */
#pragma once

#include "probe/python/py.h"

#include "schema/wire.h"

#define SPAN_INLINE_BYTES 224u
#define SPAN_TAGS_MAX     (40u * 1024)

/* The strings that trace() was given, as objects. */
enum span_string { SPAN_NAME, SPAN_RESOURCE, SPAN_SERVICE, SPAN_TYPE };
#define SPAN_STRINGS 4

enum span_state {
	SPAN_NEW = 0,
	SPAN_BEGUN = 1,
	SPAN_ENDED = 2,
	SPAN_LINK = 3, /* not ours to record: a parent in another process or thread */
};

struct span {
	PyObject_HEAD struct wire_span w;
	struct wire_tags tags;           /* buf is `small` or a block of its own */
	PyObject *token;                 /* of the context variable while the span is current */
	PyObject *strings[SPAN_STRINGS]; /* NULL where not given, or made in C */
	uint64_t epoch;                  /* of the probe when it began */
	uint32_t slot;
	uint8_t state;
	bool left; /* its block is over, but it could not be taken back: passed over */
	_Alignas(8) uint8_t small[SPAN_INLINE_BYTES];
};

/* What a child takes over from its parent; kept by value across threads and queues. */
struct span_link {
	uint64_t trace_hi, trace_lo, span_id;
	uint32_t service;
	int8_t priority, mechanism; /* 127 for none */
	bool remote;                /* came over the wire: the child is the local root */
};

extern PyTypeObject span_type;

/* A new span (new reference), or NULL with an exception (out of memory). `name` is a string id. */
struct span *span_new(uint32_t name);

/* Ids and start; the parent is `parent`, else the current span, else none (a new trace). */
void span_begin(struct span *s, const struct span_link *parent);

/* As begin, but it started at `start_ns` (CLOCK_MONOTONIC). */
void span_begin_at(struct span *s, const struct span_link *parent, uint64_t start_ns);

/* The span may outlive a batch: give it a slot, so that it is not lost if the process dies. */
void span_open(struct span *s);

/* Make it current in this context, and back. Neither leaves an exception behind. */
void span_activate(struct span *s);
void span_deactivate(struct span *s);

/* Write it. The second call does nothing. */
void span_end(struct span *s);
void span_end_at(struct span *s, uint64_t end_ns);

/* What a child of `s` would take over. */
void span_link_of(const struct span *s, struct span_link *out);

/* The 128-bit trace id as an int. */
PyObject *span_trace_id(const struct span *s);

/* The current span of this context (new reference), or NULL; never an exception. */
struct span *span_current(void);

/*
 * The nearest span of this name that this context is inside of (new reference),
 * or NULL; never an exception. `name` is a string id.
 */
struct span *span_within(uint32_t name);

/* It turned out to be nothing: the end will write nothing. Not after span_open. */
void span_discard(struct span *s);

/* The text id that a key has as its value, 0 when there is none. */
uint32_t span_tag_value(const struct span *s, uint32_t key);

/* Tags by string id of the key; a key that is there is replaced. */
void span_tag_id(struct span *s, uint32_t key, uint32_t value);
void span_tag_text(struct span *s, uint32_t key, const char *text, size_t n);
void span_metric(struct span *s, uint32_t key, double value);
/* By the rules of Datadog: str and bool are meta, int and float metrics, others their str(). */
int span_tag_object(struct span *s, PyObject *key, PyObject *value);

/* False for those that end a block as intended: GeneratorExit, SystemExit with 0 or None. */
bool span_is_error(PyObject *exception);

/* Error flag, error.type, error.message, error.stack. `tb` may be NULL. Leaves no exception. */
void span_error(struct span *s, PyObject *exception, PyObject *tb);

/* The same from texts that somebody else made of an exception; each may be NULL. */
void span_error_told(struct span *s, const char *type, const char *message, const char *stack);

/*
 * Called with every error text before it is clipped; writes the redacted text
 * to out[0..cap) and returns its length.  NULL: texts are taken as they are.
 */
typedef size_t (*span_redact_fn)(const char *text, size_t n, char *out, size_t cap);
extern span_redact_fn span_redact;

/* What the type is made of: span_type.c for span.c. */
extern PyMethodDef span_methods[];
extern PyGetSetDef span_getset[];
PyObject *span_call(PyObject *self, PyObject *args, PyObject *kw);
PyObject *span_repr(PyObject *self);

/* Bumped by start and in a forked child: spans that began before are not ours to write. */
extern uint64_t span_epoch;

/* The context variable, the type and the ids of the well-known keys. */
int span_setup(PyObject *module);
/* Read again what depends on the ring, which is new: ids of keys, and the epoch. */
void span_restart(void);
void span_tags_restart(void);  /* part of it */
void span_error_restart(void); /* part of it */
