/* span_type.c - what Python code sees of a span: methods and attributes.  See span.h */
#include "probe/core/probe.h"
#include "probe/python/hook.h"
#include "probe/python/span.h"
#include "probe/python/strings.h"

/* A span object that is used again starts afresh under the same name. */
static void
renew(struct span *s)
{
	s->state = SPAN_NEW;
	s->left = false;
	s->w.flags = 0;
	s->w.parent_id = 0;
	s->w.priority = s->w.mechanism = WIRE_PRIORITY_NONE;
	s->tags.used = 0;
	s->tags.count = s->tags.refused = 0;
}

static PyObject *
span_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	struct span *s = (struct span *)self;
	if (s->state == SPAN_ENDED)
		renew(s);
	if (s->state == SPAN_NEW && comfymon_is_on())
		span_begin(s, NULL);
	if (s->state != SPAN_NEW)
		span_activate(s);
	return Py_NewRef(self);
}

bool
span_is_error(PyObject *value)
{
	if (value == NULL || PyErr_GivenExceptionMatches(value, PyExc_GeneratorExit))
		return false;
	if (!PyErr_GivenExceptionMatches(value, PyExc_SystemExit))
		return true;
	PyObject *code = PyObject_GetAttrString(value, "code");
	bool bad =
	    code != NULL && code != Py_None && !(PyLong_Check(code) && PyObject_IsTrue(code) == 0);
	Py_XDECREF(code);
	PyErr_Clear();
	return bad;
}

static PyObject *
span_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	struct span *s = (struct span *)self;
	if (n >= 2 && args[1] != Py_None && s->state == SPAN_BEGUN && span_is_error(args[1]))
		span_error(s, args[1], n >= 3 ? args[2] : NULL);
	span_deactivate(s);
	span_end(s);
	Py_RETURN_FALSE;
}

static PyObject *
span_start(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	struct span *s = (struct span *)self;
	if (s->state == SPAN_NEW && comfymon_is_on())
		span_begin(s, NULL);
	return Py_NewRef(self);
}

static PyObject *
span_finish(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	span_deactivate((struct span *)self);
	span_end((struct span *)self);
	Py_RETURN_NONE;
}

static PyObject *
span_set_tag(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	if (n != 2) {
		PyErr_SetString(PyExc_TypeError, "set_tag(key, value)");
		return NULL;
	}
	if (span_tag_object((struct span *)self, args[0], args[1]) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *
span_set_metric(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	if (n != 2 || !PyUnicode_Check(args[0])) {
		PyErr_SetString(PyExc_TypeError, "set_metric(key, number)");
		return NULL;
	}
	double v = PyFloat_AsDouble(args[1]);
	if (v == -1.0 && PyErr_Occurred())
		return NULL;
	span_metric((struct span *)self, strings_id(args[0]), v);
	Py_RETURN_NONE;
}

static PyObject *
span_set_error(PyObject *self, PyObject *exception)
{
	if (!PyExceptionInstance_Check(exception)) {
		PyErr_SetString(PyExc_TypeError, "set_error(exception)");
		return NULL;
	}
	span_error((struct span *)self, exception, NULL);
	Py_RETURN_NONE;
}

PyMethodDef span_methods[] = {
	{ "__enter__", span_enter, METH_NOARGS, NULL },
	{ "__exit__", (PyCFunction)(void (*)(void))span_exit, METH_FASTCALL, NULL },
	{ "start", span_start, METH_NOARGS, "Begin without becoming the current span." },
	{ "finish", span_finish, METH_NOARGS, "End it." },
	{ "set_tag", (PyCFunction)(void (*)(void))span_set_tag, METH_FASTCALL,
	    "set_tag(key, value): str and bool are texts, int and float numbers." },
	{ "set_metric", (PyCFunction)(void (*)(void))span_set_metric, METH_FASTCALL,
	    "set_metric(key, number)" },
	{ "set_error", span_set_error, METH_O, "set_error(exception): mark the span as failed." },
	{ NULL, NULL, 0, NULL },
};

PyObject *
span_trace_id(const struct span *s)
{
	PyObject *lo = PyLong_FromUnsignedLongLong(s->w.trace_lo);
	if (lo == NULL || s->w.trace_hi == 0)
		return lo;
	PyObject *hi = PyLong_FromUnsignedLongLong(s->w.trace_hi);
	PyObject *bits = PyLong_FromLong(64);
	PyObject *up = hi != NULL && bits != NULL ? PyNumber_Lshift(hi, bits) : NULL;
	PyObject *whole = up != NULL ? PyNumber_Or(up, lo) : NULL;
	Py_XDECREF(up);
	Py_XDECREF(bits);
	Py_XDECREF(hi);
	Py_DECREF(lo);
	return whole;
}

static PyObject *
get_trace_id(PyObject *self, void *Py_UNUSED(closure))
{
	return span_trace_id((struct span *)self);
}

static PyObject *
get_span_id(PyObject *self, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct span *)self)->w.span_id);
}

static PyObject *
get_parent_id(PyObject *self, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct span *)self)->w.parent_id);
}

static PyObject *
get_name(PyObject *self, void *Py_UNUSED(closure))
{
	PyObject *name = ((struct span *)self)->strings[SPAN_NAME];
	return Py_NewRef(name != NULL ? name : Py_None);
}

static PyObject *
get_error(PyObject *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong((((struct span *)self)->w.flags & WIRE_SPAN_ERROR) != 0);
}

PyGetSetDef span_getset[] = {
	{ "trace_id", get_trace_id, NULL, "128 bits, 0 before it began", NULL },
	{ "span_id", get_span_id, NULL, "64 bits, 0 before it began", NULL },
	{ "parent_id", get_parent_id, NULL, "0 for none", NULL },
	{ "name", get_name, NULL, "the operation", NULL },
	{ "error", get_error, NULL, "it has failed", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

PyObject *
span_repr(PyObject *self)
{
	static const char *const states[] = { "new", "begun", "ended", "link" };
	struct span *s = (struct span *)self;
	char text[96];
	snprintf(text, sizeof text, "<Span %s trace=%016llx%016llx id=%016llx>", states[s->state],
	    (unsigned long long)s->w.trace_hi, (unsigned long long)s->w.trace_lo,
	    (unsigned long long)s->w.span_id);
	return PyUnicode_FromString(text);
}

/* @trace("x"): the span is only the pattern, each call gets one of its own. */
PyObject *
span_call(PyObject *self, PyObject *args, PyObject *kw)
{
	PyObject *function;
	if ((kw != NULL && PyDict_GET_SIZE(kw) > 0) ||
	    !PyArg_ParseTuple(args, "O:trace", &function))
		return NULL;
	if (!PyCallable_Check(function)) {
		PyErr_SetString(PyExc_TypeError, "trace() decorates a callable");
		return NULL;
	}
	return hook_decorate(function, ((struct span *)self)->strings);
}
