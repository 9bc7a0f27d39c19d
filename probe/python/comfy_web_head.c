/*
 * comfy_web_head.c - see comfy_web.h
 *
 * Told of a head: the method, the path without query, host and user agent, and
 * the trace of a caller that sent one.
 */
#include "probe/python/comfy_web.h"

#include <stdlib.h>

#include "probe/core/probe.h"
#include "probe/python/propagation.h"

#define URL_BYTES        512
#define HOST_BYTES       128
#define AGENT_BYTES      256
#define OUR_AGENT        "comfymon" /* ASK_USER_AGENT of agent/base/ask.h */
#define CALLER_KEYS_MAX  32         /* _dd.p.* that callers may name in the life of a ring */
#define CALLER_KEY_BYTES 64

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
	PyObject *headers, *get, *method, *scheme, *raw_path;
	PyObject *header[HEADERS];
} py;

/* Methods are few; what else a client may write is one more. */
static const char *const methods[] = { "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH",
	"CONNECT", "TRACE", "_OTHER" };
#define METHODS      (sizeof methods / sizeof *methods)
#define METHOD_OTHER (METHODS - 1)

static struct {
	uint32_t method, url, agent, origin, parent;
	uint32_t methods[METHODS];
} id;

static unsigned styles;

static struct {
	unsigned count;
	struct {
		char name[CALLER_KEY_BYTES];
		uint32_t id;
	} at[CALLER_KEYS_MAX];
} caller_keys;

/* ---- small things ------------------------------------------------------- */

uint32_t
web_intern(const char *s)
{
	return comfymon_intern(s, strlen(s));
}

PyObject *
web_attr(PyObject *o, PyObject *name)
{
	PyObject *v = o != NULL ? PyObject_GetAttr(o, name) : NULL;
	if (v == NULL)
		PyErr_Clear();
	return v;
}

const char *
web_utf8(PyObject *o)
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

/* At most `cap` bytes of p, and no half character. */
static size_t
clipped(const char *p, size_t n, size_t cap)
{
	if (n <= cap)
		return n;
	for (n = cap; n > 0 && ((unsigned char)p[n] & 0xc0) == 0x80;)
		n--;
	return n;
}

static size_t
method_of(PyObject *request)
{
	PyObject *method = web_attr(request, py.method);
	const char *p = web_utf8(method);
	size_t i = p != NULL ? 0 : METHOD_OTHER;
	while (i < METHOD_OTHER && strcmp(p, methods[i]) != 0)
		i++;
	Py_XDECREF(method);
	return i;
}

const char *
web_head_method(const struct span *s)
{
	uint32_t value = span_tag_value(s, id.method);
	size_t i = 0;
	while (i < METHOD_OTHER && id.methods[i] != value)
		i++;
	return methods[i];
}

/* ---- the caller's trace ------------------------------------------------- */

/* The id of a key that a caller named: of the first few only, the arena is not for strangers. */
static uint32_t
caller_key(const char *name, size_t n)
{
	if (n >= CALLER_KEY_BYTES)
		return 0;
	for (unsigned i = 0; i < caller_keys.count; i++)
		if (strncmp(caller_keys.at[i].name, name, n) == 0 &&
		    caller_keys.at[i].name[n] == '\0')
			return caller_keys.at[i].id;
	if (caller_keys.count == CALLER_KEYS_MAX)
		return 0;
	unsigned i = caller_keys.count++;
	memcpy(caller_keys.at[i].name, name, n);
	caller_keys.at[i].name[n] = '\0';
	return caller_keys.at[i].id = comfymon_intern(name, n);
}

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
			span_tag_text(s, caller_key(t, key), t + key + 1, n - key - 1);
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
		text[i] = web_utf8(value[i]);
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

/* ---- url and user agent -------------------------------------------------- */

/* A host as it may be written in a URL; whatever else a client sends is left out. */
static bool
plain_host(const char *p, size_t n)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789.-_:[]";
	return n > 0 && n < HOST_BYTES && strspn(p, allowed) == n;
}

