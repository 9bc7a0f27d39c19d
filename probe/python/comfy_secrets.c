/*
 * comfy_secrets.c - the strings of prompts that are worked on, taken out of the
 * texts of errors.
 *
 * Nothing is collected until an error is told; the set is kept until another
 * prompt comes or goes.  Of an input every string, also inside lists and dicts;
 * of extra_data every string and key.  See redact.h
 */
#include "probe/python/comfy_job.h"
#include "probe/python/redact.h"

#define LIVE_MAX  16
#define DEPTH_MAX 32

static struct {
	PyObject *prompt, *extra_data; /* owned */
	unsigned uses;
} live[LIVE_MAX];
static bool overflow; /* more than fit: texts go as a whole */
static struct redact *set;
static bool set_is_stale = true;
static bool too_deep; /* what lies deeper was not looked at: texts go as a whole */

static void
add_string(struct redact *r, PyObject *s)
{
	size_t n;
	const char *text = comfy_text(s, &n);
	if (text != NULL)
		redact_add(r, text, n);
}

static void
add_strings(struct redact *r, PyObject *o, bool keys, int depth)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	if (depth > DEPTH_MAX)
		too_deep = true;
	if (o == NULL || depth > DEPTH_MAX)
		return;
	if (PyUnicode_Check(o))
		add_string(r, o);
	else if (PyBytes_Check(o))
		redact_add(r, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o));
	else if (PyList_Check(o))
		for (; at < PyList_GET_SIZE(o); at++)
			add_strings(r, PyList_GET_ITEM(o, at), true, depth + 1);
	else if (PyTuple_Check(o))
		for (; at < PyTuple_GET_SIZE(o); at++)
			add_strings(r, PyTuple_GET_ITEM(o, at), true, depth + 1);
	else if (PyDict_Check(o))
		while (PyDict_Next(o, &at, &key, &value)) {
			if (keys)
				add_strings(r, key, true, depth + 1);
			add_strings(r, value, true, depth + 1);
		}
}

/* The names of inputs are of the node's class, their values are not. */
static void
add_prompt(struct redact *r, PyObject *prompt)
{
	PyObject *id, *node;
	Py_ssize_t at = 0;
	if (prompt == NULL || !PyDict_Check(prompt))
		return;
	while (PyDict_Next(prompt, &at, &id, &node)) {
		size_t n;
		char plain[COMFY_ID_BYTES];
		const char *text = comfy_text(id, &n);
		/* An id that we would not tell is not told here either. */
		if (text != NULL && (comfy_node_id(text, n, plain) != n || memcmp(plain, text, n)))
			redact_add(r, text, n);
		add_strings(r, comfy_item(node, comfy_names.inputs), false, 0);
		add_strings(r, comfy_item(node, comfy_names.meta), false, 0);
	}
}

static struct redact *
current_set(void)
{
	if (!set_is_stale)
		return set;
	redact_free(set);
	too_deep = false;
	set = redact_new();
	for (int i = 0; set != NULL && i < LIVE_MAX; i++) {
		add_prompt(set, live[i].prompt);
		add_strings(set, live[i].extra_data, true, 0);
	}
	set_is_stale = false;
	return set;
}

static size_t
redacted(const char *text, size_t n, char *out, size_t cap)
{
	const struct redact *r = overflow ? NULL : current_set();
	if (r != NULL && !too_deep)
		return redact_apply(r, text, n, out, cap);
	n = sizeof REDACT_MARK - 1 < cap ? sizeof REDACT_MARK - 1 : cap;
	memcpy(out, REDACT_MARK, n);
	return n;
}

void
secrets_add(PyObject *prompt, PyObject *extra_data)
{
	int empty = -1;
	if (prompt == NULL && extra_data == NULL)
		return;
	for (int i = LIVE_MAX - 1; i >= 0; i--) {
		if (live[i].uses == 0)
			empty = i;
		else if (live[i].prompt == prompt && live[i].extra_data == extra_data) {
			live[i].uses++;
			return;
		}
	}
	if (empty < 0) {
		overflow = true;
		return;
	}
	live[empty].prompt = Py_XNewRef(prompt);
	live[empty].extra_data = Py_XNewRef(extra_data);
	live[empty].uses = 1;
	set_is_stale = true;
}

void
secrets_drop(PyObject *prompt, PyObject *extra_data)
{
	bool any = false;
	PyObject *old[2] = { NULL, NULL };
	for (int i = 0; i < LIVE_MAX; i++) {
		if (live[i].uses > 0 && live[i].prompt == prompt &&
		    live[i].extra_data == extra_data && --live[i].uses == 0) {
			old[0] = live[i].prompt;
			old[1] = live[i].extra_data;
			live[i].prompt = live[i].extra_data = NULL;
			set_is_stale = true;
		}
		any = any || live[i].uses > 0;
	}
	overflow = overflow && any;
	Py_XDECREF(old[0]);
	Py_XDECREF(old[1]);
}

void
secrets_setup(void)
{
	span_redact = redacted;
}
