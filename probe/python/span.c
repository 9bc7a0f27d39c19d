/* span.c - life of a span: new, begin, current, end.  See span.h */
#include "probe/python/span.h"

#include <pthread.h>

#include "probe/core/probe.h"

#define FREE_SPANS 64
#define DEPTH_MAX  32 /* spans that are looked at below the current one */

uint64_t span_epoch;

static PyObject *current_var;
static struct span *free_spans[FREE_SPANS];
static unsigned free_count;

struct span *
span_new(uint32_t name)
{
	struct span *s;
	if (free_count > 0) {
		s = free_spans[--free_count];
		(void)PyObject_Init((PyObject *)s, &span_type);
	} else {
		s = PyObject_GC_New(struct span, &span_type);
		if (s == NULL)
			return NULL;
	}
	memset(&s->w, 0, sizeof s->w);
	s->w.name = name;
	s->w.priority = s->w.mechanism = WIRE_PRIORITY_NONE;
	s->tags.buf = s->small;
	s->tags.cap = sizeof s->small;
	s->tags.used = 0;
	s->tags.count = s->tags.refused = 0;
	s->token = NULL;
	memset(s->strings, 0, sizeof s->strings);
	s->epoch = 0;
	s->slot = COMFYMON_NO_SLOT;
	s->state = SPAN_NEW;
	s->left = false;
	return s;
}

static int
span_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(((struct span *)self)->token);
	return 0;
}

static int
span_clear(PyObject *self)
{
	Py_CLEAR(((struct span *)self)->token);
	return 0;
}

static void
release(struct span *s)
{
	Py_CLEAR(s->token);
	for (int i = 0; i < SPAN_STRINGS; i++)
		Py_CLEAR(s->strings[i]);
	if (s->tags.buf != s->small)
		PyMem_RawFree(s->tags.buf);
	s->tags.buf = s->small;
	if (free_count < FREE_SPANS && Py_IS_TYPE(s, &span_type))
		free_spans[free_count++] = s;
	else
		Py_TYPE(s)->tp_free(s);
}

static void
span_dealloc(PyObject *self)
{
	struct span *s = (struct span *)self;
	if (PyObject_GC_IsTracked(self))
		PyObject_GC_UnTrack(self);
	/* Nobody can end it any more; without an end its slot would stay taken. */
	if (s->state == SPAN_BEGUN && s->slot != COMFYMON_NO_SLOT)
		span_end(s);
	if (s->token == NULL) {
		release(s);
		return;
	}
	/* Its token holds the span before it, and so on: a chain of any length. */
	Py_TRASHCAN_BEGIN(self, span_dealloc) release(s);
	Py_TRASHCAN_END
}

/* ---- which span is current --------------------------------------------- */

static struct span *
current_value(void)
{
	PyObject *v = NULL;
	if (PyContextVar_Get(current_var, NULL, &v) < 0) {
		PyErr_Clear();
		return NULL;
	}
	if (v != NULL && !Py_IS_TYPE(v, &span_type))
		Py_CLEAR(v);
	return (struct span *)v;
}

/* What was current before `s` became it: each span's token remembers. New reference or NULL. */
static struct span *
below(const struct span *s)
{
	PyObject *v = s->token != NULL ? PyObject_GetAttrString(s->token, "old_value") : NULL;
	if (v == NULL)
		PyErr_Clear();
	else if (!Py_IS_TYPE(v, &span_type))
		Py_CLEAR(v);
	return (struct span *)v;
}

/*
 * Back to what was current before `s`.  In another context than the one where
 * it became current only that other one changes, and `s` is passed over in its
 * own from now on.
 */
static void
put_back(struct span *s)
{
	PyObject *token = s->token;
	if (token != NULL && PyContextVar_Reset(current_var, token) == 0) {
		s->token = NULL;
		PyObject_GC_UnTrack(s);
		Py_DECREF(token);
		return;
	}
	PyErr_Clear();
	s->left = true;
	struct span *before = below(s);
	PyObject *set =
	    PyContextVar_Set(current_var, before != NULL ? (PyObject *)before : Py_None);
	if (set == NULL)
		PyErr_Clear();
	Py_XDECREF(set);
	Py_XDECREF(before);
}

struct span *
span_current(void)
{
	struct span *s = current_value();
	for (int i = 0; s != NULL && s->left && i < DEPTH_MAX; i++) {
		put_back(s);
		Py_DECREF(s);
		s = current_value();
	}
	return s;
}

struct span *
span_within(uint32_t name)
{
	struct span *s = current_value();
	for (int i = 0; s != NULL && i < DEPTH_MAX; i++) {
		if (s->w.name == name && s->state == SPAN_BEGUN)
			return s;
		struct span *next = below(s);
		Py_DECREF(s);
		s = next;
	}
	Py_XDECREF(s);
	return NULL;
}

void
span_activate(struct span *s)
{
	if (s->token != NULL)
		return;
	s->token = PyContextVar_Set(current_var, (PyObject *)s);
	if (s->token == NULL) {
		PyErr_Clear();
		return;
	}
	if (!PyObject_GC_IsTracked((PyObject *)s))
		PyObject_GC_Track(s);
}

void
span_deactivate(struct span *s)
{
	if (s->token == NULL)
		return;
	struct span *now = current_value();
	if (now == s)
		put_back(s);
	else /* another is current; when that is over, span_current passes over us */
		s->left = true;
	Py_XDECREF(now);
}

