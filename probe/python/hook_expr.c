/*
 * hook_expr.c - the small expressions of hook tables: compiled at attach,
 * evaluated at each call.  The grammar is in hook.h
 */
#include "probe/python/hook_impl.h"

#include <stdlib.h>

#include "probe/core/probe.h"
#include "probe/python/strings.h"

static const struct {
	const char *name;
	enum expr_function function;
} functions[] = {
	{ "type", EXPR_TYPE },
	{ "len", EXPR_LEN },
	{ "basename", EXPR_BASENAME },
	{ "int", EXPR_INT },
	{ "str", EXPR_STR },
	{ "shape", EXPR_SHAPE },
};

static size_t
identifier(const char *p)
{
	size_t n = 0;
	while (p[n] == '_' || (p[n] >= 'a' && p[n] <= 'z') || (p[n] >= 'A' && p[n] <= 'Z') ||
	       (n > 0 && p[n] >= '0' && p[n] <= '9'))
		n++;
	return n;
}

static PyObject *
interned(const char *p, size_t n)
{
	PyObject *s = PyUnicode_FromStringAndSize(p, (Py_ssize_t)n);
	if (s != NULL)
		PyUnicode_InternInPlace(&s);
	else
		PyErr_Clear();
	return s;
}

/* name(.name)*; returns what follows, NULL when it is no path. */
static const char *
compile_path(struct hook_expr *e, const char *p)
{
	size_t n = identifier(p);
	if (n == 0)
		return NULL;
	if (n == 4 && memcmp(p, "self", 4) == 0)
		e->root = EXPR_SELF;
	else if (n == 6 && memcmp(p, "result", 6) == 0)
		e->root = EXPR_RESULT;
	else
		e->root = EXPR_ARG;
	if (e->root == EXPR_ARG && (e->bind.name = interned(p, n)) == NULL)
		return NULL;
	p += n;
	for (int i = 0; *p == '.'; i++) {
		n = identifier(++p);
		if (n == 0 || i == EXPR_PATH_MAX || (e->path[i] = interned(p, n)) == NULL)
			return NULL;
		p += n;
	}
	return p;
}

static int
compile_text(struct hook_expr *e, const char *p)
{
	size_t n = strlen(p);
	if (n < 2 || p[n - 1] != '\'' || n - 2 >= sizeof e->text ||
	    memchr(p + 1, '\'', n - 2) != NULL)
		return -1;
	memcpy(e->text, p + 1, n - 2);
	e->root = EXPR_TEXT;
	return 0;
}

int
hook_expr_compile(struct hook_expr *e, const char *p)
{
	memset(e, 0, sizeof *e);
	if (p == NULL)
		return 0;
	if (*p == '\'')
		return compile_text(e, p);
	if ((*p >= '0' && *p <= '9') || *p == '-') {
		char *end;
		e->number = strtod(p, &end);
		e->root = EXPR_NUMBER;
		return *end == '\0' ? 0 : -1;
	}
	bool closing = false;
	for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
		size_t n = strlen(functions[i].name);
		if (strncmp(p, functions[i].name, n) == 0 && p[n] == '(') {
			e->function = functions[i].function;
			p += n + 1;
			closing = true;
			break;
		}
	}
	p = compile_path(e, p);
	if (p != NULL && closing)
		p = *p == ')' ? p + 1 : NULL;
	if (p != NULL && *p == '\0')
		return 0;
	hook_expr_clear(e);
	return -1;
}

void
hook_expr_clear(struct hook_expr *e)
{
	hook_bind_clear(&e->bind);
	for (int i = 0; i < EXPR_PATH_MAX; i++)
		Py_CLEAR(e->path[i]);
	memset(e, 0, sizeof *e);
}

void
hook_expr_resolve(struct hook_expr *e, PyObject *function, PyObject *parameters)
{
	if (e->root == EXPR_ARG)
		hook_bind_resolve(&e->bind, function, parameters);
}

