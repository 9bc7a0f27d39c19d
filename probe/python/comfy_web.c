/*
 * comfy_web.c - requests to aiohttp's server, ComfyUI's and any other's.
 *
 * The request is a span that is current while its handlers run.  Resources come
 * from the table of routes, which is finite.  Runs on the thread of the
 * server's loop.  See config/hooks/aiohttp.def
 */
#include "probe/python/comfy_web.h"

#include <stdlib.h>
#include <strings.h>

#include "probe/core/probe.h"
#include "probe/python/comfy.h"
#include "probe/python/hook.h"

#define ROUTE_BYTES 200
#define STATUS_MIN  100
#define STATUS_MAX  999
#define ERRORS_ENV  "DD_TRACE_HTTP_SERVER_ERROR_STATUSES"

static struct {
	PyObject *status, *route, *resource, *canonical;
} py;

static struct {
	uint32_t name, type, service, aiohttp, component, server, kind, route, status;
} id;

/* Which statuses are errors. */
static bool is_error[STATUS_MAX + 1];

static struct span *
current_request(void)
{
	return span_within(id.name);
}

/* ---- the request -------------------------------------------------------- */

static int
request_called(struct hook_call *c)
{
	PyObject *request = hook_arg(c, 0);
	if (request == NULL)
		return 0; /* not the function we know */
	if (web_head_is_ours(request))
		return 0;
	struct span *s = c->span = span_new(id.name);
	if (s == NULL)
		return -1;
	s->w.type = id.type;
	s->w.service = id.service;
	s->w.flags |= WIRE_SPAN_MEASURED;
	web_head_begin(s, request);
	span_tag_id(s, id.component, id.aiohttp);
	span_tag_id(s, id.kind, id.server);
	return 0;
}

static void
set_resource(struct span *s, const char *what)
{
	char text[ROUTE_BYTES + 16];
	int n = snprintf(text, sizeof text, "%s %s", web_head_method(s), what);
	if (n > 0 && (size_t)n < sizeof text)
		s->w.resource = comfymon_intern(text, (size_t)n);
}

static void
set_status(struct span *s, long status)
{
	char text[8];
	if (s->state != SPAN_BEGUN || status < STATUS_MIN || status > STATUS_MAX)
		return;
	snprintf(text, sizeof text, "%ld", status);
	span_tag_id(s, id.status, web_intern(text));
	if (is_error[status])
		s->w.flags |= WIRE_SPAN_ERROR;
	if (s->w.resource == 0)
		set_resource(s, text);
}

/* The answer, alone or first of a pair. */
static int
request_returned(struct hook_call *c, PyObject *result)
{
	if (c->span == NULL || result == NULL)
		return 0;
	PyObject *answer = result;
	if (PyTuple_Check(result) && PyTuple_GET_SIZE(result) > 0)
		answer = PyTuple_GET_ITEM(result, 0);
	PyObject *status = web_attr(answer, py.status);
	if (status != NULL && PyLong_Check(status))
		set_status(c->span, PyLong_AsLong(status));
	PyErr_Clear();
	Py_XDECREF(status);
	return 0;
}

/* asyncio is not imported for this: without it nothing is cancelled. */
static bool
is_cancelled(PyObject *exception)
{
	PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), "asyncio.exceptions");
	PyObject *type = module != NULL ? PyObject_GetAttrString(module, "CancelledError") : NULL;
	bool yes = type != NULL && PyErr_GivenExceptionMatches(exception, type);
	PyErr_Clear();
	Py_XDECREF(type);
	return yes;
}

/* A client that went away, or a server that stops, is no error of a handler. */
static int
request_raised(struct hook_call *c, PyObject *exception, PyObject *tb)
{
	if (c->span == NULL || exception == NULL || is_cancelled(exception) ||
	    PyErr_GivenExceptionMatches(exception, PyExc_ConnectionError))
		return 0;
	return hook_span_raise(c, exception, tb);
}

static const struct hook_kind request_kind = {
	.name = "aiohttp_request",
	.on_call = request_called,
	.on_return = request_returned,
	.on_raise = request_raised,
};

/* ---- what is learnt while it is handled --------------------------------- */

/* The route is known: now it can be told of a request that does not live to its end. */
static int
route_returned(struct hook_call *Py_UNUSED(c), PyObject *match)
{
	struct span *s = match != NULL && match != Py_None ? current_request() : NULL;
	if (s == NULL)
		return 0;
	PyObject *route = web_attr(match, py.route), *resource = web_attr(route, py.resource);
	PyObject *canonical =
	    resource != NULL && resource != Py_None ? web_attr(resource, py.canonical) : NULL;
	const char *p = web_utf8(canonical);
	if (p != NULL && strlen(p) < ROUTE_BYTES) {
		p = *p != '\0' ? p : "/"; /* static files below the root */
		span_tag_id(s, id.route, web_intern(p));
		set_resource(s, p);
		if (strchr(p, '{') != NULL)
			web_head_route(s, p);
	}
	span_open(s);
	Py_XDECREF(canonical);
	Py_XDECREF(resource);
	Py_XDECREF(route);
	Py_DECREF(s);
	return 0;
}