/* The path of a request's target: of an absolute one without scheme, user and host. */
static const char *
path_of(const char *target)
{
	if (target == NULL || *target == '/')
		return target;
	const char *authority = strstr(target, "://");
	return authority != NULL ? strchr(authority + 3, '/') : NULL;
}

/* scheme://host/path, no query. */
static void
tag_url(struct span *s, PyObject *request, PyObject *headers)
{
	char url[URL_BYTES];
	PyObject *host = header_of(headers, HOST), *scheme = web_attr(request, py.scheme);
	PyObject *target = web_attr(request, py.raw_path);
	const char *h = web_utf8(host), *sc = web_utf8(scheme), *path = path_of(web_utf8(target));
	int at = 0;
	if (path != NULL && h != NULL && sc != NULL && plain_host(h, strlen(h)))
		at = snprintf(url, sizeof url, "%.8s://%s", sc, h);
	if (path != NULL) {
		size_t n = clipped(path, strcspn(path, "?#"), sizeof url - (size_t)at);
		memcpy(url + at, path, n);
		span_tag_text(s, id.url, url, (size_t)at + n);
	}
	Py_XDECREF(target);
	Py_XDECREF(scheme);
	Py_XDECREF(host);
}

void
web_head_route(struct span *s, const char *route)
{
	struct wire_span view = {
		.tag_count = s->tags.count, .tag_bytes = s->tags.used, .tags = s->tags.buf
	};
	struct wire_tag_view t;
	uint32_t at = 0;
	while (wire_tag_next(&view, &at, &t)) {
		if (t.key != id.url || t.kind != WIRE_TAG_TEXT)
			continue;
		char url[URL_BYTES];
		const char *host = memmem(t.text, t.text_bytes, "://", 3), *path = t.text;
		if (host != NULL)
			path = memchr(host + 3, '/', t.text_bytes - (size_t)(host + 3 - t.text));
		if (path == NULL)
			return;
		int n = snprintf(url, sizeof url, "%.*s%s", (int)(path - t.text), t.text, route);
		span_tag_text(s, id.url, url, (size_t)n < sizeof url ? (size_t)n : sizeof url - 1);
		return;
	}
}

static void
tag_agent(struct span *s, PyObject *headers)
{
	PyObject *agent = header_of(headers, AGENT);
	const char *p = web_utf8(agent);
	if (p != NULL && *p != '\0')
		span_tag_text(s, id.agent, p, clipped(p, strlen(p), AGENT_BYTES));
	Py_XDECREF(agent);
}

bool
web_head_is_ours(PyObject *request)
{
	PyObject *headers = web_attr(request, py.headers), *agent = header_of(headers, AGENT);
	const char *p = web_utf8(agent);
	bool ours = p != NULL && strcmp(p, OUR_AGENT) == 0;
	Py_XDECREF(agent);
	Py_XDECREF(headers);
	return ours;
}

void
web_head_begin(struct span *s, PyObject *request)
{
	PyObject *headers = web_attr(request, py.headers);
	begin(s, headers);
	span_tag_id(s, id.method, id.methods[method_of(request)]);
	tag_url(s, request, headers);
	tag_agent(s, headers);
	Py_XDECREF(headers);
}

/* ---- set-up ------------------------------------------------------------- */

int
web_head_setup(void)
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
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if ((*names[i].to = PyUnicode_InternFromString(names[i].text)) == NULL)
			return -1;
	for (int i = 0; i < HEADERS; i++)
		if ((py.header[i] = PyUnicode_InternFromString(header_names[i])) == NULL)
			return -1;
	return 0;
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

void
web_head_restart(void)
{
	id.method = web_intern("http.method");
	id.url = web_intern("http.url");
	id.agent = web_intern("http.useragent");
	id.origin = web_intern("_dd.origin");
	id.parent = web_intern("_dd.parent_id");
	for (size_t i = 0; i < METHODS; i++)
		id.methods[i] = web_intern(methods[i]);
	caller_keys.count = 0;
	read_styles();
}
