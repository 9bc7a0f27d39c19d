/*
 * reply.h - what is taken of an HTTP reply, whoever sent it: so much of its
 * headers, so much of its body, and Retry-After.  The thread of the transfer.
 */
#pragma once

#include "agent/core/outbuf.h"

#define HEADERS_MAX_BYTES (64u * 1024) /* trailers included */

struct reply {
	size_t keep_bytes, end_bytes; /* of the body: what is kept; where the transfer is ended */
	struct outbuf body;
	size_t body_bytes, header_bytes; /* all that came, kept or not */
	bool headers_whole;              /* of the last answer in it */
	char retry_after[64];            /* "" or the header's value */
};

void reply_begin(struct reply *r, size_t keep_bytes, size_t end_bytes);
/* As libcurl calls them, ctx is the reply: fewer bytes than came end the transfer. */
size_t reply_take_body(char *data, size_t size, size_t n, void *ctx);
size_t reply_take_header(char *data, size_t size, size_t n, void *ctx);
/* It went beyond its limits. */
bool reply_endless(const struct reply *r);
