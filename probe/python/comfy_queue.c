/*
 * comfy_queue.c - jobs that wait: from PromptQueue.put, on the thread of the
 * server, to get, on the worker's.
 *
 * What a job takes over (whose request it was, how long it waited) is kept by
 * its item's address and prompt id, as a client may repeat an id.  An item that
 * left the queue otherwise was cancelled: seen when delete_queue_item or
 * wipe_queue return, or at the next put or get.  Our hooks never take the
 * queue's lock: while somebody is inside get, what is missing may be on its way
 * out, and is looked at again later.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define QUEUE_MAX 2048u

struct waiting {
	uintptr_t item; /* address, only compared */
	PyObject *prompt_id;
	struct handover hand;
	uintptr_t serial;     /* of the call of put, never 0 */
	bool placed;          /* put has returned: from now on it is missed if it is not there */
	unsigned long thread; /* that took it; 0: still waits */
};

static struct waiting *queue[QUEUE_MAX]; /* oldest first */
static size_t count;
static unsigned inside_get;
static uintptr_t serials;

size_t
queue_waiting(void)
{
	return count;
}

/* item[i] of a queue item (a tuple, whatever its length), borrowed or NULL. */
static PyObject *
part(PyObject *item, Py_ssize_t i)
{
	return item != NULL && PyTuple_Check(item) && PyTuple_GET_SIZE(item) > i
		   ? PyTuple_GET_ITEM(item, i)
		   : NULL;
}

static void
remove_at(size_t at)
{
	struct waiting *w = queue[at];
	struct span *wait = w->hand.wait, *run = w->hand.run;
	struct body *body = w->hand.body;
	memmove(&queue[at], &queue[at + 1], (--count - at) * sizeof *queue);
	if (wait != NULL && w->hand.got_ns != 0)
		span_end_at(wait, w->hand.got_ns);
	PyObject *prompt_id = w->prompt_id;
	PyMem_RawFree(w);
	Py_XDECREF((PyObject *)wait);
	Py_XDECREF((PyObject *)run);
	Py_XDECREF(prompt_id);
	body_drop(body);
}

/* ---- cancelled ---------------------------------------------------------- */

static bool
is_job(const struct waiting *w, PyObject *item)
{
	PyObject *number = part(item, 0);
	if ((uintptr_t)item == w->item)
		return true;
	double x = number != NULL && PyFloat_Check(number)  ? PyFloat_AS_DOUBLE(number)
		   : number != NULL && PyLong_Check(number) ? PyLong_AsDouble(number)
							    : -1;
	PyErr_Clear();
	return x == w->hand.number && comfy_same(part(item, 1), w->prompt_id);
}

/* Both are mostly in the same order: the search goes on, backwards, from where the last one was. */
static bool
is_among(const struct waiting *w, PyObject *list, Py_ssize_t *from)
{
	Py_ssize_t n = PyList_GET_SIZE(list);
	for (Py_ssize_t k = 0; k < n; k++) {
		Py_ssize_t i = *from >= k ? *from - k : *from - k + n;
		if (i < n && is_job(w, PyList_GET_ITEM(list, i))) {
			*from = i > 0 ? i - 1 : n - 1;
			return true;
		}
	}
	return false;
}

/* The run that it waited for never came: the wait is all there is. */
static void
make_root(struct waiting *w)
{
	if (w->hand.run == NULL)
		return;
	w->hand.wait->w.parent_id = 0;
	w->hand.wait->w.flags |= WIRE_SPAN_LOCAL_ROOT;
}

static void
cancel(size_t at)
{
	struct span *s = queue[at]->hand.wait;
	make_root(queue[at]);
	span_tag_id(s, comfy_keys.workflow_status, comfy_keys.cancelled);
	span_end(s);
	remove_at(at);
}

/* `self` is the PromptQueue; its list of items is read without its lock, under the GIL. */
static void
reconcile(PyObject *self)
{
	PyObject *list = self != NULL ? PyObject_GetAttr(self, comfy_names.queue) : NULL;
	PyErr_Clear();
	if (list != NULL && PyList_Check(list) && inside_get == 0) {
		Py_ssize_t from = PyList_GET_SIZE(list) - 1;
		for (size_t i = count; i-- > 0;)
			if (queue[i]->thread == 0 && queue[i]->placed &&
			    !is_among(queue[i], list, &from))
				cancel(i);
	}
	Py_XDECREF(list);
}

