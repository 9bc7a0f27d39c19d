/*
 * comfy_gpu.c - memory of the devices as torch counts it.
 *
 * torch is never imported and never made to initialise a device: it is looked
 * up where it is, and asked only when it has done both already.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"
#include "probe/python/comfy_tensor.h"

#define DEVICES_MAX 16
#define UUID_BYTES  64

static PyObject *
torch_attr(const char *name)
{
	PyObject *torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
	PyObject *v =
	    torch != NULL && torch != Py_None ? PyObject_GetAttrString(torch, name) : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

static void
tag_device(struct span *s, PyObject *cuda, long device, const char *method, const char *what)
{
	char key[48];
	double bytes = tensor_bytes_of(PyObject_CallMethod(cuda, method, "l", device));
	int n = snprintf(key, sizeof key, "memory.gpu.%ld.%s_bytes", device, what);
	if (bytes >= 0)
		span_metric(s, comfymon_intern(key, (size_t)n), bytes);
}

/* Which device that is: torch's order is not the driver's. torch has it from 2.4 on. */
static void
tag_uuid(struct span *s, PyObject *cuda, long device)
{
	char key[48];
	int n = snprintf(key, sizeof key, "memory.gpu.%ld.uuid", device);
	PyObject *of = PyObject_CallMethod(cuda, "get_device_properties", "l", device);
	PyObject *uuid = of != NULL ? PyObject_GetAttrString(of, "uuid") : NULL;
	PyObject *text = uuid != NULL ? PyObject_Str(uuid) : NULL;
	size_t bytes = 0;
	const char *plain = text != NULL ? comfy_text(text, &bytes) : NULL;
	if (plain != NULL && bytes > 0 && bytes < UUID_BYTES)
		span_tag_text(s, comfymon_intern(key, (size_t)n), plain, bytes);
	PyErr_Clear();
	Py_XDECREF(text);
	Py_XDECREF(uuid);
	Py_XDECREF(of);
}

static void
each_device(struct span *s, void (*tag)(struct span *s, PyObject *cuda, long device))
{
	PyObject *cuda = torch_attr("cuda");
	PyObject *up = cuda != NULL ? PyObject_CallMethod(cuda, "is_initialized", NULL) : NULL;
	if (up == Py_True) {
		PyObject *count = PyObject_CallMethod(cuda, "device_count", NULL);
		long devices = count != NULL ? PyLong_AsLong(count) : 0;
		PyErr_Clear();
		for (long i = 0; i < devices && i < DEVICES_MAX; i++)
			tag(s, cuda, i);
		Py_XDECREF(count);
	}
	PyErr_Clear();
	Py_XDECREF(up);
	Py_XDECREF(cuda);
}

static void
tag_bytes(struct span *s, PyObject *cuda, long device)
{
	tag_device(s, cuda, device, "memory_allocated", "allocated");
	tag_device(s, cuda, device, "memory_reserved", "reserved");
}

void
gpu_tag(struct span *s)
{
	each_device(s, tag_bytes);
}

void
gpu_tag_ids(struct span *s)
{
	each_device(s, tag_uuid);
}
