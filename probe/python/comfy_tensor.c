/* comfy_tensor.c - see comfy_tensor.h; and node.output_bytes, which is made of it. */
#include "probe/python/comfy_tensor.h"

#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"

#define TENSORS_MAX 64
#define VALUES_MAX  512
#define DEPTH_MAX   4
#define BYTES_MAX   1e18 /* more is said by mistake */

static struct {
	PyObject *nbytes, *numel, *element_size, *is_cpu, *device, *type;
	PyObject *untyped_storage, *cdata, *torch_function, *torch_dispatch;
	PyObject *getattribute, *getattr;
} names;

/* Who has one of these asks no more torch, but runs code of its own. */
static PyObject *const *const own_ways[] = { &names.torch_function, &names.torch_dispatch,
	&names.nbytes, &names.numel, &names.element_size, &names.is_cpu, &names.device,
	&names.untyped_storage, &names.getattribute, &names.getattr };

int
tensor_setup(void)
{
	const struct {
		PyObject **to;
		const char *text;
	} all[] = {
		{ &names.nbytes, "nbytes" },
		{ &names.numel, "numel" },
		{ &names.element_size, "element_size" },
		{ &names.is_cpu, "is_cpu" },
		{ &names.device, "device" },
		{ &names.type, "type" },
		{ &names.untyped_storage, "untyped_storage" },
		{ &names.cdata, "_cdata" },
		{ &names.torch_function, "__torch_function__" },
		{ &names.torch_dispatch, "__torch_dispatch__" },
		{ &names.getattribute, "__getattribute__" },
		{ &names.getattr, "__getattr__" },
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if ((*all[i].to = PyUnicode_InternFromString(all[i].text)) == NULL)
			return -1;
	return 0;
}

PyTypeObject *
tensor_class(void)
{
	PyObject *torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
	PyObject *v =
	    torch != NULL && torch != Py_None ? PyObject_GetAttrString(torch, "Tensor") : NULL;
	if (v != NULL && !PyType_Check(v))
		Py_CLEAR(v);
	PyErr_Clear();
	return (PyTypeObject *)v;
}

static bool
has_own_ways(PyTypeObject *t)
{
	bool yes = t->tp_dict == NULL;
	for (size_t i = 0; !yes && i < sizeof own_ways / sizeof *own_ways; i++)
		yes = PyDict_Contains(t->tp_dict, *own_ways[i]) != 0;
	return yes;
}

bool
tensor_is(PyObject *o, PyTypeObject *tensor)
{
	if (Py_TYPE(o) == tensor)
		return true;
	if (!PyObject_TypeCheck(o, tensor))
		return false;
	PyObject *mro = Py_TYPE(o)->tp_mro;
	for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
		PyTypeObject *t = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
		if (t == tensor)
			return true;
		if (has_own_ways(t))
			break;
	}
	PyErr_Clear();
	return false;
}

double
tensor_bytes_of(PyObject *v)
{
	double x = v != NULL ? PyFloat_AsDouble(v) : -1;
	PyErr_Clear();
	Py_XDECREF(v);
	return x >= 0 && x < BYTES_MAX ? x : -1;
}

static double
elements_bytes(PyObject *t)
{
	double bytes = tensor_bytes_of(PyObject_GetAttr(t, names.nbytes));
	if (bytes >= 0)
		return bytes;
	/* torch before 2.1 */
	double count = tensor_bytes_of(PyObject_CallMethodNoArgs(t, names.numel));
	double each = tensor_bytes_of(PyObject_CallMethodNoArgs(t, names.element_size));
	return count > 0 && each > 0 ? count * each : 0;
}

static bool
is_on_cpu(PyObject *t)
{
	PyObject *v = PyObject_GetAttr(t, names.is_cpu);
	if (v != NULL) {
		bool cpu = v == Py_True;
		Py_DECREF(v);
		return cpu;
	}
	PyErr_Clear();
	PyObject *device = PyObject_GetAttr(t, names.device);
	PyObject *type = device != NULL ? PyObject_GetAttr(device, names.type) : NULL;
	bool cpu = type == NULL || !PyUnicode_Check(type) ||
		   PyUnicode_CompareWithASCIIString(type, "cpu") == 0;
	PyErr_Clear();
	Py_XDECREF(type);
	Py_XDECREF(device);
	return cpu;
}

/*
 * False: it has none that can be asked for.  Never its data_ptr(): asking for
 * that may copy what is shared until it is written to.
 */
static bool
measure_storage(PyObject *t, struct tensor_size *out)
{
	PyObject *storage = PyObject_CallMethodNoArgs(t, names.untyped_storage);
	if (storage == NULL) {
		PyErr_Clear();
		return false;
	}
	out->storage_bytes = tensor_bytes_of(PyObject_CallMethodNoArgs(storage, names.nbytes));
	PyObject *id = PyObject_GetAttr(storage, names.cdata);
	unsigned long long address = id != NULL ? PyLong_AsUnsignedLongLongMask(id) : 0;
	PyErr_Clear();
	out->storage = address != 0 ? (uintptr_t)address : (uintptr_t)storage;
	Py_XDECREF(id);
	Py_DECREF(storage);
	return out->storage_bytes >= 0;
}

void
tensor_measure(PyObject *t, bool storage, struct tensor_size *out)
{
	out->cpu = is_on_cpu(t);
	if (storage && measure_storage(t, out))
		return;
	out->storage = (uintptr_t)t;
	out->storage_bytes = out->bytes = elements_bytes(t);
}

/* ---- node.output_bytes -------------------------------------------------- */

struct sums {
	PyTypeObject *tensor;
	double cpu, other;
	unsigned tensors, values;
};

static void
add_value(struct sums *sums, PyObject *o, int depth)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	if (depth > DEPTH_MAX || sums->tensors >= TENSORS_MAX || ++sums->values > VALUES_MAX)
		return;
	Py_INCREF(o); /* asking a tensor may run a finalizer of the host's */
	if (tensor_is(o, sums->tensor)) {
		struct tensor_size size;
		tensor_measure(o, false, &size);
		*(size.cpu ? &sums->cpu : &sums->other) += size.bytes;
		sums->tensors++;
	} else if (PyList_Check(o)) {
		for (; at < PyList_GET_SIZE(o) && at < TENSORS_MAX; at++)
			add_value(sums, PyList_GET_ITEM(o, at), depth + 1);
	} else if (PyTuple_Check(o)) {
		for (; at < PyTuple_GET_SIZE(o) && at < TENSORS_MAX; at++)
			add_value(sums, PyTuple_GET_ITEM(o, at), depth + 1);
	} else if (PyDict_Check(o) && PyDict_GET_SIZE(o) < TENSORS_MAX) {
		while (PyDict_Next(o, &at, &key, &value))
			add_value(sums, value, depth + 1);
	}
	Py_DECREF(o);
}

void
output_bytes_tag(struct span *s, PyObject *output)
{
	struct sums sums = { .tensor = tensor_class() };
	if (sums.tensor == NULL)
		return;
	add_value(&sums, output, 0);
	if (sums.tensors > 0)
		span_metric(s, comfy_keys.output_bytes, sums.cpu + sums.other);
	if (sums.other > 0)
		span_metric(s, comfy_keys.output_bytes_gpu, sums.other);
	Py_DECREF(sums.tensor);
}
