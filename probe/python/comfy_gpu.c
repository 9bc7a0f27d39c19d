/*
 * comfy_gpu.c - memory as torch counts it: of the devices, and of what a node
 * returned.
 *
 * torch is never imported and never made to initialise a device: it is looked
 * up where it is, and asked only when it has done both already.
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define DEVICES_MAX 16
#define TENSORS_MAX 64
#define DEPTH_MAX   4

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
	PyObject *v = PyObject_CallMethod(cuda, method, "l", device);
	double bytes = v != NULL ? PyFloat_AsDouble(v) : -1;
	int n = snprintf(key, sizeof key, "memory.gpu.%ld.%s_bytes", device, what);
	PyErr_Clear();
	if (v != NULL && bytes >= 0)
		span_metric(s, comfymon_intern(key, (size_t)n), bytes);
	Py_XDECREF(v);
}

void
gpu_tag(struct span *s)
{
	PyObject *cuda = torch_attr("cuda");
	PyObject *up = cuda != NULL ? PyObject_CallMethod(cuda, "is_initialized", NULL) : NULL;
	if (up == Py_True) {
		PyObject *count = PyObject_CallMethod(cuda, "device_count", NULL);
		long devices = count != NULL ? PyLong_AsLong(count) : 0;
		PyErr_Clear();
		for (long i = 0; i < devices && i < DEVICES_MAX; i++) {
			tag_device(s, cuda, i, "memory_allocated", "allocated");
			tag_device(s, cuda, i, "memory_reserved", "reserved");
		}
		Py_XDECREF(count);
	}
	PyErr_Clear();
	Py_XDECREF(up);
	Py_XDECREF(cuda);
}

struct sums {
	PyTypeObject *tensor;
	double cpu, other;
	unsigned tensors;
};

static double
number(PyObject *o, const char *method)
{
	PyObject *v = PyObject_CallMethod(o, method, NULL);
	double x = v != NULL ? PyFloat_AsDouble(v) : 0;
	Py_XDECREF(v);
	PyErr_Clear();
	return x;
}

static void
add_tensor(struct sums *sums, PyObject *t)
{
	double bytes = number(t, "numel") * number(t, "element_size");
	PyObject *device = PyObject_GetAttrString(t, "device");
	PyObject *type = device != NULL ? PyObject_GetAttrString(device, "type") : NULL;
	bool cpu = type == NULL || !PyUnicode_Check(type) ||
		   PyUnicode_CompareWithASCIIString(type, "cpu") == 0;
	PyErr_Clear();
	*(cpu ? &sums->cpu : &sums->other) += bytes;
	sums->tensors++;
	Py_XDECREF(type);
	Py_XDECREF(device);
}

static void
add_value(struct sums *sums, PyObject *o, int depth)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	if (depth > DEPTH_MAX || sums->tensors >= TENSORS_MAX)
		return;
	Py_INCREF(o); /* asking a tensor may run the host's code */
	if (PyObject_TypeCheck(o, sums->tensor))
		add_tensor(sums, o);
	else if (PyList_Check(o))
		for (; at < PyList_GET_SIZE(o) && at < TENSORS_MAX; at++)
			add_value(sums, PyList_GET_ITEM(o, at), depth + 1);
	else if (PyTuple_Check(o))
		for (; at < PyTuple_GET_SIZE(o) && at < TENSORS_MAX; at++)
			add_value(sums, PyTuple_GET_ITEM(o, at), depth + 1);
	else if (PyDict_Check(o) && PyDict_GET_SIZE(o) < TENSORS_MAX)
		while (PyDict_Next(o, &at, &key, &value))
			add_value(sums, value, depth + 1);
	Py_DECREF(o);
}

void
output_bytes_tag(struct span *s, PyObject *output)
{
	PyObject *tensor = torch_attr("Tensor");
	struct sums sums = { .tensor = (PyTypeObject *)tensor };
	if (tensor != NULL && PyType_Check(tensor)) {
		add_value(&sums, output, 0);
		if (sums.tensors > 0)
			span_metric(s, comfy_keys.output_bytes, sums.cpu + sums.other);
		if (sums.other > 0)
			span_metric(s, comfymon_intern("node.output_bytes.gpu", 21), sums.other);
	}
	Py_XDECREF(tensor);
}
