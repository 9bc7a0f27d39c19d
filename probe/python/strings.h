/*
 * strings.h - ids of Python strings, remembered by the object's address.
 *
 * A direct-mapped table holds a strong reference to each string it knows, so an
 * address cannot be reused while it is in the table; a string that loses its
 * place is let go.  GIL held.
 */
#pragma once

#include "probe/python/py.h"

/* Id of `s` (a str), interned when new; 0 when it is empty, not UTF-8 or the arena is full. */
uint32_t strings_id(PyObject *s);

/* The same for a text that may never come again, such as a resource. */
uint32_t strings_value_id(PyObject *s);

/*
 * Id of `s` if it is a constant of the program (known, or interned by Python
 * and short), else 0: the values of tags are many, and the arena is not for them.
 */
uint32_t strings_constant(PyObject *s);

/* Forget everything: the ids belong to a ring that is gone. */
void strings_reset(void);
