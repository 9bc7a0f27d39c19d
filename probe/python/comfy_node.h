/*
 * comfy_node.h - what comfy_node.c and comfy_output.c share: visits of a node.
 */
#pragma once

#include "probe/python/comfy_job.h"

/* It runs from now on; called again, it is another attempt. */
void node_start(struct node *n);
/* One visit less; a node that ended meanwhile goes with the last. */
void node_leave(struct node *n);

/* o.name: a new reference, or NULL without an exception. */
PyObject *node_attribute(PyObject *o, const char *name);
/* Its class, or one that it derives from, has this name, whatever the module. */
bool node_is_named(PyObject *o, const char *name);
