/*
 * comfy_workflow.c - what a graph is called: the classes of its output nodes,
 * sorted, at most three, and the hash of its shape.  See shape.h
 *
 * A prompt is a stranger's JSON: whatever is not as it should be is passed over.
 */
#include <stdio.h>
#include <stdlib.h>

#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"
#include "probe/python/shape.h"

#define GRAPH_NODES_MAX 100000
#define NAMES_MAX       3
#define NAME_BYTES      80

static struct workflow newest;

/* A str's UTF-8, NULL when it is none. */
static const char *
text_of(PyObject *o, Py_ssize_t *n)
{
	const char *s = o != NULL && PyUnicode_Check(o) ? PyUnicode_AsUTF8AndSize(o, n) : NULL;
	if (s == NULL)
		PyErr_Clear();
	return s;
}

static PyObject *
member(PyObject *dict, const char *key)
{
	return dict != NULL && PyDict_Check(dict) ? PyDict_GetItemString(dict, key) : NULL;
}

/* [node id, output number], the way links are written; the id is a str of the graph. */
static bool
link_of(PyObject *value, PyObject *index, uint32_t *from, uint64_t *slot)
{
	if (!PyList_Check(value) || PyList_GET_SIZE(value) != 2)
		return false;
	PyObject *id = PyList_GET_ITEM(value, 0), *number = PyList_GET_ITEM(value, 1);
	PyObject *at = PyUnicode_Check(id) ? PyDict_GetItem(index, id) : NULL;
	if (at == NULL || !PyLong_Check(number))
		return false;
	*from = (uint32_t)PyLong_AsUnsignedLongMask(at);
	*slot = (uint64_t)PyLong_AsUnsignedLongLongMask(number);
	return true;
}

/* Node id -> its number, and how many values could be links. New reference. */
static PyObject *
number_nodes(PyObject *prompt, uint32_t *links)
{
	PyObject *index = PyDict_New(), *id, *node;
	Py_ssize_t at = 0;
	*links = 0;
	for (uint32_t i = 0; index != NULL && PyDict_Next(prompt, &at, &id, &node); i++) {
		PyObject *number = PyLong_FromUnsignedLong(i), *inputs = member(node, "inputs");
		if (number == NULL || PyDict_SetItem(index, id, number) < 0)
			Py_CLEAR(index);
		Py_XDECREF(number);
		if (inputs != NULL && PyDict_Check(inputs))
			*links += (uint32_t)PyDict_GET_SIZE(inputs);
	}
	PyErr_Clear();
	return index;
}

static uint64_t
hash_of(PyObject *prompt)
{
	uint32_t links, i = 0;
	uint64_t slot, hash = 0;
	PyObject *index = number_nodes(prompt, &links), *id, *node, *name, *value;
	struct shape *s =
	    index != NULL ? shape_new((uint32_t)PyDict_GET_SIZE(prompt), links) : NULL;
	Py_ssize_t at = 0, n;
	while (s != NULL && PyDict_Next(prompt, &at, &id, &node)) {
		PyObject *inputs = member(node, "inputs");
		const char *class = text_of(member(node, "class_type"), &n);
		Py_ssize_t k = 0;
		uint32_t from;
		if (class != NULL)
			shape_node(s, i, class, (size_t)n);
		while (inputs != NULL && PyDict_Check(inputs) &&
		       PyDict_Next(inputs, &k, &name, &value)) {
			const char *text = text_of(name, &n);
			if (text != NULL && link_of(value, index, &from, &slot))
				shape_link(s, i, text, (size_t)n, from, slot);
		}
		i++;
	}
	if (s != NULL)
		hash = shape_hash(s);
	shape_free(s);
	Py_XDECREF(index);
	return hash;
}

/* The least NAMES_MAX class names, sorted, each once. */
struct names {
	char text[NAMES_MAX][NAME_BYTES];
	unsigned count;
};

