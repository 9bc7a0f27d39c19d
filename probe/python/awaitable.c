/*
 * awaitable.c - stands in for a hooked coroutine until it ends.
 *
 * A collections.abc.Coroutine: send, throw and close go through; cr_* and the
 * rest are the coroutine's own.  The span is current from the first step, in
 * the context that runs the coroutine, which need not be the one that made it.
 * See hook.h
 */
#include <stddef.h>

#include "probe/python/hook_impl.h"

struct awaitable {
	PyObject_HEAD PyObject *inner;
	PyObject *wrapper;
	PyObject *weak;
	struct hook_call call;
	bool started, over;
};

enum step { STEP_YIELD, STEP_RETURN, STEP_ERROR };

static void
start(struct awaitable *a)
{
	if (a->started)
		return;
	a->started = true;
	if (a->call.span != NULL && !a->over)
		span_activate(a->call.span);
}

static void
ended(struct awaitable *a, PyObject *result)
{
	if (a->over)
		return;
	a->over = true;
	hook_returned(&a->call, result);
}

static void
raised(struct awaitable *a)
{
	if (a->over)
		return;
	a->over = true;
	hook_raised(&a->call);
}

/* The value of a StopIteration that is set (taken out), or NULL when another exception is. */
static PyObject *
stop_value(void)
{
	if (!PyErr_ExceptionMatches(PyExc_StopIteration))
		return NULL;
	struct py_raised r;
	py_fetch(&r);
#if PY_VERSION_HEX < 0x030c0000
	PyErr_NormalizeException(&r.type, &r.value, &r.tb);
#endif
	PyObject *value = PyObject_GetAttrString(r.value, "value");
	if (value == NULL) {
		py_restore(&r);
		return NULL;
	}
#if PY_VERSION_HEX < 0x030c0000
	Py_XDECREF(r.type);
	Py_XDECREF(r.tb);
#endif
	Py_DECREF(r.value);
	return value;
}

/* One step; *out is what was yielded or returned. */
static enum step
step(struct awaitable *a, PyObject *arg, PyObject **out)
{
	start(a);
#if PY_VERSION_HEX >= 0x030a0000
	PySendResult r = PyIter_Send(a->inner, arg, out);
	enum step s = r == PYGEN_NEXT ? STEP_YIELD : r == PYGEN_RETURN ? STEP_RETURN : STEP_ERROR;
#else
	enum step s = STEP_YIELD;
	*out = PyObject_CallMethod(a->inner, "send", "O", arg);
	if (*out == NULL)
		s = (*out = stop_value()) != NULL ? STEP_RETURN : STEP_ERROR;
#endif
	if (s == STEP_RETURN)
		ended(a, *out);
	else if (s == STEP_ERROR)
		raised(a);
	return s;
}

/* As a step's end is told by iterators: NULL with StopIteration(value). */
static PyObject *
as_iterator(enum step s, PyObject *out)
{
	if (s == STEP_YIELD)
		return out;
	if (s == STEP_RETURN) {
		PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, out, NULL);
		if (stop != NULL)
			PyErr_SetObject(PyExc_StopIteration, stop);
		Py_XDECREF(stop);
		Py_DECREF(out);
	}
	return NULL;
}

static PyObject *
awaitable_next(PyObject *self)
{
	PyObject *out = NULL;
	enum step s = step((struct awaitable *)self, Py_None, &out);
	return as_iterator(s, out);
}

static PyObject *
awaitable_send(PyObject *self, PyObject *arg)
{
	PyObject *out = NULL;
	enum step s = step((struct awaitable *)self, arg, &out);
	return as_iterator(s, out);
}

#if PY_VERSION_HEX >= 0x030a0000
static PySendResult
awaitable_am_send(PyObject *self, PyObject *arg, PyObject **out)
{
	enum step s = step((struct awaitable *)self, arg, out);
	return s == STEP_YIELD ? PYGEN_NEXT : s == STEP_RETURN ? PYGEN_RETURN : PYGEN_ERROR;
}
#endif

static PyObject *
awaitable_throw(PyObject *self, PyObject *args)
{
	struct awaitable *a = (struct awaitable *)self;
	start(a);
	PyObject *method = PyObject_GetAttrString(a->inner, "throw");
	if (method == NULL)
		return NULL;
	PyObject *out = PyObject_Call(method, args, NULL);
	Py_DECREF(method);
	if (out != NULL)
		return out;
	PyObject *value = stop_value();
	if (value == NULL) {
		raised(a);
		return NULL;
	}
	ended(a, value);
	return as_iterator(STEP_RETURN, value);
}

