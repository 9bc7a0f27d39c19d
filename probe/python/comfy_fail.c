/*
 * comfy_fail.c - what went wrong: on the node, on those whose sub-graph it is
 * in, and on the job.  ComfyUI itself blames the outermost node of a sub-graph.
 * Exceptions are looked at and never kept: they hold the host's memory.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define STACK_BYTES 8192
#define TYPE_BYTES  200
/* More than is told of one, so that what is clipped is clipped after redaction. */
#define MESSAGE_BYTES 16384
#define DEPTH_MAX     32
#define CAUSES_MAX    4

static bool
is_named(PyObject *exception, const char *name)
{
	PyObject *mro = exception != NULL ? Py_TYPE(exception)->tp_mro : NULL;
	for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
		const char *type = ((PyTypeObject *)PyTuple_GET_ITEM(mro, i))->tp_name;
		const char *dot = strrchr(type, '.');
		if (strcmp(dot != NULL ? dot + 1 : type, name) == 0)
			return true;
	}
	return false;
}

bool
fail_is_interrupt(PyObject *exception)
{
	return is_named(exception, "InterruptProcessingException");
}

/* What an error says of the machine; both 0 and false: nothing. */
struct verdict {
	uint32_t oom; /* string id: gpu, host_alloc */
	bool device;  /* the process gets no more work out of the device */
};

static bool
says_one_of(const char *text, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strstr(text, *words) != NULL)
			return true;
	return false;
}

/*
 * Memory of the device, or of the host; what the kernel kills is told by others.
 * `kind` is the name of the class, maybe with its module.
 *
 * An error of the device is one after which, as the CUDA runtime's reference says of
 * it (enum cudaError), "any further CUDA work will return the same error", or one
 * of a device that is gone; HIP has the same texts.  No kernel image, an invalid
 * argument, no room for a launch: such a job fails again, others do not.  Nor
 * does cuDNN or cuBLAS say which it was: where the context is lost, the next
 * job meets the runtime's own words.
 */
static struct verdict
judge(const char *kind, bool accelerator, const char *text)
{
	static const char *const gpu[] = { "CUDA out of memory", "HIP out of memory",
		"error: out of memory", "[CUDA]: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
		NULL };
	static const char *const host[] = { "DefaultCPUAllocator", "Cannot allocate memory", NULL };
	static const char *const device[] = { "CUDA error", "CUDA driver error", "CUDA failure",
		"cudaError", "Error [CUDA]", "HIP error", "HIP failure", "hipError", NULL };
	static const char *const lasting[] = { "illegal memory access", "illegal instruction",
		"launch timed out", "device-side assert", "hardware stack error",
		"misaligned address", "operation not supported on global/shared address space",
		"invalid program counter", "unspecified launch failure", "unknown error",
		"uncorrectable ECC error", "uncorrectable NVLink error",
		"Invalid access of peer GPU memory", "device(s) is/are busy or unavailable",
		"cannot be performed in the present state", NULL };
	if (strstr(kind, "OutOfMemoryError") != NULL || says_one_of(text, gpu) ||
	    (accelerator && strstr(text, "out of memory") != NULL))
		return (struct verdict){ .oom = comfy_keys.gpu };
	if (strstr(kind, "MemoryError") != NULL || says_one_of(text, host))
		return (struct verdict){ .oom = comfy_keys.host_alloc };
	return (struct verdict){ .device = (accelerator || says_one_of(text, device)) &&
					   says_one_of(text, lasting) };
}

static struct verdict
judge_one(PyObject *exception)
{
	struct verdict v = { 0 };
	bool out = is_named(exception, "OutOfMemoryError");
	bool accelerator = is_named(exception, "AcceleratorError");
	/* What a node has to say of its own is no evidence of the machine's state. */
	if (!out && !accelerator && !PyErr_GivenExceptionMatches(exception, PyExc_MemoryError) &&
	    !PyErr_GivenExceptionMatches(exception, PyExc_RuntimeError) &&
	    !PyErr_GivenExceptionMatches(exception, PyExc_OSError))
		return v;
	const char *kind = out ? "OutOfMemoryError"
			   : PyErr_GivenExceptionMatches(exception, PyExc_MemoryError)
			       ? "MemoryError"
			       : "";
	PyObject *text = PyObject_Str(exception);
	size_t n;
	const char *p = comfy_text(text, &n);
	PyErr_Clear();
	v = judge(kind, accelerator, p != NULL ? p : "");
	Py_XDECREF(text);
	return v;
}

