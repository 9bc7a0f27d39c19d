/*
 * comfy_visit.c - the calls through which ComfyUI works on a node.
 *
 * execution.execute visits a node once or more: an async one again when its
 * tasks are done, a lazy one when its inputs are there, a sub-graph's when its
 * children are.  The node's span is current during each visit, so that what
 * happens inside is below it, and ends when ProgressRegistry says so; versions
 * without that, when a visit does not ask for another.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

/* ---- execute, recursive_execute ----------------------------------------- */

static bool
is_collecting(const struct hook_call *c, PyObject *node_id)
{
	PyObject *results = hook_arg(c, 3);
	bool yes =
	    results != NULL && PyDict_Check(results) && PyDict_Contains(results, node_id) == 1;
	PyErr_Clear();
	return yes;
}

static int
visit_called(struct hook_call *c)
{
	PyObject *node_id = comfy_arg(c, 0, 3), *prompt_id = comfy_arg(c, 1, 6);
	if (node_id == NULL || prompt_id == NULL || !PyUnicode_Check(node_id) ||
	    !PyUnicode_Check(prompt_id))
		return 0;
	struct comfy_job *j = job_of(prompt_id);
	if (j == NULL)
		return 0;
	struct comfy_node *n = node_find(j, node_id);
	if (n == NULL)
		n = node_new(j, node_id, j->recursive ? NULL : comfy_arg(c, 2, 1));
	if (n == NULL)
		return 0;
	c->span = (struct span *)Py_NewRef((PyObject *)n->span);
	if (j->has_progress)
		return 0;
	if (!is_collecting(c, node_id))
		n->attempts++;
	if (!j->has_calls)
		node_start(j, n, false);
	c->state = j->visiting;
	j->visiting = n;
	return 0;
}

/* The node goes on later: it is not current any more, and not over. */
static void
keep_open(struct hook_call *c)
{
	struct span *s = c->span;
	c->span = NULL;
	span_deactivate(s);
	Py_DECREF(s);
}

static struct comfy_job *
job_with_node(const struct span *s, struct comfy_node **n)
{
	/* The thread's own job first; a coroutine may end on another thread's loop. */
	struct comfy_job *j = job_of(NULL);
	*n = j != NULL ? node_with(j, s) : NULL;
	return *n != NULL ? j : NULL;
}

/* Back to the visit that this one was made in, if its node is still there. */
static void
leave(struct comfy_job *j, struct hook_call *c)
{
	struct comfy_node *outer = j->nodes;
	if (j->has_progress)
		return;
	while (outer != NULL && outer != c->state)
		outer = outer->next;
	j->visiting = outer;
	c->state = NULL;
}

/* In the recursive version, who waits for an input that fails has not worked itself. */
static bool
only_waited(const struct comfy_job *j, const struct comfy_node *n, PyObject *error)
{
	return j->recursive && j->has_calls && !n->started &&
	       !comfy_same(comfy_item(error, comfy_names.node_id), n->id);
}

/* (result, error, exception); the result is a member of ExecutionResult, or a bool. */
static int
visit_returned(struct hook_call *c, PyObject *result)
{
	struct comfy_node *n = NULL;
	struct comfy_job *j = c->span != NULL ? job_with_node(c->span, &n) : NULL;
	if (j == NULL)
		return 0;
	leave(j, c);
	if (result == NULL || !PyTuple_Check(result) || PyTuple_GET_SIZE(result) < 1) {
		keep_open(c);
		return 0;
	}
	PyObject *how = PyTuple_GET_ITEM(result, 0);
	PyObject *exception = PyTuple_GET_SIZE(result) > 2 ? PyTuple_GET_ITEM(result, 2) : NULL;
	if (exception == Py_None || (exception != NULL && !PyExceptionInstance_Check(exception)))
		exception = NULL;
	if (how == j->pending) {
		keep_open(c);
	} else if (how == j->failure || how == Py_False) {
		PyObject *error = PyTuple_GET_SIZE(result) > 1 ? PyTuple_GET_ITEM(result, 1) : NULL;
		if (only_waited(j, n, error)) {
			node_forget(j, n);
			return 0;
		}
		fail_node(j, n, exception, NULL);
		node_end(j, n, OUTCOME_ERROR);
	} else if (how == j->success || how == Py_True) {
		bool worked = n->started || !j->has_calls || j->has_progress;
		node_end(j, n, worked ? OUTCOME_SUCCESS : OUTCOME_CACHED);
	} else {
		keep_open(c);
	}
	return 0;
}

static int
visit_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	struct comfy_node *n = NULL;
	struct comfy_job *j = c->span != NULL ? job_with_node(c->span, &n) : NULL;
	if (j == NULL)
		return 0;
	leave(j, c);
	if (only_waited(j, n, NULL)) {
		node_forget(j, n);
		return 0;
	}
	fail_node(j, n, exception, tb);
	node_end(j, n, OUTCOME_ERROR);
	return 0;
}

const struct hook_kind comfy_kind_node = {
	.name = "comfy_node",
	.on_call = visit_called,
	.on_return = visit_returned,
	.on_raise = visit_raised,
};

/* ---- get_output_data ---------------------------------------------------- */

