/* hook_span.c - the kind "span": one plain span around the call.  See hook.h */
#include "probe/python/hook_impl.h"

#include "probe/core/probe.h"
#include "probe/python/strings.h"

uint64_t hook_generation = 1;

static uint32_t
id_of(const char *s)
{
	return s != NULL ? comfymon_intern(s, strlen(s)) : 0;
}

static uint32_t
id_of_object(PyObject *s)
{
	return s != NULL ? strings_id(s) : 0;
}

/* The ids of constants, once for each ring. */
static void
resolve_ids(struct hook *h)
{
	const struct hook_def *d = h->def;
	h->generation = hook_generation;
	if (d == NULL) {
		h->name = id_of_object(h->strings[SPAN_NAME]);
		h->service = id_of_object(h->strings[SPAN_SERVICE]);
		h->type = id_of_object(h->strings[SPAN_TYPE]);
		h->fixed_resource = id_of_object(h->strings[SPAN_RESOURCE]);
		return;
	}
	h->name = id_of(d->name);
	h->service = id_of(d->service);
	h->type = id_of(d->type);
	h->fixed_resource = h->resource.root == EXPR_TEXT ? id_of(h->resource.text) : 0;
	for (int i = 0; i < HOOK_TAGS_MAX; i++) {
		h->keys[i] = id_of(d->tags[i].key);
		h->tags[i].text_id = h->tags[i].root == EXPR_TEXT ? id_of(h->tags[i].text) : 0;
	}
}

/* A function that calls its like within the same work: one span is enough. */
static bool
is_inside_its_like(const struct hook *h)
{
	struct span *outer = span_within(h->name);
	Py_XDECREF(outer);
	return outer != NULL;
}

int
hook_span_call(struct hook_call *c)
{
	struct hook *h = c->hook;
	const struct hook_def *d = h->def;
	if (h->generation != hook_generation)
		resolve_ids(h);
	if (d != NULL && (d->flags & HOOK_OUTERMOST) != 0 && is_inside_its_like(h))
		return 0;
	struct span *s = c->span = span_new(h->name);
	if (s == NULL)
		return -1;
	s->w.service = h->service;
	s->w.type = h->type;
	s->w.resource = h->fixed_resource;
	span_begin(s, NULL);
	if (d == NULL)
		return 0;
	if (s->w.resource == 0 && h->resource.root != EXPR_RESULT)
		s->w.resource = hook_expr_id(&h->resource, c, NULL);
	for (int i = 0; i < HOOK_TAGS_MAX && d->tags[i].key != NULL; i++)
		if (h->tags[i].root != EXPR_RESULT)
			hook_expr_tag(&h->tags[i], c, NULL, h->keys[i]);
	if ((d->flags & HOOK_MEASURED) != 0)
		s->w.flags |= WIRE_SPAN_MEASURED;
	if ((d->flags & HOOK_LONG) != 0)
		span_open(s);
	return 0;
}

int
hook_span_return(struct hook_call *c, PyObject *result)
{
	const struct hook *h = c->hook;
	const struct hook_def *d = h->def;
	if (d == NULL || result == NULL || c->span == NULL)
		return 0;
	if (h->resource.root == EXPR_RESULT)
		c->span->w.resource = hook_expr_id(&h->resource, c, result);
	for (int i = 0; i < HOOK_TAGS_MAX && d->tags[i].key != NULL; i++)
		if (h->tags[i].root == EXPR_RESULT)
			hook_expr_tag(&h->tags[i], c, result, h->keys[i]);
	return 0;
}

int
hook_span_raise(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	if (c->span != NULL && span_is_error(exception))
		span_error(c->span, exception, tb);
	return 0;
}

const struct hook_kind hook_kind_span = {
	.name = "span",
	.on_call = hook_span_call,
	.on_return = hook_span_return,
	.on_raise = hook_span_raise,
};

int
hook_span_compile(struct hook *h)
{
	const struct hook_def *d = h->def;
	if (hook_expr_compile(&h->resource, d->resource) < 0)
		return -1;
	for (int i = 0; i < HOOK_TAGS_MAX && d->tags[i].key != NULL; i++)
		if (hook_expr_compile(&h->tags[i], d->tags[i].expr) < 0)
			return -1;
	return 0;
}

void
hook_span_resolve(struct hook *h, PyObject *function, PyObject *parameters)
{
	hook_expr_resolve(&h->resource, function, parameters);
	for (int i = 0; i < HOOK_TAGS_MAX; i++)
		hook_expr_resolve(&h->tags[i], function, parameters);
}