static PyObject *
awaitable_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	struct awaitable *a = (struct awaitable *)self;
	PyObject *out = PyObject_CallMethod(a->inner, "close", NULL);
	if (out != NULL)
		ended(a, NULL);
	else if (!a->over)
		raised(a);
	return out;
}

static int
awaitable_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct awaitable *a = (struct awaitable *)self;
	Py_VISIT(a->inner);
	Py_VISIT(a->wrapper);
	Py_VISIT(a->call.span);
	return 0;
}

/* Before the coroutine goes: nobody will run it any more. */
static void
awaitable_finalize(PyObject *self)
{
	struct awaitable *a = (struct awaitable *)self;
	struct py_raised r;
	py_fetch(&r);
	ended(a, NULL);
	py_restore(&r);
}

/* Others of the same dead cycle may still step us: None says so as an exception. */
static int
awaitable_clear(PyObject *self)
{
	struct awaitable *a = (struct awaitable *)self;
	PyObject *inner = a->inner;
	a->inner = Py_NewRef(Py_None);
	Py_DECREF(inner);
	return 0;
}

static void
awaitable_dealloc(PyObject *self)
{
	struct awaitable *a = (struct awaitable *)self;
	if (PyObject_CallFinalizerFromDealloc(self) < 0)
		return;
	PyObject_GC_UnTrack(self);
	if (a->weak != NULL)
		PyObject_ClearWeakRefs(self);
	Py_CLEAR(a->inner);
	Py_CLEAR(a->call.span);
	Py_CLEAR(a->wrapper);
	PyObject_GC_Del(self);
}

static PyObject *
awaitable_getattro(PyObject *self, PyObject *name)
{
	PyObject *v = PyObject_GenericGetAttr(self, name);
	PyObject *inner = ((struct awaitable *)self)->inner;
	if (v != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
		return v;
	PyErr_Clear();
	return PyObject_GetAttr(inner, name);
}

static PyObject *
awaitable_repr(PyObject *self)
{
	return PyObject_Repr(((struct awaitable *)self)->inner);
}

static PyObject *
awaitable_self(PyObject *self)
{
	return Py_NewRef(self);
}

static PyObject *
get_class(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
	return Py_NewRef((PyObject *)&PyCoro_Type);
}

static PyMethodDef awaitable_methods[] = {
	{ "send", awaitable_send, METH_O, NULL },
	{ "throw", awaitable_throw, METH_VARARGS, NULL },
	{ "close", awaitable_close, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef awaitable_getset[] = {
	{ "__class__", get_class, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyAsyncMethods awaitable_async = {
	.am_await = awaitable_self,
#if PY_VERSION_HEX >= 0x030a0000
	.am_send = awaitable_am_send,
#endif
};

PyTypeObject awaitable_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_comfymon.coroutine",
	.tp_basicsize = sizeof(struct awaitable),
	.tp_weaklistoffset = offsetof(struct awaitable, weak),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
#ifdef Py_TPFLAGS_HAVE_AM_SEND
		    | Py_TPFLAGS_HAVE_AM_SEND
#endif
	,
	.tp_as_async = &awaitable_async,
	.tp_iternext = awaitable_next,
	.tp_dealloc = awaitable_dealloc,
	.tp_finalize = awaitable_finalize,
	.tp_traverse = awaitable_traverse,
	.tp_clear = awaitable_clear,
	.tp_getattro = awaitable_getattro,
	.tp_repr = awaitable_repr,
	.tp_methods = awaitable_methods,
	.tp_getset = awaitable_getset,
};

PyObject *
awaitable_new(PyObject *inner, const struct hook_call *c, PyObject *wrapper)
{
	struct awaitable *a = PyObject_GC_New(struct awaitable, &awaitable_type);
	if (a == NULL)
		return NULL;
	a->inner = Py_NewRef(inner);
	a->wrapper = Py_NewRef(wrapper);
	a->weak = NULL;
	a->call = *c;
	a->started = a->over = false;
	PyObject_GC_Track(a);
	return (PyObject *)a;
}
