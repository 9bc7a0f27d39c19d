/*
 * comfy_sensitive.c - see comfy_sensitive.h.
 *
 * The only way from there to a node is a hidden input of a kind that is the
 * name in upper case: "AUTH_TOKEN_COMFY_ORG" for extra_data["auth_token_comfy_org"].
 */
#include "probe/python/comfy_sensitive.h"

#include "probe/python/comfy_job.h"

/* Since 2025-11 ComfyUI names them itself, and may name more. */
static const char *const known[] = { "auth_token_comfy_org", "api_key_comfy_org" };

/* A set of their names; NULL with an exception. */
static PyObject *
names_of(PyObject *apart)
{
	PyObject *execution = PyDict_GetItemString(PyImport_GetModuleDict(), "execution");
	PyObject *theirs = execution != NULL
			       ? PyObject_GetAttrString(execution, "SENSITIVE_EXTRA_DATA_KEYS")
			       : NULL;
	PyErr_Clear();
	PyObject *names = PySet_New(theirs);
	Py_XDECREF(theirs);
	for (size_t i = 0; names != NULL && i < sizeof known / sizeof *known; i++) {
		PyObject *name = PyUnicode_FromString(known[i]);
		if (name == NULL || PySet_Add(names, name) != 0)
			Py_CLEAR(names);
		Py_XDECREF(name);
	}
	PyObject *key, *value;
	for (Py_ssize_t at = 0; names != NULL && apart != NULL && PyDict_Check(apart) &&
				PyDict_Next(apart, &at, &key, &value);)
		if (PySet_Add(names, key) != 0)
			Py_CLEAR(names);
	return names;
}

static bool
has_value(PyObject *dict, PyObject *key)
{
	PyObject *v = comfy_item(dict, key);
	return v != NULL && PyObject_IsTrue(v) == 1;
}

/* A set of the kinds of hidden inputs that would get one; NULL with an exception. */
static PyObject *
kinds_of(PyObject *names, PyObject *extra_data, PyObject *apart)
{
	PyObject *kinds = PySet_New(NULL), *each = kinds != NULL ? PyObject_GetIter(names) : NULL,
		 *name;
	while (each != NULL && (name = PyIter_Next(each)) != NULL) {
		bool there = has_value(extra_data, name) || has_value(apart, name);
		PyObject *kind = there ? PyObject_CallMethod(name, "upper", NULL) : NULL;
		if (there && (kind == NULL || PySet_Add(kinds, kind) != 0))
			Py_CLEAR(each);
		Py_XDECREF(kind);
		Py_DECREF(name);
	}
	Py_XDECREF(each);
	if (PyErr_Occurred())
		Py_CLEAR(kinds);
	return kinds;
}

/* Does a class declare one of these kinds? -1 with an exception: it cannot be known. */
static int
declares(PyObject *class, PyObject *kinds)
{
	PyObject *types = PyObject_CallMethod(class, "INPUT_TYPES", NULL);
	PyObject *hidden = types != NULL ? PyMapping_GetItemString(types, "hidden") : NULL;
	PyObject *kind, *key;
	int found = types != NULL ? 0 : -1;
	if (types != NULL)
		PyErr_Clear(); /* most have none */
	for (Py_ssize_t at = 0; found == 0 && hidden != NULL && PyDict_Check(hidden) &&
				PyDict_Next(hidden, &at, &key, &kind);) {
		/* "KIND", or ("KIND", ...) as newer nodes have it */
		if (PyTuple_Check(kind) && PyTuple_GET_SIZE(kind) > 0)
			kind = PyTuple_GET_ITEM(kind, 0);
		if (PyUnicode_Check(kind))
			found = PySet_Contains(kinds, kind);
	}
	Py_XDECREF(hidden);
	Py_XDECREF(types);
	return found;
}

/* The same of a node; each class is asked once. */
static int
node_declares(PyObject *node, PyObject *classes, PyObject *asked, PyObject *kinds)
{
	PyObject *class_type = comfy_item(node, comfy_names.class_type);
	int before = class_type != NULL ? PySet_Contains(asked, class_type) : -1;
	if (before != 0)
		return before > 0 ? 0 : -1;
	PyObject *class = PyObject_GetItem(classes, class_type);
	int found =
	    class != NULL && PySet_Add(asked, class_type) == 0 ? declares(class, kinds) : -1;
	Py_XDECREF(class);
	return found;
}

static int
prompt_declares(PyObject *prompt, PyObject *kinds)
{
	PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), "nodes");
	PyObject *classes =
	    module != NULL ? PyObject_GetAttrString(module, "NODE_CLASS_MAPPINGS") : NULL;
	PyObject *nodes = classes != NULL ? PyDict_Values(prompt) : NULL;
	PyObject *asked = nodes != NULL ? PySet_New(NULL) : NULL;
	int found = asked != NULL ? 0 : -1;
	for (Py_ssize_t i = 0; found == 0 && i < PyList_GET_SIZE(nodes); i++)
		found = node_declares(PyList_GET_ITEM(nodes, i), classes, asked, kinds);
	Py_XDECREF(asked);
	Py_XDECREF(nodes);
	Py_XDECREF(classes);
	return found;
}

bool
sensitive_is_needed(PyObject *prompt, PyObject *extra_data, PyObject *apart)
{
	PyObject *names = names_of(apart);
	PyObject *kinds = names != NULL ? kinds_of(names, extra_data, apart) : NULL;
	bool needed =
	    kinds == NULL || (PySet_GET_SIZE(kinds) > 0 && prompt_declares(prompt, kinds) != 0);
	py_drop();
	Py_XDECREF(kinds);
	Py_XDECREF(names);
	return needed;
}

PyObject *
sensitive_left_out(PyObject *extra_data)
{
	PyObject *names = names_of(NULL), *rest = names != NULL ? PyDict_New() : NULL;
	PyObject *key, *value;
	for (Py_ssize_t at = 0; rest != NULL && PyDict_Next(extra_data, &at, &key, &value);) {
		int is = PySet_Contains(names, key);
		if (is < 0 || (is == 0 && PyDict_SetItem(rest, key, value) != 0))
			Py_CLEAR(rest);
	}
	Py_XDECREF(names);
	return rest;
}
