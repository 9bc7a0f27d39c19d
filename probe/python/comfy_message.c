/*
 * comfy_message.c - what ComfyUI says of a job: add_message, which is called
 * whether a client listens or not, and send_sync, for what only that says.
 *
 * Messages that hold the state of all nodes are passed by unread.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define EVICT_LEAST_NS 1000000u

static bool
is(PyObject *event, PyObject *name)
{
	return event == name || comfy_same(event, name);
}

static struct comfy_job *
job_in(PyObject *data)
{
	PyObject *prompt_id = comfy_item(data, comfy_names.prompt_id);
	return prompt_id != NULL && PyUnicode_Check(prompt_id) ? job_of(prompt_id) : NULL;
}

static struct comfy_node *
node_in(const struct comfy_job *j, PyObject *data, PyObject *key)
{
	PyObject *id = comfy_item(data, key);
	return id != NULL && PyUnicode_Check(id) ? node_find(j, id) : NULL;
}

/* ---- add_message -------------------------------------------------------- */

/* Between start and cached: keys of the cache are made, and what is not needed is let go. */
static int
tell_evict(struct comfy_job *j)
{
	uint64_t now = comfymon_now_ns();
	struct span_link link;
	if (j->started_ns == 0 || now - j->started_ns <= EVICT_LEAST_NS)
		return 0;
	struct span *s = job_new_span(comfy_keys.evict, comfy_keys.custom, comfy_keys.internal);
	if (s == NULL)
		return -1;
	s->w.resource = j->workflow.resource;
	span_link_of(j->span, &link);
	span_begin_at(s, &link, j->started_ns);
	span_end_at(s, now);
	Py_DECREF(s);
	return 0;
}

static int
heard_cached(struct comfy_job *j, PyObject *data)
{
	PyObject *nodes = comfy_item(data, comfy_names.nodes);
	if (nodes != NULL && PyList_Check(nodes) && j->cached == NULL)
		j->cached = Py_NewRef(nodes);
	return tell_evict(j);
}

static int
message_called(struct hook_call *c)
{
	PyObject *event = comfy_arg(c, 0, 1), *data = comfy_arg(c, 1, 2);
	struct comfy_job *j = event != NULL && data != NULL ? job_in(data) : NULL;
	if (j == NULL)
		return 0;
	if (is(event, comfy_names.start)) {
		j->started_ns = comfymon_now_ns();
	} else if (is(event, comfy_names.cached)) {
		return heard_cached(j, data);
	} else if (is(event, comfy_names.success)) {
		j->outcome = OUTCOME_SUCCESS;
	} else if (is(event, comfy_names.error)) {
		j->outcome = OUTCOME_ERROR;
		fail_told(j, data);
	} else if (is(event, comfy_names.interrupted)) {
		j->outcome = OUTCOME_INTERRUPTED;
		struct comfy_node *n = node_in(j, data, comfy_names.node_id);
		if (n != NULL)
			n->outcome = OUTCOME_INTERRUPTED;
	}
	return 0;
}

const struct hook_kind comfy_kind_message = {
	.name = "comfy_message",
	.on_call = message_called,
};

/* ---- send_sync ---------------------------------------------------------- */

/* A blocked node is told to the client as an error, and the job goes on to its success. */
static void
heard_error(struct comfy_job *j, PyObject *data)
{
	PyObject *type = comfy_item(data, comfy_names.exception_type);
	if (type == NULL || !PyUnicode_Check(type) ||
	    PyUnicode_CompareWithASCIIString(type, "ExecutionBlocked") != 0)
		return;
	struct comfy_node *n = node_in(j, data, comfy_names.node_id);
	if (n != NULL)
		n->outcome = OUTCOME_BLOCKED;
}

/* Versions without a registry of progress. */
static void
heard_progress(struct comfy_job *j, PyObject *data)
{
	PyObject *value = comfy_item(data, comfy_names.value);
	struct comfy_node *n = j->visiting;
	if (n == NULL)
		n = node_in(j, data, comfy_names.node);
	double x = value != NULL && (PyLong_Check(value) || PyFloat_Check(value))
		       ? PyFloat_AsDouble(value)
		       : -1;
	PyErr_Clear();
	if (n != NULL && x >= 0)
		node_step(n, x);
}

/* Where no function of a node can be hooked, a client's messages tell of them one by one. */
static void
heard_executing(struct comfy_job *j, PyObject *data)
{
	PyObject *id = comfy_item(data, comfy_names.node);
	while (j->nodes != NULL)
		node_end(j, j->nodes, OUTCOME_SUCCESS);
	struct comfy_node *n = id != NULL && PyUnicode_Check(id) ? node_new(j, id, NULL) : NULL;
	if (n == NULL)
		return;
	n->attempts = 1;
	node_start(j, n, true);
}

static int
send_called(struct hook_call *c)
{
	PyObject *event = comfy_arg(c, 0, 1), *data = comfy_arg(c, 1, 2);
	if (event == NULL || data == NULL || !PyUnicode_Check(event) || !PyDict_Check(data))
		return 0;
	bool error = is(event, comfy_names.error), progress = is(event, comfy_names.progress);
	if (!error && !progress && !is(event, comfy_names.executing))
		return 0;
	struct comfy_job *j = job_in(data);
	if (j == NULL)
		return 0;
	if (error)
		heard_error(j, data);
	else if (progress && !j->has_progress)
		heard_progress(j, data);
	else if (!progress && !j->has_progress && !j->has_execute)
		heard_executing(j, data);
	return 0;
}

const struct hook_kind comfy_kind_send = {
	.name = "comfy_send",
	.on_call = send_called,
};
