/*
 * py.h - the only door to the C API of CPython, and what differs between minors.
 *
 * Everything in this folder that includes it runs with the GIL held.  Sources
 * without it (identity, propagation, redact) are libc only and run anywhere.
 */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x03090000
#error "CPython 3.9 or newer"
#endif

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *
Py_NewRef(PyObject *o)
{
	Py_INCREF(o);
	return o;
}

static inline PyObject *
Py_XNewRef(PyObject *o)
{
	Py_XINCREF(o);
	return o;
}

static inline int
PyModule_AddObjectRef(PyObject *module, const char *name, PyObject *value)
{
	Py_XINCREF(value);
	if (value == NULL || PyModule_AddObject(module, name, value) < 0) {
		Py_XDECREF(value);
		return -1;
	}
	return 0;
}
#endif

/* Add a new reference of ours, which is given up in any case. */
static inline int
py_module_add(PyObject *module, const char *name, PyObject *owned)
{
	int rc = PyModule_AddObjectRef(module, name, owned);
	Py_XDECREF(owned);
	return rc;
}

/* Drop an exception that is ours to drop. An interrupt is the host's: it is raised again by Python.
 */
static inline void
py_drop(void)
{
	if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
		PyErr_SetInterrupt();
	PyErr_Clear();
}

/* An exception taken out of the thread's state, to be put back unchanged. */
struct py_raised {
	PyObject *type, *value, *tb;
};

static inline void
py_fetch(struct py_raised *r)
{
#if PY_VERSION_HEX >= 0x030c0000
	r->type = r->tb = NULL;
	r->value = PyErr_GetRaisedException();
#else
	PyErr_Fetch(&r->type, &r->value, &r->tb);
#endif
}

static inline void
py_restore(struct py_raised *r)
{
#if PY_VERSION_HEX >= 0x030c0000
	PyErr_SetRaisedException(r->value);
#else
	PyErr_Restore(r->type, r->value, r->tb);
#endif
}