static bool
may_be_behind(PyObject *self)
{
	PyObject *list = self != NULL ? PyObject_GetAttr(self, comfy_names.queue) : NULL;
	size_t wait = 0;
	for (size_t i = 0; i < count; i++)
		wait += queue[i]->thread == 0;
	bool behind = list != NULL && PyList_Check(list) && (size_t)PyList_GET_SIZE(list) != wait;
	PyErr_Clear();
	Py_XDECREF(list);
	return behind;
}

static void
release(struct hook_call *c)
{
	PyObject *kept = c->state;
	c->state = NULL;
	Py_XDECREF(kept);
}

static int
unqueue_returned(struct hook_call *c, PyObject *Py_UNUSED(result))
{
	if (count > 0 && c->state != NULL)
		reconcile(c->state);
	release(c);
	body_sweep();
	return 0;
}

static int
keep_self(struct hook_call *c)
{
	c->state = Py_XNewRef(hook_self(c));
	return 0;
}

static int
let_go(struct hook_call *c, PyObject *Py_UNUSED(exception), PyObject *Py_UNUSED(tb))
{
	release(c);
	return 0;
}

const struct hook_kind comfy_kind_unqueue = {
	.name = "comfy_unqueue",
	.on_call = keep_self,
	.on_return = unqueue_returned,
	.on_raise = let_go,
};

/* ---- put ---------------------------------------------------------------- */

static double
number_of(PyObject *o)
{
	double x = o != NULL && (PyFloat_Check(o) || PyLong_Check(o)) ? PyFloat_AsDouble(o) : 0;
	PyErr_Clear();
	return x;
}

/* Below the request; without one the job's run is the root, whose ids the wait needs now. */
static int
begin(struct waiting *w, const char *id, size_t n)
{
	char text[COMFY_ID_BYTES];
	struct span *request = span_current();
	w->hand.has_parent = request != NULL && request->w.trace_lo != 0;
	if (w->hand.has_parent)
		span_link_of(request, &w->hand.parent);
	Py_XDECREF((PyObject *)request);
	if (!w->hand.has_parent) {
		w->hand.run =
		    job_new_span(comfy_keys.execute, comfy_keys.worker, comfy_keys.consumer);
		if (w->hand.run == NULL)
			return -1;
		span_begin(w->hand.run, NULL);
		span_link_of(w->hand.run, &w->hand.parent);
	}
	struct span *s = job_new_span(comfy_keys.wait, comfy_keys.queue, comfy_keys.internal);
	if (s == NULL)
		return -1;
	s->w.resource = comfy_keys.prompt_queue;
	span_begin(s, &w->hand.parent);
	span_tag_text(s, comfy_keys.prompt_id, text, comfy_prompt_id(id, n, text));
	span_metric(s, comfy_keys.queue_number, w->hand.number);
	if (w->hand.body != NULL) {
		const char *name = body_name(w->hand.body, &n);
		span_tag_text(s, comfy_keys.job_body, name, n);
	}
	w->hand.put_ns = s->w.start_ns;
	w->hand.wait = s;
	span_open(s);
	return 0;
}

/* It waits from before the call on: the worker may have it before put returns. */
static int
put_called(struct hook_call *c)
{
	PyObject *item = comfy_arg(c, 0, 1), *prompt_id = part(item, 1);
	size_t n;
	const char *id = comfy_text(prompt_id, &n);
	if (id == NULL)
		return 0;
	struct body *body = count < QUEUE_MAX ? body_keep(item) : NULL;
	if (count > 0 && may_be_behind(hook_self(c)))
		reconcile(hook_self(c));
	struct waiting *w = count < QUEUE_MAX ? PyMem_RawCalloc(1, sizeof *w) : NULL;
	if (w == NULL) {
		comfy_counters.queue_full++;
		body_drop(body);
		body_sweep();
		return 0;
	}
	w->hand.body = body;
	w->item = (uintptr_t)item;
	w->prompt_id = Py_NewRef(prompt_id);
	w->hand.number = number_of(part(item, 0));
	w->hand.item = -1;
	w->serial = ++serials;
	queue[count++] = w;
	if (begin(w, id, n) < 0) {
		remove_at(count - 1);
		body_sweep();
		return -1;
	}
	c->state = (void *)w->serial;
	body_sweep();
	return 0;
}

