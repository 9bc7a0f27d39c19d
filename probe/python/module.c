/*
 * module.c - the extension module _comfymon: what Python can call.
 *
 * One interpreter of a process, with a GIL; another is refused at import with a
 * clear sentence.  The probe's state is the process's, so a second import under
 * another name gives the same types and functions.
 */
#include "probe/core/autostart.h"
#include "probe/core/probe.h"
#include "probe/python/hook.h"
#include "probe/python/identity.h"
#include "probe/python/span.h"
#include "probe/python/strings.h"

#define STOP_AT_EXIT_MS 300

static struct identity identity;

/* ---- spans --------------------------------------------------------------- */

static const char *const trace_names[SPAN_STRINGS] = { "name", "resource", "service", "type" };

static int
trace_keyword(PyObject *name, PyObject *value, PyObject *given[SPAN_STRINGS])
{
	for (int i = 0; i < SPAN_STRINGS; i++)
		if (PyUnicode_CompareWithASCIIString(name, trace_names[i]) == 0) {
			given[i] = value;
			return 0;
		}
	PyErr_Format(PyExc_TypeError, "trace() has no argument %R", name);
	return -1;
}

static PyObject *
module_trace(PyObject *Py_UNUSED(m), PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
	PyObject *given[SPAN_STRINGS] = { NULL };
	if (n > SPAN_STRINGS) {
		PyErr_SetString(PyExc_TypeError, "trace(name, resource, service, type)");
		return NULL;
	}
	for (Py_ssize_t i = 0; i < n; i++)
		given[i] = args[i];
	for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++)
		if (trace_keyword(PyTuple_GET_ITEM(kwnames, i), args[n + i], given) < 0)
			return NULL;
	for (int i = 0; i < SPAN_STRINGS; i++) {
		if (given[i] == Py_None)
			given[i] = NULL;
		if (given[i] != NULL ? !PyUnicode_Check(given[i]) : i == SPAN_NAME) {
			PyErr_Format(PyExc_TypeError, "trace(): %s is a str", trace_names[i]);
			return NULL;
		}
	}
	struct span *s = span_new(strings_id(given[SPAN_NAME]));
	if (s == NULL)
		return NULL;
	s->strings[SPAN_NAME] = Py_NewRef(given[SPAN_NAME]);
	for (int i = SPAN_RESOURCE; i < SPAN_STRINGS; i++)
		s->strings[i] = Py_XNewRef(given[i]);
	if (given[SPAN_RESOURCE] != NULL)
		s->w.resource = strings_value_id(given[SPAN_RESOURCE]);
	if (given[SPAN_SERVICE] != NULL)
		s->w.service = strings_id(given[SPAN_SERVICE]);
	if (given[SPAN_TYPE] != NULL)
		s->w.type = strings_id(given[SPAN_TYPE]);
	return (PyObject *)s;
}

static PyObject *
module_current(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	struct span *s = span_current();
	return s != NULL ? (PyObject *)s : Py_NewRef(Py_None);
}

static PyObject *
module_current_ids(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	struct span *s = span_current();
	if (s == NULL)
		Py_RETURN_NONE;
	PyObject *trace = span_trace_id(s);
	PyObject *ids =
	    trace != NULL ? Py_BuildValue("(OK)", trace, (unsigned long long)s->w.span_id) : NULL;
	Py_XDECREF(trace);
	Py_DECREF(s);
	return ids;
}

/* ---- life of the probe ---------------------------------------------------- */

