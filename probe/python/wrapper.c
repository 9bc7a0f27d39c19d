/*
 * wrapper.c - what stands in for a hooked function.
 *
 * It binds as the function does, says it is one (__class__, __code__, __wrapped__ …
 * are the wrapped function's), and keeps no attributes of its own: what is set
 * on it is set on the function, so nothing is lost when it is taken off.
 * See hook.h
 */
#include <stddef.h>

#include "probe/core/probe.h"
#include "probe/python/hook_impl.h"

struct wrapper {
	PyObject_HEAD vectorcallfunc call;
	PyObject *function;
	PyObject *weak;
	struct hook *hook; /* NULL: only pass through */
	bool owned;        /* the hook is of this wrapper alone */
	bool coroutine;    /* of an async function: its span is current in its steps only */
};

/* Coroutines outlive the call: their end is the end of the call. */
static PyObject *
watch(struct hook_call *c, PyObject *inner, PyObject *wrapper)
{
	if (c->span != NULL)
		span_deactivate(c->span);
	PyObject *outer = awaitable_new(inner, c, wrapper);
	if (outer == NULL) {
		PyErr_Clear();
		hook_returned(c, NULL);
		return inner;
	}
	Py_DECREF(inner);
	return outer;
}

/* Its end is of interest, and has not come yet. */
static bool
ends_later(const struct hook_call *c, PyObject *result)
{
	const struct hook_kind *k = c->hook->kind;
	return (PyCoro_CheckExact(result) || Py_IS_TYPE(result, &awaitable_type)) &&
	       (c->span != NULL || k->on_return != NULL || k->on_raise != NULL);
}

static PyObject *
wrapper_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
	struct wrapper *w = (struct wrapper *)self;
	if (w->hook == NULL || w->hook->off || !comfymon_is_on())
		return PyObject_Vectorcall(w->function, args, nargsf, kwnames);

	struct hook_call c = { .hook = w->hook,
		.args = args,
		.nargs = (size_t)PyVectorcall_NARGS(nargsf),
		.kwnames = kwnames };
	Py_INCREF(self); /* the call may replace the attribute that holds us */
	bool entered = hook_before(&c);
	if (c.span != NULL && !w->coroutine)
		span_activate(c.span);
	PyObject *result = PyObject_Vectorcall(w->function, args, nargsf, kwnames);
	c.args = NULL;
	if (entered) {
		if (result == NULL)
			hook_raised(&c);
		else if (ends_later(&c, result))
			result = watch(&c, result, self);
		else
			hook_returned(&c, result);
	}
	Py_DECREF(self);
	return result;
}

static int
wrapper_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(((struct wrapper *)self)->function);
	return 0;
}

/* Others of the same dead cycle may still call us: None says so as an exception, NULL would crash.
 */
static int
wrapper_clear(PyObject *self)
{
	struct wrapper *w = (struct wrapper *)self;
	PyObject *function = w->function;
	w->function = Py_NewRef(Py_None);
	Py_DECREF(function);
	return 0;
}

static void
wrapper_dealloc(PyObject *self)
{
	struct wrapper *w = (struct wrapper *)self;
	PyObject_GC_UnTrack(self);
	if (w->weak != NULL)
		PyObject_ClearWeakRefs(self);
	Py_CLEAR(w->function);
	if (w->owned)
		hook_free_decorated(w->hook);
	Py_TYPE(self)->tp_free(self);
}

static PyObject *
wrapper_bind(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
	if (object == NULL || object == Py_None)
		return Py_NewRef(self);
	return PyMethod_New(self, object);
}

