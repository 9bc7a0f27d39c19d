/*
 * comfy_queue.c - a job waits: put .. get, deleted, done.  See comfy_job.h
 *
 * A job is known by the tuple that the queue holds: a client may repeat a
 * prompt id, but never an object.  put() runs where the request is handled, so
 * the span that is current there is the job's parent; get() runs in the worker.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"
#include "probe/python/shape.h"

/* (number, prompt id, prompt, extra data, outputs[, secrets]); newer ones may be longer. */
static bool
is_item(PyObject *item)
{
	return item != NULL && PyTuple_Check(item) && PyTuple_GET_SIZE(item) >= 5;
}

static void
take_item(struct job *job, PyObject *item)
{
	job->item = Py_NewRef(item);
	job->prompt = Py_NewRef(PyTuple_GET_ITEM(item, 2));
	job->extra_data = Py_NewRef(PyTuple_GET_ITEM(item, 3));
	if (PyTuple_GET_SIZE(item) > 5)
		job->sensitive = Py_NewRef(PyTuple_GET_ITEM(item, 5));
	secret_changed();
}

static int
on_put(struct hook_call *c)
{
	PyObject *item = hook_arg(c, 0);
	if (!is_item(item))
		return 0;
	struct job *job = job_new(PyTuple_GET_ITEM(item, 1));
	if (job == NULL)
		return 0;
	take_item(job, item);
	job->queue = hook_self(c);
	struct span *request = span_current();
	if (request != NULL) {
		span_link_of(request, &job->parent);
		job->has_parent = true;
		Py_DECREF(request);
	}
	if (!job->has_parent) { /* its run is the root, whose ids its wait needs now */
		job->span = job_span(job, word.span_execute, word.type_worker, word.consumer, NULL);
		if (job->span == NULL)
			return 0;
		span_link_of(job->span, &job->parent);
	}
	job->wait = job_span(job, word.span_wait, word.type_queue, word.internal, &job->parent);
	if (job->wait != NULL) {
		double number = PyFloat_AsDouble(PyTuple_GET_ITEM(item, 0));
		if (PyErr_Occurred())
			PyErr_Clear();
		else
			span_metric(job->wait, word.queue_number, number);
		job->wait->w.resource = word.prompt_queue;
		span_open(job->wait);
	}
	c->state = job;
	return 0;
}

static int
put_returned(struct hook_call *c, PyObject *result)
{
	(void)result;
	c->state = NULL;
	return 0;
}

static int
put_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	struct job *job = c->state;
	PyObject *item = job != NULL ? job->item : NULL;
	if (item == NULL || job_of_item(item) != job)
		return 0; /* it went on all the same */
	if (job->wait != NULL && span_is_error(exception))
		span_error(job->wait, exception, tb);
	job_free(job);
	return 0;
}

const struct hook_kind job_kind_put = { "job_put", on_put, put_returned, put_raised };

/* ---- the worker takes it --------------------------------------------------- */

static void
look_again(void)
{
	static bool looked;
	if (looked)
		return;
	looked = true; /* everything that the host loads is there by now */
	(void)hook_attach();
	nodes_look_again();
}

static int
got(struct hook_call *c, PyObject *result)
{
	(void)c;
	look_again();
	if (result == NULL || !PyTuple_Check(result) || PyTuple_GET_SIZE(result) < 2 ||
	    !is_item(PyTuple_GET_ITEM(result, 0)))
		return 0;
	PyObject *item = PyTuple_GET_ITEM(result, 0);
	struct job *job = job_of_item(item);
	uint64_t now = comfymon_now_ns();
	if (job == NULL) { /* put before we came, or by another way */
		job = job_new(PyTuple_GET_ITEM(item, 1));
		if (job == NULL)
			return 0;
		take_item(job, item);
	}
	job->item_id = PyLong_AsLongLong(PyTuple_GET_ITEM(result, 1));
	PyErr_Clear();
	/* The run begins before the wait ends: at no moment is nothing of the trace open. */
	job_begin(job, now);
	if (job->span != NULL) {
		double number = PyFloat_AsDouble(PyTuple_GET_ITEM(item, 0));
		if (!PyErr_Occurred())
			span_metric(job->span, word.queue_number, number);
		PyErr_Clear();
	}
	if (job->wait != NULL)
		span_end_at(job->wait, now);
	return 0;
}

/* self is needed after the call, when its arguments are gone. */
static int
on_get(struct hook_call *c)
{
	c->state = hook_self(c);
	return 0;
}

static int
get_returned(struct hook_call *c, PyObject *result)
{
	PyObject *queue = c->state;
	c->state = NULL;
	int rc = got(c, result);
	if (rc == 0 && result != NULL && PyTuple_Check(result) && PyTuple_GET_SIZE(result) >= 2) {
		for (struct job *job = job_next(NULL); job != NULL; job = job_next(job))
			if (job->item == PyTuple_GET_ITEM(result, 0))
				job->queue = queue;
	}
	return rc;
}

const struct hook_kind job_kind_get = { "job_get", on_get, get_returned, NULL };

/* ---- and gives it back ------------------------------------------------------ */

static int
on_done(struct hook_call *c)
{
	PyObject *id = hook_arg(c, 0);
	long long item_id = id != NULL && PyLong_Check(id) ? PyLong_AsLongLong(id) : -1;
	PyErr_Clear();
	struct job *job = item_id >= 0 ? job_of_item_id(hook_self(c), item_id) : NULL;
	if (job == NULL)
		return 0;
	job_conclude(job);
	job_free(job);
	return 0;
}

const struct hook_kind job_kind_done = { "job_done", on_done, NULL, NULL };

/* ---- or somebody takes it out of the queue ------------------------------------ */

static int
on_cancel(struct hook_call *c)
{
	c->state = hook_self(c);
	return 0;
}

/* It is still among those that wait. A queue that cannot be read keeps everything. */
static bool
still_waits(PyObject *queue, PyObject *item)
{
	PyObject *heap = PyObject_GetAttrString(queue, "queue");
	bool there = heap == NULL || !PyList_Check(heap);
	for (Py_ssize_t i = 0; !there && i < PyList_GET_SIZE(heap); i++)
		there = PyList_GET_ITEM(heap, i) == item;
	Py_XDECREF(heap);
	PyErr_Clear();
	return there;
}

static int
cancel_returned(struct hook_call *c, PyObject *result)
{
	PyObject *queue = c->state;
	c->state = NULL;
	if (result == NULL)
		return 0;
	for (struct job *job = job_next(NULL); job != NULL; job = job_next(job)) {
		if (job->state != JOB_QUEUED || job->queue != queue || job->item == NULL ||
		    still_waits(queue, job->item))
			continue;
		if (job->wait != NULL)
			span_tag_id(job->wait, word.status, word.cancelled);
		job_free(job);
	}
	return 0;
}

const struct hook_kind job_kind_cancel = { "job_cancel", on_cancel, cancel_returned, NULL };
