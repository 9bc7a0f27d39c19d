/*
 * comfy_workflow.c - the name of a workflow: `SaveImage 3fa91c02`, the classes
 * of its output nodes and a hash over its shape.  See comfy_graph.h
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_graph.h"
#include "probe/python/comfy_job.h"

#define CLASSES_MAX     3
#define CLASS_BYTES     80
#define RESOURCES_MAX   2048u /* names that the arena is given */
#define RESOURCES_TABLE 4096u

static uint64_t seen[RESOURCES_TABLE];
static size_t seen_count;

static void
add_nodes(struct graph *g, PyObject *prompt)
{
	PyObject *id, *node;
	Py_ssize_t at = 0;
	while (PyDict_Next(prompt, &at, &id, &node)) {
		size_t n = 0, m = 0;
		const char *name = comfy_text(id, &n);
		const char *class = comfy_text(comfy_item(node, comfy_names.class_type), &m);
		graph_node(g, name != NULL ? name : "", n, class != NULL ? class : "", m);
	}
}

bool
workflow_is_link(PyObject *value)
{
	return PyList_Check(value) && PyList_GET_SIZE(value) == 2 &&
	       PyUnicode_Check(PyList_GET_ITEM(value, 0)) &&
	       PyLong_Check(PyList_GET_ITEM(value, 1)) && !PyBool_Check(PyList_GET_ITEM(value, 1));
}

static void
add_links(struct graph *g, PyObject *prompt)
{
	PyObject *id, *node, *name, *value;
	Py_ssize_t at = 0;
	for (size_t to = 0; PyDict_Next(prompt, &at, &id, &node); to++) {
		PyObject *inputs = comfy_item(node, comfy_names.inputs);
		Py_ssize_t in = 0;
		if (inputs == NULL || !PyDict_Check(inputs))
			continue;
		while (PyDict_Next(inputs, &in, &name, &value)) {
			size_t n = 0, m = 0;
			const char *input = comfy_text(name, &n);
			if (input == NULL || !workflow_is_link(value))
				continue;
			const char *from = comfy_text(PyList_GET_ITEM(value, 0), &m);
			long long slot = PyLong_AsLongLong(PyList_GET_ITEM(value, 1));
			PyErr_Clear();
			if (from != NULL)
				graph_link(g, to, input, n, from, m, slot);
		}
	}
}

static uint64_t
hash_of(PyObject *prompt)
{
	struct graph *g = graph_new((size_t)PyDict_GET_SIZE(prompt));
	if (g == NULL)
		return 0;
	add_nodes(g, prompt);
	add_links(g, prompt);
	uint64_t hash = graph_hash(g);
	graph_free(g);
	return hash;
}

/* The least names of classes, in order, each once. */
static void
put_class(char classes[CLASSES_MAX][CLASS_BYTES], const char *name, size_t n)
{
	char text[CLASS_BYTES];
	n = n < sizeof text ? n : sizeof text - 1;
	while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
		n--;
	memcpy(text, name, n);
	text[n] = '\0';
	for (int i = 0; i < CLASSES_MAX && text[0] != '\0'; i++) {
		int order = classes[i][0] == '\0' ? -1 : strcmp(text, classes[i]);
		if (order == 0)
			return;
		if (order > 0)
			continue;
		for (int k = CLASSES_MAX - 1; k > i; k--)
			memcpy(classes[k], classes[k - 1], CLASS_BYTES);
		memcpy(classes[i], text, n + 1);
		return;
	}
}

static void
put_classes(char classes[CLASSES_MAX][CLASS_BYTES], PyObject *prompt, PyObject *outputs)
{
	/* What can be gone through once only is ComfyUI's to go through. */
	bool again = PyList_Check(outputs) || PyTuple_Check(outputs) || PyAnySet_Check(outputs) ||
		     PyDict_Check(outputs);
	PyObject *list = again ? PySequence_Fast(outputs, "") : NULL;
	for (Py_ssize_t i = 0; list != NULL && i < PySequence_Fast_GET_SIZE(list); i++) {
		size_t n;
		PyObject *id = PySequence_Fast_GET_ITEM(list, i);
		PyObject *node = PyUnicode_Check(id) ? PyDict_GetItemWithError(prompt, id) : NULL;
		const char *class = comfy_text(comfy_item(node, comfy_names.class_type), &n);
		if (class != NULL)
			put_class(classes, class, n);
	}
	PyErr_Clear();
	Py_XDECREF(list);
}

/* Clients make up graphs; the arena has room for so many names. */
static bool
may_intern(uint64_t hash)
{
	size_t at = (size_t)hash & (RESOURCES_TABLE - 1);
	for (; seen[at] != 0; at = (at + 1) & (RESOURCES_TABLE - 1))
		if (seen[at] == hash)
			return true;
	if (seen_count >= RESOURCES_MAX) {
		comfy_counters.resources_full++;
		return false;
	}
	seen[at] = hash;
	seen_count++;
	return true;
}

void
workflow_of(PyObject *prompt, PyObject *outputs, struct workflow *out)
{
	char classes[CLASSES_MAX][CLASS_BYTES] = { "" };
	char text[CLASSES_MAX * CLASS_BYTES + 16];
	size_t at = 0;
	memset(out, 0, sizeof *out);
	out->resource = comfy_keys.invalid;
	if (prompt == NULL || !PyDict_Check(prompt))
		return;
	out->nodes = (size_t)PyDict_GET_SIZE(prompt);
	out->hash = hash_of(prompt);
	if (outputs == NULL || out->hash == 0)
		return;
	put_classes(classes, prompt, outputs);
	for (int i = 0; i < CLASSES_MAX && classes[i][0] != '\0'; i++)
		at += (size_t)snprintf(
		    text + at, sizeof text - at, "%s%s", i > 0 ? "," : "", classes[i]);
	at += (size_t)snprintf(
	    text + at, sizeof text - at, "%s%08x", at > 0 ? " " : "", (unsigned)(out->hash >> 32));
	out->resource = may_intern(out->hash) ? comfymon_intern(text, at) : comfy_keys.other;
}

void
workflow_tag(struct span *s, const struct workflow *w)
{
	char text[20];
	s->w.resource = w->resource;
	if (w->hash == 0)
		return;
	int n = snprintf(text, sizeof text, "%016llx", (unsigned long long)w->hash);
	span_tag_text(s, comfy_keys.hash, text, (size_t)n);
}

void
workflow_restart(void)
{
	memset(seen, 0, sizeof seen);
	seen_count = 0;
}
