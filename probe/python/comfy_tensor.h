/*
 * comfy_tensor.h - how large torch's tensors are, and what they keep alive.
 *
 * GIL held; no exception is left behind.  torch is looked up where it is, never
 * imported.  Only attributes that torch answers in C are asked: a class of
 * tensors that has its own way with torch's functions (a proxy of another
 * process, a quantized one) is passed over, as asking it would run its code.
 */
#pragma once

#include "probe/python/py.h"

struct tensor_size {
	bool cpu;             /* in the memory of the processor */
	double bytes;         /* of its elements; only when the storage is not asked for */
	double storage_bytes; /* that it keeps alive: a view keeps the whole */
	uintptr_t storage;    /* the same for all that share it */
};

/* A number of bytes, -1 when it is none that can be; takes the reference (NULL: -1). */
double tensor_bytes_of(PyObject *v);
/* Names in torch; -1 with an exception. */
int tensor_setup(void);
/* The class, new reference; NULL while the host has no torch. */
PyTypeObject *tensor_class(void);
bool tensor_is(PyObject *o, PyTypeObject *tensor);
/* `storage`: what it keeps alive, for a tensor without a storage its elements. */
void tensor_measure(PyObject *t, bool storage, struct tensor_size *out);
