/* comfy_node.c - nodes of a job: their spans and what is counted of them.  See comfy_job.h */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"
#include "probe/python/comfy_rss.h"
#include "probe/python/strings.h"

static struct comfy_node *spare;
static size_t open_count;

size_t
nodes_open(void)
{
	return open_count;
}

struct comfy_node *
node_find(const struct comfy_job *j, PyObject *id)
{
	for (struct comfy_node *n = j->nodes; n != NULL; n = n->next)
		if (comfy_same(n->id, id))
			return n;
	return NULL;
}

struct comfy_node *
node_with(const struct comfy_job *j, const struct span *s)
{
	for (struct comfy_node *n = j->nodes; n != NULL; n = n->next)
		if (n->span == s)
			return n;
	return NULL;
}

/* ---- what the graph knows of it ----------------------------------------- */

static void
tag_node_id(struct span *s, uint32_t key, PyObject *id)
{
	char out[COMFY_ID_BYTES];
	size_t n;
	const char *text = comfy_text(id, &n);
	if (text != NULL)
		span_tag_text(s, key, out, comfy_node_id(text, n, out));
}

/* A method of the dynamic graph, new reference or NULL; no exception. */
static PyObject *
ask(PyObject *dynprompt, PyObject *method, PyObject *id)
{
	PyObject *v =
	    dynprompt != NULL ? PyObject_CallMethodObjArgs(dynprompt, method, id, NULL) : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

/* A node that a sub-graph added: not in the prompt. */
static void
describe_added(struct comfy_node *n, PyObject *dynprompt)
{
	PyObject *node = ask(dynprompt, comfy_names.get_node, n->id);
	PyObject *class = node != NULL ? comfy_item(node, comfy_names.class_type) : NULL;
	PyObject *display = ask(dynprompt, comfy_names.get_display_node_id, n->id);
	PyObject *parent = ask(dynprompt, comfy_names.get_parent_node_id, n->id);
	if (class != NULL && PyUnicode_Check(class))
		n->span->w.resource = strings_id(class);
	tag_node_id(n->span, comfy_keys.display_id, display);
	tag_node_id(n->span, comfy_keys.parent_id, parent);
	if (parent != NULL && PyUnicode_Check(parent))
		n->parent = Py_NewRef(parent);
	Py_XDECREF(parent);
	Py_XDECREF(display);
	Py_XDECREF(node);
}

static void
describe(struct comfy_job *j, struct comfy_node *n, PyObject *dynprompt)
{
	PyObject *node = comfy_item(j->prompt, n->id);
	PyObject *class = node != NULL ? comfy_item(node, comfy_names.class_type) : NULL;
	struct span *s = n->span;
	span_tag_text(s, comfy_keys.prompt_id, j->id, j->id_bytes);
	tag_node_id(s, comfy_keys.node_id, n->id);
	if (class != NULL && PyUnicode_Check(class))
		s->w.resource = strings_id(class);
	if (node != NULL)
		tag_node_id(s, comfy_keys.display_id, n->id);
	else
		describe_added(n, dynprompt);
	span_tag_id(s, comfy_keys.class_type, s->w.resource);
}

/* ---- life --------------------------------------------------------------- */

static struct comfy_node *
take(void)
{
	struct comfy_node *n = spare;
	if (open_count >= NODES_MAX)
		return NULL;
	if (n != NULL)
		spare = n->next;
	else
		n = PyMem_RawMalloc(sizeof *n);
	if (n != NULL) {
		memset(n, 0, sizeof *n);
		open_count++;
	}
	return n;
}

static void
drop(struct comfy_job *j, struct comfy_node *n)
{
	struct comfy_node **at = &j->nodes;
	while (*at != NULL && *at != n)
		at = &(*at)->next;
	if (*at == n)
		*at = n->next;
	if (j->visiting == n)
		j->visiting = NULL;
	PyObject *id = n->id, *parent = n->parent, *span = (PyObject *)n->span;
	n->next = spare;
	spare = n;
	open_count--;
	Py_XDECREF(span);
	Py_XDECREF(parent);
	Py_XDECREF(id);
}

struct comfy_node *
node_new(struct comfy_job *j, PyObject *id, PyObject *dynprompt)
{
	struct comfy_node *n = take();
	struct span_link link;
	if (n == NULL) {
		comfy_counters.nodes_full++;
		return NULL;
	}
	n->id = Py_NewRef(id);
	n->span = job_new_span(comfy_keys.node, comfy_keys.worker, comfy_keys.internal);
	if (n->span == NULL) {
		PyErr_Clear();
		drop(j, n);
		return NULL;
	}
	describe(j, n, dynprompt);
	const struct comfy_node *parent = n->parent != NULL ? node_find(j, n->parent) : NULL;
	span_link_of(parent != NULL ? parent->span : j->span, &link);
	span_begin(n->span, &link);
	n->span->w.flags |= WIRE_SPAN_MEASURED;
	n->next = j->nodes;
	j->nodes = n;
	return n;
}

void
node_start(struct comfy_job *j, struct comfy_node *n, bool now_is_start)
{
	if (n->started)
		return;
	n->started = true;
	uint64_t now = comfymon_now_ns(), rss = rss_bytes(now);
	if (now_is_start)
		n->span->w.start_ns = now;
	if (rss != 0)
		span_metric(n->span, comfy_keys.rss_before, (double)rss);
	job_saw_rss(j, rss);
	span_open(n->span);
}

void
node_step(struct comfy_node *n, double value)
{
	/* Less than before: another bar of the same node. */
	n->steps += value >= n->step_value ? value - n->step_value : value;
	n->step_value = value;
	n->last_step_ns = comfymon_now_ns();
	if (n->first_step_ns == 0) {
		n->first_step_ns = n->last_step_ns;
		n->first_steps = n->steps;
	}
}

/* The first call is left out of the rate: it has the warming up. */
static void
tag_steps(const struct comfy_node *n)
{
	struct span *s = n->span;
	if (n->first_step_ns == 0 || n->steps <= 0)
		return;
	double done = n->steps - n->first_steps;
	uint64_t from = n->first_step_ns;
	if (done <= 0) {
		done = n->steps;
		from = s->w.start_ns;
	}
	span_metric(s, comfy_keys.steps, n->steps);
	if (n->last_step_ns > from)
		span_metric(
		    s, comfy_keys.steps_per_s, done * 1e9 / (double)(n->last_step_ns - from));
}

static bool
is_listed(const struct comfy_job *j, PyObject *id)
{
	for (Py_ssize_t i = 0; j->cached != NULL && i < PyList_GET_SIZE(j->cached); i++)
		if (comfy_same(PyList_GET_ITEM(j->cached, i), id))
			return true;
	return false;
}

void
node_end(struct comfy_job *j, struct comfy_node *n, enum outcome outcome)
{
	struct span *s = n->span;
	uint64_t now = comfymon_now_ns();
	if (n->outcome != OUTCOME_NONE)
		outcome = n->outcome;
	span_tag_id(s, comfy_keys.node_status, comfy_keys.outcome[outcome]);
	if (outcome == OUTCOME_CACHED) {
		span_tag_id(s, comfy_keys.cached, comfy_keys.yes);
		j->cached_inside += !is_listed(j, n->id);
	} else {
		uint64_t rss = rss_bytes(now);
		if (rss != 0)
			span_metric(s, comfy_keys.rss_after, (double)rss);
		job_saw_rss(j, rss);
		span_metric(s, comfy_keys.attempts, n->attempts);
		if (n->calls > 0)
			span_metric(s, comfy_keys.calls, n->calls);
		tag_steps(n);
		j->executed++;
	}
	span_end_at(s, now);
	drop(j, n);
}

void
node_forget(struct comfy_job *j, struct comfy_node *n)
{
	span_discard(n->span);
	drop(j, n);
}

void
node_end_all(struct comfy_job *j, enum outcome job_outcome)
{
	while (j->nodes != NULL) {
		struct comfy_node *n = j->nodes;
		if (!n->started && n->outcome == OUTCOME_NONE)
			node_forget(j, n);
		else
			node_end(
			    j, n, job_outcome == OUTCOME_ERROR ? OUTCOME_ABANDONED : job_outcome);
	}
}
