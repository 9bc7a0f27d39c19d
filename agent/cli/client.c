/*
 * client.c - one HTTP/1.1 request over the control socket: connect, send, read
 * to the end, check.  The answer is bounded in size and time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "schema/frame.h"

#define ANSWER_MAX_BYTES (256u * 1024 * 1024)
#define TIMEOUT_S        20

static enum err
dial(const char *path, int *out)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = TIMEOUT_S };

	if (strlen(path) >= sizeof a.sun_path)
		return E_INVAL;
	strcpy(a.sun_path, path);

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_from_errno(errno);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
		enum err rv =
		    errno == ENOENT || errno == ECONNREFUSED ? E_NOTFOUND : err_from_errno(errno);

		close(fd);
		return rv;
	}
	*out = fd;
	return E_OK;
}

static enum err
send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return E_IO;
		p += k;
		n -= (size_t)k;
	}
	return E_OK;
}

static enum err
read_all(int fd, char **out, size_t *n)
{
	size_t cap = 64 * 1024, used = 0;
	char *buf = malloc(cap);

	while (buf != NULL) {
		ssize_t k = recv(fd, buf + used, cap - used - 1, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k == 0) {
			buf[used] = '\0';
			*out = buf;
			*n = used;
			return E_OK;
		}
		if (k < 0 || used + (size_t)k > ANSWER_MAX_BYTES) {
			enum err rv = k < 0 && errno == EAGAIN ? E_TIMEOUT : k < 0 ? E_IO : E_FULL;

			free(buf);
			return rv;
		}
		used += (size_t)k;
		if (cap - used < 4096) {
			char *more = realloc(buf, cap * 2);

			if (more == NULL)
				break;
			buf = more;
			cap *= 2;
		}
	}
	free(buf);
	return E_NOMEM;
}

/* "HTTP/1.1 200 ..." and Content-Length against what came. */
static enum err
split_answer(char *text, size_t n, int *status, char **body, size_t *body_bytes)
{
	char *end = strstr(text, "\r\n\r\n");
	const char *length = strcasestr(text, "\r\nContent-Length:");

	if (n < 12 || strncmp(text, "HTTP/1.", 7) != 0 || end == NULL || length == NULL ||
	    length > end)
		return E_INVAL;
	*status = atoi(text + 9);
	*body_bytes = n - (size_t)(end + 4 - text);
	if (strtoull(length + 17, NULL, 10) != *body_bytes)
		return E_INVAL;
	memmove(text, end + 4, *body_bytes + 1);
	*body = text;
	return E_OK;
}

enum err
client_get(const struct cli *c, const char *method, const char *target, int *status, char **body,
    size_t *n)
{
	char path[512], request[1024], *text = NULL;
	size_t got = 0;
	int fd = -1;

	snprintf(
	    path, sizeof path, "%s/%s", config_string(c->config, OPT_RUN_DIR), RUN_CONTROL_NAME);
	snprintf(request, sizeof request,
	    "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	    method, target);

	enum err rv = dial(path, &fd);

	if (rv == E_OK)
		rv = send_all(fd, request, strlen(request));
	if (rv == E_OK)
		rv = read_all(fd, &text, &got);
	if (rv == E_OK)
		rv = split_answer(text, got, status, body, n);
	if (rv != E_OK)
		free(text);
	if (fd >= 0)
		close(fd);
	return rv;
}
