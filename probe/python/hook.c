/*
 * hook.c - the rows: registered, attached to modules that are there, detached.
 *
 * Rows are made once and never freed while the process lives (tables are few
 * and fixed), so a wrapper that somebody still holds stays safe to call.
 * See hook.h
 */
#include "probe/python/hook_impl.h"

#include "probe/core/probe.h"
#include "schema/tables.h"

#define HOOKS_MAX 512
#define KINDS_MAX 64

static struct hook *hooks[HOOKS_MAX];
static size_t hook_count;
static const struct hook_kind *kinds[KINDS_MAX] = { &hook_kind_span };
static size_t kind_count = 1;

void
hook_register_kind(const struct hook_kind *kind)
{
	if (kind_count < KINDS_MAX)
		kinds[kind_count++] = kind;
}

static const struct hook_kind *
kind_named(const char *name)
{
	for (size_t i = 0; i < kind_count; i++)
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	return NULL;
}

/* A row that cannot be understood is kept, as UNKNOWN, so that hooks() shows it. */
int
hook_register_table(const struct hook_def *defs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct hook *h = hook_count < HOOKS_MAX ? PyMem_RawCalloc(1, sizeof *h) : NULL;
		if (h == NULL)
			return -1;
		h->def = &defs[i];
		h->kind = kind_named(defs[i].kind);
		h->state = HOOK_WAITING;
		for (int k = 0; k < HOOK_PARAMS_MAX && defs[i].params[k] != NULL; k++)
			h->params[k].name = PyUnicode_InternFromString(defs[i].params[k]);
		if (h->kind == NULL || hook_span_compile(h) < 0)
			h->state = HOOK_UNKNOWN;
		hooks[hook_count++] = h;
	}
	PyErr_Clear();
	return 0;
}

static void
report(const struct hook *h)
{
	char name[256];
	int n = snprintf(name, sizeof name, "%s:%s", h->def->module, h->def->attr);
	if (n <= 0 || (h->state == HOOK_MISSING && (h->def->flags & HOOK_OPTIONAL) != 0))
		return;
	(void)comfymon_hook(
	    comfymon_intern(name, (size_t)n < sizeof name ? (size_t)n : sizeof name - 1), h->state);
}

/* The object that holds the last name of the path; *attr is that name. New references. */
static PyObject *
owner_of(PyObject *module, const char *path, PyObject **attr)
{
	PyObject *owner = Py_NewRef(module);
	const char *dot;
	while (owner != NULL && (dot = strchr(path, '.')) != NULL) {
		PyObject *name = PyUnicode_FromStringAndSize(path, dot - path);
		PyObject *next = name != NULL ? PyObject_GetAttr(owner, name) : NULL;
		Py_XDECREF(name);
		Py_DECREF(owner);
		owner = next;
		path = dot + 1;
	}
	if (owner != NULL && (*attr = PyUnicode_InternFromString(path)) == NULL)
		Py_CLEAR(owner);
	PyErr_Clear();
	return owner;
}

/* What lies in the owner itself, unbound; an inherited attribute is not ours to shadow. */
static PyObject *
own_attribute(PyObject *owner, PyObject *attr)
{
	PyObject *dict = PyObject_GetAttrString(owner, "__dict__");
	PyObject *value = dict != NULL ? PyObject_GetItem(dict, attr) : NULL;
	Py_XDECREF(dict);
	PyErr_Clear();
	return value;
}

/*
 * The class that holds the attribute, where the owner only inherits it: from a
 * class of the same module, as others' base classes are not ours to change.
 * Takes the owner's reference, returns one.
 */
static PyObject *
holder_of(PyObject *owner, PyObject *attr)
{
	PyObject *module = PyType_Check(owner) ? PyObject_GetAttrString(owner, "__module__") : NULL;
	/* Held: what is asked below may be the host's code, and give the class other bases. */
	PyObject *mro = module != NULL ? Py_XNewRef(((PyTypeObject *)owner)->tp_mro) : NULL;
	for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
		PyObject *class = PyTuple_GET_ITEM(mro, i);
		PyObject *value = own_attribute(class, attr);
		if (value == NULL)
			continue;
		Py_DECREF(value);
		PyObject *home = PyObject_GetAttrString(class, "__module__");
		if (home != NULL && PyObject_RichCompareBool(home, module, Py_EQ) == 1)
			Py_SETREF(owner, Py_NewRef(class));
		Py_XDECREF(home);
		break;
	}
	PyErr_Clear();
	Py_XDECREF(mro);
	Py_XDECREF(module);
	return owner;
}

