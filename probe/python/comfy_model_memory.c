/*
 * comfy_model_memory.c - models moved to a device and off it.
 *
 * ComfyUI asks for a load at every step, and to free memory at every load;
 * mostly nothing moves.  What moved is the difference between two looks at
 * comfy.model_management.current_loaded_models; no difference, no span.
 * See comfy_model.h
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_model.h"

#define MODELS_MAX 48 /* looked at; ComfyUI holds a handful */

/*
 * Patchers are known by address only: a reference of ours would keep alive what
 * ComfyUI is about to let go.
 */
struct resident {
	const void *patcher;
	PyTypeObject *class; /* of the network; a reference of ours, NULL when unknown */
	double loaded;
};

struct residents {
	unsigned count;
	long faults;
	struct resident at[MODELS_MAX];
};

/* What moved, as it is told. */
struct moved {
	unsigned count;
	double bytes, loaded;
	char classes[MODEL_CLASSES_BYTES];
	PyObject *dtype, *device;
};

/* The patcher in current_loaded_models[i], new reference; NULL when it is gone. */
static PyObject *
patcher_at(PyObject *list, Py_ssize_t i)
{
	PyObject *entry = Py_NewRef(PyList_GET_ITEM(list, i));
	PyObject *patcher = model_attr(entry, "model");
	Py_DECREF(entry);
	return patcher;
}

static double
loaded_size(PyObject *patcher)
{
	double n = model_ask(patcher, "loaded_size");
	return n >= 0 ? n : model_ask(patcher, "model_size"); /* old: all or nothing */
}

static PyObject *
loaded_models(void)
{
	PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), "comfy.model_management");
	PyObject *list = module != NULL ? model_attr(module, "current_loaded_models") : NULL;
	if (list != NULL && !PyList_Check(list))
		Py_CLEAR(list);
	return list;
}

/* The list may change under the calls: it is asked for its length each time. */
static void
look(struct residents *r)
{
	PyObject *list = loaded_models();
	r->count = 0;
	r->faults = model_faults();
	for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list) && r->count < MODELS_MAX;
	     i++) {
		PyObject *patcher = patcher_at(list, i);
		if (patcher == NULL)
			continue;
		PyObject *network = model_attr(patcher, "model");
		PyTypeObject *class = network != NULL ? Py_TYPE(network) : NULL;
		Py_XINCREF(class);
		r->at[r->count++] = (struct resident){ patcher, class, loaded_size(patcher) };
		Py_XDECREF(network);
		Py_DECREF(patcher);
	}
	Py_XDECREF(list);
}

static void
forget(struct residents *r)
{
	for (unsigned i = 0; i < r->count; i++)
		Py_XDECREF(r->at[i].class);
	PyMem_RawFree(r);
}

static struct resident *
find(struct residents *r, const void *patcher)
{
	for (unsigned i = 0; i < r->count; i++)
		if (r->at[i].patcher == patcher)
			return &r->at[i];
	return NULL;
}

static void
note_class(struct moved *m, PyTypeObject *class)
{
	if (class != NULL)
		model_join_class(m->classes, model_class_name(class));
}

/* Came, or has more on its device than before. */
static void
gained(struct moved *m, struct residents *before)
{
	PyObject *list = loaded_models();
	for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list) && i < MODELS_MAX; i++) {
		PyObject *patcher = patcher_at(list, i);
		if (patcher == NULL)
			continue;
		struct resident *was = find(before, patcher);
		double loaded = loaded_size(patcher);
		if (was == NULL || loaded > was->loaded) {
			PyObject *network = model_attr(patcher, "model");
			double bytes = model_ask(patcher, "model_size");
			m->count++;
			m->bytes += bytes > 0 ? bytes : 0;
			m->loaded += loaded > 0 ? loaded : 0;
			note_class(m, network != NULL ? Py_TYPE(network) : NULL);
			if (m->device == NULL)
				m->device = model_attr(patcher, "load_device");
			if (m->dtype == NULL)
				m->dtype = PyObject_CallMethod(patcher, "model_dtype", NULL);
			PyErr_Clear();
			Py_XDECREF(network);
		}
		Py_DECREF(patcher);
	}
	Py_XDECREF(list);
}