static PyObject *
module_start(PyObject *Py_UNUSED(m), PyObject *args, PyObject *kw)
{
	static char run_dir[] = "run_dir", with_sender[] = "sender", ring_bytes[] = "ring_bytes";
	static char *names[] = { run_dir, with_sender, ring_bytes, NULL };
	char version[32], reason[256] = "";
	struct comfymon_options o = { .sender = true };
	int sender = 1;
	unsigned long long bytes = 0;
	if (!PyArg_ParseTupleAndKeywords(
		args, kw, "|zpK:start", names, &o.run_dir, &sender, &bytes))
		return NULL;
	/* What began with the ring that is there goes on in it. */
	if (comfymon_is_on())
		Py_RETURN_TRUE;
	/* "3.11.7 (main, …": of the interpreter that runs, not of the headers we were built with.
	 */
	snprintf(
	    version, sizeof version, "%.*s", (int)strcspn(Py_GetVersion(), " "), Py_GetVersion());
	identity_read(&identity, version);
	if (!identity.enabled)
		Py_RETURN_FALSE;
	o.sender = sender != 0;
	o.ring_bytes = bytes;
	o.attrs = identity.attrs.buf;
	o.attrs_bytes = identity.attrs.used;
	int rc;
	Py_BEGIN_ALLOW_THREADS
	rc = comfymon_start(&o, reason, sizeof reason);
	Py_END_ALLOW_THREADS
	if (rc != 0)
		Py_RETURN_FALSE;
	strings_reset();
	span_restart();
	hook_restart();
	if (&comfy_adapter != NULL && comfy_adapter.restart != NULL)
		comfy_adapter.restart();
	Py_RETURN_TRUE;
}