/* The object at the end of the path: new reference, or NULL (missing, or an exception). */
static PyObject *
value_of(const struct hook_expr *e, const struct hook_call *c, PyObject *result)
{
	PyObject *o = NULL;
	if (e->root == EXPR_RESULT) {
		o = result;
	} else if (e->root == EXPR_SELF) {
		o = hook_self(c);
	} else if (e->root == EXPR_ARG) {
		o = hook_bind_get(&e->bind, c);
		if (o == NULL)
			o = e->bind.otherwise;
	}
	Py_XINCREF(o);
	for (int i = 0; i < EXPR_PATH_MAX && e->path[i] != NULL && o != NULL; i++) {
		PyObject *next = PyObject_GetAttr(o, e->path[i]);
		if (next == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
			PyErr_Clear();
		Py_DECREF(o);
		o = next;
	}
	return o;
}

/* "1x4x64x64" of what has a shape: a tuple of whole numbers. New reference or NULL. */
static PyObject *
shape_of(PyObject *o)
{
	char text[128];
	size_t at = 0;
	PyObject *shape = PyObject_GetAttrString(o, "shape");
	Py_ssize_t n = shape != NULL && PyTuple_Check(shape) ? PyTuple_GET_SIZE(shape) : 0;
	for (Py_ssize_t i = 0; i < n && at < sizeof text - 24; i++) {
		PyObject *side = PyTuple_GET_ITEM(shape, i);
		long long v = PyLong_Check(side) ? PyLong_AsLongLong(side) : -1;
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%lld", i > 0 ? "x" : "", v);
	}
	PyErr_Clear();
	Py_XDECREF(shape);
	return at > 0 ? PyUnicode_FromStringAndSize(text, (Py_ssize_t)at) : NULL;
}

/* The text of a type, a path's last part, or a plain value: new reference or NULL. */
static PyObject *
text_of(enum expr_function f, PyObject *o)
{
	if (f == EXPR_TYPE) {
		const char *name = Py_TYPE(o)->tp_name, *dot = strrchr(name, '.');
		return PyUnicode_FromString(dot != NULL ? dot + 1 : name);
	}
	if (f == EXPR_SHAPE)
		return shape_of(o);
	if (f == EXPR_BASENAME) {
		PyObject *path = PyOS_FSPath(o);
		if (path == NULL || !PyUnicode_Check(path)) {
			PyErr_Clear();
			Py_XDECREF(path);
			return NULL;
		}
		Py_ssize_t n = PyUnicode_GET_LENGTH(path);
		Py_ssize_t at = PyUnicode_FindChar(path, '/', 0, n, -1);
		PyObject *base = PyUnicode_Substring(path, at + 1, n);
		Py_DECREF(path);
		return base;
	}
	if (PyUnicode_Check(o))
		return Py_NewRef(o);
	if (PyBool_Check(o) || (f == EXPR_STR && (PyLong_CheckExact(o) || PyFloat_CheckExact(o))))
		return PyObject_Str(o);
	return NULL;
}

static bool
number_of(enum expr_function f, PyObject *o, double *out)
{
	if (f == EXPR_LEN) {
		Py_ssize_t n = PyObject_Size(o);
		if (n < 0)
			PyErr_Clear();
		*out = (double)n;
		return n >= 0;
	}
	if (f != EXPR_VALUE && f != EXPR_INT)
		return false;
	if (PyFloat_Check(o))
		*out = PyFloat_AS_DOUBLE(o);
	else if (PyLong_Check(o) && !PyBool_Check(o))
		*out = PyLong_AsDouble(o);
	else
		return false;
	if (PyErr_Occurred()) {
		PyErr_Clear();
		return false;
	}
	if (f == EXPR_INT && *out > -0x1p63 && *out < 0x1p63)
		*out = (double)(long long)*out;
	return true;
}

static void
tag_text(struct span *s, uint32_t key, PyObject *text)
{
	Py_ssize_t n;
	uint32_t id = strings_constant(text);
	const char *p = id == 0 ? PyUnicode_AsUTF8AndSize(text, &n) : NULL;
	if (id != 0)
		span_tag_id(s, key, id);
	else if (p != NULL)
		span_tag_text(s, key, p, (size_t)n);
	else
		PyErr_Clear();
}

void
hook_expr_tag(const struct hook_expr *e, const struct hook_call *c, PyObject *result, uint32_t key)
{
	double number;
	if (e->root == EXPR_TEXT)
		span_tag_id(c->span, key, e->text_id);
	if (e->root == EXPR_NUMBER)
		span_metric(c->span, key, e->number);
	if (e->root < EXPR_ARG)
		return;
	PyObject *o = value_of(e, c, result);
	if (o == NULL)
		return;
	PyObject *text = text_of(e->function, o);
	if (text != NULL)
		tag_text(c->span, key, text);
	else if (!PyErr_Occurred() && number_of(e->function, o, &number))
		span_metric(c->span, key, number);
	Py_XDECREF(text);
	Py_DECREF(o);
}

uint32_t
hook_expr_id(const struct hook_expr *e, const struct hook_call *c, PyObject *result)
{
	if (e->root < EXPR_ARG)
		return 0;
	PyObject *o = value_of(e, c, result);
	PyObject *text = o != NULL ? text_of(e->function, o) : NULL;
	uint32_t id = text != NULL ? strings_value_id(text) : 0;
	Py_XDECREF(text);
	Py_XDECREF(o);
	return id;
}