/* Went, or has less on its device than before; `bytes` is what was freed, `loaded` what stays. */
static void
lost(struct moved *m, const struct residents *before, struct residents *after)
{
	for (unsigned i = 0; i < before->count; i++) {
		const struct resident *was = &before->at[i];
		const struct resident *is = find(after, was->patcher);
		double rest = is != NULL && is->loaded > 0 ? is->loaded : 0;
		if (is != NULL && rest >= was->loaded)
			continue;
		m->count++;
		m->bytes += was->loaded > rest ? was->loaded - rest : 0;
		m->loaded += rest;
		note_class(m, was->class);
	}
}

static int
called(struct hook_call *c)
{
	if (hook_span_call(c) < 0)
		return -1;
	if (c->span == NULL)
		return 0; /* inside its like, which tells it all */
	struct residents *r = PyMem_RawMalloc(sizeof *r);
	if (r == NULL)
		return -1;
	look(r);
	c->state = r;
	return 0;
}

static int
raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	if (c->state != NULL)
		forget(c->state);
	return hook_span_raise(c, exception, tb);
}

/* ---- load --------------------------------------------------------------- */

static int
load_returned(struct hook_call *c, PyObject *result)
{
	struct residents *before = c->state;
	struct moved m = { 0 };
	struct span *s = c->span;
	if (before == NULL)
		return 0;
	gained(&m, before);
	if (m.count == 0) {
		span_discard(s);
	} else {
		model_tag_class(s, m.classes);
		span_metric(s, model_keys.bytes, m.bytes);
		span_metric(s, model_keys.loaded_bytes, m.loaded);
		span_metric(s, model_keys.faults, (double)(model_faults() - before->faults));
		model_tag_bool(s, model_keys.partial, m.loaded < m.bytes);
		if (m.device != NULL)
			model_tag_torch(s, model_keys.device, m.device);
		if (m.dtype != NULL && m.dtype != Py_None)
			model_tag_torch(s, model_keys.dtype, m.dtype);
	}
	Py_XDECREF(m.device);
	Py_XDECREF(m.dtype);
	forget(before);
	return hook_span_return(c, result);
}

const struct hook_kind model_kind_load = {
	.name = "model_load",
	.on_call = called,
	.on_return = load_returned,
	.on_raise = raised,
};

/* ---- unload ------------------------------------------------------------- */

/*
 * The exception that is being handled is the device's out-of-memory; whoever
 * unloads everything while handling one has found it to be that.
 */
static bool
handling_oom(bool everything)
{
	PyObject *type, *value, *tb;
	PyErr_GetExcInfo(&type, &value, &tb);
	bool oom = value != NULL && value != Py_None &&
		   (everything || strstr(model_class_name(Py_TYPE(value)), "OutOfMemory") != NULL);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(tb);
	return oom;
}

/* Who wanted it: another model, an allocation that failed, work that needs room, or a person. */
static const char *
cause(bool everything)
{
	static const char load[] = "comfyui.model.load";
	struct span *loading = span_within(comfymon_intern(load, sizeof load - 1));
	struct span *now = span_current();
	const char *why = loading != NULL            ? "load"
			  : handling_oom(everything) ? "oom"
			  : now != NULL              ? "memory"
						     : "request";
	Py_XDECREF(loading);
	Py_XDECREF(now);
	return why;
}

static int
unload_called(struct hook_call *c)
{
	const char *why = cause(strcmp(hook_def_of(c)->attr, "unload_all_models") == 0);
	if (called(c) < 0)
		return -1;
	if (c->span != NULL)
		c->span->w.resource = comfymon_intern(why, strlen(why));
	return 0;
}

static int
unload_returned(struct hook_call *c, PyObject *result)
{
	struct residents *before = c->state, *after;
	struct moved m = { 0 };
	struct span *s = c->span;
	if (before == NULL)
		return 0;
	if (before->count == 0 || (after = PyMem_RawMalloc(sizeof *after)) == NULL) {
		span_discard(s);
		forget(before);
		return 0;
	}
	look(after);
	lost(&m, before, after);
	if (m.count == 0) {
		span_discard(s);
	} else {
		model_tag_class(s, m.classes);
		span_metric(s, model_keys.bytes, m.bytes);
		span_metric(s, model_keys.loaded_bytes, m.loaded);
		model_tag_bool(s, model_keys.partial, m.loaded > 0);
	}
	forget(after);
	forget(before);
	return hook_span_return(c, result);
}

const struct hook_kind model_kind_unload = {
	.name = "model_unload",
	.on_call = unload_called,
	.on_return = unload_returned,
	.on_raise = raised,
};
