/*
 * routes.h - inside of the control room: what may be asked, apart from how it
 * is carried.  A handler runs on the server's thread.
 */
#pragma once

#include "agent/control/control.h"
#include "agent/core/outbuf.h"

struct request {
	const struct control_options *options;
	const char *rest; /* of the path, behind a prefix route */
	/* Value of a query argument or NULL; lives as long as the request. */
	const char *(*query)(const struct request *r, const char *name);
	void *connection;
};

/* Returns an HTTP status; the body is in out (JSON, or JSON lines). */
typedef int (*route_fn)(const struct request *r, struct outbuf *out);

struct route {
	const char *method, *path;
	bool prefix; /* path ends with '/', the rest is an argument */
	route_fn fn;
};

/* The route of a request; *other says that the path exists with another method. */
const struct route *route_find(const char *method, const char *path, bool *other);
