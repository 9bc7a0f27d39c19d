/*
 * comfy_job.c - a job: from PromptExecutor.execute's call to its return, on the
 * worker's thread.
 *
 * How it ended is what ComfyUI's messages said (comfy_message.c): a failed node
 * is no exception here.  What does escape the executor ends the worker.
 */
#include "probe/python/comfy_job.h"

#include "probe/core/probe.h"
#include "probe/python/comfy_rss.h"

static struct comfy_job jobs[JOBS_MAX];

struct comfy_job *
job_of(PyObject *prompt_id)
{
	unsigned long thread = prompt_id == NULL ? PyThread_get_thread_ident() : 0;
	for (size_t i = 0; i < JOBS_MAX; i++)
		if (jobs[i].prompt_id != NULL &&
		    (prompt_id == NULL ? jobs[i].thread == thread
				       : comfy_same(jobs[i].prompt_id, prompt_id)))
			return &jobs[i];
	return NULL;
}

size_t
jobs_running(void)
{
	size_t n = 0;
	for (size_t i = 0; i < JOBS_MAX; i++)
		n += jobs[i].prompt_id != NULL;
	return n;
}

struct span *
job_new_span(uint32_t name, uint32_t type, uint32_t kind)
{
	struct span *s = span_new(name);
	if (s == NULL)
		return NULL;
	s->w.type = type;
	span_tag_id(s, comfy_keys.component, comfy_keys.comfyui);
	span_tag_id(s, comfy_keys.kind, kind);
	return s;
}

void
job_saw_rss(struct comfy_job *j, uint64_t bytes)
{
	if (bytes > j->rss_peak)
		j->rss_peak = bytes;
}

/* ---- begins ------------------------------------------------------------- */

static struct comfy_job *
take(PyObject *prompt_id)
{
	for (size_t i = 0; i < JOBS_MAX; i++)
		if (jobs[i].prompt_id == NULL) {
			memset(&jobs[i], 0, sizeof jobs[i]);
			jobs[i].prompt_id = Py_NewRef(prompt_id);
			jobs[i].thread = PyThread_get_thread_ident();
			return &jobs[i];
		}
	comfy_counters.jobs_full++;
	return NULL;
}

static void
drop(struct comfy_job *j)
{
	PyObject *owned[] = { j->prompt_id, j->prompt, j->extra_data, j->cached, j->success,
		j->failure, j->pending, j->executor, (PyObject *)j->span };
	secrets_drop(j->prompt, j->extra_data);
	memset(j, 0, sizeof *j);
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		Py_XDECREF(owned[i]);
}

/* What this version has, and what its functions answer with. */
static void
look_around(struct comfy_job *j)
{
	static const char registry[] = "comfy_execution.progress";
	j->has_progress = hook_is_attached(registry, "ProgressRegistry.start_progress") &&
			  hook_is_attached(registry, "ProgressRegistry.finish_progress");
	j->recursive = hook_is_attached("execution", "recursive_execute");
	j->has_execute = j->recursive || hook_is_attached("execution", "execute");
	j->has_calls = hook_is_attached("execution", "get_output_data");
	PyObject *execution = PyDict_GetItemString(PyImport_GetModuleDict(), "execution");
	PyObject *result =
	    execution != NULL ? PyObject_GetAttrString(execution, "ExecutionResult") : NULL;
	if (result != NULL) {
		j->success = PyObject_GetAttrString(result, "SUCCESS");
		j->failure = PyObject_GetAttrString(result, "FAILURE");
		j->pending = PyObject_GetAttrString(result, "PENDING");
	}
	PyErr_Clear();
	Py_XDECREF(result);
}

/* The operator's own id of a job if there is one, else what tells apart jobs with one prompt id. */
static void
tag_job_id(struct comfy_job *j, const struct handover *hand)
{
	char text[COMFY_ID_BYTES + 32];
	size_t n;
	const char *given = comfy_text(comfy_item(j->extra_data, comfy_names.job_id), &n);
	if (given != NULL)
		n = comfy_prompt_id(given, n, text);
	else
		n = (size_t)snprintf(text, sizeof text, "%s:%lld", j->id, hand->item);
	if (given != NULL || hand->item >= 0)
		span_tag_text(j->span, comfy_keys.job_id, text, n);
}

