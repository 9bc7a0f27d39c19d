/*
 * hook_bind.c - finds a parameter in a call by its name.
 *
 * The signature is read once, at attach: from the code object, below layers of
 * functools.wraps, else from inspect.signature.  A function that tells neither
 * is bound by keyword only.  See hook_impl.h
 */
#include "probe/python/hook_impl.h"

#define LAYERS_MAX 16

static PyObject *
attribute(PyObject *o, const char *name)
{
	PyObject *v = PyObject_GetAttrString(o, name);
	if (v == NULL)
		PyErr_Clear();
	return v;
}

/* Positional parameter names of a code object, without the first `skip`. */
static PyObject *
names_of_code(PyCodeObject *code, Py_ssize_t skip)
{
	PyObject *all = PyObject_GetAttrString((PyObject *)code, "co_varnames");
	PyObject *names = NULL;
	if (all != NULL && PyTuple_Check(all) && code->co_argcount <= PyTuple_GET_SIZE(all))
		names = PyTuple_GetSlice(all, skip, code->co_argcount);
	Py_XDECREF(all);
	if (names == NULL)
		PyErr_Clear();
	return names;
}

/*
 * The function that has the real signature: a layer of *args passes positions
 * on unchanged, so the names below it are right for it too.  New reference.
 */
static PyObject *
innermost(PyObject *function)
{
	PyObject *f = Py_NewRef(function);
	for (int i = 0; i < LAYERS_MAX; i++) {
		PyObject *next = attribute(f, "__wrapped__");
		if (next == NULL)
			break;
		Py_DECREF(f);
		f = next;
	}
	return f;
}

static PyObject *
names_by_inspect(PyObject *function)
{
	PyObject *names = NULL, *list = NULL, *keys = NULL, *sig = NULL;
	PyObject *inspect = PyImport_ImportModule("inspect");
	if (inspect != NULL)
		sig = PyObject_CallMethod(inspect, "signature", "O", function);
	PyObject *params = sig != NULL ? attribute(sig, "parameters") : NULL;
	if (params != NULL)
		list = PyMapping_Items(params);
	keys = list != NULL ? PyList_New(0) : NULL;
	for (Py_ssize_t i = 0; keys != NULL && i < PyList_GET_SIZE(list); i++) {
		PyObject *item = PyList_GET_ITEM(list, i);
		PyObject *kind = attribute(PyTuple_GET_ITEM(item, 1), "kind");
		long k = kind != NULL ? PyLong_AsLong(kind) : -1;
		Py_XDECREF(kind);
		if (k > 1 || k < 0) /* POSITIONAL_ONLY 0, POSITIONAL_OR_KEYWORD 1 */
			break;
		if (PyList_Append(keys, PyTuple_GET_ITEM(item, 0)) < 0)
			break;
	}
	if (keys != NULL)
		names = PyList_AsTuple(keys);
	PyErr_Clear();
	Py_XDECREF(keys);
	Py_XDECREF(list);
	Py_XDECREF(params);
	Py_XDECREF(sig);
	Py_XDECREF(inspect);
	return names;
}

PyObject *
hook_parameters(PyObject *function)
{
	PyObject *f = innermost(function);
	Py_ssize_t skip = PyMethod_Check(f) ? 1 : 0; /* self is already bound */
	PyObject *code = attribute(f, "__code__");
	PyObject *names = NULL;
	if (code != NULL && PyCode_Check(code))
		names = names_of_code((PyCodeObject *)code, skip);
	else
		names = names_by_inspect(f);
	Py_XDECREF(code);
	Py_DECREF(f);
	return names;
}

/* The default of parameter `index` of `count`, new reference or NULL. */
static PyObject *
default_of(PyObject *function, PyObject *name, Py_ssize_t index, Py_ssize_t count)
{
	PyObject *f = innermost(function), *value = NULL;
	PyObject *defaults = attribute(f, "__defaults__");
	PyObject *kwdefaults = attribute(f, "__kwdefaults__");
	if (index >= 0 && defaults != NULL && PyTuple_Check(defaults)) {
		Py_ssize_t at = index - (count - PyTuple_GET_SIZE(defaults));
		if (at >= 0 && at < PyTuple_GET_SIZE(defaults))
			value = Py_NewRef(PyTuple_GET_ITEM(defaults, at));
	} else if (kwdefaults != NULL && PyDict_Check(kwdefaults)) {
		value = Py_XNewRef(PyDict_GetItemWithError(kwdefaults, name));
	}
	PyErr_Clear();
	Py_XDECREF(kwdefaults);
	Py_XDECREF(defaults);
	Py_DECREF(f);
	return value;
}

void
hook_bind_resolve(struct hook_bind *b, PyObject *function, PyObject *parameters)
{
	b->index = -1;
	Py_CLEAR(b->otherwise);
	if (b->name == NULL)
		return;
	Py_ssize_t count = parameters != NULL ? PyTuple_GET_SIZE(parameters) : 0;
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *name = PyTuple_GET_ITEM(parameters, i);
		if (PyUnicode_Check(name) && PyUnicode_Compare(name, b->name) == 0) {
			b->index = i;
			break;
		}
	}
	b->otherwise = default_of(function, b->name, b->index, count);
}

PyObject *
hook_bind_get(const struct hook_bind *b, const struct hook_call *c)
{
	if (c->args == NULL || b->name == NULL)
		return NULL;
	if (b->index >= 0 && (size_t)b->index < c->nargs)
		return c->args[b->index];
	Py_ssize_t n = c->kwnames != NULL ? PyTuple_GET_SIZE(c->kwnames) : 0;
	for (Py_ssize_t i = 0; i < n; i++)
		if (PyTuple_GET_ITEM(c->kwnames, i) == b->name)
			return c->args[c->nargs + (size_t)i];
	for (Py_ssize_t i = 0; i < n; i++)
		if (PyUnicode_Compare(PyTuple_GET_ITEM(c->kwnames, i), b->name) == 0)
			return c->args[c->nargs + (size_t)i];
	return NULL;
}

void
hook_bind_clear(struct hook_bind *b)
{
	Py_CLEAR(b->name);
	Py_CLEAR(b->otherwise);
}

PyObject *
hook_arg(const struct hook_call *c, unsigned i)
{
	return i < HOOK_PARAMS_MAX ? hook_bind_get(&c->hook->params[i], c) : NULL;
}

PyObject *
hook_arg_or_default(const struct hook_call *c, unsigned i)
{
	PyObject *v = hook_arg(c, i);
	return v == NULL && i < HOOK_PARAMS_MAX ? c->hook->params[i].otherwise : v;
}
