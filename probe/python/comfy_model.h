/*
 * comfy_model.h - what the parts about models share (comfy_model*.c): looking
 * at ComfyUI's objects without changing them, and the keys of their tags.
 *
 * GIL held.  Attributes are read and three methods called that ComfyUI itself
 * calls all the time (model_size, loaded_size, model_dtype); nothing here waits
 * for a device, and no exception is left behind.
 */
#pragma once

#include "probe/python/hook.h"

#define MODEL_CLASSES_BYTES 128

/* Ids of strings in the ring that is open. */
struct model_keys {
	uint32_t class, dtype, bytes, loaded_bytes, device, partial;
	uint32_t file_bytes, file_rate, faults;
	uint32_t tiled, oom_retry, sampler, steps;
	uint32_t yes, no;
};
extern struct model_keys model_keys;

/* An attribute, NULL when it is not there (or None): new reference. */
PyObject *model_attr(PyObject *o, const char *name);
/* What patcher.method() returns as a number; -1 when it does not. */
double model_ask(PyObject *patcher, const char *method);
/* The name of an object's class, without its module; valid while the class lives. */
const char *model_class_name(PyTypeObject *type);
/* Add a name to those joined by '+', if it is not among them and fits. */
void model_join_class(char classes[MODEL_CLASSES_BYTES], const char *name);
/* The class as tag, and as resource where the span has none. */
void model_tag_class(struct span *s, const char *classes);
/* str() of a torch dtype or device, without "torch.". */
void model_tag_torch(struct span *s, uint32_t key, PyObject *o);
void model_tag_bool(struct span *s, uint32_t key, bool value);
/* Major page faults of the process so far. */
long model_faults(void);

extern const struct hook_kind model_kind_read, model_kind_build;  /* comfy_model.c */
extern const struct hook_kind model_kind_load, model_kind_unload; /* comfy_model_memory.c */
extern const struct hook_kind model_kind_sample, model_kind_vae;  /* comfy_model_sample.c */