/* Where the job of a call of put waits, `count` if it was taken already. */
static size_t
place_of(const struct hook_call *c)
{
	size_t i = c->state != NULL ? count : 0;
	while (i-- > 0)
		if (queue[i]->serial == (uintptr_t)c->state && queue[i]->thread == 0)
			return i;
	return count;
}

static int
put_returned(struct hook_call *c, PyObject *Py_UNUSED(result))
{
	size_t at = place_of(c);
	if (at < count)
		queue[at]->placed = true;
	return 0;
}

/* It was refused: nobody waits. */
static int
put_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	size_t at = place_of(c);
	if (at == count)
		return 0;
	make_root(queue[at]);
	span_error(queue[at]->hand.wait, exception, tb);
	span_end(queue[at]->hand.wait);
	remove_at(at);
	body_sweep();
	return 0;
}

const struct hook_kind comfy_kind_put = {
	.name = "comfy_put",
	.on_call = put_called,
	.on_return = put_returned,
	.on_raise = put_raised,
};

/* ---- get ---------------------------------------------------------------- */

static int
get_called(struct hook_call *c)
{
	static bool looked;
	if (!looked) {
		looked = true; /* whatever the host and other nodes load is there by now */
		(void)hook_attach();
	}
	inside_get++;
	return keep_self(c);
}

/* The item itself, else one with its prompt id, the oldest first. */
static struct waiting *
find(PyObject *item)
{
	for (int by_id = 0; by_id < 2; by_id++)
		for (size_t i = 0; i < count; i++)
			if (queue[i]->thread == 0 &&
			    comfy_same(part(item, 1), queue[i]->prompt_id) &&
			    (by_id || queue[i]->item == (uintptr_t)item))
				return queue[i];
	return NULL;
}

/* A thread that asks for another job is done with what it took before. */
static void
forget_taken(unsigned long thread)
{
	for (size_t i = count; i-- > 0;)
		if (queue[i]->thread == thread)
			remove_at(i);
}

static int
get_returned(struct hook_call *c, PyObject *result)
{
	unsigned long thread = PyThread_get_thread_ident();
	inside_get -= inside_get > 0;
	forget_taken(thread);
	struct waiting *w = count > 0 ? find(part(result, 0)) : NULL;
	struct body *body = NULL;
	if (w != NULL) {
		PyObject *item_id = part(result, 1);
		w->thread = thread;
		w->hand.got_ns = comfymon_now_ns();
		w->hand.item =
		    item_id != NULL && PyLong_Check(item_id) ? PyLong_AsLongLong(item_id) : -1;
		PyErr_Clear();
		if (w->hand.item >= 0)
			span_metric(w->hand.wait, comfy_keys.queue_item, (double)w->hand.item);
		body = w->hand.body;
		w->hand.body = NULL;
	}
	if (count > 0 && may_be_behind(c->state))
		reconcile(c->state);
	release(c);
	body_drop(body);
	body_sweep();
	return 0;
}

static int
get_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	inside_get -= inside_get > 0;
	return let_go(c, exception, tb);
}

const struct hook_kind comfy_kind_get = {
	.name = "comfy_get",
	.on_call = get_called,
	.on_return = get_returned,
	.on_raise = get_raised,
};

bool
queue_hand_over(PyObject *prompt_id, struct handover *out)
{
	unsigned long thread = PyThread_get_thread_ident();
	for (size_t i = 0; i < count; i++)
		if (queue[i]->thread == thread && comfy_same(queue[i]->prompt_id, prompt_id)) {
			*out = queue[i]->hand;
			queue[i]->hand.wait = queue[i]->hand.run = NULL;
			remove_at(i);
			return true;
		}
	return false;
}

/* ---- task_done ---------------------------------------------------------- */

/* A job that was taken and that no executor of ours ran. */
static int
done_called(struct hook_call *c)
{
	PyObject *item_id = comfy_arg(c, 0, 1);
	long long item = item_id != NULL && PyLong_Check(item_id) ? PyLong_AsLongLong(item_id) : -1;
	PyErr_Clear();
	for (size_t i = count; i-- > 0;)
		if (queue[i]->thread != 0 && item >= 0 && queue[i]->hand.item == item)
			remove_at(i);
	body_sweep();
	return 0;
}

const struct hook_kind comfy_kind_done = {
	.name = "comfy_done",
	.on_call = done_called,
};
