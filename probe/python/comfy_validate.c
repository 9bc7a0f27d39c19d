/*
 * comfy_validate.c - the check of a prompt before it is queued, on the thread
 * of the server; a function in old versions, a coroutine in newer ones.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define KEPT_MAX 4

/*
 * Prompts whose check broke: the request tells the same exception later, and
 * their strings must not be in it then either.
 */
static PyObject *kept[KEPT_MAX];
static unsigned next_kept;

/* (prompt_id, prompt, …), in old versions (prompt). */
static PyObject *
prompt_of(const struct hook_call *c)
{
	PyObject *prompt = hook_arg(c, 0);
	for (size_t i = 0; prompt == NULL && i < c->nargs && i < 2; i++)
		if (PyDict_Check(c->args[i]))
			prompt = c->args[i];
	return prompt != NULL && PyDict_Check(prompt) ? prompt : NULL;
}

static int
validate_called(struct hook_call *c)
{
	PyObject *prompt = prompt_of(c), *id = hook_arg(c, 1);
	size_t n;
	char text[COMFY_ID_BYTES];
	struct span *s = job_new_span(comfy_keys.validate, comfy_keys.custom, comfy_keys.internal);
	if (s == NULL)
		return -1;
	span_begin(s, NULL);
	const char *given = comfy_text(id, &n);
	if (given != NULL)
		span_tag_text(s, comfy_keys.prompt_id, text, comfy_prompt_id(given, n, text));
	secrets_add(prompt, NULL);
	c->span = s;
	c->state = Py_XNewRef(prompt);
	return 0;
}

/* ComfyUI's own word for what is wrong; what does not look like one is not told. */
static void
tag_problem(struct span *s, PyObject *error)
{
	size_t n;
	const char *type = comfy_text(comfy_item(error, comfy_names.type), &n);
	if (type == NULL || n == 0 || n > 64 ||
	    strspn(type, "abcdefghijklmnopqrstuvwxyz_0123456789") != n)
		type = "invalid_prompt";
	span_error_told(s, type, NULL, NULL);
}

static void
release(struct hook_call *c)
{
	PyObject *prompt = c->state;
	c->state = NULL;
	secrets_drop(prompt, NULL);
	Py_XDECREF(prompt);
}

/* (valid, error, outputs, errors of nodes) */
static int
validate_returned(struct hook_call *c, PyObject *result)
{
	struct workflow w;
	bool told = result != NULL && PyTuple_Check(result) && PyTuple_GET_SIZE(result) >= 3;
	bool valid = told && PyObject_IsTrue(PyTuple_GET_ITEM(result, 0)) == 1;
	PyErr_Clear();
	workflow_of(c->state, valid ? PyTuple_GET_ITEM(result, 2) : NULL, &w);
	workflow_tag(c->span, &w);
	span_metric(c->span, comfy_keys.node_count, (double)w.nodes);
	if (told && !valid)
		tag_problem(c->span, PyTuple_GET_ITEM(result, 1));
	release(c);
	return 0;
}

static int
validate_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	PyObject *prompt = c->state, *oldest = kept[next_kept];
	span_error(c->span, exception, tb);
	c->state = NULL;
	kept[next_kept] = prompt;
	next_kept = (next_kept + 1) % KEPT_MAX;
	secrets_drop(oldest, NULL);
	Py_XDECREF(oldest);
	return 0;
}

const struct hook_kind comfy_kind_validate = {
	.name = "comfy_validate",
	.on_call = validate_called,
	.on_return = validate_returned,
	.on_raise = validate_raised,
};
