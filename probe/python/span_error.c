/*
 * span_error.c - an exception becomes error.type, error.message, error.stack.
 *
 * A stack is file, line and function, innermost last, no source.  Texts pass
 * span_redact first.  Runs str() of a stranger's exception: whatever that
 * raises is dropped.  See span.h
 */
#include <stdlib.h>

#include "probe/core/probe.h"
#include "probe/python/span.h"

#define FRAMES_MAX    30
#define MESSAGE_BYTES 2048u
#define STACK_BYTES   8192u
#define TYPE_BYTES    256u

span_redact_fn span_redact;

static uint32_t key_type, key_message, key_stack;
static bool messages_wanted;

static void
tag_redacted(struct span *s, uint32_t key, const char *text, size_t n, size_t cap)
{
	char *out = PyMem_RawMalloc(cap + 1);
	if (out == NULL)
		return;
	size_t len = n;
	if (span_redact != NULL) {
		len = span_redact(text, n, out, cap);
	} else {
		len = n < cap ? n : cap;
		memcpy(out, text, len);
	}
	/* Clipped: not in the middle of a character. */
	if (len == cap) {
		while (len > 0 && ((unsigned char)out[len - 1] & 0xc0) == 0x80)
			len--;
		if (len > 0 && (unsigned char)out[len - 1] >= 0xc0)
			len--;
	}
	span_tag_text(s, key, out, len);
	PyMem_RawFree(out);
}

static void
tag_type(struct span *s, PyTypeObject *type)
{
	char text[TYPE_BYTES];
	PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
	PyObject *name = PyObject_GetAttrString((PyObject *)type, "__qualname__");
	const char *m = module != NULL && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : NULL;
	const char *q = name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
	PyErr_Clear();
	int n = snprintf(text, sizeof text, "%s%s%s", m != NULL ? m : "", m != NULL ? "." : "",
	    q != NULL ? q : type->tp_name);
	Py_XDECREF(module);
	Py_XDECREF(name);
	if (n > 0)
		span_tag_text(
		    s, key_type, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void
tag_message(struct span *s, PyObject *exception)
{
	PyObject *text = PyObject_Str(exception);
	PyObject *bytes = text != NULL ? PyUnicode_AsEncodedString(text, "utf-8", "replace") : NULL;
	if (bytes != NULL && PyBytes_GET_SIZE(bytes) > 0)
		tag_redacted(s, key_message, PyBytes_AS_STRING(bytes),
		    (size_t)PyBytes_GET_SIZE(bytes), MESSAGE_BYTES);
	Py_XDECREF(bytes);
	Py_XDECREF(text);
	PyErr_Clear();
}

/* Append one frame's line at out[at..cap); returns the new end. */
static size_t
put_frame(char *out, size_t at, size_t cap, PyObject *tb)
{
	PyObject *frame = PyObject_GetAttrString(tb, "tb_frame");
	PyObject *line = PyObject_GetAttrString(tb, "tb_lineno");
	PyCodeObject *code = frame != NULL ? PyFrame_GetCode((PyFrameObject *)frame) : NULL;
	const char *file = code != NULL ? PyUnicode_AsUTF8(code->co_filename) : NULL;
	const char *name = code != NULL ? PyUnicode_AsUTF8(code->co_name) : NULL;
	long number = line != NULL && PyLong_Check(line) ? PyLong_AsLong(line) : -1;
	PyErr_Clear();
	int n = snprintf(out + at, cap - at, "  File \"%s\", line %ld, in %s\n",
	    file != NULL ? file : "?", number, name != NULL ? name : "?");
	Py_XDECREF(code);
	Py_XDECREF(line);
	Py_XDECREF(frame);
	if (n < 0)
		return at;
	return (size_t)n < cap - at ? at + (size_t)n : cap - 1;
}

static void
tag_stack(struct span *s, PyObject *tb)
{
	char out[STACK_BYTES];
	int depth = 0, skip;
	for (PyTracebackObject *t = (PyTracebackObject *)tb; t != NULL; t = t->tb_next)
		depth++;
	skip = depth > FRAMES_MAX ? depth - FRAMES_MAX : 0;
	size_t at = (size_t)snprintf(out, sizeof out, "Traceback (most recent call last):\n");
	for (PyTracebackObject *t = (PyTracebackObject *)tb; t != NULL; t = t->tb_next) {
		if (skip-- > 0)
			continue;
		at = put_frame(out, at, sizeof out, (PyObject *)t);
	}
	tag_redacted(s, key_stack, out, at, STACK_BYTES);
}

void
span_error(struct span *s, PyObject *exception, PyObject *tb)
{
	struct py_raised before;
	if (s->state != SPAN_BEGUN)
		return;
	py_fetch(&before);
	s->w.flags |= WIRE_SPAN_ERROR;
	if (s->epoch == span_epoch && exception != NULL && PyExceptionInstance_Check(exception)) {
		tag_type(s, Py_TYPE(exception));
		if (messages_wanted)
			tag_message(s, exception);
		PyObject *own = NULL;
		if (tb == NULL || tb == Py_None)
			tb = own = PyException_GetTraceback(exception);
		if (tb != NULL && PyTraceBack_Check(tb))
			tag_stack(s, tb);
		Py_XDECREF(own);
	}
	py_restore(&before);
}

void
span_error_told(struct span *s, const char *type, const char *message, const char *stack)
{
	if (s->state != SPAN_BEGUN)
		return;
	s->w.flags |= WIRE_SPAN_ERROR;
	if (s->epoch != span_epoch)
		return;
	if (type != NULL)
		span_tag_text(s, key_type, type, strnlen(type, TYPE_BYTES - 1));
	if (message != NULL && *message != '\0' && messages_wanted)
		tag_redacted(s, key_message, message, strlen(message), MESSAGE_BYTES);
	if (stack != NULL && *stack != '\0')
		tag_redacted(s, key_stack, stack, strlen(stack), STACK_BYTES);
}

void
span_error_restart(void)
{
	const char *v = getenv("COMFYMON_ERROR_MESSAGE");
	messages_wanted = v == NULL || strcmp(v, "0") != 0;
	key_type = comfymon_intern("error.type", 10);
	key_message = comfymon_intern("error.message", 13);
	key_stack = comfymon_intern("error.stack", 11);
}