/* It binds to an instance in a way of its own, which a wrapper cannot repeat. */
static bool
binds_strangely(PyObject *original)
{
	PyTypeObject *type = Py_TYPE(original);
	return type->tp_descr_get != NULL && !PyMethod_Check(original) &&
	       !PyType_HasFeature(type, Py_TPFLAGS_METHOD_DESCRIPTOR);
}

/* The function inside a static or class method, else the object itself; NULL: not a function. */
static PyObject *
function_of(PyObject *owner, PyObject *original)
{
	if (Py_IS_TYPE(original, &PyStaticMethod_Type) || Py_IS_TYPE(original, &PyClassMethod_Type))
		return PyObject_GetAttrString(original, "__func__");
	if (PyType_Check(original) || !PyCallable_Check(original) ||
	    (PyType_Check(owner) && binds_strangely(original)))
		return NULL;
	return Py_NewRef(original);
}

static PyObject *
dressed(PyObject *original, PyObject *wrapper)
{
	if (Py_IS_TYPE(original, &PyStaticMethod_Type))
		return PyStaticMethod_New(wrapper);
	if (Py_IS_TYPE(original, &PyClassMethod_Type))
		return PyClassMethod_New(wrapper);
	return Py_NewRef(wrapper);
}

/* Replace owner.attr; the hook is attached only when that succeeded. */
static bool
place(struct hook *h, PyObject *owner, PyObject *attr, PyObject *original)
{
	PyObject *function = function_of(owner, original);
	if (function == NULL)
		return false;
	PyObject *parameters = hook_parameters(function);
	for (int i = 0; i < HOOK_PARAMS_MAX; i++)
		hook_bind_resolve(&h->params[i], function, parameters);
	hook_span_resolve(h, function, parameters);
	Py_XDECREF(parameters);
	PyObject *wrapper = wrapper_new(function, h, false);
	PyObject *placed = wrapper != NULL ? dressed(original, wrapper) : NULL;
	Py_DECREF(function);
	if (placed == NULL || PyObject_SetAttr(owner, attr, placed) < 0) {
		Py_XDECREF(placed);
		Py_XDECREF(wrapper);
		return false;
	}
	h->owner = Py_NewRef(owner);
	h->attr = Py_NewRef(attr);
	h->original = Py_NewRef(original);
	h->placed = placed;
	h->wrapper = wrapper;
	return true;
}

/* Our wrapper may still be there, below somebody else's: then it only has to work again. */
static bool
revive(struct hook *h)
{
	if (h->wrapper == NULL)
		return false;
	wrapper_set_hook(h->wrapper, h);
	return true;
}

static bool
attach(struct hook *h)
{
	PyObject *modules = PyImport_GetModuleDict(), *attr = NULL;
	PyObject *module = PyDict_GetItemString(modules, h->def->module);
	if (module == NULL || module == Py_None)
		return false;
	if (revive(h)) {
		h->state = HOOK_ATTACHED;
		report(h);
		return true;
	}
	PyObject *owner = owner_of(module, h->def->attr, &attr);
	owner = owner != NULL ? holder_of(owner, attr) : NULL;
	PyObject *original = owner != NULL ? own_attribute(owner, attr) : NULL;
	if (original == NULL)
		h->state = HOOK_MISSING;
	else
		h->state = place(h, owner, attr, original) ? HOOK_ATTACHED : HOOK_UNKNOWN;
	PyErr_Clear();
	Py_XDECREF(original);
	Py_XDECREF(attr);
	Py_XDECREF(owner);
	report(h);
	return h->state == HOOK_ATTACHED;
}

/* The host's attributes run code of its own, and other threads with it: a row is one's at a time.
 */
