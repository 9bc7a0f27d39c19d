/*
 * comfy_body.c - see comfy_body.h.
 *
 * What is a secret: what ComfyUI itself calls sensitive, which is always left
 * out, and any text, however deep, in what is called a key, a token or a password.
 */
#include "probe/python/comfy_body.h"

#include <ctype.h>
#include <stdlib.h>

#include "probe/core/bodies.h"
#include "probe/python/comfy_job.h"
#include "probe/python/comfy_sensitive.h"
#include "probe/python/identity.h"

#define DEPTH_MAX 64
#define NAME_MAX_ 96 /* a longer name of an input is looked at so far */

struct body {
	struct body *next; /* doomed */
	uint64_t bytes;
	const char *name;
	char path[COMFYMON_BODY_PATH_BYTES];
};

struct body_counts body_counts;

static struct body *doomed;
static PyObject *encode; /* the bound method of an encoder; NULL: off */
static PyObject *key_prompt, *key_extra_data, *key_targets;

int
body_setup(void)
{
	key_prompt = PyUnicode_InternFromString("prompt");
	key_extra_data = PyUnicode_InternFromString("extra_data");
	key_targets = PyUnicode_InternFromString("partial_execution_targets");
	return key_prompt != NULL && key_extra_data != NULL && key_targets != NULL ? 0 : -1;
}

void
body_restart(void)
{
	const char *life = getenv("COMFYMON_LIFE");
	Py_CLEAR(encode);
	if (!identity_switch("COMFYMON_RESUBMIT") || life == NULL || *life == '\0')
		return;
	PyObject *json = PyImport_ImportModule("json");
	PyObject *made = json != NULL ? PyObject_CallMethod(json, "JSONEncoder", NULL) : NULL;
	encode = made != NULL ? PyObject_GetAttrString(made, "encode") : NULL;
	PyErr_Clear();
	Py_XDECREF(made);
	Py_XDECREF(json);
}

/* ---- secrets ------------------------------------------------------------ */

/* Letters and digits of a name, lower case, nothing between them. */
static bool
is_secret_name(PyObject *key)
{
	static const char *const words[] = { "apikey", "authtoken", "apitoken", "accesstoken",
		"bearer", "authorization", "password", "passwd", "passphrase", "secret",
		"privatekey", "credential" };
	char name[NAME_MAX_];
	size_t n, m = 0;
	const char *text = comfy_text(key, &n);
	for (size_t i = 0; text != NULL && i < n && m < sizeof name - 1; i++)
		if (isalnum((unsigned char)text[i]))
			name[m++] = (char)tolower((unsigned char)text[i]);
	name[m] = '\0';
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strstr(name, words[i]) != NULL)
			return true;
	return false;
}

struct scan {
	size_t bytes; /* about what it takes as JSON, at least */
	bool secret, refused;
};

/* ComfyUI wraps lists, nodes take several: what is inside of what is called a secret is one. */
static void
scan(struct scan *s, PyObject *o, bool named_secret, int depth)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	s->refused = s->refused || depth > DEPTH_MAX || s->bytes > BODY_JSON_MAX_BYTES;
	if (s->refused || s->secret)
		return;
	s->bytes += 2;
	if (PyUnicode_Check(o)) {
		s->bytes += (size_t)PyUnicode_GET_LENGTH(o);
		s->secret = named_secret && PyUnicode_GET_LENGTH(o) > 0;
	} else if (PyList_Check(o)) {
		bool inside = named_secret && !workflow_is_link(o);
		for (; at < PyList_GET_SIZE(o); at++)
			scan(s, PyList_GET_ITEM(o, at), inside, depth + 1);
	} else if (PyTuple_Check(o)) {
		for (; at < PyTuple_GET_SIZE(o); at++)
			scan(s, PyTuple_GET_ITEM(o, at), named_secret, depth + 1);
	} else if (PyDict_Check(o)) {
		while (PyDict_Next(o, &at, &key, &value)) {
			scan(s, key, false, depth + 1);
			scan(s, value, named_secret || is_secret_name(key), depth + 1);
		}
	}
}

/* ---- one job ------------------------------------------------------------ */