static const struct hook_kind route_kind = {
	.name = "aiohttp_route",
	.on_return = route_returned,
};

/* A handler's exception ends here; what the client gets is only a 500. */
static int
error_called(struct hook_call *c)
{
	PyObject *exception = hook_arg(c, 0), *status = hook_arg_or_default(c, 1);
	long number = status != NULL && PyLong_Check(status) ? PyLong_AsLong(status) : 500;
	bool told = number >= STATUS_MIN && number <= STATUS_MAX && is_error[number];
	struct span *s = told ? current_request() : NULL;
	PyErr_Clear();
	if (s != NULL && exception != NULL && PyExceptionInstance_Check(exception))
		span_error(s, exception, NULL);
	Py_XDECREF(s);
	return 0;
}

static const struct hook_kind error_kind = {
	.name = "aiohttp_error",
	.on_call = error_called,
};

/* From here on it is a conversation, not a request: what is said in it has traces of its own. */
static int
upgrade_returned(struct hook_call *Py_UNUSED(c), PyObject *result)
{
	struct span *s = result != NULL ? current_request() : NULL;
	if (s == NULL)
		return 0;
	set_status(s, 101);
	span_deactivate(s);
	span_end(s);
	Py_DECREF(s);
	return 0;
}

static const struct hook_kind upgrade_kind = {
	.name = "aiohttp_upgrade",
	.on_return = upgrade_returned,
};

/* ---- the part ----------------------------------------------------------- */

static const struct hook_def table[] = {
#include "config/hooks/aiohttp.def"
};

static bool
switched_off(const char *name)
{
	const char *v = getenv(name);
	return v != NULL && (strcasecmp(v, "false") == 0 || strcmp(v, "0") == 0);
}

static int
make_names(void)
{
	py.status = PyUnicode_InternFromString("status");
	py.route = PyUnicode_InternFromString("route");
	py.resource = PyUnicode_InternFromString("resource");
	py.canonical = PyUnicode_InternFromString("canonical");
	return py.status != NULL && py.route != NULL && py.resource != NULL && py.canonical != NULL
		   ? 0
		   : -1;
}

static int
setup(PyObject *Py_UNUSED(module))
{
	static const struct hook_kind *const kinds[] = { &request_kind, &route_kind, &error_kind,
		&upgrade_kind };
	if (switched_off("DD_TRACE_AIOHTTP_ENABLED"))
		return 0;
	if (make_names() < 0 || web_head_setup() < 0)
		return -1;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		hook_register_kind(kinds[i]);
	if (hook_register_table(table, sizeof table / sizeof *table) == 0)
		return 0;
	PyErr_SetString(PyExc_ImportError, "comfymon: no room for the hooks of aiohttp");
	return -1;
}

/* "500-599,418": what is no status or range is passed over. */
static void
read_errors(const char *list)
{
	memset(is_error, 0, sizeof is_error);
	for (const char *p = list; *p != '\0';) {
		char *end;
		long first = strtol(p, &end, 10), last = first;
		if (end != p && *end == '-')
			last = strtol(end + 1, &end, 10);
		for (long i = first; end != p && i >= STATUS_MIN && i <= last && i <= STATUS_MAX;
		     i++)
			is_error[i] = true;
		p = end + strcspn(end, ",");
		p += *p == ',';
	}
}

static void
restart(void)
{
	static const struct {
		uint32_t *to;
		const char *text;
	} ids[] = {
		{ &id.name, "aiohttp.request" },
		{ &id.type, "web" },
		{ &id.aiohttp, "aiohttp" },
		{ &id.component, "component" },
		{ &id.server, "server" },
		{ &id.kind, "span.kind" },
		{ &id.route, "http.route" },
		{ &id.status, "http.status_code" },
	};
	const char *service = getenv("DD_AIOHTTP_SERVICE"), *errors = getenv(ERRORS_ENV);
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		*ids[i].to = web_intern(ids[i].text);
	id.service = service != NULL ? web_intern(service) : 0;
	read_errors(errors != NULL && *errors != '\0' ? errors : "500-599");
	web_head_restart();
}

const struct comfy_part comfy_part_web = {
	.name = "web",
	.setup = setup,
	.restart = restart,
};