size_t
hook_attach(void)
{
	size_t n = 0;
	for (size_t i = 0; i < hook_count; i++) {
		struct hook *h = hooks[i];
		if (h->busy || (h->state != HOOK_WAITING && h->state != HOOK_DETACHED))
			continue;
		h->busy = true;
		n += attach(h);
		h->busy = false;
	}
	return n;
}

static void
detach(struct hook *h)
{
	PyObject *now = own_attribute(h->owner, h->attr);
	wrapper_set_hook(h->wrapper, NULL);
	h->state = HOOK_DETACHED;
	/* Somebody wrapped us: their wrapper calls ours, which passes through from now on. */
	if (now == h->placed && PyObject_SetAttr(h->owner, h->attr, h->original) == 0) {
		Py_CLEAR(h->owner);
		Py_CLEAR(h->attr);
		Py_CLEAR(h->original);
		Py_CLEAR(h->placed);
		Py_CLEAR(h->wrapper);
	}
	PyErr_Clear();
	Py_XDECREF(now);
	report(h);
}

void
hook_detach(void)
{
	for (size_t i = 0; i < hook_count; i++) {
		struct hook *h = hooks[i];
		if (h->busy || h->state != HOOK_ATTACHED)
			continue;
		h->busy = true;
		detach(h);
		h->busy = false;
	}
}

bool
hook_is_attached(const char *module, const char *attr)
{
	for (size_t i = 0; i < hook_count; i++)
		if (hooks[i]->state == HOOK_ATTACHED &&
		    strcmp(hooks[i]->def->module, module) == 0 &&
		    strcmp(hooks[i]->def->attr, attr) == 0)
			return true;
	return false;
}

const struct hook_def *
hook_def_of(const struct hook_call *c)
{
	return c->hook->def;
}

PyObject *
hook_list(void)
{
	static const char *const states[] = { "attached", "missing", "unknown", "detached",
		"waiting" };
	PyObject *list = PyList_New(0);
	for (size_t i = 0; list != NULL && i < hook_count; i++) {
		const struct hook *h = hooks[i];
		PyObject *row = Py_BuildValue("{ss,ss,ss,ss,sK,sI,sO}", "module", h->def->module,
		    "attr", h->def->attr, "kind", h->def->kind, "state", states[h->state], "calls",
		    (unsigned long long)h->calls, "failures", h->failures, "off",
		    h->off ? Py_True : Py_False);
		if (row == NULL || PyList_Append(list, row) < 0)
			Py_CLEAR(list);
		Py_XDECREF(row);
	}
	return list;
}

PyObject *
hook_decorate(PyObject *function, PyObject *const strings[SPAN_STRINGS])
{
	struct hook *h = PyMem_RawCalloc(1, sizeof *h);
	if (h == NULL)
		return PyErr_NoMemory();
	h->kind = &hook_kind_span;
	for (int i = 0; i < SPAN_STRINGS; i++)
		h->strings[i] = Py_XNewRef(strings[i]);
	PyObject *wrapper = wrapper_new(function, h, true);
	if (wrapper == NULL)
		hook_free_decorated(h);
	return wrapper;
}

void
hook_free_decorated(struct hook *h)
{
	for (int i = 0; i < SPAN_STRINGS; i++)
		Py_CLEAR(h->strings[i]);
	PyMem_RawFree(h);
}

int
hook_setup(void)
{
	if (PyType_Ready(&wrapper_unbound_type) < 0 || PyType_Ready(&wrapper_type) < 0 ||
	    PyType_Ready(&awaitable_type) < 0)
		return -1;
	PyObject *abc = PyImport_ImportModule("collections.abc");
	PyObject *coroutine = abc != NULL ? PyObject_GetAttrString(abc, "Coroutine") : NULL;
	PyObject *done = coroutine != NULL ? PyObject_CallMethod(coroutine, "register", "O",
						 (PyObject *)&awaitable_type)
					   : NULL;
	Py_XDECREF(coroutine);
	Py_XDECREF(abc);
	Py_XDECREF(done);
	return done != NULL ? 0 : -1;
}

void
hook_restart(void)
{
	hook_generation++;
}
