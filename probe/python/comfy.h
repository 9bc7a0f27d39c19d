/*
 * comfy.h - the ComfyUI adapter is made of parts, each with its hooks and kinds.
 */
#pragma once

#include "probe/python/py.h"

struct comfy_part {
	const char *name;
	int (*setup)(PyObject *module); /* once, at import; -1 with an exception */
	void (*restart)(void);          /* ids of strings are new */
};

extern const struct comfy_part comfy_part_jobs;   /* comfy_part.c */
extern const struct comfy_part comfy_part_models; /* comfy_model.c */
extern const struct comfy_part comfy_part_web;    /* comfy_web.c */
