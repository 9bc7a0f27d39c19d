/*
 * comfy_web.c - requests to aiohttp's server, ComfyUI's and any other's.
 *
 * The request is a span that is current while its handlers run, and goes on
 * with the trace of a caller that sent one.  Of what a stranger sends, only the
 * method, the path without query, the host and the user agent are told, checked
 * and clipped; resources come from the table of routes, which is finite.
 * Runs on the thread of the server's loop.  See config/hooks/aiohttp.def
 */
#include <stdlib.h>
#include <strings.h>

#include "probe/core/probe.h"
#include "probe/python/comfy.h"
#include "probe/python/hook.h"
#include "probe/python/propagation.h"

#define URL_BYTES   512
#define HOST_BYTES  128
#define AGENT_BYTES 256
#define ROUTE_BYTES 200

/* Header names, as objects: a look-up makes nothing. */
enum header {
	TRACEPARENT,
	TRACESTATE,
	DD_TRACE,
	DD_PARENT,
	DD_PRIORITY,
	DD_ORIGIN,
	DD_TAGS,
	HOST,
	AGENT,
	HEADERS
};
static const char *const header_names[HEADERS] = { "traceparent", "tracestate",
	"x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority",
	"x-datadog-origin", "x-datadog-tags", "Host", "User-Agent" };

static struct {
	PyObject *headers, *get, *method, *scheme, *raw_path, *status, *route, *resource,
	    *canonical;
	PyObject *header[HEADERS];
} py;

/* Methods are few; what else a client may write is one more. */
static const char *const methods[] = { "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH",
	"CONNECT", "TRACE", "_OTHER" };
#define METHODS      (sizeof methods / sizeof *methods)
#define METHOD_OTHER (METHODS - 1)

static struct {
	uint32_t name, type, service, aiohttp, component, server, kind;
	uint32_t method, route, url, agent, status, origin, parent;
	uint32_t methods[METHODS];
} id;

static unsigned styles;

/* ---- small things ------------------------------------------------------- */

static uint32_t
intern(const char *s)
{
	return comfymon_intern(s, strlen(s));
}

