/*
 * comfy_node.c - one span a node, from its start to its finish.  See comfy_job.h
 *
 * ComfyUI visits a node with execution.execute, perhaps several times: an async
 * one says PENDING and is visited again, a lazy one runs twice, one with a
 * sub-graph waits for its children.  The span is known by job and node id; while
 * a visit runs, a stand-in with the span's ids is current, so that what the
 * node does (and tasks that it starts) is below it.
 */
#include "probe/python/comfy_node.h"
#include "probe/core/probe.h"
#include "probe/python/resident.h"
#include "probe/python/strings.h"

static struct node nodes[NODES_MAX];
uint64_t nodes_refused;
static bool starts_told;  /* by ProgressRegistry: a visit alone is no start */
static bool outputs_told; /* get_output_data is hooked: it is the start of the early ones */

struct node *
node_of(const struct job *job, PyObject *id)
{
	if (id == NULL || !PyUnicode_Check(id))
		return NULL;
	for (struct node *n = job->nodes; n != NULL; n = n->next)
		if (!n->ended && (n->id == id || PyUnicode_Compare(n->id, id) == 0))
			return n;
	return NULL;
}

static void
release(struct node *n)
{
	struct node **at = &n->job->nodes, was = *n;
	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	memset(n, 0, sizeof *n);
	Py_XDECREF(was.span);
	Py_XDECREF(was.id);
}

static void
note_memory(struct job *job, uint64_t rss)
{
	if (rss > job->rss_peak)
		job->rss_peak = rss;
}

/* ---- what is known of the graph -------------------------------------------------- */

