/*
 * comfy_held.c - what ComfyUI holds on purpose when a job has ended: results of
 * nodes in the executor's cache, and models.  What the process has beyond that
 * is told as unaccounted; that it grows from job to job is the sign of a leak.
 *
 * No object is searched for: only the cache and the list of loaded models are
 * looked at, as attributes, lists and dicts; one method is called, ComfyUI's own
 * loaded_size, which answers with a number it has.  At most VALUES_MAX values that
 * may hold something, and TIME_MAX_NS of this thread's time; what was not reached
 * is told as partial.
 */
#include <time.h>

#include "probe/core/probe.h"
#include "probe/python/comfy_job.h"
#include "probe/python/comfy_model.h"
#include "probe/python/comfy_tensor.h"

#define VALUES_MAX  4096u
#define TIME_MAX_NS 1000000u
#define TIME_EVERY  128u /* values between two looks at the clock */
#define SEEN_SLOTS  8192u
#define MODELS_MAX  64u
#define DEPTH_MAX   8
#define TOP         3
#define LABEL_BYTES 144
#define CLASS_MAX   64

/* Objects that hold others in an attribute: by class, as the host's module has it. */
static const struct {
	const char *module, *class, *attr; /* no attr: a patcher itself */
} holders[] = {
	{ "comfy.model_patcher", "ModelPatcher", NULL },
	{ "comfy.sd", "CLIP", "patcher" },
	{ "comfy.sd", "VAE", "patcher" },
	{ "comfy.clip_vision", "ClipVisionModel", "patcher" },
	{ "comfy.controlnet", "ControlNet", "control_model_wrapped" },
	{ "comfy.nested_tensor", "NestedTensor", "tensors" },
};
#define HOLDERS (sizeof holders / sizeof *holders)

struct look {
	PyTypeObject *tensor, *classes[HOLDERS];
	PyObject *prompt, *added; /* nodes by id: of the prompt, of sub-graphs */
	unsigned met, left, models;
	uint64_t until_ns;
	bool partial;
	double outputs, outputs_gpu, held_models, held_models_gpu;
	const void *model[MODELS_MAX]; /* networks that were counted, only compared */
	struct {
		double bytes;
		char label[LABEL_BYTES];
	} top[TOP];
};

/* Storages that were counted; static, as it is large for a stack. */
static uintptr_t seen[SEEN_SLOTS];
static bool busy;

static uint64_t
thread_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* One more value is met; `plain` holds nothing, and costs time only. False when that is enough. */
static bool
may_go_on(struct look *k, bool plain)
{
	if (k->left > 0 && !plain)
		k->left--;
	if (++k->met % TIME_EVERY == 0 && thread_ns() > k->until_ns)
		k->left = 0;
	k->partial = k->partial || k->left == 0;
	return k->left > 0;
}

/* ---- models ------------------------------------------------------------- */

static bool
is_of_module(PyObject *o, const char *module)
{
	PyObject *v = o != NULL ? PyObject_GetAttrString(o, "__module__") : NULL;
	bool yes =
	    v != NULL && PyUnicode_Check(v) && PyUnicode_CompareWithASCIIString(v, module) == 0;
	PyErr_Clear();
	Py_XDECREF(v);
	return yes;
}

/* ComfyUI's own method only: somebody else's may ask another process. */
static double
loaded_bytes(PyObject *patcher, PyObject *network)
{
	PyObject *method = PyObject_GetAttrString((PyObject *)Py_TYPE(patcher), "loaded_size");
	double n = -1;
	PyErr_Clear();
	if (is_of_module(method, "comfy.model_patcher"))
		n = model_ask(patcher, "loaded_size");
	Py_XDECREF(method);
	if (n >= 0)
		return n;
	PyObject *v = model_attr(network, "model_loaded_weight_memory");
	n = tensor_bytes_of(v);
	return n > 0 ? n : 0;
}

static bool
is_processor(PyObject *device)
{
	PyObject *type = device != NULL ? model_attr(device, "type") : NULL;
	bool yes = type == NULL || !PyUnicode_Check(type) ||
		   PyUnicode_CompareWithASCIIString(type, "cpu") == 0;
	Py_XDECREF(type);
	return yes;
}

