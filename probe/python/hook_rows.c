/*
 * hook_rows.c - rows that Python gives: the same table, as dicts.
 *
 * A row is copied once and kept for ever, like those of the program.
 * See hook.h
 */
#include "probe/python/hook_impl.h"

/* A copy of row[key] that is never freed; NULL when absent, an exception when it is no str. */
static const char *
text_of(PyObject *row, const char *key)
{
	PyObject *v = PyDict_GetItemString(row, key);
	if (v == NULL || v == Py_None)
		return NULL;
	const char *text = PyUnicode_AsUTF8(v);
	if (text == NULL)
		return NULL;
	char *copy = PyMem_RawMalloc(strlen(text) + 1);
	if (copy == NULL) {
		PyErr_NoMemory();
		return NULL;
	}
	return strcpy(copy, text);
}

static int
tags_of(PyObject *row, struct hook_def *d)
{
	PyObject *tags = PyDict_GetItemString(row, "tags"), *key, *value;
	Py_ssize_t at = 0;
	int n = 0;
	if (tags == NULL)
		return 0;
	if (!PyDict_Check(tags) || PyDict_Size(tags) > HOOK_TAGS_MAX) {
		PyErr_SetString(PyExc_ValueError, "tags: a dict of at most 12");
		return -1;
	}
	while (PyDict_Next(tags, &at, &key, &value)) {
		PyObject *pair = Py_BuildValue("{sO,sO}", "key", key, "expr", value);
		if (pair == NULL)
			return -1;
		d->tags[n].key = text_of(pair, "key");
		d->tags[n].expr = text_of(pair, "expr");
		Py_DECREF(pair);
		if (d->tags[n].key == NULL || d->tags[n].expr == NULL)
			return -1;
		n++;
	}
	return 0;
}

static bool
flag_of(PyObject *row, const char *key)
{
	PyObject *v = PyDict_GetItemString(row, key);
	return v != NULL && PyObject_IsTrue(v) == 1;
}

static int
add_row(PyObject *row)
{
	if (!PyDict_Check(row)) {
		PyErr_SetString(PyExc_TypeError, "a row is a dict");
		return -1;
	}
	struct hook_def *d = PyMem_RawCalloc(1, sizeof *d);
	if (d == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	d->module = text_of(row, "module");
	d->attr = text_of(row, "attr");
	d->kind = text_of(row, "kind");
	d->name = text_of(row, "name");
	d->resource = text_of(row, "resource");
	d->service = text_of(row, "service");
	d->type = text_of(row, "type");
	d->flags = (flag_of(row, "long") ? HOOK_LONG : 0u) |
		   (flag_of(row, "measured") ? HOOK_MEASURED : 0u) |
		   (flag_of(row, "optional") ? HOOK_OPTIONAL : 0u);
	if (d->kind == NULL)
		d->kind = "span";
	if (PyErr_Occurred() || tags_of(row, d) < 0)
		return -1;
	if (d->module == NULL || d->attr == NULL) {
		PyErr_SetString(PyExc_ValueError, "a row needs module and attr");
		return -1;
	}
	if (hook_register_table(d, 1) < 0) {
		PyErr_SetString(PyExc_ValueError, "too many rows");
		return -1;
	}
	return 0;
}

int
hook_add_rows(PyObject *rows)
{
	PyObject *list = PySequence_Fast(rows, "rows: a list of dicts");
	int rc = list != NULL ? 0 : -1;
	for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(list); i++)
		rc = add_row(PySequence_Fast_GET_ITEM(list, i));
	Py_XDECREF(list);
	return rc;
}
