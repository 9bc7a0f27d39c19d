/*
 * comfy_web.h - the head of a request to aiohttp's server, as far as it is told
 * (comfy_web_head.c for comfy_web.c).  GIL held; no exception is left behind.
 *
 * Everything in a head is a stranger's: it is checked, clipped, and what could
 * be of any number of kinds becomes no string of the arena.
 */
#pragma once

#include "probe/python/span.h"

/* Our own agent's question whether ComfyUI answers: asked for ever, and told to nobody. */
bool web_head_is_ours(PyObject *request);
/* Begin the span, in the caller's trace if the request brings one, with the tags of its head. */
void web_head_begin(struct span *s, PyObject *request);
/*
 * A route with parts that vary takes the place of the path in the URL: what a
 * client puts there (a prompt's id, a file's name) may be something typed.
 */
void web_head_route(struct span *s, const char *route);
/* The method that was told: a constant. */
const char *web_head_method(const struct span *s);

/* An attribute: new reference, or NULL. */
PyObject *web_attr(PyObject *o, PyObject *name);
/* The text of a str (borrowed), or NULL. */
const char *web_utf8(PyObject *o);
/* The id of a constant of ours. */
uint32_t web_intern(const char *s);

/* Names as objects, once: -1 with an exception. */
int web_head_setup(void);
/* Ids anew, and the environment's styles of propagation. */
void web_head_restart(void);
