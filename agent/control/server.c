/*
 * server.c - libmicrohttpd on a Unix socket of ours, whose one thread it has;
 * and how any door answers a request.
 */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/control/routes.h"
#include "agent/core/json.h"
#include "schema/frame.h"

#define CONNECTIONS_MAX   16u
#define CONNECTION_MEMORY (32u * 1024)
#define TIMEOUT_S         10u

static const char *
query_value(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

static enum MHD_Result
reply(struct MHD_Connection *connection, int status, const char *type, const char *allow,
    struct outbuf *out)
{
	/* The response owns the bytes from here and frees them itself. */
	struct MHD_Response *response =
	    MHD_create_response_from_buffer(out->n, out->p, MHD_RESPMEM_MUST_FREE);

	if (response == NULL) {
		outbuf_free(out);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, "Content-Type", type);
	(void)MHD_add_response_header(response, "Cache-Control", "no-store");
	/* A question a connection: nobody holds one for later. */
	(void)MHD_add_response_header(response, "Connection", "close");
	if (allow != NULL)
		(void)MHD_add_response_header(
		    response, "Allow", strcmp(allow, "GET") == 0 ? "GET, HEAD" : allow);

	enum MHD_Result rv = MHD_queue_response(connection, (unsigned)status, response);

	MHD_destroy_response(response);
	return rv;
}

/* Who sends no name (HTTP/1.0) is no browser, and only those can be tricked into asking. */
static bool
is_welcome(const struct door *door, struct MHD_Connection *connection)
{
	const char *host =
	    MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);

	return !door->local_only || host == NULL || host_is_local(host);
}

/* At the first call, so that a body, which no route wants, is not waited for. */
enum MHD_Result
control_answer(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
    const char *version, const char *upload, size_t *upload_bytes, void **state)
{
	struct door *door = cls;
	struct request r = { door, "", query_value, connection };
	struct outbuf out = { 0 };
	const char *type = "application/json", *other = NULL;
	int status;

	(void)version;
	(void)upload;
	(void)upload_bytes;
	(void)state;
	if (!is_welcome(door, connection)) {
		status = refuse(&out, 403, "this host is asked by its own names only");
	} else {
		const struct route *route = route_find(method, url, door->open_only, &other);

		if (route == NULL) {
			status = other != NULL ? refuse(&out, 405, "method not allowed")
					       : refuse(&out, 404, "no such route");
		} else {
			r.rest = url + (route->prefix ? strlen(route->path) : 0);
			status = route->fn(&r, &out);
			if (status == 200 && route->type != NULL)
				type = route->type;
		}
	}
	/* An empty answer (no traces) has a body of no bytes, not none. */
	if (outbuf_room(&out, 1) == NULL) {
		outbuf_free(&out);
		return MHD_NO;
	}
	return reply(connection, status, type, other, &out);
}

enum err
control_new(const struct control_options *o, struct control **out)
{
	struct control *c = calloc(1, sizeof *c);

	if (c == NULL)
		return E_NOMEM;
	c->options = *o;
	c->options.run_dir = NULL; /* not kept: the path is */
	c->socket_door = (struct door){ .options = &c->options, .shown = &c->shown };
	c->port_door =
	    (struct door){ .options = &c->options, .shown = &c->shown, .open_only = true };

	int n = snprintf(c->path, sizeof c->path, "%s/%s", o->run_dir, RUN_CONTROL_NAME);

	if (n < 0 || (size_t)n >= sizeof c->path) {
		log_error(
		    "control_path_too_long run_dir=%s limit=%zu", o->run_dir, sizeof c->path - 1);
		free(c);
		return E_INVAL;
	}
	*out = c;
	return E_OK;
}

static enum err
open_socket(struct control *c)
{
	int fd = -1;
	enum err rv = listen_unix(c->path, &fd);

	if (rv != E_OK)
		return rv;
	c->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL,
	    control_answer, &c->socket_door, MHD_OPTION_LISTEN_SOCKET, fd,
	    MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_END);
	if (c->daemon == NULL) {
		close(fd);
		return E_NOMEM;
	}
	return E_OK;
}

static void
close_socket(struct control *c)
{
	if (c->daemon == NULL)
		return;
	MHD_stop_daemon(c->daemon); /* closes the listening socket too */
	c->daemon = NULL;
	(void)unlink(c->path);
}

enum err
control_start(struct control *c)
{
	enum err rv = E_OK;

	c->shown.port = c->options.port;
	if (c->options.port != 0)
		rv = port_start(
		    c->options.port, c->options.bind, &c->port_door, &c->shown, &c->port);
	return rv == E_OK ? open_socket(c) : rv;
}

enum err
control_listen_again(struct control *c)
{
	close_socket(c);
	return open_socket(c);
}

void
control_stop(struct control *c)
{
	if (c == NULL)
		return;
	port_stop(c->port);
	c->port = NULL;
	close_socket(c);
}

void
control_free(struct control *c)
{
	if (c == NULL)
		return;
	control_stop(c);
	outbuf_free(&c->socket_door.page.text);
	outbuf_free(&c->port_door.page.text);
	free(c);
}