static PyObject *
module_stop(PyObject *Py_UNUSED(m), PyObject *args)
{
	unsigned int ms = STOP_AT_EXIT_MS;
	if (!PyArg_ParseTuple(args, "|I:stop", &ms))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	comfymon_stop(ms);
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

static PyObject *
module_autostart(PyObject *Py_UNUSED(m), PyObject *args)
{
	const char *binary;
	char reason[256] = "";
	enum comfymon_autostart rc;
	if (!PyArg_ParseTuple(args, "s:autostart", &binary))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	rc = comfymon_autostart(binary, comfymon_run_dir(), reason, sizeof reason);
	Py_END_ALLOW_THREADS
	if (rc == COMFYMON_AUTOSTART_FAILED)
		return PyUnicode_DecodeFSDefault(reason);
	return PyUnicode_FromString(rc == COMFYMON_AUTOSTART_STARTED ? "started" : "present");
}

static PyObject *
module_is_on(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(comfymon_is_on());
}

static PyObject *
module_status(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	struct comfymon_stats s;
	char probe_id[2 * FRAME_PROBE_ID_BYTES + 1];
	comfymon_stats(&s);
	for (unsigned i = 0; i < FRAME_PROBE_ID_BYTES; i++)
		snprintf(probe_id + 2 * i, 3, "%02x", s.probe_id[i]);
	const char *reason = comfymon_off_reason();
	if (identity.disabled_by != NULL && !comfymon_is_on())
		reason = identity.disabled_by;
	unsigned long long lost = 0;
	for (unsigned i = 0; i < WIRE_LOSS_COUNT; i++)
		lost += i != WIRE_LOSS_OPEN_FULL ? s.losses[i] : 0;
	return Py_BuildValue("{sO,ss,ss,ss,sK,sK,sK,sI,sI,sO}", "on",
	    comfymon_is_on() ? Py_True : Py_False, "reason", reason, "run_dir", comfymon_run_dir(),
	    "probe_id", probe_id, "records", (unsigned long long)s.records, "spans",
	    (unsigned long long)s.spans, "lost", lost, "strings", s.strings, "open_slots",
	    s.open_slots_used, "connected", s.connected ? Py_True : Py_False);
}

static PyObject *
module_warnings(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	PyObject *list = PyList_New(0);
	for (unsigned i = 0;
	     list != NULL && i < identity.warning_count && i < IDENTITY_WARNINGS_MAX; i++) {
		PyObject *text = PyUnicode_DecodeFSDefault(identity.warnings[i]);
		if (text == NULL || PyList_Append(list, text) < 0)
			Py_CLEAR(list);
		Py_XDECREF(text);
	}
	return list;
}

/* ---- hooks ---------------------------------------------------------------- */

static PyObject *
module_attach(PyObject *Py_UNUSED(m), PyObject *args)
{
	PyObject *rows = NULL;
	if (!PyArg_ParseTuple(args, "|O:attach", &rows))
		return NULL;
	if (rows != NULL && rows != Py_None && hook_add_rows(rows) < 0)
		return NULL;
	return PyLong_FromSize_t(hook_attach());
}

static PyObject *
module_detach(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	hook_detach();
	Py_RETURN_NONE;
}

static PyObject *
module_hooks(PyObject *Py_UNUSED(m), PyObject *Py_UNUSED(ignored))
{
	return hook_list();
}

static PyMethodDef functions[] = {
	{ "trace", (PyCFunction)(void (*)(void))module_trace, METH_FASTCALL | METH_KEYWORDS,
	    "trace(name, resource=None, service=None, type=None): a span, as context manager or "
	    "decorator." },
	{ "current", module_current, METH_NOARGS, "The current span, or None." },
	{ "current_ids", module_current_ids, METH_NOARGS,
	    "(trace id, span id) of the current span, or None." },
	{ "start", (PyCFunction)(void (*)(void))module_start, METH_VARARGS | METH_KEYWORDS,
	    "start(run_dir=None, sender=True, ring_bytes=0): open the ring; False when it is "
	    "off." },
	{ "stop", module_stop, METH_VARARGS, "stop(timeout_ms=300): hand over and close." },
	{ "autostart", module_autostart, METH_VARARGS,
	    "autostart(binary): a collector if none listens; 'present', 'started' or why not." },
	{ "is_on", module_is_on, METH_NOARGS, "The probe records." },
	{ "status", module_status, METH_NOARGS, "Counters of this process's probe." },
	{ "warnings", module_warnings, METH_NOARGS, "What in the environment was not understood." },
	{ "attach", module_attach, METH_VARARGS,
	    "attach(rows=None): add rows, attach every hook whose module is there." },
	{ "detach", module_detach, METH_NOARGS, "Put the originals back." },
	{ "hooks", module_hooks, METH_NOARGS, "State of every hook." },
	{ NULL, NULL, 0, NULL },
};

/* Before the interpreter goes: threads and files are still there. */
static int
stop_at_exit(PyObject *module)
{
	PyObject *atexit = PyImport_ImportModule("atexit");
	PyObject *stop = PyObject_GetAttrString(module, "stop");
	PyObject *done = atexit != NULL && stop != NULL
			     ? PyObject_CallMethod(atexit, "register", "O", stop)
			     : NULL;
	Py_XDECREF(done);
	Py_XDECREF(stop);
	Py_XDECREF(atexit);
	return done != NULL ? 0 : -1;
}

/* `import comfymon` works for everybody in the process, whatever file we were loaded from. */
static int
publish(PyObject *module)
{
	static const char *const names[] = { "_comfymon", "comfymon" };
	PyObject *modules = PyImport_GetModuleDict();
	for (int i = 0; i < 2; i++)
		if (PyDict_GetItemString(modules, names[i]) == NULL &&
		    PyDict_SetItemString(modules, names[i], module) < 0)
			return -1;
	return 0;
}

static int
module_exec(PyObject *module)
{
#ifdef Py_GIL_DISABLED
	PyErr_SetString(
	    PyExc_ImportError, "comfymon does not run in free-threaded builds of Python");
	return -1;
#else
	static bool ready;
	if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
		PyErr_SetString(
		    PyExc_ImportError, "comfymon runs in the main interpreter of a process only");
		return -1;
	}
	if (publish(module) < 0 || span_setup(module) < 0 ||
	    PyModule_AddStringConstant(module, "__version__", COMFYMON_VERSION) < 0)
		return -1;
	if (!ready && (hook_setup() < 0 || stop_at_exit(module) < 0))
		return -1;
	if (!ready && &comfy_adapter != NULL && comfy_adapter.setup(module) < 0)
		return -1;
	ready = true;
	return 0;
#endif
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, (void *)(uintptr_t)module_exec },
#if PY_VERSION_HEX >= 0x030c0000
	{ Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED },
#endif
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_comfymon",
	.m_doc = "comfymon's probe: spans and hooks.",
	.m_methods = functions,
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__comfymon(void);

PyMODINIT_FUNC
PyInit__comfymon(void)
{
	return PyModuleDef_Init(&definition);
}