/* Clones share one network. What of it is not on its device is with the processor. */
static void
add_patcher(struct look *k, PyObject *patcher)
{
	PyObject *network = model_attr(patcher, "model");
	bool known = network == NULL || k->models >= MODELS_MAX;
	for (unsigned i = 0; !known && i < k->models; i++)
		known = k->model[i] == network;
	if (!known) {
		k->model[k->models++] = network;
		PyObject *device = model_attr(patcher, "load_device");
		double loaded = loaded_bytes(patcher, network);
		double whole = tensor_bytes_of(model_attr(patcher, "size"));
		k->held_models += whole > loaded ? whole : loaded;
		if (!is_processor(device))
			k->held_models_gpu += loaded;
		Py_XDECREF(device);
	}
	Py_XDECREF(network);
}

static void
add_loaded_models(struct look *k)
{
	PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), "comfy.model_management");
	PyObject *list = module != NULL ? model_attr(module, "current_loaded_models") : NULL;
	for (Py_ssize_t i = 0; list != NULL && PyList_Check(list) && i < PyList_GET_SIZE(list);
	     i++) {
		PyObject *entry = Py_NewRef(PyList_GET_ITEM(list, i));
		PyObject *patcher =
		    is_of_module((PyObject *)Py_TYPE(entry), "comfy.model_management")
			? model_attr(entry, "model")
			: NULL;
		if (may_go_on(k, false) && patcher != NULL)
			add_patcher(k, patcher);
		Py_XDECREF(patcher);
		Py_DECREF(entry);
	}
	Py_XDECREF(list);
}

/* ---- values ------------------------------------------------------------- */

static bool
is_new(uintptr_t storage)
{
	size_t at = (size_t)((storage >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 51);
	for (; seen[at] != 0; at = (at + 1) & (SEEN_SLOTS - 1))
		if (seen[at] == storage)
			return false;
	seen[at] = storage;
	return true;
}

static void
add_tensor(struct look *k, PyObject *t)
{
	struct tensor_size size;
	tensor_measure(t, true, &size);
	if (!is_new(size.storage))
		return;
	k->outputs += size.storage_bytes;
	if (!size.cpu)
		k->outputs_gpu += size.storage_bytes;
}

static void add_value(struct look *k, PyObject *o, int depth);

static void
add_holder(struct look *k, PyObject *o, int depth)
{
	for (size_t i = 0; i < HOLDERS; i++) {
		if (k->classes[i] == NULL || !PyObject_TypeCheck(o, k->classes[i]))
			continue;
		PyObject *part =
		    holders[i].attr != NULL ? model_attr(o, holders[i].attr) : Py_NewRef(o);
		if (part != NULL && k->classes[0] != NULL &&
		    PyObject_TypeCheck(part, k->classes[0]))
			add_patcher(k, part);
		else if (part != NULL && part != o)
			add_value(k, part, depth + 1);
		Py_XDECREF(part);
		return;
	}
}

static void
add_value(struct look *k, PyObject *o, int depth)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	bool plain = PyUnicode_CheckExact(o) || PyLong_CheckExact(o) || PyFloat_CheckExact(o) ||
		     o == Py_None;
	k->partial = k->partial || (depth > DEPTH_MAX && !plain);
	if (depth > DEPTH_MAX || !may_go_on(k, plain) || plain)
		return;
	Py_INCREF(o); /* asking a tensor may run a finalizer of the host's */
	if (PyList_Check(o))
		for (; k->left > 0 && at < PyList_GET_SIZE(o); at++)
			add_value(k, PyList_GET_ITEM(o, at), depth + 1);
	else if (PyTuple_Check(o))
		for (; k->left > 0 && at < PyTuple_GET_SIZE(o); at++)
			add_value(k, PyTuple_GET_ITEM(o, at), depth + 1);
	else if (PyDict_Check(o))
		while (k->left > 0 && PyDict_Next(o, &at, &key, &value))
			add_value(k, value, depth + 1);
	else if (k->tensor != NULL && tensor_is(o, k->tensor))
		add_tensor(k, o);
	else
		add_holder(k, o, depth);
	Py_DECREF(o);
}

