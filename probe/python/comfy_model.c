/*
 * comfy_model.c - model files read, and models built from them.
 *
 * A safetensors file is mapped, so that reading it looks fast and the cost
 * comes with the first use: the page faults are told of both.
 * See comfy_model.h and config/hooks/comfyui_models.def
 */
#include "probe/python/comfy_model.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include "probe/core/probe.h"
#include "probe/python/comfy.h"
#include "probe/python/comfy_tensor.h"

#define TUPLE_LOOK 4 /* a loader returns (model, clip, vae, …), any of them None */

struct model_keys model_keys;

/* ---- looking at ComfyUI's objects --------------------------------------- */

PyObject *
model_attr(PyObject *o, const char *name)
{
	PyObject *v = PyObject_GetAttrString(o, name);
	if (v == NULL)
		py_drop();
	if (v == Py_None)
		Py_CLEAR(v);
	return v;
}

double
model_ask(PyObject *patcher, const char *method)
{
	return tensor_bytes_of(PyObject_CallMethod(patcher, method, NULL));
}

const char *
model_class_name(PyTypeObject *type)
{
	const char *dot = strrchr(type->tp_name, '.');
	return dot != NULL ? dot + 1 : type->tp_name;
}

void
model_join_class(char classes[MODEL_CLASSES_BYTES], const char *name)
{
	size_t at = strlen(classes), n = strlen(name);
	for (const char *p = classes; *p != '\0';) {
		size_t length = strcspn(p, "+");
		if (length == n && memcmp(p, name, n) == 0)
			return;
		p += length + (p[length] == '+');
	}
	if (at + 1 + n < MODEL_CLASSES_BYTES)
		snprintf(classes + at, MODEL_CLASSES_BYTES - at, "%s%s", at > 0 ? "+" : "", name);
}

void
model_tag_class(struct span *s, const char *classes)
{
	uint32_t id = comfymon_intern(classes, strlen(classes));
	span_tag_id(s, model_keys.class, id);
	if (s->w.resource == 0)
		s->w.resource = id;
}

void
model_tag_torch(struct span *s, uint32_t key, PyObject *o)
{
	PyObject *text = PyObject_Str(o);
	const char *p = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
	if (p != NULL) {
		p += strncmp(p, "torch.", 6) == 0 ? 6 : 0;
		span_tag_text(s, key, p, strlen(p));
	}
	PyErr_Clear();
	Py_XDECREF(text);
}

void
model_tag_bool(struct span *s, uint32_t key, bool value)
{
	span_tag_id(s, key, value ? model_keys.yes : model_keys.no);
}

long
model_faults(void)
{
	struct rusage usage;
	return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_majflt : 0;
}

/* ---- read --------------------------------------------------------------- */

struct reading {
	long faults;
	double bytes;
};

/* Formats are few, whatever files are called. */
static const char *
format_of(const char *path)
{
	static const struct {
		const char *end, *format;
	} formats[] = {
		{ "safetensors", "safetensors" },
		{ "sft", "safetensors" },
		{ "gguf", "gguf" },
		{ "ckpt", "pickle" },
		{ "pt", "pickle" },
		{ "pt2", "pickle" },
		{ "pth", "pickle" },
		{ "bin", "pickle" },
	};
	const char *dot = strrchr(path, '.');
	for (size_t i = 0; dot != NULL && i < sizeof formats / sizeof *formats; i++)
		if (strcasecmp(dot + 1, formats[i].end) == 0)
			return formats[i].format;
	return "other";
}

/* The disk may be far away: the interpreter is not held while it is asked. */
static double
file_bytes(const char *path)
{
	struct stat st;
	int rc;
	Py_BEGIN_ALLOW_THREADS
	rc = stat(path, &st);
	Py_END_ALLOW_THREADS
	return rc == 0 && S_ISREG(st.st_mode) ? (double)st.st_size : -1;
}

static void
tag_file(struct span *s, PyObject *given, struct reading *r)
{
	PyObject *bytes = NULL;
	if (PyUnicode_FSConverter(given, &bytes) == 0) {
		PyErr_Clear();
		return;
	}
	const char *path = PyBytes_AS_STRING(bytes), *format = format_of(path);
	s->w.resource = comfymon_intern(format, strlen(format));
	r->bytes = file_bytes(path);
	if (r->bytes >= 0)
		span_metric(s, model_keys.file_bytes, r->bytes);
	Py_DECREF(bytes);
}

static int
read_called(struct hook_call *c)
{
	PyObject *file = hook_arg(c, 0), *device = hook_arg(c, 1);
	struct reading *r = PyMem_RawMalloc(sizeof *r);
	if (r == NULL || hook_span_call(c) < 0) {
		PyMem_RawFree(r);
		return -1;
	}
	*r = (struct reading){ model_faults(), -1 };
	c->state = r;
	if (file != NULL)
		tag_file(c->span, file, r);
	if (device != NULL && device != Py_None)
		model_tag_torch(c->span, model_keys.device, device);
	return 0;
}

static int
read_returned(struct hook_call *c, PyObject *result)
{
	struct reading r = *(struct reading *)c->state;
	double seconds = (double)(comfymon_now_ns() - c->span->w.start_ns) / 1e9;
	PyMem_RawFree(c->state);
	span_metric(c->span, model_keys.faults, (double)(model_faults() - r.faults));
	if (r.bytes > 0 && seconds > 0)
		span_metric(c->span, model_keys.file_rate, r.bytes / 1e6 / seconds);
	return hook_span_return(c, result);
}

