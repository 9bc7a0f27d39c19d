/*
 * comfy_sensitive.h - what ComfyUI keeps beside a prompt for single nodes: the
 * token of who is signed in.  Its frontend sends that with each prompt, whatever
 * is in it: that a job has one says nothing, only a node that asks for it does.
 *
 * GIL held.  `apart` is where newer ComfyUIs put it, NULL in older ones, which
 * leave it in `extra_data`.
 */
#pragma once

#include "probe/python/py.h"

/*
 * Does a node of the prompt get one that is there?  True also when that cannot
 * be known.  Asks the classes for their inputs, as ComfyUI does.  No exception.
 */
bool sensitive_is_needed(PyObject *prompt, PyObject *extra_data, PyObject *apart);
/* A dict without it; NULL with an exception. */
PyObject *sensitive_left_out(PyObject *extra_data);