/* How often the node's function is called: the longest list of an input decides. */
static uint32_t
calls_of(PyObject *obj, PyObject *inputs)
{
	PyObject *key, *value;
	Py_ssize_t at = 0, most = 1;
	while (PyDict_Next(inputs, &at, &key, &value))
		if (PyList_Check(value) && PyList_GET_SIZE(value) > most)
			most = PyList_GET_SIZE(value);
	if (most > 1 && obj != NULL) {
		PyObject *whole = PyObject_GetAttr(obj, comfy_names.input_is_list);
		if (whole == Py_True)
			most = 1;
		PyErr_Clear();
		Py_XDECREF(whole);
	}
	return (uint32_t)most;
}

/* (prompt_id, unique_id, obj, input_data_all …), before 0.3.45 (obj, input_data_all …). */
static int
call_called(struct hook_call *c)
{
	PyObject *id = hook_arg(c, 0), *prompt_id = hook_arg(c, 1);
	PyObject *inputs = hook_arg(c, 2), *obj = hook_arg(c, 3);
	if (inputs == NULL && c->nargs >= 4 && PyUnicode_Check(c->args[1])) {
		prompt_id = c->args[0];
		id = c->args[1];
		obj = c->args[2];
		inputs = c->args[3];
	} else if (inputs == NULL && c->nargs >= 2) {
		obj = c->args[0];
		inputs = c->args[1];
	}
	bool by_id = id != NULL && PyUnicode_Check(id);
	struct comfy_job *j =
	    job_of(by_id && prompt_id != NULL && PyUnicode_Check(prompt_id) ? prompt_id : NULL);
	struct comfy_node *n = NULL;
	if (j != NULL)
		n = by_id ? node_find(j, id) : j->visiting;
	if (n == NULL)
		return 0;
	if (!j->has_progress)
		node_start(j, n, j->recursive);
	if (inputs != NULL && PyDict_Check(inputs))
		n->calls += calls_of(obj, inputs);
	c->state = Py_NewRef((PyObject *)n->span);
	return 0;
}

static int
call_returned(struct hook_call *c, PyObject *result)
{
	struct span *s = c->state;
	c->state = NULL;
	if (s != NULL && result != NULL && s->state == SPAN_BEGUN)
		output_bytes_tag(s, result);
	Py_XDECREF((PyObject *)s);
	return 0;
}

static int
call_raised(struct hook_call *c, PyObject *Py_UNUSED(exception), PyObject *Py_UNUSED(tb))
{
	return call_returned(c, NULL);
}

const struct hook_kind comfy_kind_call = {
	.name = "comfy_call",
	.on_call = call_called,
	.on_return = call_returned,
	.on_raise = call_raised,
};

/* ---- ProgressRegistry --------------------------------------------------- */

/* The job and the node's id of a method of the registry; NULL when it is none of ours. */
static struct comfy_job *
progress_of(const struct hook_call *c, PyObject **node_id)
{
	PyObject *self = hook_self(c);
	*node_id = comfy_arg(c, 0, 1);
	if (self == NULL || *node_id == NULL || !PyUnicode_Check(*node_id))
		return NULL;
	PyObject *prompt_id = PyObject_GetAttr(self, comfy_names.prompt_id);
	struct comfy_job *j =
	    prompt_id != NULL && PyUnicode_Check(prompt_id) ? job_of(prompt_id) : NULL;
	PyErr_Clear();
	Py_XDECREF(prompt_id);
	return j;
}

/* Met here first where execute is not hooked. */
static struct comfy_node *
find_or_meet(struct comfy_job *j, const struct hook_call *c, PyObject *node_id)
{
	struct comfy_node *n = node_find(j, node_id);
	if (n != NULL)
		return n;
	PyObject *dynprompt = PyObject_GetAttr(hook_self(c), comfy_names.dynprompt);
	PyErr_Clear();
	n = node_new(j, node_id, dynprompt);
	Py_XDECREF(dynprompt);
	return n;
}

static int
start_called(struct hook_call *c)
{
	PyObject *node_id;
	struct comfy_job *j = progress_of(c, &node_id);
	struct comfy_node *n = j != NULL ? find_or_meet(j, c, node_id) : NULL;
	if (n == NULL)
		return 0;
	n->attempts++;
	node_start(j, n, true);
	return 0;
}

static int
step_called(struct hook_call *c)
{
	PyObject *node_id, *value = comfy_arg(c, 1, 2);
	struct comfy_job *j = progress_of(c, &node_id);
	struct comfy_node *n = j != NULL ? node_find(j, node_id) : NULL;
	if (n == NULL || value == NULL || !(PyLong_Check(value) || PyFloat_Check(value)))
		return 0;
	double x = PyFloat_AsDouble(value);
	if (PyErr_Occurred())
		PyErr_Clear();
	else if (x >= 0)
		node_step(n, x);
	return 0;
}

/* Without a start before it the cache has answered. */
static int
finish_called(struct hook_call *c)
{
	PyObject *node_id;
	struct comfy_job *j = progress_of(c, &node_id);
	struct comfy_node *n = j != NULL ? find_or_meet(j, c, node_id) : NULL;
	if (n != NULL)
		node_end(j, n, n->started ? OUTCOME_SUCCESS : OUTCOME_CACHED);
	return 0;
}

const struct hook_kind comfy_kind_start = { .name = "comfy_start", .on_call = start_called };
const struct hook_kind comfy_kind_step = { .name = "comfy_step", .on_call = step_called };
const struct hook_kind comfy_kind_finish = { .name = "comfy_finish", .on_call = finish_called };
