/*
 * comfy_model_sample.c - sampling, and images to and from latents.
 *
 * Their functions call one another; the row's HOOK_OUTERMOST leaves one span
 * for each run, and what only an inner call tells is added to it.
 * See comfy_model.h
 */
#include "probe/core/probe.h"
#include "probe/python/comfy_model.h"

#define NAME_BYTES 64

enum parameter { SAMPLER, SIGMAS };

/* ---- sample ------------------------------------------------------------- */

/* "euler" from a sampler object, whose function is called sample_euler, or from a plain name. */
static void
tag_sampler(struct span *s, PyObject *sampler)
{
	static const char prefix[] = "sample_";
	PyObject *function = model_attr(sampler, "sampler_function");
	PyObject *name = PyUnicode_Check(sampler) ? Py_NewRef(sampler)
			 : function != NULL       ? model_attr(function, "__name__")
						  : NULL;
	const char *p = name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
	if (p == NULL)
		p = model_class_name(Py_TYPE(sampler));
	if (strncmp(p, prefix, sizeof prefix - 1) == 0)
		p += sizeof prefix - 1;
	uint32_t id = comfymon_intern(p, strnlen(p, NAME_BYTES));
	span_tag_id(s, model_keys.sampler, id);
	if (s->w.resource == 0)
		s->w.resource = id;
	PyErr_Clear();
	Py_XDECREF(name);
	Py_XDECREF(function);
}

/* Sigmas are the noise levels: one more than steps. Their number is known without their values. */
static void
tag_steps(struct span *s, PyObject *sigmas)
{
	Py_ssize_t n = PyObject_Size(sigmas);
	if (n > 0)
		span_metric(s, model_keys.steps, (double)(n - 1));
	PyErr_Clear();
}

static int
sample_called(struct hook_call *c)
{
	PyObject *sampler = hook_arg(c, SAMPLER), *sigmas = hook_arg(c, SIGMAS);
	if (hook_span_call(c) < 0)
		return -1;
	if (c->span == NULL)
		return 0;
	if (sampler != NULL && sampler != Py_None)
		tag_sampler(c->span, sampler);
	if (sigmas != NULL && sigmas != Py_None)
		tag_steps(c->span, sigmas);
	return 0;
}

const struct hook_kind model_kind_sample = {
	.name = "sample",
	.on_call = sample_called,
	.on_return = hook_span_return,
	.on_raise = hook_span_raise,
};

/* ---- vae ---------------------------------------------------------------- */

/* A plain decode or encode that goes on in tiles had no memory for the whole. */
static void
note_second_try(const char *name)
{
	struct span *outer = span_within(comfymon_intern(name, strlen(name)));
	if (outer != NULL && span_tag_value(outer, model_keys.tiled) == model_keys.no) {
		model_tag_bool(outer, model_keys.tiled, true);
		model_tag_bool(outer, model_keys.oom_retry, true);
	}
	Py_XDECREF(outer);
}

static int
vae_called(struct hook_call *c)
{
	const struct hook_def *d = hook_def_of(c);
	bool tiled = strstr(d->attr, "tiled") != NULL;
	if (hook_span_call(c) < 0)
		return -1;
	if (c->span != NULL) {
		model_tag_bool(c->span, model_keys.tiled, tiled);
		model_tag_bool(c->span, model_keys.oom_retry, false);
	} else if (tiled) {
		note_second_try(d->name);
	}
	return 0;
}

const struct hook_kind model_kind_vae = {
	.name = "vae",
	.on_call = vae_called,
	.on_return = hook_span_return,
	.on_raise = hook_span_raise,
};