/* What POST /prompt takes. The place in the queue is not in it: others may wait there by then. */
static PyObject *
request_of(PyObject *prompt_id, PyObject *prompt, PyObject *extra_data, PyObject *outputs)
{
	PyObject *d = PyDict_New();
	bool made = d != NULL && PyDict_SetItem(d, key_prompt, prompt) == 0 &&
		    PyDict_SetItem(d, comfy_names.prompt_id, prompt_id) == 0 &&
		    PyDict_SetItem(d, key_extra_data, extra_data) == 0 &&
		    (outputs == NULL || PyDict_SetItem(d, key_targets, outputs) == 0);
	if (!made)
		Py_CLEAR(d);
	return d;
}

static struct body *
write_body(struct comfymon_body_text *text)
{
	struct body *b = PyMem_RawMalloc(sizeof *b);
	enum comfymon_body result = COMFYMON_BODY_FAILED;
	if (b != NULL) {
		Py_BEGIN_ALLOW_THREADS
		result = comfymon_body_write(text, b->path, &b->name, &b->bytes);
		Py_END_ALLOW_THREADS
	}
	body_counts.written += result == COMFYMON_BODY_WRITTEN;
	body_counts.secret += result == COMFYMON_BODY_WRITTEN && text->secret;
	body_counts.too_large += result == COMFYMON_BODY_TOO_LARGE;
	body_counts.no_room += result == COMFYMON_BODY_NO_ROOM;
	body_counts.failed += result == COMFYMON_BODY_FAILED;
	if (result == COMFYMON_BODY_WRITTEN)
		return b;
	PyMem_RawFree(b);
	return NULL;
}

static struct body *
encode_and_write(struct comfymon_body_text *text, PyObject *request)
{
	PyObject *json = request != NULL ? PyObject_CallOneArg(encode, request) : NULL;
	struct body *b = NULL;
	py_drop(); /* what is no JSON, or too deep, is left */
	text->json = comfy_text(json, &text->json_bytes);
	if (text->json != NULL)
		b = write_body(text);
	else
		body_counts.failed++;
	Py_XDECREF(json);
	return b;
}

struct body *
body_keep(PyObject *item)
{
	if (encode == NULL || item == NULL || !PyTuple_Check(item) || PyTuple_GET_SIZE(item) < 4)
		return NULL;
	PyObject *number = PyTuple_GET_ITEM(item, 0), *prompt_id = PyTuple_GET_ITEM(item, 1);
	PyObject *prompt = PyTuple_GET_ITEM(item, 2), *extra_data = PyTuple_GET_ITEM(item, 3);
	PyObject *outputs = PyTuple_GET_SIZE(item) > 4 ? PyTuple_GET_ITEM(item, 4) : NULL;
	PyObject *sensitive = PyTuple_GET_SIZE(item) > 5 ? PyTuple_GET_ITEM(item, 5) : NULL;
	char plain[COMFY_ID_BYTES];
	struct comfymon_body_text text = { .prompt_id = plain, .json = "" };
	struct workflow w;
	struct scan s = { 0 };
	size_t n;
	const char *id = comfy_text(prompt_id, &n);
	if (id == NULL || !PyDict_Check(prompt) || !PyDict_Check(extra_data))
		return NULL;
	comfy_prompt_id(id, n, plain);
	text.number = PyFloat_Check(number) || PyLong_Check(number) ? PyFloat_AsDouble(number) : 0;
	PyErr_Clear();
	workflow_of(prompt, NULL, &w);
	text.workflow = w.hash;
	PyObject *rest = sensitive_left_out(extra_data);
	struct body *b = NULL;
	scan(&s, prompt, false, 0);
	if (rest != NULL)
		scan(&s, rest, false, 0);
	text.secret = s.secret || sensitive_is_needed(prompt, extra_data, sensitive);
	if (text.secret) {
		b = write_body(&text);
	} else if (s.refused) {
		body_counts.too_large++;
	} else {
		PyObject *request =
		    rest != NULL ? request_of(prompt_id, prompt, rest, outputs) : NULL;
		b = encode_and_write(&text, request);
		Py_XDECREF(request);
	}
	PyErr_Clear();
	Py_XDECREF(rest);
	return b;
}

const char *
body_name(const struct body *b, size_t *n)
{
	*n = strlen(b->name);
	return b->name;
}

void
body_drop(struct body *b)
{
	if (b == NULL)
		return;
	b->next = doomed;
	doomed = b;
}

void
body_sweep(void)
{
	while (doomed != NULL) {
		struct body *b = doomed;
		doomed = b->next;
		Py_BEGIN_ALLOW_THREADS
		comfymon_body_remove(b->path, b->bytes);
		Py_END_ALLOW_THREADS
		PyMem_RawFree(b);
	}
}