static int
read_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	PyMem_RawFree(c->state);
	return hook_span_raise(c, exception, tb);
}

const struct hook_kind model_kind_read = {
	.name = "model_read",
	.on_call = read_called,
	.on_return = read_returned,
	.on_raise = read_raised,
};

/* ---- build -------------------------------------------------------------- */

/* The network inside what a loader returned, and its patcher (may be NULL): new references. */
static PyObject *
network_of(PyObject *o, PyObject **patcher)
{
	static const char *const names[] = { "cond_stage_model", "first_stage_model",
		"control_model", "model" };
	*patcher = NULL;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		PyObject *network = model_attr(o, names[i]);
		if (network == NULL)
			continue;
		*patcher = model_attr(o, "patcher");
		if (*patcher == NULL)
			*patcher = Py_NewRef(o);
		return network;
	}
	return Py_NewRef(o);
}

/* The first that is there: (model, clip, vae) may begin with None. Borrowed, or NULL. */
static PyObject *
main_part(PyObject *result)
{
	if (!PyTuple_Check(result) && !PyList_Check(result))
		return result != Py_None ? result : NULL;
	for (Py_ssize_t i = 0; i < TUPLE_LOOK && i < PySequence_Fast_GET_SIZE(result); i++)
		if (PySequence_Fast_GET_ITEM(result, i) != Py_None)
			return PySequence_Fast_GET_ITEM(result, i);
	return NULL;
}

/* A patcher is asked, a VAE knows its own. New reference, or NULL. */
static PyObject *
dtype_of(PyObject *part, PyObject *patcher)
{
	PyObject *dtype =
	    patcher != NULL ? PyObject_CallMethod(patcher, "model_dtype", NULL) : NULL;
	PyErr_Clear();
	if (dtype == Py_None)
		Py_CLEAR(dtype);
	return dtype != NULL ? dtype : model_attr(part, "vae_dtype");
}

static int
build_called(struct hook_call *c)
{
	/* A constructor returns nothing: its object is what was built. */
	const char *attr = hook_def_of(c)->attr, *dot = strrchr(attr, '.');
	PyObject *made = dot != NULL && strcmp(dot, ".__init__") == 0 ? hook_self(c) : NULL;
	if (hook_span_call(c) < 0)
		return -1;
	c->state = Py_XNewRef(made);
	return 0;
}

static int
build_returned(struct hook_call *c, PyObject *result)
{
	PyObject *made = c->state, *patcher;
	PyObject *part = result == NULL ? NULL : made != NULL ? made : main_part(result);
	if (part != NULL) {
		PyObject *network = network_of(part, &patcher);
		PyObject *dtype = dtype_of(part, patcher);
		model_tag_class(c->span, model_class_name(Py_TYPE(network)));
		if (dtype != NULL)
			model_tag_torch(c->span, model_keys.dtype, dtype);
		Py_XDECREF(dtype);
		Py_XDECREF(patcher);
		Py_DECREF(network);
	}
	Py_XDECREF(made);
	return hook_span_return(c, result);
}

static int
build_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	Py_XDECREF((PyObject *)c->state);
	return hook_span_raise(c, exception, tb);
}

const struct hook_kind model_kind_build = {
	.name = "model_build",
	.on_call = build_called,
	.on_return = build_returned,
	.on_raise = build_raised,
};

/* ---- the part ----------------------------------------------------------- */

static const struct hook_def table[] = {
#include "config/hooks/comfyui_models.def"
};

static int
setup(PyObject *Py_UNUSED(module))
{
	static const struct hook_kind *const kinds[] = { &model_kind_read, &model_kind_build,
		&model_kind_load, &model_kind_unload, &model_kind_sample, &model_kind_vae };
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		hook_register_kind(kinds[i]);
	if (hook_register_table(table, sizeof table / sizeof *table) == 0)
		return 0;
	PyErr_SetString(PyExc_ImportError, "comfymon: no room for the hooks of models");
	return -1;
}

static void
restart(void)
{
	static const struct {
		uint32_t *id;
		const char *text;
	} keys[] = {
		{ &model_keys.class, "model.class" },
		{ &model_keys.dtype, "model.dtype" },
		{ &model_keys.bytes, "model.bytes" },
		{ &model_keys.loaded_bytes, "model.loaded_bytes" },
		{ &model_keys.device, "model.device" },
		{ &model_keys.partial, "model.partial" },
		{ &model_keys.file_bytes, "file.bytes" },
		{ &model_keys.file_rate, "file.mb_per_s" },
		{ &model_keys.faults, "page_faults.major" },
		{ &model_keys.tiled, "vae.tiled" },
		{ &model_keys.oom_retry, "vae.oom_retry" },
		{ &model_keys.sampler, "sampler.name" },
		{ &model_keys.steps, "sampler.steps" },
		{ &model_keys.yes, "true" },
		{ &model_keys.no, "false" },
	};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		*keys[i].id = comfymon_intern(keys[i].text, strlen(keys[i].text));
}

const struct comfy_part comfy_part_models = {
	.name = "models",
	.setup = setup,
	.restart = restart,
};