/* An attribute, or NULL: new reference, no exception. */
static PyObject *
attr(PyObject *o, PyObject *name)
{
	PyObject *v = o != NULL ? PyObject_GetAttr(o, name) : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

/* The text of a str, or NULL. */
static const char *
utf8(PyObject *o)
{
	const char *p = o != NULL && PyUnicode_Check(o) ? PyUnicode_AsUTF8(o) : NULL;
	if (p == NULL)
		PyErr_Clear();
	return p;
}

static PyObject *
header_of(PyObject *headers, enum header which)
{
	PyObject *v = headers != NULL
			  ? PyObject_CallMethodObjArgs(headers, py.get, py.header[which], NULL)
			  : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

static struct span *
current_request(void)
{
	return span_within(id.name);
}

static size_t
method_of(PyObject *request)
{
	PyObject *method = attr(request, py.method);
	const char *p = utf8(method);
	size_t i = p != NULL ? 0 : METHOD_OTHER;
	while (i < METHOD_OTHER && strcmp(p, methods[i]) != 0)
		i++;
	Py_XDECREF(method);
	return i;
}

/* ---- the caller's trace ------------------------------------------------- */

/* The caller's own tags go on with the trace. */
static void
tag_caller(struct span *s, const struct propagation *p)
{
	if (p->origin[0] != '\0')
		span_tag_text(s, id.origin, p->origin, strlen(p->origin));
	if (p->last_parent[0] != '\0')
		span_tag_text(s, id.parent, p->last_parent, strlen(p->last_parent));
	for (const char *t = p->tags; *t != '\0';) {
		size_t n = strcspn(t, ","), key = strcspn(t, "=");
		if (key < n)
			span_tag_text(s, comfymon_intern(t, key), t + key + 1, n - key - 1);
		t += n + (t[n] == ',');
	}
}

/* True when the request brought a context that we may go on with. */
static bool
extract(PyObject *headers, struct propagation *out)
{
	PyObject *value[DD_TAGS + 1] = { NULL };
	const char *text[DD_TAGS + 1] = { NULL };
	bool w3c = false, dd = false, found = false;
	if (styles == 0 || headers == NULL)
		return false;
	for (int i = 0; i <= DD_TAGS; i++) {
		/* Most requests bring nothing: two look-ups tell. */
		if ((i == TRACESTATE && !w3c) || (i > DD_TRACE && !dd))
			continue;
		value[i] = header_of(headers, i);
		text[i] = utf8(value[i]);
		w3c = w3c || (i == TRACEPARENT && text[i] != NULL);
		dd = dd || (i == DD_TRACE && text[i] != NULL);
	}
	if (w3c || dd) {
		struct propagation_headers h = { text[TRACEPARENT], text[TRACESTATE],
			text[DD_TRACE], text[DD_PARENT], text[DD_PRIORITY], text[DD_ORIGIN],
			text[DD_TAGS] };
		found = propagation_extract(&h, styles, out);
	}
	for (int i = 0; i <= DD_TAGS; i++)
		Py_XDECREF(value[i]);
	return found;
}

static void
begin(struct span *s, PyObject *headers)
{
	struct propagation p;
	if (!extract(headers, &p)) {
		span_begin(s, NULL);
		return;
	}
	struct span_link link = { .trace_hi = p.trace_hi,
		.trace_lo = p.trace_lo,
		.span_id = p.parent_id,
		.priority = p.priority,
		.mechanism = p.mechanism,
		.remote = true };
	span_begin(s, &link);
	tag_caller(s, &p);
}

/* ---- the request -------------------------------------------------------- */

/* A host as it may be written in a URL; whatever else a client sends is left out. */
static bool
plain_host(const char *p, size_t n)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789.-_:[]";
	return n > 0 && n < HOST_BYTES && strspn(p, allowed) == n;
}

/* scheme://host/path; no query, no user, nothing of an absolute target but its path. */
static void
tag_url(struct span *s, PyObject *request, PyObject *headers)
{
	char url[URL_BYTES];
	PyObject *host = header_of(headers, HOST), *scheme = attr(request, py.scheme);
	PyObject *target = attr(request, py.raw_path);
	const char *h = utf8(host), *sc = utf8(scheme), *path = utf8(target);
	int at = 0;
	if (path != NULL && *path != '/') {
		const char *authority = strstr(path, "://");
		path = authority != NULL ? strchr(authority + 3, '/') : NULL;
	}
	if (path != NULL && h != NULL && sc != NULL && plain_host(h, strlen(h)))
		at = snprintf(url, sizeof url, "%.8s://%s", sc, h);
	if (path != NULL) {
		size_t n = strcspn(path, "?#"), room = sizeof url - (size_t)at;
		n = n < room ? n : room;
		memcpy(url + at, path, n);
		while (n > 0 && n == room && ((unsigned char)url[at + (int)n - 1] & 0x80) != 0)
			n--, room--; /* not in the middle of a character */
		span_tag_text(s, id.url, url, (size_t)at + n);
	}
	Py_XDECREF(target);
	Py_XDECREF(scheme);
	Py_XDECREF(host);
}

static void
tag_agent(struct span *s, PyObject *headers)
{
	PyObject *agent = header_of(headers, AGENT);
	const char *p = utf8(agent);
	size_t n = p != NULL ? strlen(p) : 0;
	if (n > AGENT_BYTES) {
		n = AGENT_BYTES;
		while (n > 0 && ((unsigned char)p[n] & 0xc0) == 0x80)
			n--;
	}
	if (n > 0)
		span_tag_text(s, id.agent, p, n);
	Py_XDECREF(agent);
}

static int
request_called(struct hook_call *c)
{
	PyObject *request = hook_arg(c, 0);
	if (request == NULL)
		return 0; /* not the function we know */
	struct span *s = c->span = span_new(id.name);
	if (s == NULL)
		return -1;
	PyObject *headers = attr(request, py.headers);
	s->w.type = id.type;
	s->w.service = id.service;
	s->w.flags |= WIRE_SPAN_MEASURED;
	begin(s, headers);
	span_tag_id(s, id.component, id.aiohttp);
	span_tag_id(s, id.kind, id.server);
	span_tag_id(s, id.method, id.methods[method_of(request)]);
	tag_url(s, request, headers);
	tag_agent(s, headers);
	Py_XDECREF(headers);
	return 0;
}

static const char *
method_in(const struct span *s)
{
	uint32_t value = span_tag_value(s, id.method);
	size_t i = 0;
	while (i < METHOD_OTHER && id.methods[i] != value)
		i++;
	return methods[i];
}

static void
set_resource(struct span *s, const char *what)
{
	char text[ROUTE_BYTES + 16];
	int n = snprintf(text, sizeof text, "%s %s", method_in(s), what);
	if (n > 0 && (size_t)n < sizeof text)
		s->w.resource = comfymon_intern(text, (size_t)n);
}

static void
set_status(struct span *s, long status)
{
	char text[8];
	if (s->state != SPAN_BEGUN || status < 100 || status > 999)
		return;
	snprintf(text, sizeof text, "%ld", status);
	span_tag_id(s, id.status, intern(text));
	if (status >= 500 && status <= 599)
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
	PyObject *status = attr(answer, py.status);
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
	PyObject *route = attr(match, py.route), *resource = attr(route, py.resource);
	PyObject *canonical =
	    resource != NULL && resource != Py_None ? attr(resource, py.canonical) : NULL;
	const char *p = utf8(canonical);
	if (p != NULL && strlen(p) < ROUTE_BYTES) {
		p = *p != '\0' ? p : "/"; /* static files below the root */
		span_tag_id(s, id.route, intern(p));
		set_resource(s, p);
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
	struct span *s = number >= 500 ? current_request() : NULL;
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
	struct {
		PyObject **to;
		const char *text;
	} names[] = {
		{ &py.headers, "headers" },
		{ &py.get, "get" },
		{ &py.method, "method" },
		{ &py.scheme, "scheme" },
		{ &py.raw_path, "raw_path" },
		{ &py.status, "status" },
		{ &py.route, "route" },
		{ &py.resource, "resource" },
		{ &py.canonical, "canonical" },
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if ((*names[i].to = PyUnicode_InternFromString(names[i].text)) == NULL)
			return -1;
	for (int i = 0; i < HEADERS; i++)
		if ((py.header[i] = PyUnicode_InternFromString(header_names[i])) == NULL)
			return -1;
	return 0;
}

static int
setup(PyObject *Py_UNUSED(module))
{
	static const struct hook_kind *const kinds[] = { &request_kind, &route_kind, &error_kind,
		&upgrade_kind };
	if (switched_off("DD_TRACE_AIOHTTP_ENABLED"))
		return 0;
	if (make_names() < 0)
		return -1;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		hook_register_kind(kinds[i]);
	if (hook_register_table(table, sizeof table / sizeof *table) == 0)
		return 0;
	PyErr_SetString(PyExc_ImportError, "comfymon: no room for the hooks of aiohttp");
	return -1;
}

static void
read_styles(void)
{
	bool bad = false;
	const char *v = getenv("DD_TRACE_PROPAGATION_STYLE_EXTRACT");
	if (v == NULL || *v == '\0')
		v = getenv("DD_TRACE_PROPAGATION_STYLE");
	styles = v == NULL || *v == '\0' ? PROPAGATION_DEFAULT : propagation_styles(v, &bad);
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
		{ &id.method, "http.method" },
		{ &id.route, "http.route" },
		{ &id.url, "http.url" },
		{ &id.agent, "http.useragent" },
		{ &id.status, "http.status_code" },
		{ &id.origin, "_dd.origin" },
		{ &id.parent, "_dd.parent_id" },
	};
	const char *service = getenv("DD_AIOHTTP_SERVICE");
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		*ids[i].to = intern(ids[i].text);
	for (size_t i = 0; i < METHODS; i++)
		id.methods[i] = intern(methods[i]);
	id.service = service != NULL ? intern(service) : 0;
	read_styles();
}

const struct comfy_part comfy_part_web = {
	.name = "web",
	.setup = setup,
	.restart = restart,
};
