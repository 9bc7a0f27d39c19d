/*
 * comfy_execute.c - a prompt is checked, a job runs, and says how it went.
 * See comfy_job.h
 *
 * ComfyUI's executor returns normally after a failed or interrupted job: the
 * outcome is what its messages say.  What escapes it as an exception ends the
 * worker for good.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define EVICT_LEAST_NS 1000000u /* a shorter eviction is no span of its own */

/* ---- validation --------------------------------------------------------------- */

static int
on_validate(struct hook_call *c)
{
	PyObject *prompt = hook_arg(c, 0);
	c->state = Py_XNewRef(prompt);
	c->span = job_span(NULL, word.span_validate, word.type_custom, word.internal, NULL);
	return 0;
}

/* (ok, {"type": …} or None, outputs, …) */
static void
judge(struct span *s, PyObject *prompt, PyObject *result)
{
	if (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) < 3)
		return;
	workflow_tag(s, workflow_of(prompt, PyTuple_GET_ITEM(result, 2)));
	if (PyObject_IsTrue(PyTuple_GET_ITEM(result, 0)) != 0)
		return;
	PyObject *error = PyTuple_GET_ITEM(result, 1);
	s->w.flags |= WIRE_SPAN_ERROR;
	if (PyDict_Check(error))
		job_tag_str(s, word.error_type, PyDict_GetItemString(error, "type"));
}

static int
validate_returned(struct hook_call *c, PyObject *result)
{
	PyObject *prompt = c->state;
	c->state = NULL;
	if (result != NULL && prompt != NULL && c->span != NULL)
		judge(c->span, prompt, result);
	PyErr_Clear();
	Py_XDECREF(prompt);
	return 0;
}

static int
validate_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	PyObject *prompt = c->state;
	c->state = NULL;
	if (c->span != NULL) {
		workflow_tag(c->span, workflow_of(prompt, NULL));
		if (span_is_error(exception))
			span_error(c->span, exception, tb);
	}
	Py_XDECREF(prompt);
	return 0;
}

const struct hook_kind job_kind_validate = { "job_validate", on_validate, validate_returned,
	validate_raised };

/* ---- the run -------------------------------------------------------------------- */

static int
on_execute(struct hook_call *c)
{
	PyObject *prompt_id = hook_arg(c, 1);
	struct job *job = job_of_prompt(prompt_id, false);
	if (job == NULL && (job = job_new(prompt_id)) != NULL) { /* it came without the queue */
		job->prompt = Py_XNewRef(hook_arg(c, 0));
		job->extra_data = Py_XNewRef(hook_arg(c, 2));
		secret_changed();
		struct span *now = span_current();
		if (now != NULL) {
			span_link_of(now, &job->parent);
			job->has_parent = true;
			Py_DECREF(now);
		}
		job_begin(job, comfymon_now_ns());
	}
	if (job == NULL || job->span == NULL)
		return 0;
	c->state = job;
	c->span = (struct span *)Py_NewRef((PyObject *)job->span);
	return 0;
}

static void
run_ended(struct hook_call *c)
{
	struct job *job = c->state;
	bool queued = job != NULL && job->item != NULL;
	c->state = NULL;
	/* The entry may have gone meanwhile, and be somebody else's. */
	if (job == NULL || job->state != JOB_RUNNING || job->span != c->span)
		return;
	job_conclude(job);
	if (!queued)
		job_free(job); /* no task_done will come for it */
}

static int
execute_returned(struct hook_call *c, PyObject *result)
{
	(void)result;
	run_ended(c);
	return 0;
}

static int
execute_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	struct job *job = c->state;
	if (job != NULL && job->state == JOB_RUNNING && job->span == c->span) {
		job->outcome = OUTCOME_ERROR;
		job->told_error = true;
		span_error(job->span, exception, tb);
		nodes_end(job, word.error, exception);
	}
	run_ended(c);
	return 0;
}

const struct hook_kind job_kind_execute = { "job_execute", on_execute, execute_returned,
	execute_raised };

/* ---- its messages ------------------------------------------------------------------ */

static void
evicted(struct job *job)
{
	uint64_t now = comfymon_now_ns();
	struct span_link parent;
	if (job->span == NULL || job->start_ns == 0 || now - job->start_ns < EVICT_LEAST_NS)
		return;
	struct span *s = span_new(word.span_evict);
	if (s == NULL)
		return;
	span_link_of(job->span, &parent);
	s->w.type = word.type_custom;
	s->w.resource = job->span->w.resource;
	span_begin_at(s, &parent, job->start_ns);
	span_tag_id(s, word.component, word.comfyui);
	span_tag_id(s, word.span_kind, word.internal);
	span_end_at(s, now);
	Py_DECREF(s);
}

/* The exception where it was seen, else its type alone: the message's text holds inputs. */
static void
tell(const struct job *job, struct span *s, PyObject *data)
{
	if (job->failure != NULL) {
		span_error(s, job->failure, NULL);
		return;
	}
	s->w.flags |= WIRE_SPAN_ERROR;
	job_tag_str(s, word.error_type, PyDict_GetItemString(data, "exception_type"));
}

static void
failed(struct job *job, PyObject *data)
{
	job->outcome = OUTCOME_ERROR;
	if (job->span == NULL || job->told_error)
		return;
	job->told_error = true;
	tell(job, job->span, data);
	/* A failure inside a sub-graph is blamed on the node that made it. */
	struct node *blamed = node_of(job, PyDict_GetItemString(data, "node_id"));
	if (blamed != NULL)
		tell(job, blamed->span, data);
}

static int
on_message(struct hook_call *c)
{
	PyObject *event = hook_arg(c, 0), *data = hook_arg(c, 1);
	if (event == NULL || !PyUnicode_Check(event) || data == NULL || !PyDict_Check(data))
		return 0;
	struct job *job = job_of_prompt(PyDict_GetItemString(data, "prompt_id"), false);
	if (job == NULL)
		return 0;
	if (PyUnicode_CompareWithASCIIString(event, "execution_start") == 0) {
		job->start_ns = comfymon_now_ns();
	} else if (PyUnicode_CompareWithASCIIString(event, "execution_cached") == 0) {
		PyObject *nodes = PyDict_GetItemString(data, "nodes");
		Py_ssize_t n = nodes != NULL ? PyObject_Size(nodes) : 0;
		PyErr_Clear();
		job->nodes_cached += n > 0 ? (uint32_t)n : 0;
		evicted(job);
	} else if (PyUnicode_CompareWithASCIIString(event, "execution_success") == 0) {
		job->outcome = OUTCOME_SUCCESS;
	} else if (PyUnicode_CompareWithASCIIString(event, "execution_interrupted") == 0) {
		job->outcome = OUTCOME_INTERRUPTED;
	} else if (PyUnicode_CompareWithASCIIString(event, "execution_error") == 0) {
		failed(job, data);
	}
	return 0;
}

const struct hook_kind job_kind_message = { "job_message", on_message, NULL, NULL };
