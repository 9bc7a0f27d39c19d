/* strings.c - see strings.h */
#include "probe/python/strings.h"

#include "probe/core/probe.h"

#define TABLE_SIZE    1024u /* of 16 bytes */
#define KEEP_BYTES    256   /* longer strings are not kept alive for the table */
#define CONSTANT_SIZE 64    /* longest value that counts as a constant */

static struct {
	PyObject *key;
	uint32_t id;
} table[TABLE_SIZE];

static inline size_t
slot_of(const PyObject *s)
{
	uintptr_t p = (uintptr_t)s;
	return (size_t)((p >> 4) ^ (p >> 14)) & (TABLE_SIZE - 1);
}

static uint32_t
intern(PyObject *s, uint32_t (*add)(const char *s, size_t n))
{
	Py_ssize_t n;
	const char *text = PyUnicode_AsUTF8AndSize(s, &n);
	if (text == NULL) { /* lone surrogates */
		PyErr_Clear();
		return 0;
	}
	uint32_t id = add(text, (size_t)n);
	/* A string that nobody else holds is a passing one: it would only push out a constant. */
	if (id == 0 || n > KEEP_BYTES || (Py_REFCNT(s) < 2 && !PyUnicode_CHECK_INTERNED(s)))
		return id;
	size_t at = slot_of(s);
	PyObject *old = table[at].key;
	table[at].key = Py_NewRef(s);
	table[at].id = id;
	Py_XDECREF(old);
	return id;
}

uint32_t
strings_id(PyObject *s)
{
	size_t at = slot_of(s);
	return table[at].key == s ? table[at].id : intern(s, comfymon_intern);
}

uint32_t
strings_value_id(PyObject *s)
{
	size_t at = slot_of(s);
	return table[at].key == s ? table[at].id : intern(s, comfymon_intern_value);
}

uint32_t
strings_constant(PyObject *s)
{
	size_t at = slot_of(s);
	if (table[at].key == s)
		return table[at].id;
	if (PyUnicode_CHECK_INTERNED(s) && PyUnicode_GET_LENGTH(s) <= CONSTANT_SIZE)
		return intern(s, comfymon_intern);
	return 0;
}

void
strings_reset(void)
{
	for (size_t i = 0; i < TABLE_SIZE; i++) {
		table[i].id = 0;
		Py_CLEAR(table[i].key);
	}
}
