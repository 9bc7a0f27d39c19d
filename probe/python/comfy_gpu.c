/*
 * comfy_gpu.c - what torch says of GPU memory, at the end of a job.
 *
 * Only where torch is there and has initialised CUDA by itself; nothing here
 * imports it, waits for a device, or resets its counters.
 */
#include <stdio.h>

#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define DEVICES_MAX 16

/* cuda.name(): a new reference, or NULL without an exception. */
static PyObject *
ask(PyObject *cuda, const char *name)
{
	PyObject *v = PyObject_CallMethod(cuda, name, NULL);
	if (v == NULL)
		PyErr_Clear();
	return v;
}

static void
tag_one(struct span *s, PyObject *cuda, long device, const char *method, const char *what)
{
	char key[64];
	PyObject *bytes = PyObject_CallMethod(cuda, method, "l", device);
	double v = bytes != NULL ? PyFloat_AsDouble(bytes) : -1;
	PyErr_Clear();
	Py_XDECREF(bytes);
	if (v < 0)
		return;
	int n = snprintf(key, sizeof key, "memory.gpu.%ld.%s_bytes", device, what);
	span_metric(s, comfymon_intern(key, (size_t)n), v);
}

void
gpu_tag(struct span *s)
{
	PyObject *torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
	PyObject *cuda = torch != NULL ? PyObject_GetAttrString(torch, "cuda") : NULL;
	PyErr_Clear();
	if (cuda == NULL)
		return;
	PyObject *up = ask(cuda, "is_initialized");
	PyObject *count = up == Py_True ? ask(cuda, "device_count") : NULL;
	long devices = count != NULL ? PyLong_AsLong(count) : 0;
	PyErr_Clear();
	for (long i = 0; i < devices && i < DEVICES_MAX; i++) {
		tag_one(s, cuda, i, "memory_allocated", "allocated");
		tag_one(s, cuda, i, "memory_reserved", "reserved");
	}
	Py_XDECREF(count);
	Py_XDECREF(up);
	Py_DECREF(cuda);
}