static void
begin(struct comfy_job *j, struct handover *hand, PyObject *outputs)
{
	struct span *s = j->span;
	size_t n;
	const char *id = comfy_text(j->prompt_id, &n);
	j->id_bytes = comfy_prompt_id(id != NULL ? id : "", id != NULL ? n : 0, j->id);
	if (s->state == SPAN_BEGUN) /* with its wait */
		s->w.start_ns = comfymon_now_ns();
	else
		span_begin(s, hand->has_parent ? &hand->parent : NULL);
	workflow_of(j->prompt, outputs, &j->workflow);
	workflow_tag(s, &j->workflow);
	span_tag_text(s, comfy_keys.prompt_id, j->id, j->id_bytes);
	tag_job_id(j, hand);
	span_metric(s, comfy_keys.node_count, (double)j->workflow.nodes);
	if (hand->wait != NULL) {
		span_metric(s, comfy_keys.queue_number, hand->number);
		span_metric(s, comfy_keys.wait_ms, (double)(hand->got_ns - hand->put_ns) / 1e6);
	}
	if (hand->item >= 0)
		span_metric(s, comfy_keys.queue_item, (double)hand->item);
	span_metric(s, comfy_keys.thread_id, (double)PyThread_get_thread_native_id());
	j->rss_peak = rss_bytes(s->w.start_ns);
	j->rss_peak_before = rss_peak_ever();
	if (j->rss_peak != 0)
		span_metric(s, comfy_keys.rss_before, (double)j->rss_peak);
	gpu_tag_ids(s);
	s->w.flags |= WIRE_SPAN_JOB | WIRE_SPAN_MEASURED;
	span_open(s);
	if (hand->wait != NULL)
		span_end_at(hand->wait, hand->got_ns);
	Py_CLEAR(hand->wait);
}

static int
job_called(struct hook_call *c)
{
	PyObject *prompt = comfy_arg(c, 0, 1), *prompt_id = comfy_arg(c, 1, 2);
	PyObject *extra_data = comfy_arg(c, 2, 3), *outputs = comfy_arg(c, 3, 4);
	struct handover hand = { .item = -1 };
	if (prompt_id == NULL || !PyUnicode_Check(prompt_id))
		return 0;
	/* execute_async inside execute. */
	struct comfy_job *outer = job_of(NULL);
	if (outer != NULL && comfy_same(outer->prompt_id, prompt_id))
		return 0;
	struct comfy_job *j = take(prompt_id);
	if (j == NULL)
		return 0;
	j->prompt = Py_XNewRef(prompt);
	j->extra_data = Py_XNewRef(extra_data);
	j->executor = Py_XNewRef(hook_self(c));
	secrets_add(prompt, extra_data);
	(void)queue_hand_over(prompt_id, &hand);
	j->span = hand.run != NULL
		      ? hand.run
		      : job_new_span(comfy_keys.execute, comfy_keys.worker, comfy_keys.consumer);
	if (j->span == NULL) {
		Py_XDECREF((PyObject *)hand.wait);
		drop(j);
		return -1;
	}
	look_around(j);
	begin(j, &hand, outputs);
	c->span = (struct span *)Py_NewRef((PyObject *)j->span);
	return 0;
}

/* ---- ends --------------------------------------------------------------- */

static size_t
cached_nodes(const struct comfy_job *j)
{
	return (j->cached != NULL ? (size_t)PyList_GET_SIZE(j->cached) : 0) + j->cached_inside;
}

static void
tag_memory(struct comfy_job *j)
{
	uint64_t after = rss_bytes(comfymon_now_ns()), peak = rss_peak_ever();
	job_saw_rss(j, after);
	/* A new record of the process was set by this job, and is exact. */
	if (peak > j->rss_peak_before && peak > j->rss_peak)
		j->rss_peak = peak;
	if (after != 0) {
		span_metric(j->span, comfy_keys.rss_after, (double)after);
		span_metric(j->span, comfy_keys.rss_peak, (double)j->rss_peak);
	}
	gpu_tag(j->span);
	held_tag(j->span, j->executor, j->prompt, after);
}

static struct comfy_job *
job_with(const struct span *s)
{
	for (size_t i = 0; i < JOBS_MAX && s != NULL; i++)
		if (jobs[i].prompt_id != NULL && jobs[i].span == s)
			return &jobs[i];
	return NULL;
}

static void
end(struct comfy_job *j, enum outcome outcome)
{
	struct span *s = j->span;
	node_end_all(j, outcome);
	span_tag_id(s, comfy_keys.workflow_status, comfy_keys.outcome[outcome]);
	if (outcome == OUTCOME_ERROR)
		s->w.flags |= WIRE_SPAN_ERROR | WIRE_SPAN_JOB_FAILED;
	if (j->has_execute || j->has_progress || j->executed > 0)
		span_metric(s, comfy_keys.nodes_executed, j->executed);
	span_metric(s, comfy_keys.nodes_cached, (double)cached_nodes(j));
	tag_memory(j);
	span_end(s);
	drop(j);
}

/* Versions before July 2024 have no message for success. */
static int
job_returned(struct hook_call *c, PyObject *result)
{
	struct comfy_job *j = job_with(c->span);
	enum outcome quiet = result != NULL ? OUTCOME_SUCCESS : OUTCOME_ABANDONED;
	if (j != NULL)
		end(j, j->outcome != OUTCOME_NONE ? j->outcome : quiet);
	return 0;
}

/* Nothing may escape the executor: the thread that runs jobs ends with it. */
static int
job_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	struct comfy_job *j = job_with(c->span);
	if (j == NULL)
		return 0;
	fail_job(j, exception, tb);
	span_tag_id(j->span, comfy_keys.died, comfy_keys.yes);
	end(j, OUTCOME_ERROR);
	return 0;
}

const struct hook_kind comfy_kind_job = {
	.name = "comfy_job",
	.on_call = job_called,
	.on_return = job_returned,
	.on_raise = job_raised,
};