/* A new reference, or NULL without an exception. */
PyObject *
node_attribute(PyObject *o, const char *name)
{
	PyObject *v = o != NULL ? PyObject_GetAttrString(o, name) : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

static PyObject *
item_of(PyObject *dict, PyObject *key)
{
	PyObject *v =
	    dict != NULL && PyDict_Check(dict) ? PyDict_GetItemWithError(dict, key) : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

static void
tag_class(struct node *n, PyObject *graph)
{
	PyObject *node = item_of(graph, n->id);
	PyObject *class =
	    node != NULL && PyDict_Check(node) ? PyDict_GetItemString(node, "class_type") : NULL;
	if (class == NULL || !PyUnicode_Check(class))
		return;
	uint32_t id = strings_id(class);
	n->span->w.resource = id;
	span_tag_id(n->span, word.node_class, id);
}

/*
 * The node's place in a DynamicPrompt: the graph that was submitted, or what
 * sub-graphs have added since, each with the node that added it.
 */
static PyObject *
place(struct node *n, PyObject *dynprompt)
{
	PyObject *original = node_attribute(dynprompt, "original_prompt"), *parent = NULL;
	if (original != NULL && item_of(original, n->id) != NULL) {
		tag_class(n, original);
		Py_DECREF(original);
		return NULL;
	}
	Py_XDECREF(original);
	PyObject *added = node_attribute(dynprompt, "ephemeral_prompt");
	PyObject *parents = node_attribute(dynprompt, "ephemeral_parents");
	PyObject *display = dynprompt != NULL && added != NULL
				? PyObject_CallMethod(dynprompt, "get_display_node_id", "O", n->id)
				: NULL;
	PyErr_Clear();
	tag_class(n, added);
	parent = Py_XNewRef(item_of(parents, n->id));
	job_tag_str(n->span, word.node_display, display);
	job_tag_str(n->span, word.node_parent, parent);
	Py_XDECREF(display);
	Py_XDECREF(parents);
	Py_XDECREF(added);
	return parent;
}

/* ---- begin ------------------------------------------------------------------------- */

/* The node gets its span, not yet its start. NULL: no room, or no memory. */
static struct node *
node_new(struct job *job, PyObject *id, PyObject *dynprompt, PyObject *graph)
{
	struct node *n = nodes;
	struct span_link link;
	if (job->span == NULL || id == NULL || !PyUnicode_Check(id))
		return NULL;
	while (n < nodes + NODES_MAX && n->job != NULL)
		n++;
	if (n == nodes + NODES_MAX) {
		nodes_refused++;
		return NULL;
	}
	struct span *s = span_new(word.span_node);
	if (s == NULL) {
		PyErr_Clear();
		return NULL;
	}
	*n = (struct node){ .job = job, .id = Py_NewRef(id), .span = s, .output_bytes = -1 };
	n->next = job->nodes;
	job->nodes = n;
	s->w.type = word.type_worker;
	span_tag_id(s, word.component, word.comfyui);
	span_tag_id(s, word.span_kind, word.internal);
	job_tag_prompt(s, job->prompt_id);
	job_tag_str(s, word.node_id, id);
	span_link_of(job->span, &link);
	if (dynprompt != NULL) {
		PyObject *parent_id = place(n, dynprompt);
		const struct node *parent = node_of(job, parent_id);
		if (parent != NULL && parent->span != NULL)
			span_link_of(parent->span, &link);
		Py_XDECREF(parent_id);
	} else if (graph != NULL) {
		tag_class(n, graph);
	}
	if (n->job != job || n->span != s) /* the job ended while we asked */
		return NULL;
	span_begin(s, &link);
	return n;
}

/* It runs from now on. A lazy node starts again: that is another attempt. */
void
node_start(struct node *n)
{
	n->attempts++;
	if (n->started)
		return;
	n->started = true;
	n->job->nodes_executed++;
	n->span->w.start_ns = comfymon_now_ns();
	uint64_t rss = resident_bytes();
	note_memory(n->job, rss);
	span_metric(n->span, word.rss_before, (double)rss);
	span_open(n->span);
}

/* ---- end ---------------------------------------------------------------------------- */

static void
tag_steps(struct node *n)
{
	if (n->last_step_ns == 0)
		return;
	span_metric(n->span, word.node_steps, n->last_step);
	uint64_t from = n->first_step_ns;
	double steps = n->last_step - n->first_step;
	if (steps <= 0) { /* one call alone: from the node's start */
		from = n->span->w.start_ns;
		steps = n->last_step;
	}
	if (n->last_step_ns > from && steps > 0)
		span_metric(
		    n->span, word.node_steps_per_s, steps * 1e9 / (double)(n->last_step_ns - from));
}

static void
end_at(struct node *n, uint32_t status, uint64_t end_ns)
{
	if (n->ended)
		return;
	n->ended = true;
	span_tag_id(n->span, word.node_status, status);
	if (n->started) {
		uint64_t rss = resident_bytes();
		note_memory(n->job, rss);
		span_metric(n->span, word.rss_after, (double)rss);
		span_metric(n->span, word.node_attempts, n->attempts);
		if (n->calls > 0)
			span_metric(n->span, word.node_calls, n->calls);
		if (n->output_bytes >= 0)
			span_metric(n->span, word.node_output_bytes, n->output_bytes);
		tag_steps(n);
	}
	span_end_at(n->span, end_ns);
	if (n->visits == 0)
		release(n);
}

void
nodes_end(struct job *job, uint32_t status, PyObject *failure)
{
	uint64_t now = comfymon_now_ns();
	for (struct node *n = job->nodes, *next; n != NULL; n = next) {
		next = n->next;
		if (failure != NULL && n->started)
			span_error(n->span, failure, NULL);
		if (n->started) {
			end_at(n, status, now);
		} else if (n->visits == 0) {
			release(n);
		} else {
			n->ended = true; /* it was visited, and never ran */
		}
	}
	if (job->nodes != NULL && job->state == JOB_FREE)
		job->nodes = NULL;
}

/* ---- visits: execution.execute -------------------------------------------------------- */

/* A span that is not ours to record: the node's own, for those below it. */
static struct span *
stand_in(const struct span *of)
{
	struct span *s = span_new(of->w.name);
	if (s == NULL) {
		PyErr_Clear();
		return NULL;
	}
	s->w = of->w;
	s->w.flags = 0;
	s->state = SPAN_LINK;
	return s;
}

static int
on_node(struct hook_call *c)
{
	struct job *job = job_of_prompt(hook_arg(c, 1), false);
	PyObject *id = hook_arg(c, 0);
	if (job == NULL)
		return 0;
	struct node *n = node_of(job, id);
	if (n == NULL && (n = node_new(job, id, hook_arg(c, 2), NULL)) == NULL)
		return 0;
	if (!starts_told && !n->started)
		node_start(n);
	n->visits++;
	c->state = n;
	c->span = stand_in(n->span);
	return 0;
}

/* The name of an enum's member, or "True"/"False": ComfyUI's answers of all ages. */
static const char *
answer_of(PyObject *result, PyObject **owner)
{
	PyObject *name = PyBool_Check(result) ? NULL : node_attribute(result, "name");
	const char *text = name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
	*owner = name;
	if (text == NULL) {
		PyErr_Clear();
		text = result == Py_True ? "SUCCESS" : result == Py_False ? "FAILURE" : "";
	}
	return text;
}

bool
node_is_named(PyObject *exception, const char *name)
{
	for (PyTypeObject *t = Py_TYPE(exception); t != NULL; t = t->tp_base) {
		const char *dot = strrchr(t->tp_name, '.');
		if (strcmp(dot != NULL ? dot + 1 : t->tp_name, name) == 0)
			return true;
	}
	return false;
}

/* Its message, read for one word; the text goes nowhere. */
static bool
says(PyObject *exception, const char *word_)
{
	PyObject *text = PyObject_Str(exception);
	const char *s = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
	bool yes = s != NULL && strstr(s, word_) != NULL;
	PyErr_Clear();
	Py_XDECREF(text);
	return yes;
}

static void
tag_oom(struct span *s, PyObject *exception)
{
	if (node_is_named(exception, "OutOfMemoryError") ||
	    (node_is_named(exception, "AcceleratorError") && says(exception, "out of memory")))
		span_tag_id(s, word.oom, word.gpu);
	else if (PyErr_GivenExceptionMatches(exception, PyExc_MemoryError) ||
		 (PyErr_GivenExceptionMatches(exception, PyExc_RuntimeError) &&
		     says(exception, "DefaultCPUAllocator")))
		span_tag_id(s, word.oom, word.host_alloc);
}

/* The nodes above it wait for it in vain; the one that the message will blame says which it was. */
static void
blame(struct node *n)
{
	PyObject *dynprompt_parent = NULL;
	struct wire_tag_view v;
	struct wire_span view = { .tag_count = n->span->tags.count,
		.tag_bytes = n->span->tags.used,
		.tags = n->span->tags.buf };
	uint32_t at = 0;
	while (wire_tag_next(&view, &at, &v))
		if (v.key == word.node_parent && v.kind == WIRE_TAG_TEXT)
			dynprompt_parent =
			    PyUnicode_FromStringAndSize(v.text, (Py_ssize_t)v.text_bytes);
	struct node *parent = node_of(n->job, dynprompt_parent);
	Py_XDECREF(dynprompt_parent);
	PyErr_Clear();
	if (parent == NULL || parent == n)
		return;
	job_tag_str(parent->span, word.real_node, n->id);
	span_tag_id(parent->span, word.real_class, n->span->w.resource);
	blame(parent);
}

static void
failed(struct node *n, PyObject *exception)
{
	bool known = exception != NULL && PyExceptionInstance_Check(exception);
	if (known && node_is_named(exception, "InterruptProcessingException")) {
		end_at(n, word.interrupted, comfymon_now_ns());
		return;
	}
	if (!n->started)
		node_start(n);
	n->span->w.flags |= WIRE_SPAN_ERROR;
	if (known) {
		struct job *job = n->job;
		PyObject *was = job->failure;
		job->failure = Py_NewRef(exception);
		span_error(n->span, exception, NULL);
		tag_oom(n->span, exception);
		Py_XDECREF(was);
	}
	if (n->job != NULL)
		blame(n);
	end_at(n, word.error, comfymon_now_ns());
}

static void
visited(struct node *n, PyObject *result)
{
	PyObject *owner = NULL;
	if (result == NULL || !PyTuple_Check(result) || PyTuple_GET_SIZE(result) < 1)
		return;
	const char *answer = answer_of(PyTuple_GET_ITEM(result, 0), &owner);
	if (strcmp(answer, "FAILURE") == 0) {
		failed(n, PyTuple_GET_SIZE(result) > 2 ? PyTuple_GET_ITEM(result, 2) : NULL);
	} else if (strcmp(answer, "SUCCESS") == 0) {
		if (!n->started) { /* a finish without a start: the cache had it */
			span_tag_id(n->span, word.node_cached, word.yes);
			end_at(n, word.cached, comfymon_now_ns());
		} else {
			end_at(
			    n, word.success, n->finish_ns != 0 ? n->finish_ns : comfymon_now_ns());
		}
	}
	Py_XDECREF(owner);
}

/* One visit less; a node that ended meanwhile goes with the last. */
void
node_leave(struct node *n)
{
	if (--n->visits == 0 && n->ended)
		release(n);
}

static int
node_returned(struct hook_call *c, PyObject *result)
{
	struct node *n = c->state;
	c->state = NULL;
	if (n == NULL || n->job == NULL)
		return 0;
	if (!n->ended)
		visited(n, result);
	node_leave(n);
	return 0;
}

static int
node_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	struct node *n = c->state;
	c->state = NULL;
	if (n == NULL || n->job == NULL)
		return 0;
	if (!n->ended && n->started) {
		span_error(n->span, exception, tb);
		end_at(n, word.error, comfymon_now_ns());
	}
	node_leave(n);
	return 0;
}

const struct hook_kind job_kind_node = { "job_node", on_node, node_returned, node_raised };

/* ---- visits of early 2024: recursive, a node first runs what it needs --------------------- */

static int
on_recursive(struct hook_call *c)
{
	struct job *job = job_of_prompt(hook_arg(c, 1), false);
	PyObject *id = hook_arg(c, 0), *outputs = hook_arg(c, 3);
	if (job == NULL || id == NULL || item_of(outputs, id) != NULL)
		return 0; /* it has run already */
	struct node *n = node_new(job, id, NULL, hook_arg(c, 2));
	if (n == NULL)
		return 0;
	if (!outputs_told)
		node_start(n);
	n->visits++;
	c->state = n;
	c->span = stand_in(n->span);
	return 0;
}

static int
recursive_returned(struct hook_call *c, PyObject *result)
{
	struct node *n = c->state;
	if (n == NULL || n->job == NULL || n->started || n->ended)
		return node_returned(c, result);
	/* What it needs has failed, or it was interrupted before it began: it never ran. */
	c->state = NULL;
	n->ended = true;
	node_leave(n);
	return 0;
}

const struct hook_kind job_kind_recursive = { "job_recursive", on_recursive, recursive_returned,
	node_raised };

/* ---- progress ------------------------------------------------------------------------------ */

static struct job *
job_of_registry(const struct hook_call *c)
{
	PyObject *id = node_attribute(hook_self(c), "prompt_id");
	struct job *job = job_of_prompt(id, false);
	Py_XDECREF(id);
	return job;
}

static int
on_start(struct hook_call *c)
{
	struct job *job = job_of_registry(c);
	PyObject *id = hook_arg(c, 0);
	if (job == NULL || id == NULL)
		return 0;
	struct node *n = node_of(job, id);
	if (n == NULL) { /* its visits are not hooked */
		PyObject *dynprompt = node_attribute(hook_self(c), "dynprompt");
		n = node_new(job, id, dynprompt, NULL);
		Py_XDECREF(dynprompt);
	}
	if (n != NULL)
		node_start(n);
	return 0;
}

static int
on_update(struct hook_call *c)
{
	struct job *job = job_of_registry(c);
	struct node *n = job != NULL ? node_of(job, hook_arg(c, 0)) : NULL;
	PyObject *value = hook_arg(c, 1);
	double v = value != NULL ? PyFloat_AsDouble(value) : -1;
	PyErr_Clear();
	if (n == NULL || v < 0)
		return 0;
	n->last_step_ns = comfymon_now_ns();
	n->last_step = v;
	if (n->first_step_ns == 0) {
		n->first_step_ns = n->last_step_ns;
		n->first_step = v;
	}
	return 0;
}

static int
on_finish(struct hook_call *c)
{
	struct job *job = job_of_registry(c);
	struct node *n = job != NULL ? node_of(job, hook_arg(c, 0)) : NULL;
	if (n == NULL || !n->started)
		return 0;
	if (n->visits > 0)
		n->finish_ns = comfymon_now_ns(); /* its visit knows how it went */
	else
		end_at(n, word.success, comfymon_now_ns());
	return 0;
}

const struct hook_kind job_kind_start = { "job_node_start", on_start, NULL, NULL };
const struct hook_kind job_kind_update = { "job_node_update", on_update, NULL, NULL };
const struct hook_kind job_kind_finish = { "job_node_finish", on_finish, NULL, NULL };

/* ---- where nothing else can be hooked: the message that a node runs
 * ------------------------------ */

static void
announced(struct job *job, PyObject *id)
{
	nodes_end(job, word.success, NULL);
	if (id == NULL || !PyUnicode_Check(id))
		return;
	struct node *n = node_new(job, id, NULL, job->prompt);
	if (n != NULL)
		node_start(n);
}

static int
on_send(struct hook_call *c)
{
	PyObject *event = hook_arg(c, 0), *data = hook_arg(c, 1);
	if (event == NULL || data == NULL || !PyUnicode_Check(event) || !PyDict_Check(data) ||
	    PyUnicode_CompareWithASCIIString(event, "executing") != 0)
		return 0;
	struct job *job = job_of_prompt(PyDict_GetItemString(data, "prompt_id"), false);
	if (job != NULL)
		announced(job, PyDict_GetItemString(data, "node"));
	return 0;
}

const struct hook_kind job_kind_send = { "job_send", on_send, NULL, NULL };

static const struct hook_def messages[] = { HOOK(
    "server", "PromptServer.send_sync", job_send, .params = { "event", "data" }) };

void
nodes_look_again(void)
{
	starts_told =
	    hook_is_attached("comfy_execution.progress", "ProgressRegistry.start_progress");
	outputs_told = hook_is_attached("execution", "get_output_data");
	if (!starts_told && !hook_is_attached("execution", "execute") &&
	    !hook_is_attached("execution", "recursive_execute") &&
	    hook_register_table(messages, 1) == 0)
		(void)hook_attach();
}
