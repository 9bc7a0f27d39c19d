/* comfy_job.c - the table of jobs, and what their spans have in common.  See comfy_job.h */
#include "probe/python/comfy_job.h"

#include <stdio.h>

#include "probe/core/probe.h"
#include "probe/python/comfy.h"
#include "probe/python/resident.h"
#include "probe/python/shape.h"
#include "probe/python/strings.h"

struct comfy_words word;

static struct job jobs[JOBS_MAX];
static size_t jobs_high; /* entries from here on were never used */
static uint64_t jobs_refused;

struct job *
job_new(PyObject *prompt_id)
{
	size_t i = 0;
	while (i < jobs_high && jobs[i].state != JOB_FREE)
		i++;
	if (i == JOBS_MAX) {
		jobs_refused++;
		return NULL;
	}
	if (i == jobs_high)
		jobs_high++;
	struct job *job = &jobs[i];
	memset(job, 0, sizeof *job);
	job->state = JOB_QUEUED;
	job->prompt_id = Py_XNewRef(prompt_id);
	job->item_id = -1;
	job->put_ns = comfymon_now_ns();
	return job;
}

void
job_free(struct job *job)
{
	nodes_end(job, word.interrupted, NULL);

	struct job was = *job;
	memset(job, 0, sizeof *job);
	while (jobs_high > 0 && jobs[jobs_high - 1].state == JOB_FREE)
		jobs_high--;
	secret_changed();
	/* From here on strangers' code may run, and find the entry free. */
	if (was.wait != NULL)
		span_end(was.wait);
	if (was.span != NULL && was.state != JOB_QUEUED) /* what never ran has no span */
		span_end(was.span);
	Py_XDECREF(was.wait);
	Py_XDECREF(was.span);
	Py_XDECREF(was.item);
	Py_XDECREF(was.prompt_id);
	Py_XDECREF(was.prompt);
	Py_XDECREF(was.extra_data);
	Py_XDECREF(was.sensitive);
	Py_XDECREF(was.failure);
}

struct job *
job_of_item(PyObject *item)
{
	for (size_t i = 0; i < jobs_high; i++)
		if (jobs[i].state == JOB_QUEUED && jobs[i].item == item)
			return &jobs[i];
	return NULL;
}

static bool
same_text(PyObject *a, PyObject *b)
{
	return a == b || (a != NULL && b != NULL && PyUnicode_Check(a) && PyUnicode_Check(b) &&
			     PyUnicode_Compare(a, b) == 0);
}

struct job *
job_of_prompt(PyObject *prompt_id, bool any)
{
	struct job *waiting = NULL;
	if (prompt_id == NULL)
		return NULL;
	for (size_t i = 0; i < jobs_high; i++) {
		if (jobs[i].state == JOB_FREE || !same_text(jobs[i].prompt_id, prompt_id))
			continue;
		if (jobs[i].state == JOB_RUNNING)
			return &jobs[i];
		if (waiting == NULL && jobs[i].state == JOB_QUEUED)
			waiting = &jobs[i];
	}
	return any ? waiting : NULL;
}

struct job *
job_of_item_id(PyObject *queue, long long item_id)
{
	for (size_t i = 0; i < jobs_high; i++)
		if (jobs[i].state > JOB_QUEUED && jobs[i].queue == queue &&
		    jobs[i].item_id == item_id)
			return &jobs[i];
	return NULL;
}

struct job *
job_next(struct job *job)
{
	for (size_t i = job != NULL ? (size_t)(job - jobs) + 1 : 0; i < jobs_high; i++)
		if (jobs[i].state != JOB_FREE)
			return &jobs[i];
	return NULL;
}

/* ---- spans ---------------------------------------------------------------- */

void
job_tag_str(struct span *s, uint32_t key, PyObject *value)
{
	Py_ssize_t n = 0;
	const char *text =
	    value != NULL && PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &n) : NULL;
	if (text != NULL && n > 0 && n <= 256)
		span_tag_text(s, key, text, (size_t)n);
	else if (text == NULL)
		PyErr_Clear();
}

void
job_tag_prompt(struct span *s, PyObject *prompt_id)
{
	Py_ssize_t n = 0;
	char hashed[24];
	const char *text = prompt_id != NULL && PyUnicode_Check(prompt_id)
			       ? PyUnicode_AsUTF8AndSize(prompt_id, &n)
			       : NULL;
	if (text == NULL) {
		PyErr_Clear();
		return;
	}
	if (!shape_is_uuid(text, (size_t)n)) { /* a person may have typed it */
		snprintf(hashed, sizeof hashed, "hash:%016llx",
		    (unsigned long long)shape_text(text, (size_t)n));
		text = hashed;
		n = (Py_ssize_t)strlen(hashed);
	}
	span_tag_text(s, word.prompt_id, text, (size_t)n);
}

struct span *
job_span(const struct job *job, uint32_t name, uint32_t type, uint32_t kind,
    const struct span_link *parent)
{
	struct span *s = span_new(name);
	if (s == NULL) {
		PyErr_Clear();
		return NULL;
	}
	s->w.type = type;
	span_begin(s, parent);
	span_tag_id(s, word.component, word.comfyui);
	span_tag_id(s, word.span_kind, kind);
	if (job != NULL)
		job_tag_prompt(s, job->prompt_id);
	return s;
}