static PyObject *
wrapper_getattro(PyObject *self, PyObject *name)
{
	PyObject *v = PyObject_GenericGetAttr(self, name);
	if (v != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
		return v;
	PyErr_Clear();
	return PyObject_GetAttr(((struct wrapper *)self)->function, name);
}

static int
wrapper_setattro(PyObject *self, PyObject *name, PyObject *value)
{
	return PyObject_SetAttr(((struct wrapper *)self)->function, name, value);
}

static PyObject *
wrapper_repr(PyObject *self)
{
	return PyObject_Repr(((struct wrapper *)self)->function);
}

/* Pickled by name, as the function would be. */
static PyObject *
wrapper_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	return PyObject_GetAttrString(((struct wrapper *)self)->function, "__qualname__");
}

static PyObject *
get_forwarded(PyObject *self, void *name)
{
	return PyObject_GetAttrString(((struct wrapper *)self)->function, name);
}

static PyObject *
get_class(PyObject *self, void *Py_UNUSED(closure))
{
	return PyObject_GetAttrString(((struct wrapper *)self)->function, "__class__");
}

static PyObject *
get_wrapped(PyObject *self, void *Py_UNUSED(closure))
{
	return Py_NewRef(((struct wrapper *)self)->function);
}

static PyMethodDef wrapper_methods[] = {
	{ "__reduce__", wrapper_reduce, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static char name_doc[] = "__doc__", name_module[] = "__module__", name_dict[] = "__dict__";

static PyGetSetDef wrapper_getset[] = {
	{ "__class__", get_class, NULL, NULL, NULL },
	{ "__wrapped__", get_wrapped, NULL, NULL, NULL },
	{ "__doc__", get_forwarded, NULL, NULL, name_doc },
	{ "__module__", get_forwarded, NULL, NULL, name_module },
	{ "__dict__", get_forwarded, NULL, NULL, name_dict },
	{ NULL, NULL, NULL, NULL, NULL },
};

/* What a class holds as it is: a partial, a builtin, an object with __call__. */
PyTypeObject wrapper_unbound_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_comfymon.hooked",
	.tp_basicsize = sizeof(struct wrapper),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
	.tp_vectorcall_offset = offsetof(struct wrapper, call),
	.tp_weaklistoffset = offsetof(struct wrapper, weak),
	.tp_call = PyVectorcall_Call,
	.tp_dealloc = wrapper_dealloc,
	.tp_traverse = wrapper_traverse,
	.tp_clear = wrapper_clear,
	.tp_getattro = wrapper_getattro,
	.tp_setattro = wrapper_setattro,
	.tp_repr = wrapper_repr,
	.tp_methods = wrapper_methods,
	.tp_getset = wrapper_getset,
	.tp_free = PyObject_GC_Del,
};

/* What becomes a method; a type of its own, as the interpreter calls methods without asking us. */
PyTypeObject wrapper_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_comfymon.hooked_function",
	.tp_base = &wrapper_unbound_type,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
	.tp_descr_get = wrapper_bind,
	.tp_getset = wrapper_getset, /* else it would get a __doc__ of its own */
};

static bool
is_coroutine_function(PyObject *function)
{
	PyObject *code = PyObject_GetAttrString(function, "__code__");
	bool yes = code != NULL && PyCode_Check(code) &&
		   (((PyCodeObject *)code)->co_flags & CO_COROUTINE) != 0;
	Py_XDECREF(code);
	PyErr_Clear();
	return yes;
}

PyObject *
wrapper_new(PyObject *function, struct hook *h, bool owned)
{
	bool binds = PyType_HasFeature(Py_TYPE(function), Py_TPFLAGS_METHOD_DESCRIPTOR);
	struct wrapper *w =
	    PyObject_GC_New(struct wrapper, binds ? &wrapper_type : &wrapper_unbound_type);
	if (w == NULL)
		return NULL;
	w->call = wrapper_vectorcall;
	w->function = Py_NewRef(function);
	w->weak = NULL;
	w->hook = h;
	w->owned = owned;
	w->coroutine = is_coroutine_function(function);
	PyObject_GC_Track(w);
	return (PyObject *)w;
}

void
wrapper_set_hook(PyObject *wrapper, struct hook *h)
{
	((struct wrapper *)wrapper)->hook = h;
}