static void
add_name(struct names *names, PyObject *node)
{
	Py_ssize_t n;
	const char *class = text_of(member(node, "class_type"), &n);
	char name[NAME_BYTES];
	unsigned at = 0;
	if (class == NULL)
		return;
	snprintf(name, sizeof name, "%s", class);
	while (at < names->count && strcmp(names->text[at], name) < 0)
		at++;
	if (at == NAMES_MAX || (at < names->count && strcmp(names->text[at], name) == 0))
		return;
	names->count += names->count < NAMES_MAX;
	for (unsigned i = names->count - 1; i > at; i--)
		memcpy(names->text[i], names->text[i - 1], NAME_BYTES);
	memcpy(names->text[at], name, NAME_BYTES);
}

static void
name_outputs(struct names *names, PyObject *prompt, PyObject *outputs)
{
	PyObject *all = outputs != NULL && outputs != Py_None ? PySequence_Fast(outputs, "") : NULL;
	PyErr_Clear();
	for (Py_ssize_t i = 0; all != NULL && i < PySequence_Fast_GET_SIZE(all); i++) {
		PyObject *id = PySequence_Fast_GET_ITEM(all, i);
		if (PyUnicode_Check(id))
			add_name(names, PyDict_GetItem(prompt, id));
	}
	Py_XDECREF(all);
}

/* Nobody says which are the outputs: those that feed no other node. */
static void
name_ends(struct names *names, PyObject *prompt)
{
	PyObject *fed = PySet_New(NULL), *id, *node, *name, *value;
	Py_ssize_t at = 0;
	while (fed != NULL && PyDict_Next(prompt, &at, &id, &node)) {
		PyObject *inputs = member(node, "inputs");
		Py_ssize_t k = 0;
		while (inputs != NULL && PyDict_Check(inputs) &&
		       PyDict_Next(inputs, &k, &name, &value))
			if (PyList_Check(value) && PyList_GET_SIZE(value) == 2 &&
			    PyUnicode_Check(PyList_GET_ITEM(value, 0)) &&
			    PySet_Add(fed, PyList_GET_ITEM(value, 0)) < 0)
				PyErr_Clear();
	}
	for (at = 0; fed != NULL && PyDict_Next(prompt, &at, &id, &node);)
		if (PyUnicode_Check(id) && PySet_Contains(fed, id) == 0)
			add_name(names, node);
	Py_XDECREF(fed);
	PyErr_Clear();
}

const struct workflow *
workflow_of(PyObject *prompt, PyObject *outputs)
{
	struct names names = { .count = 0 };
	char text[NAMES_MAX * NAME_BYTES + 16];
	size_t n = 0;
	if (prompt == NULL || !PyDict_Check(prompt))
		return NULL;
	if (newest.prompt == prompt && newest.resource != 0)
		return &newest;
	if (PyDict_GET_SIZE(prompt) > GRAPH_NODES_MAX)
		return NULL;
	snprintf(newest.hash, sizeof newest.hash, "%08x", (unsigned)(hash_of(prompt) >> 32));
	name_outputs(&names, prompt, outputs);
	if (names.count == 0)
		name_ends(&names, prompt);
	for (unsigned i = 0; i < names.count; i++)
		n += (size_t)snprintf(
		    text + n, sizeof text - n, "%s%s", i > 0 ? "+" : "", names.text[i]);
	snprintf(text + n, sizeof text - n, "%s%s", n > 0 ? " " : "", newest.hash);
	newest.resource = comfymon_intern(text, strlen(text));
	newest.node_count = (uint32_t)PyDict_GET_SIZE(prompt);
	PyObject *was = newest.prompt;
	newest.prompt = Py_NewRef(prompt);
	secret_changed();
	Py_XDECREF(was);
	return &newest;
}

void
workflow_tag(struct span *s, const struct workflow *w)
{
	if (w == NULL)
		return;
	s->w.resource = w->resource;
	span_tag_text(s, word.hash, w->hash, 8);
	span_metric(s, word.node_count, w->node_count);
}

void
workflow_restart(void)
{
	newest.resource = 0;
}

PyObject *
workflow_newest(void)
{
	return newest.prompt;
}
