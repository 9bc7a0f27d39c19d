/*
 * comfy_secret.c - what a person put into a prompt is taken out of every error
 * text, while its job waits or runs, or its request is being answered.
 *
 * The strings are gathered only when there is an error to redact, and again
 * when jobs have come or gone since.  See redact.h for what is replaced.
 */
#include "probe/python/comfy_job.h"
#include "probe/python/redact.h"

#define DEPTH_MAX 32
#define LOOK_MAX  200000 /* objects looked at; beyond it everything is redacted as a whole */

static struct redact *known;
static bool stale = true;

void
secret_changed(void)
{
	stale = true;
}

/* Every string below, keys of dicts too. False when there was too much to look at. */
static bool
gather(PyObject *o, int depth, int *left)
{
	PyObject *key, *value;
	Py_ssize_t at = 0, n;
	if (o == NULL)
		return true;
	if (depth > DEPTH_MAX || --*left < 0)
		return false;
	if (PyUnicode_Check(o)) {
		const char *s = PyUnicode_AsUTF8AndSize(o, &n);
		if (s == NULL)
			PyErr_Clear();
		else
			redact_add(known, s, (size_t)n);
	} else if (PyDict_Check(o)) {
		while (PyDict_Next(o, &at, &key, &value))
			if (!gather(value, depth + 1, left))
				return false;
	} else if (PyList_Check(o) || PyTuple_Check(o)) {
		for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); i++)
			if (!gather(PySequence_Fast_GET_ITEM(o, i), depth + 1, left))
				return false;
	}
	return true;
}

/* Of a graph the inputs; classes and ids are no secrets, and are wanted in messages. */
static bool
gather_graph(PyObject *prompt, int *left)
{
	PyObject *id, *node;
	Py_ssize_t at = 0;
	if (prompt == NULL || !PyDict_Check(prompt))
		return gather(prompt, 0, left);
	while (PyDict_Next(prompt, &at, &id, &node)) {
		PyObject *inputs = PyDict_Check(node) ? PyDict_GetItemString(node, "inputs") : node;
		PyObject *meta = PyDict_Check(node) ? PyDict_GetItemString(node, "_meta") : NULL;
		if (!gather(inputs, 0, left) || !gather(meta, 0, left))
			return false;
	}
	return true;
}

static bool
gather_all(void)
{
	int left = LOOK_MAX;
	if (!gather_graph(workflow_newest(), &left))
		return false;
	for (struct job *job = job_next(NULL); job != NULL; job = job_next(job))
		if (!gather_graph(job->prompt, &left) || !gather(job->extra_data, 0, &left) ||
		    !gather(job->sensitive, 0, &left))
			return false;
	return true;
}

static size_t
redact(const char *text, size_t n, char *out, size_t cap)
{
	static bool complete;
	if (stale) {
		redact_free(known);
		known = redact_new();
		complete = known != NULL && gather_all();
		stale = false;
	}
	if (complete)
		return redact_apply(known, text, n, out, cap);
	n = sizeof REDACT_MARK - 1;
	n = n < cap ? n : cap;
	memcpy(out, REDACT_MARK, n);
	return n;
}

void
secret_setup(void)
{
	span_redact = redact;
}
