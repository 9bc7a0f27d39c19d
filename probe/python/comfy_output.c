/*
 * comfy_output.c - what a node is called with, and what it gives: how often its
 * function is called, and the bytes of its tensors.  See comfy_node.h
 */
#include "probe/python/comfy_node.h"

/* ---- what it is called with, and what it gives ------------------------------------------------
 */

#define OUTPUT_TENSORS_MAX 64
#define OUTPUT_DEPTH_MAX   3

/* The longest list of inputs says how often the node's function is called. */
static uint32_t
calls_of(PyObject *inputs, PyObject *node)
{
	PyObject *takes_list = node_attribute(node, "INPUT_IS_LIST"), *key, *value;
	bool once = takes_list == Py_True;
	Py_ssize_t longest = 1, at = 0;
	Py_XDECREF(takes_list);
	while (!once && inputs != NULL && PyDict_Check(inputs) &&
	       PyDict_Next(inputs, &at, &key, &value))
		if (PyList_Check(value) && PyList_GET_SIZE(value) > longest)
			longest = PyList_GET_SIZE(value);
	return (uint32_t)longest;
}

/* Bytes of the tensors in what came out, as deep and as many as the limits say. */
static double
bytes_of(PyObject *o, int depth, int *left)
{
	double sum = 0;
	PyObject *key, *value;
	Py_ssize_t at = 0;
	if (depth > OUTPUT_DEPTH_MAX || *left <= 0)
		return 0;
	if (PyList_Check(o) || PyTuple_Check(o)) {
		for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o) && *left > 0; i++)
			sum += bytes_of(PySequence_Fast_GET_ITEM(o, i), depth + 1, left);
	} else if (PyDict_Check(o)) {
		while (PyDict_Next(o, &at, &key, &value) && *left > 0)
			sum += bytes_of(value, depth + 1, left);
	} else if (node_is_named(o, "Tensor")) {
		PyObject *bytes = node_attribute(o, "nbytes");
		double v = bytes != NULL ? PyFloat_AsDouble(bytes) : 0;
		PyErr_Clear();
		Py_XDECREF(bytes);
		(*left)--;
		sum = v > 0 ? v : 0;
	}
	return sum;
}

/* The node whose visit began last and still runs: where visits nest, the one that calls. */
static struct node *
innermost(void)
{
	for (struct job *job = job_next(NULL); job != NULL; job = job_next(job))
		for (struct node *n = job->nodes; n != NULL; n = n->next)
			if (n->visits > 0 && !n->ended)
				return n;
	return NULL;
}

static int
on_outputs(struct hook_call *c)
{
	struct job *job = job_of_prompt(hook_arg(c, 3), false);
	struct node *n = NULL;
	if (job != NULL) {
		n = node_of(job, hook_arg(c, 0));
	} else if (hook_arg(c, 3) == NULL) { /* early ones do not say which */
		n = innermost();
	}
	if (n == NULL)
		return 0;
	if (!n->started)
		node_start(n);
	n->calls = calls_of(hook_arg(c, 1), hook_arg(c, 2));
	n->visits++;
	c->state = n;
	return 0;
}

static int
outputs_returned(struct hook_call *c, PyObject *result)
{
	struct node *n = c->state;
	int left = OUTPUT_TENSORS_MAX;
	c->state = NULL;
	if (n == NULL || n->job == NULL)
		return 0;
	if (result != NULL && PyTuple_Check(result) && PyTuple_GET_SIZE(result) > 0 && !n->ended) {
		double bytes = bytes_of(PyTuple_GET_ITEM(result, 0), 0, &left);
		if (bytes > 0)
			n->output_bytes = bytes;
	}
	node_leave(n);
	return 0;
}

static int
outputs_raised(struct hook_call *c, PyObject *Py_UNUSED(exception), PyObject *Py_UNUSED(tb))
{
	return outputs_returned(c, NULL);
}

const struct hook_kind job_kind_outputs = { "job_outputs", on_outputs, outputs_returned,
	outputs_raised };
