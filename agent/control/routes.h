/*
 * routes.h - inside of the control room: what may be asked, apart from how it
 * is carried.  A handler runs on the thread of the door that was asked.
 */
#pragma once

#include "agent/control/internal.h"
#include "agent/core/outbuf.h"

struct request {
	struct door *door;
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
	bool open;   /* on the health port too: to everybody on this host */
	route_fn fn;
	const char *type; /* of a good answer's body; NULL: JSON */
};

/*
 * The route of a request; HEAD is GET.  *other: the path exists with another method, this one;
 * else NULL.
 */
const struct route *route_find(
    const char *method, const char *path, bool open_only, const char **other);

/* {"error": why}; returns the status. */
int refuse(struct outbuf *out, int status, const char *why);