/* An entry of the cache: outputs, or since late 2025 a named tuple of them and what the page shows.
 */
static void
add_entry(struct look *k, PyObject *entry)
{
	PyObject *outputs = NULL;
	Py_INCREF(entry); /* before it is asked: the cache may let go of it meanwhile */
	if (PyTuple_Check(entry) && !PyTuple_CheckExact(entry))
		outputs = model_attr(entry, "outputs");
	add_value(k, outputs != NULL ? outputs : entry, 0);
	Py_DECREF(entry);
	Py_XDECREF(outputs);
}

/* ---- nodes -------------------------------------------------------------- */

static void
put_size(char *out, size_t cap, double bytes)
{
	static const char units[] = "KMGT";
	int i = 0;
	for (bytes /= 1024; bytes >= 999.5 && units[i + 1] != '\0'; i++)
		bytes /= 1024;
	snprintf(out, cap, bytes < 9.95 ? "%.1f %ciB" : "%.0f %ciB", bytes, units[i]);
}

static void
put_label(struct look *k, char label[LABEL_BYTES], PyObject *id, double bytes)
{
	char plain[COMFY_ID_BYTES], size[16];
	size_t n = 0, m = 0;
	const char *name = comfy_text(id, &n);
	put_size(size, sizeof size, bytes);
	if (name == NULL) {
		snprintf(label, LABEL_BYTES, "earlier workflows %s", size);
		return;
	}
	comfy_node_id(name, n, plain);
	PyObject *node = comfy_item(k->prompt, id);
	if (node == NULL)
		node = comfy_item(k->added, id);
	const char *class = comfy_text(comfy_item(node, comfy_names.class_type), &m);
	m = m < CLASS_MAX ? m : CLASS_MAX;
	while (m > 0 && class != NULL && ((unsigned char)class[m] & 0xc0) == 0x80)
		m--;
	snprintf(label, LABEL_BYTES, "%s %.*s %s", plain, (int)m, class != NULL ? class : "", size);
}

/* `id` NULL: of no node of this job. */
static void
rank(struct look *k, PyObject *id, double bytes)
{
	int i = TOP;
	while (i > 0 && bytes > k->top[i - 1].bytes)
		i--;
	if (i == TOP || bytes < 1024)
		return;
	memmove(&k->top[i + 1], &k->top[i], (size_t)(TOP - 1 - i) * sizeof *k->top);
	k->top[i].bytes = bytes;
	put_label(k, k->top[i].label, id, bytes);
}

/* Node by node: those whose entries the cache has under the keys of this job. */
static Py_ssize_t
add_nodes(struct look *k, PyObject *entries, PyObject *keys)
{
	PyObject *id, *key;
	Py_ssize_t at = 0, found = 0;
	while (k->left > 0 && PyDict_Next(keys, &at, &id, &key)) {
		Py_INCREF(id);
		Py_INCREF(key);
		PyObject *entry = PyDict_GetItemWithError(entries, key);
		double before = k->outputs;
		PyErr_Clear();
		if (entry != NULL) {
			found++;
			add_entry(k, entry);
			rank(k, id, k->outputs - before);
		}
		Py_DECREF(key);
		Py_DECREF(id);
	}
	return found;
}

/* What else is there, kept from other workflows; what was counted above adds nothing. */
static void
add_rest(struct look *k, PyObject *entries)
{
	PyObject *key, *entry;
	Py_ssize_t at = 0;
	double before = k->outputs;
	while (k->left > 0 && PyDict_Next(entries, &at, &key, &entry))
		add_entry(k, entry);
	rank(k, NULL, k->outputs - before);
}

