/*
 * ask.h - one question over HTTP/1.0 to a server on this machine, on a
 * connection of its own, without a library; or, of one that speaks TLS, whether
 * it answers.  One thread; nothing here waits longer than it is told.  Source:
 * RFC 1945; the answer ends with the connection.
 *
 *	ask_start(...)		connected, the request is on its way
 *	ask_wait(...)		until answered, or for so long; again, as often as one likes
 *	ask_end(...)		closed; legal in every state
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "agent/base/err.h"

/* Says who asks; the probe makes no span of such a request. */
#define ASK_USER_AGENT "comfymon"
/* Of an answer, head and body; what is beyond is not read. */
#define ASK_ANSWER_BYTES  4096u
#define ASK_REQUEST_BYTES 1024u

struct ask {
	int fd;           /* -1: none */
	bool hello;       /* the question is TLS's first, ask_hello */
	size_t sent, ask; /* of the request */
	size_t n;         /* of the answer */
	const char *rest; /* of the request, behind what is below; borrowed */
	size_t rest_bytes;
	char request[ASK_REQUEST_BYTES];
	char answer[ASK_ANSWER_BYTES]; /* terminated */
};

/*
 * GET or POST of a path, `body` JSON or NULL.  E_NOTFOUND: nobody listens there;
 * E_INVAL: longer than ASK_REQUEST_BYTES; others from the system.  The struct is
 * as after ask_end when it fails.
 */
MUST_CHECK enum err ask_start(struct ask *a, const struct sockaddr *to, socklen_t to_bytes,
    const char *method, const char *path, const char *body);

/* POST of JSON of any size, which must stay until ask_end. */
MUST_CHECK enum err ask_post(struct ask *a, const struct sockaddr *to, socklen_t to_bytes,
    const char *path, const char *json, size_t json_bytes);

/*
 * The first message of a TLS handshake, of which nothing more follows: whoever answers it is
 * alive, and ask_wait says ASK_TLS.
 */
MUST_CHECK enum err ask_hello(struct ask *a, const struct sockaddr *to, socklen_t to_bytes);
#define ASK_TLS 1

/*
 * The HTTP status of a whole answer; 0: not yet; -1: the connection ended, or
 * was never made, without one.
 */
int ask_wait(struct ask *a, uint64_t timeout_ms);
void ask_end(struct ask *a);

/* All of it at once, on 127.0.0.1: the status, or -1 when there was none in time. Closed after it,
 * the answer stays. */
int ask_local(struct ask *a, uint16_t port, const char *method, const char *path, const char *body,
    uint64_t timeout_ms);