/* ---- begin and end ------------------------------------------------------ */

void
span_link_of(const struct span *s, struct span_link *out)
{
	out->trace_hi = s->w.trace_hi;
	out->trace_lo = s->w.trace_lo;
	out->span_id = s->w.span_id;
	out->service = s->w.service;
	out->priority = s->w.priority;
	out->mechanism = s->w.mechanism;
	out->remote = s->state == SPAN_LINK && (s->w.flags & WIRE_SPAN_REMOTE_PARENT) != 0;
}

static void
take_over(struct span *s, const struct span_link *parent)
{
	s->w.trace_hi = parent->trace_hi;
	s->w.trace_lo = parent->trace_lo;
	s->w.parent_id = parent->span_id;
	if (s->w.service == 0)
		s->w.service = parent->service;
	if (s->w.priority == WIRE_PRIORITY_NONE) {
		s->w.priority = parent->priority;
		s->w.mechanism = parent->mechanism;
	}
	if (parent->remote)
		s->w.flags |= WIRE_SPAN_LOCAL_ROOT | WIRE_SPAN_REMOTE_PARENT;
}

/* The tags of a link (origin, _dd.p.*) belong on the local root. */
static void
copy_tags(struct span *to, const struct span *from)
{
	struct wire_span view = {
		.tag_count = from->tags.count, .tag_bytes = from->tags.used, .tags = from->tags.buf
	};
	struct wire_tag_view t;
	uint32_t at = 0;
	while (wire_tag_next(&view, &at, &t)) {
		if (t.kind == WIRE_TAG_TEXT)
			span_tag_text(to, t.key, t.text, t.text_bytes);
		else if (t.kind == WIRE_TAG_STR)
			span_tag_id(to, t.key, t.str);
	}
}

void
span_begin_at(struct span *s, const struct span_link *parent, uint64_t start_ns)
{
	if (s->state != SPAN_NEW)
		return;
	s->state = SPAN_BEGUN;
	s->epoch = span_epoch;
	s->w.span_id = comfymon_random_id();
	s->w.start_ns = start_ns;
	if (parent != NULL) {
		take_over(s, parent);
		return;
	}
	struct span *now = span_current();
	if (now != NULL && now->w.trace_lo != 0) {
		struct span_link link;
		span_link_of(now, &link);
		take_over(s, &link);
		if (link.remote)
			copy_tags(s, now);
	} else {
		comfymon_new_trace_id(&s->w.trace_hi, &s->w.trace_lo);
		s->w.flags |= WIRE_SPAN_LOCAL_ROOT;
	}
	Py_XDECREF(now);
}

void
span_begin(struct span *s, const struct span_link *parent)
{
	span_begin_at(s, parent, comfymon_now_ns());
}

static void
lend_tags(struct span *s)
{
	s->w.tags = s->tags.buf;
	s->w.tag_bytes = s->tags.used;
	s->w.tag_count = s->tags.count;
}

void
span_open(struct span *s)
{
	if (s->state != SPAN_BEGUN || s->slot != COMFYMON_NO_SLOT || s->epoch != span_epoch)
		return;
	lend_tags(s);
	s->slot = comfymon_span_open(&s->w);
	if (s->slot != COMFYMON_NO_SLOT)
		s->w.flags |= WIRE_SPAN_OPENED;
}

void
span_end_at(struct span *s, uint64_t end_ns)
{
	if (s->state != SPAN_BEGUN)
		return;
	s->state = SPAN_ENDED;
	if (s->epoch != span_epoch)
		return;
	s->w.duration_ns = end_ns > s->w.start_ns ? end_ns - s->w.start_ns : 0;
	lend_tags(s);
	(void)comfymon_span_finish(&s->w, s->slot); /* a drop is counted in the ring */
	s->slot = COMFYMON_NO_SLOT;
}

void
span_end(struct span *s)
{
	span_end_at(s, comfymon_now_ns());
}

void
span_discard(struct span *s)
{
	if (s->state == SPAN_BEGUN && s->slot == COMFYMON_NO_SLOT)
		s->state = SPAN_ENDED;
}

/* ---- set-up ------------------------------------------------------------- */

void
span_restart(void)
{
	span_epoch++;
	span_tags_restart();
	span_error_restart();
}

static void
forked(void)
{
	span_epoch++;
}

PyTypeObject span_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_comfymon.Span",
	.tp_basicsize = sizeof(struct span),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_doc = "A span: a context manager, or a decorator. Made by trace().",
	.tp_dealloc = span_dealloc,
	.tp_traverse = span_traverse,
	.tp_clear = span_clear,
	.tp_free = PyObject_GC_Del,
};

int
span_setup(PyObject *module)
{
	if (current_var == NULL) {
		span_type.tp_methods = span_methods;
		span_type.tp_getset = span_getset;
		span_type.tp_call = span_call;
		span_type.tp_repr = span_repr;
		if (PyType_Ready(&span_type) < 0)
			return -1;
		if (pthread_atfork(NULL, NULL, forked) != 0) {
			PyErr_SetString(
			    PyExc_ImportError, "comfymon: no memory for a fork handler");
			return -1;
		}
		current_var = PyContextVar_New("comfymon_span", NULL);
		if (current_var == NULL)
			return -1;
	}
	return PyModule_AddObjectRef(module, "Span", (PyObject *)&span_type);
}
