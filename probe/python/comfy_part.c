/* comfy_part.c - jobs and nodes as one part of the adapter: names, keys, rows.  See comfy_job.h */
#include <pthread.h>

#include "probe/core/probe.h"
#include "probe/python/comfy.h"
#include "probe/python/comfy_job.h"
#include "probe/python/comfy_rss.h"
#include "probe/python/comfy_tensor.h"

struct comfy_names comfy_names;
struct comfy_keys comfy_keys;
struct comfy_counters comfy_counters;

/* ---- arguments ---------------------------------------------------------- */

PyObject *
comfy_arg(const struct hook_call *c, unsigned i, size_t position)
{
	PyObject *v = hook_arg(c, i);
	if (v == NULL && c->args != NULL && position < c->nargs)
		v = c->args[position];
	return v != NULL ? v : hook_arg_or_default(c, i);
}

PyObject *
comfy_item(PyObject *dict, PyObject *key)
{
	PyObject *v =
	    dict != NULL && PyDict_Check(dict) ? PyDict_GetItemWithError(dict, key) : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

const char *
comfy_text(PyObject *o, size_t *n)
{
	Py_ssize_t size = 0;
	const char *p = o != NULL && PyUnicode_Check(o) ? PyUnicode_AsUTF8AndSize(o, &size) : NULL;
	if (p == NULL)
		PyErr_Clear();
	*n = (size_t)size;
	return p;
}

bool
comfy_same(PyObject *a, PyObject *b)
{
	if (a == b)
		return a != NULL;
	if (a == NULL || b == NULL || !PyUnicode_Check(a) || !PyUnicode_Check(b) ||
	    PyUnicode_GET_LENGTH(a) != PyUnicode_GET_LENGTH(b))
		return false;
	return PyUnicode_Compare(a, b) == 0;
}

/* ---- the part ----------------------------------------------------------- */

static const struct hook_def table[] = {
#include "config/hooks/comfyui.def"
};

static const struct hook_kind *const kinds[] = { &comfy_kind_validate, &comfy_kind_put,
	&comfy_kind_get, &comfy_kind_unqueue, &comfy_kind_done, &comfy_kind_job,
	&comfy_kind_message, &comfy_kind_send, &comfy_kind_node, &comfy_kind_call,
	&comfy_kind_start, &comfy_kind_step, &comfy_kind_finish };

static PyObject *
module_jobs(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	return Py_BuildValue("{sn,sn,sn,sK,sK,sK,sK,sK,sK,sK,sK,sK}", "waiting",
	    (Py_ssize_t)queue_waiting(), "running", (Py_ssize_t)jobs_running(), "nodes",
	    (Py_ssize_t)nodes_open(), "queue_full", (unsigned long long)comfy_counters.queue_full,
	    "jobs_full", (unsigned long long)comfy_counters.jobs_full, "nodes_full",
	    (unsigned long long)comfy_counters.nodes_full, "resources_full",
	    (unsigned long long)comfy_counters.resources_full, "bodies", body_counts.written,
	    "bodies_secret", body_counts.secret, "bodies_too_large", body_counts.too_large,
	    "bodies_no_room", body_counts.no_room, "bodies_failed", body_counts.failed);
}

static PyMethodDef functions[] = {
	{ "jobs", module_jobs, METH_NOARGS,
	    "ComfyUI's jobs and nodes that are watched now, and how many found no room." },
	{ NULL, NULL, 0, NULL },
};

static int
make_names(void)
{
	const struct {
		PyObject **to;
		const char *text;
	} names[] = {
		{ &comfy_names.class_type, "class_type" },
		{ &comfy_names.inputs, "inputs" },
		{ &comfy_names.meta, "_meta" },
		{ &comfy_names.prompt_id, "prompt_id" },
		{ &comfy_names.node_id, "node_id" },
		{ &comfy_names.node, "node" },
		{ &comfy_names.nodes, "nodes" },
		{ &comfy_names.value, "value" },
		{ &comfy_names.job_id, "job_id" },
		{ &comfy_names.exception_type, "exception_type" },
		{ &comfy_names.exception_message, "exception_message" },
		{ &comfy_names.traceback, "traceback" },
		{ &comfy_names.type, "type" },
		{ &comfy_names.queue, "queue" },
		{ &comfy_names.get_node, "get_node" },
		{ &comfy_names.get_display_node_id, "get_display_node_id" },
		{ &comfy_names.get_parent_node_id, "get_parent_node_id" },
		{ &comfy_names.input_is_list, "INPUT_IS_LIST" },
		{ &comfy_names.dynprompt, "dynprompt" },
		{ &comfy_names.start, "execution_start" },
		{ &comfy_names.cached, "execution_cached" },
		{ &comfy_names.success, "execution_success" },
		{ &comfy_names.error, "execution_error" },
		{ &comfy_names.interrupted, "execution_interrupted" },
		{ &comfy_names.executing, "executing" },
		{ &comfy_names.progress, "progress" },
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if ((*names[i].to = PyUnicode_InternFromString(names[i].text)) == NULL)
			return -1;
	return 0;
}

static int
setup(PyObject *module)
{
	if (make_names() < 0 || tensor_setup() < 0 || body_setup() < 0 ||
	    PyModule_AddFunctions(module, functions) < 0)
		return -1;
	if (pthread_atfork(NULL, NULL, rss_close) != 0) {
		PyErr_SetString(PyExc_ImportError, "comfymon: no memory for a fork handler");
		return -1;
	}
	secrets_setup();
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		hook_register_kind(kinds[i]);
	if (hook_register_table(table, sizeof table / sizeof *table) == 0)
		return 0;
	PyErr_SetString(PyExc_ImportError, "comfymon: no room for the hooks of ComfyUI's jobs");
	return -1;
}

static void
restart(void)
{
	const struct {
		uint32_t *to;
		const char *text;
	} keys[] = {
		{ &comfy_keys.validate, "comfyui.workflow.validate" },
		{ &comfy_keys.wait, "comfyui.queue.wait" },
		{ &comfy_keys.execute, "comfyui.workflow.execute" },
		{ &comfy_keys.evict, "comfyui.cache.evict" },
		{ &comfy_keys.node, "comfyui.node.execute" },
		{ &comfy_keys.custom, "custom" },
		{ &comfy_keys.queue, "queue" },
		{ &comfy_keys.worker, "worker" },
		{ &comfy_keys.component, "component" },
		{ &comfy_keys.comfyui, "comfyui" },
		{ &comfy_keys.kind, "span.kind" },
		{ &comfy_keys.internal, "internal" },
		{ &comfy_keys.consumer, "consumer" },
		{ &comfy_keys.prompt_id, "prompt.id" },
		{ &comfy_keys.job_id, "job.id" },
		{ &comfy_keys.hash, "workflow.hash" },
		{ &comfy_keys.workflow_status, "workflow.status" },
		{ &comfy_keys.node_count, "workflow.node_count" },
		{ &comfy_keys.nodes_executed, "workflow.nodes_executed" },
		{ &comfy_keys.nodes_cached, "workflow.nodes_cached" },
		{ &comfy_keys.died, "workflow.worker_died" },
		{ &comfy_keys.queue_number, "queue.number" },
		{ &comfy_keys.queue_item, "queue.item" },
		{ &comfy_keys.job_body, "job.body" },
		{ &comfy_keys.thread_id, "thread.id" },
		{ &comfy_keys.wait_ms, "queue.wait_ms" },
		{ &comfy_keys.rss_before, "memory.rss.before_bytes" },
		{ &comfy_keys.rss_after, "memory.rss.after_bytes" },
		{ &comfy_keys.rss_peak, "memory.rss.peak_bytes" },
		{ &comfy_keys.node_id, "node.id" },
		{ &comfy_keys.display_id, "node.display_id" },
		{ &comfy_keys.parent_id, "node.parent_id" },
		{ &comfy_keys.class_type, "node.class_type" },
		{ &comfy_keys.node_status, "node.status" },
		{ &comfy_keys.cached, "node.cached" },
		{ &comfy_keys.attempts, "node.attempts" },
		{ &comfy_keys.calls, "node.calls" },
		{ &comfy_keys.steps, "node.steps" },
		{ &comfy_keys.steps_per_s, "node.steps_per_s" },
		{ &comfy_keys.output_bytes, "node.output_bytes" },
		{ &comfy_keys.output_bytes_gpu, "node.output_bytes.gpu" },
		{ &comfy_keys.held_outputs, "memory.held.outputs_bytes" },
		{ &comfy_keys.held_outputs_gpu, "memory.held.outputs_bytes.gpu" },
		{ &comfy_keys.held_models, "memory.held.models_bytes" },
		{ &comfy_keys.held_models_gpu, "memory.held.models_bytes.gpu" },
		{ &comfy_keys.held_top, "memory.held.top" },
		{ &comfy_keys.held_partial, "memory.held.partial" },
		{ &comfy_keys.unaccounted, "memory.unaccounted_bytes" },
		{ &comfy_keys.real_node, "error.real_node" },
		{ &comfy_keys.real_class, "error.real_class" },
		{ &comfy_keys.oom, "oom" },
		{ &comfy_keys.device_error, "device_error" },
		{ &comfy_keys.gpu, "gpu" },
		{ &comfy_keys.host_alloc, "host_alloc" },
		{ &comfy_keys.yes, "true" },
		{ &comfy_keys.cancelled, "cancelled" },
		{ &comfy_keys.prompt_queue, "prompt_queue" },
		{ &comfy_keys.invalid, "invalid" },
		{ &comfy_keys.other, "other" },
		{ &comfy_keys.outcome[OUTCOME_SUCCESS], "success" },
		{ &comfy_keys.outcome[OUTCOME_ERROR], "error" },
		{ &comfy_keys.outcome[OUTCOME_INTERRUPTED], "interrupted" },
		{ &comfy_keys.outcome[OUTCOME_BLOCKED], "blocked" },
		{ &comfy_keys.outcome[OUTCOME_CACHED], "cached" },
		{ &comfy_keys.outcome[OUTCOME_ABANDONED], "abandoned" },
	};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		*keys[i].to = comfymon_intern(keys[i].text, strlen(keys[i].text));
	workflow_restart();
	body_restart();
}

const struct comfy_part comfy_part_jobs = {
	.name = "jobs",
	.setup = setup,
	.restart = restart,
};
