/*
 * server.c - libmicrohttpd on a Unix socket of ours.  Its one thread calls
 * answer(); nothing here is shared with other threads after start.
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/control/routes.h"
#include "agent/core/json.h"
#include "schema/frame.h"

#define CONNECTIONS_MAX   16u
#define CONNECTION_MEMORY (32u * 1024)
#define TIMEOUT_S         10u

struct control {
	struct control_options options;
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
	struct MHD_Daemon *daemon;
};

static const char *
query_value(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

static enum MHD_Result
reply(struct MHD_Connection *connection, int status, struct outbuf *out)
{
	/* The response owns the bytes from here and frees them itself. */
	struct MHD_Response *response =
	    MHD_create_response_from_buffer(out->n, out->p, MHD_RESPMEM_MUST_FREE);

	if (response == NULL) {
		outbuf_free(out);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, "Content-Type", "application/json");

	enum MHD_Result rv = MHD_queue_response(connection, (unsigned)status, response);

	MHD_destroy_response(response);
	return rv;
}

/* A body is not wanted by any route; it is read and thrown away, bounded by the time limit. */
static enum MHD_Result
answer(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
    const char *version, const char *upload, size_t *upload_bytes, void **state)
{
	static int first;
	struct control *c = cls;
	struct request r = { &c->options, "", query_value, connection };
	struct outbuf out = { 0 };
	bool other;
	int status;

	(void)version;
	(void)upload;
	if (*state == NULL) {
		*state = &first;
		return MHD_YES;
	}
	if (*upload_bytes > 0) {
		*upload_bytes = 0;
		return MHD_YES;
	}

	const struct route *route = route_find(method, url, &other);

	if (route == NULL) {
		put_raw(&out,
		    other ? "{\"error\":\"method not allowed\"}" : "{\"error\":\"no such route\"}");
		status = other ? 405 : 404;
	} else {
		r.rest = url + (route->prefix ? strlen(route->path) : 0);
		status = route->fn(&r, &out);
	}
	/* An empty answer (no traces) has a body of no bytes, not none. */
	if (outbuf_room(&out, 1) == NULL)
		return MHD_NO;
	return reply(connection, status, &out);
}

/* True when somebody answers at the path. */
static bool
somebody_listens(const struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes = fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof *a) == 0;

	if (fd >= 0)
		close(fd);
	return yes;
}

static enum err
listen_at(const char *path, int *out)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	memcpy(a.sun_path, path, strlen(path) + 1);
	if (somebody_listens(&a))
		return E_BUSY;
	(void)unlink(path); /* stale, or not there */

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_from_errno(errno);

	/* The mode is set before listen: nobody can connect in between. */
	if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || chmod(path, 0600) != 0 ||
	    listen(fd, 16) != 0) {
		enum err rv = err_from_errno(errno);

		close(fd);
		return rv;
	}
	*out = fd;
	return E_OK;
}

enum err
control_new(const struct control_options *o, struct control **out)
{
	struct control *c = calloc(1, sizeof *c);

	if (c == NULL)
		return E_NOMEM;
	c->options = *o;
	c->options.run_dir = NULL; /* not kept: the path is */

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

enum err
control_start(struct control *c)
{
	int fd = -1;
	enum err rv = listen_at(c->path, &fd);

	if (rv != E_OK)
		return rv;
	c->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL,
	    answer, c, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
	    MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_END);
	if (c->daemon == NULL) {
		close(fd);
		return E_NOMEM;
	}
	return E_OK;
}

void
control_stop(struct control *c)
{
	if (c == NULL || c->daemon == NULL)
		return;
	MHD_stop_daemon(c->daemon); /* closes the listening socket too */
	c->daemon = NULL;
	(void)unlink(c->path);
}

void
control_free(struct control *c)
{
	control_stop(c);
	free(c);
}