/* The error, else the one that it was raised from. */
static struct verdict
judge_exception(PyObject *exception)
{
	struct verdict v = { 0 };
	PyObject *at = Py_XNewRef(exception);
	for (int depth = 0; at != NULL && depth < CAUSES_MAX && v.oom == 0 && !v.device; depth++) {
		PyObject *cause = PyException_GetCause(at);
		v = judge_one(at);
		Py_SETREF(at, cause);
	}
	Py_XDECREF(at);
	return v;
}

static void
tag_verdict(struct span *s, struct verdict v)
{
	span_tag_id(s, comfy_keys.oom, v.oom);
	span_tag_id(s, comfy_keys.device_error, v.device ? comfy_keys.yes : 0);
}

static void
tag_real(struct span *s, const struct comfy_node *n)
{
	char out[COMFY_ID_BYTES];
	size_t size;
	const char *id = comfy_text(n->id, &size);
	if (id != NULL)
		span_tag_text(s, comfy_keys.real_node, out, comfy_node_id(id, size, out));
	span_tag_id(s, comfy_keys.real_class, n->span->w.resource);
}

void
fail_node(struct comfy_job *j, struct comfy_node *n, PyObject *exception, PyObject *tb)
{
	struct comfy_node *up = n;
	if (fail_is_interrupt(exception)) {
		n->outcome = OUTCOME_INTERRUPTED;
		return;
	}
	struct verdict verdict = judge_exception(exception);
	for (int depth = 0; up != NULL && depth < DEPTH_MAX; depth++) {
		span_error(up->span, exception, tb);
		up->outcome = OUTCOME_ERROR;
		tag_verdict(up->span, verdict);
		if (up != n)
			tag_real(up->span, n);
		up = up->parent != NULL ? node_find(j, up->parent) : NULL;
	}
	span_error(j->span, exception, tb);
	tag_verdict(j->span, verdict);
	j->failed = exception != NULL;
}

void
fail_job(struct comfy_job *j, PyObject *exception, PyObject *tb)
{
	span_error(j->span, exception, tb);
	tag_verdict(j->span, judge_exception(exception));
}

/* The lines of a formatted traceback that say where, without the source between them. */
static void
put_places(char out[STACK_BYTES], PyObject *list)
{
	static const char mark[] = "  File \"";
	size_t at = (size_t)snprintf(out, STACK_BYTES, "Traceback (most recent call last):\n");
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
		size_t n;
		const char *p = comfy_text(PyList_GET_ITEM(list, i), &n);
		if (p == NULL || strncmp(p, mark, sizeof mark - 1) != 0)
			continue;
		n = strcspn(p, "\n");
		if (at + n + 2 > STACK_BYTES)
			break;
		memcpy(out + at, p, n);
		at += n;
		out[at++] = '\n';
	}
	out[at] = '\0';
}

/* Texts of the host's message, borrowed for the time of one call. */
struct told {
	char type[TYPE_BYTES], message[MESSAGE_BYTES], stack[STACK_BYTES];
	struct verdict verdict;
};

static void
read_message(struct told *t, PyObject *message)
{
	size_t n, m;
	const char *type = comfy_text(comfy_item(message, comfy_names.exception_type), &n);
	const char *text = comfy_text(comfy_item(message, comfy_names.exception_message), &m);
	PyObject *traceback = comfy_item(message, comfy_names.traceback);
	snprintf(t->type, sizeof t->type, "%s", type != NULL ? type : "");
	m = text == NULL ? 0 : m < sizeof t->message ? m : sizeof t->message - 1;
	while (m > 0 && text[m - 1] == '\n') /* ComfyUI's own */
		m--;
	memcpy(t->message, text != NULL ? text : "", m);
	t->message[m] = '\0';
	t->stack[0] = '\0';
	if (traceback != NULL && PyList_Check(traceback) && PyList_GET_SIZE(traceback) > 0)
		put_places(t->stack, traceback);
	/* As judge_one: what a node says of its own is no evidence. */
	static const char *const kinds[] = { "MemoryError", "AcceleratorError", "RuntimeError",
		"OSError", NULL };
	t->verdict = (struct verdict){ 0 };
	if (says_one_of(t->type, kinds))
		t->verdict =
		    judge(t->type, strstr(t->type, "AcceleratorError") != NULL, t->message);
}

void
fail_told(struct comfy_job *j, PyObject *message)
{
	struct told t;
	if (j->failed)
		return;
	j->failed = true;
	read_message(&t, message);
	struct comfy_node *n = NULL;
	PyObject *id = comfy_item(message, comfy_names.node_id);
	if (id != NULL && PyUnicode_Check(id))
		n = node_find(j, id);
	if (n != NULL) {
		span_error_told(n->span, t.type, t.message, t.stack);
		tag_verdict(n->span, t.verdict);
		n->outcome = OUTCOME_ERROR;
	}
	span_error_told(j->span, t.type, t.message, t.stack);
	tag_verdict(j->span, t.verdict);
}