/* Sub-graphs have caches of their own below that of their node. */
static void
add_cache(struct look *k, PyObject *cache, int depth)
{
	PyObject *entries = model_attr(cache, "cache");
	PyObject *set = model_attr(cache, "cache_key_set"), *below = model_attr(cache, "subcaches");
	PyObject *keys = set != NULL ? model_attr(set, "keys") : NULL, *key, *sub;
	Py_ssize_t found = 0, at = 0;
	if (entries != NULL && PyDict_Check(entries)) {
		if (keys != NULL && PyDict_Check(keys))
			found = add_nodes(k, entries, keys);
		if (found < PyDict_GET_SIZE(entries))
			add_rest(k, entries);
	}
	while (below != NULL && PyDict_Check(below) && depth < DEPTH_MAX && may_go_on(k, false) &&
	       PyDict_Next(below, &at, &key, &sub)) {
		Py_INCREF(sub);
		add_cache(k, sub, depth + 1);
		Py_DECREF(sub);
	}
	Py_XDECREF(keys);
	Py_XDECREF(below);
	Py_XDECREF(set);
	Py_XDECREF(entries);
}

/* Before August 2024 the executor has a dict of outputs by node. */
static void
add_outputs(struct look *k, PyObject *executor)
{
	PyObject *caches = model_attr(executor, "caches"), *outputs, *id, *entry;
	Py_ssize_t at = 0;
	outputs = model_attr(caches != NULL ? caches : executor, "outputs");
	if (outputs != NULL && PyDict_Check(outputs)) {
		while (k->left > 0 && PyDict_Next(outputs, &at, &id, &entry)) {
			double before = k->outputs;
			Py_INCREF(id);
			add_entry(k, entry);
			rank(k, id, k->outputs - before);
			Py_DECREF(id);
		}
	} else if (outputs != NULL) {
		PyObject *graph = model_attr(outputs, "dynprompt");
		k->added = graph != NULL ? model_attr(graph, "ephemeral_prompt") : NULL;
		add_cache(k, outputs, 0);
		Py_CLEAR(k->added);
		Py_XDECREF(graph);
	}
	Py_XDECREF(outputs);
	Py_XDECREF(caches);
}

/* ---- the job ------------------------------------------------------------ */

static PyTypeObject *
host_class(const char *module, const char *name)
{
	PyObject *m = PyDict_GetItemString(PyImport_GetModuleDict(), module);
	PyObject *v = m != NULL && m != Py_None ? model_attr(m, name) : NULL;
	if (v != NULL && !PyType_Check(v))
		Py_CLEAR(v);
	return (PyTypeObject *)v;
}

static void
tag(struct span *s, const struct look *k, uint64_t rss)
{
	char text[TOP * (LABEL_BYTES + 2)];
	size_t at = 0;
	span_metric(s, comfy_keys.held_outputs, k->outputs);
	span_metric(s, comfy_keys.held_outputs_gpu, k->outputs_gpu);
	span_metric(s, comfy_keys.held_models, k->held_models);
	span_metric(s, comfy_keys.held_models_gpu, k->held_models_gpu);
	/* Files that are mapped and not read yet, and what was swapped out, are held and not
	 * resident. */
	double held = k->outputs - k->outputs_gpu + k->held_models - k->held_models_gpu;
	if (rss != 0)
		span_metric(s, comfy_keys.unaccounted, (double)rss > held ? (double)rss - held : 0);
	if (k->partial)
		span_tag_id(s, comfy_keys.held_partial, comfy_keys.yes);
	for (int i = 0; i < TOP && k->top[i].bytes > 0; i++)
		at += (size_t)snprintf(
		    text + at, sizeof text - at, "%s%s", i > 0 ? "; " : "", k->top[i].label);
	if (at > 0)
		span_tag_text(s, comfy_keys.held_top, text, at);
}

void
held_tag(struct span *s, PyObject *executor, PyObject *prompt, uint64_t rss)
{
	struct look k = { .prompt = prompt, .left = VALUES_MAX };
	if (executor == NULL || busy) /* another thread's job ends in the midst of this */
		return;
	busy = true;
	memset(seen, 0, sizeof seen);
	k.until_ns = thread_ns() + TIME_MAX_NS;
	k.tensor = tensor_class();
	for (size_t i = 0; i < HOLDERS; i++)
		k.classes[i] = host_class(holders[i].module, holders[i].class);
	add_loaded_models(&k);
	add_outputs(&k, executor);
	tag(s, &k, rss);
	for (size_t i = 0; i < HOLDERS; i++)
		Py_XDECREF(k.classes[i]);
	Py_XDECREF(k.tensor);
	busy = false;
	PyErr_Clear();
}