static uint32_t
status_of(const struct job *job)
{
	switch (job->outcome) {
	case OUTCOME_ERROR:
		return word.error;
	case OUTCOME_INTERRUPTED:
		return word.interrupted;
	case OUTCOME_NONE: /* early versions have no message of success */
	case OUTCOME_SUCCESS:
		break;
	}
	return word.success;
}

void
job_conclude(struct job *job)
{
	struct span *s = job->span;
	uint64_t rss = resident_bytes();
	if (job->state != JOB_RUNNING || s == NULL)
		return;
	job->state = JOB_ENDED;
	if (job->failure != NULL && !job->told_error && job->outcome == OUTCOME_ERROR)
		span_error(s, job->failure, NULL);
	nodes_end(job, status_of(job), NULL);
	span_tag_id(s, word.status, status_of(job));
	span_metric(s, word.nodes_executed, job->nodes_executed);
	span_metric(s, word.nodes_cached, job->nodes_cached);
	span_metric(s, word.rss_after, (double)rss);
	span_metric(s, word.rss_peak, (double)(rss > job->rss_peak ? rss : job->rss_peak));
	gpu_tag(s);
	if (job->outcome == OUTCOME_ERROR)
		s->w.flags |= WIRE_SPAN_ERROR | WIRE_SPAN_JOB_FAILED;
}

void
job_begin(struct job *job, uint64_t now_ns)
{
	struct span *s = job->span; /* there already where no request is above it */
	if (s == NULL)
		s = job->span = job_span(job, word.span_execute, word.type_worker, word.consumer,
		    job->has_parent ? &job->parent : NULL);
	if (s == NULL)
		return;
	s->w.start_ns = now_ns;
	job->state = JOB_RUNNING;
	s->w.flags |= WIRE_SPAN_JOB | WIRE_SPAN_MEASURED;
	job->rss_peak = resident_bytes();
	span_metric(s, word.rss_before, (double)job->rss_peak);
	if (job->wait != NULL)
		span_metric(s, word.queue_wait_ms, (double)(now_ns - job->put_ns) / 1e6);
	if (job->prompt != NULL) {
		/* Tuple slot 4: what is to be executed. */
		PyObject *outputs = job->item != NULL && PyTuple_GET_SIZE(job->item) > 4
					? PyTuple_GET_ITEM(job->item, 4)
					: NULL;
		workflow_tag(s, workflow_of(job->prompt, outputs));
	}
	if (job->extra_data != NULL && PyDict_Check(job->extra_data)) {
		PyObject *id = PyDict_GetItemString(job->extra_data, "job_id");
		Py_ssize_t n = 0;
		const char *text =
		    id != NULL && PyUnicode_Check(id) ? PyUnicode_AsUTF8AndSize(id, &n) : NULL;
		PyErr_Clear();
		if (text != NULL && shape_is_identifier(text, (size_t)n))
			span_tag_text(s, word.job_id, text, (size_t)n);
	}
	span_open(s);
}

/* ---- the part ------------------------------------------------------------- */

static const struct hook_def defs[] = {
#include "config/hooks/comfyui.def"
};

/* For tests and doctors: what the tables hold, and what found no room. */
static PyObject *
jobs_status(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	unsigned long held = 0, open = 0;
	for (struct job *job = job_next(NULL); job != NULL; job = job_next(job)) {
		held++;
		for (const struct node *n = job->nodes; n != NULL; n = n->next)
			open++;
	}
	return Py_BuildValue("{sk,sk,sK,sK}", "jobs", held, "nodes", open, "jobs_refused",
	    (unsigned long long)jobs_refused, "nodes_refused", (unsigned long long)nodes_refused);
}

static PyMethodDef functions[] = {
	{ "jobs", jobs_status, METH_NOARGS, "What the tables of jobs and nodes hold." },
	{ NULL, NULL, 0, NULL },
};

static int
setup(PyObject *module)
{
	static const struct hook_kind *const kinds[] = { &job_kind_put, &job_kind_get,
		&job_kind_done, &job_kind_cancel, &job_kind_validate, &job_kind_execute,
		&job_kind_message, &job_kind_node, &job_kind_recursive, &job_kind_outputs,
		&job_kind_start, &job_kind_update, &job_kind_finish, &job_kind_send };
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		hook_register_kind(kinds[i]);
	secret_setup();
	if (PyModule_AddFunctions(module, functions) < 0)
		return -1;
	if (hook_register_table(defs, sizeof defs / sizeof *defs) == 0)
		return 0;
	PyErr_SetString(PyExc_ImportError, "comfymon: too many hooks");
	return -1;
}

static void
restart(void)
{
#define X(name, text) word.name = comfymon_intern(text, sizeof(text) - 1);
	COMFY_WORDS(X)
#undef X
	workflow_restart();
}

const struct comfy_part comfy_part_jobs = { "jobs", setup, restart };
