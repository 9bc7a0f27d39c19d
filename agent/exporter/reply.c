/*
 * reply.c - what is taken of an HTTP reply. See reply.h.
 */
#include "agent/exporter/reply.h"

#include <strings.h>

void
reply_begin(struct reply *r, size_t keep_bytes, size_t end_bytes)
{
	outbuf_reset(&r->body, keep_bytes);
	r->keep_bytes = keep_bytes;
	r->end_bytes = end_bytes;
	r->body_bytes = r->header_bytes = 0;
	r->headers_whole = false;
	r->retry_after[0] = '\0';
}

size_t
reply_take_body(char *data, size_t size, size_t n, void *ctx)
{
	struct reply *r = ctx;
	size_t room = r->body.n < r->keep_bytes ? r->keep_bytes - r->body.n : 0;

	n *= size;
	r->body_bytes += n;
	outbuf_put(&r->body, data, n < room ? n : room);
	return r->body_bytes > r->end_bytes ? 0 : n;
}

size_t
reply_take_header(char *data, size_t size, size_t n, void *ctx)
{
	static const char name[] = "Retry-After:";
	struct reply *r = ctx;
	size_t bytes = size * n, skip = sizeof name - 1;

	r->header_bytes += bytes;
	if (r->header_bytes > HEADERS_MAX_BYTES) /* endless headers end the request */
		return 0;
	if (bytes > skip && strncasecmp(data, name, skip) == 0) {
		size_t m = bytes - skip;

		if (m >= sizeof r->retry_after)
			m = sizeof r->retry_after - 1;
		memcpy(r->retry_after, data + skip, m);
		r->retry_after[m] = '\0';
		r->retry_after[strcspn(r->retry_after, "\r\n")] = '\0';
	}
	if (bytes > 5 && strncmp(data, "HTTP/", 5) == 0) /* behind a 1xx comes another */
		r->headers_whole = false;
	else if (bytes > 0 && (data[0] == '\r' || data[0] == '\n'))
		r->headers_whole = true;
	return bytes;
}

bool
reply_endless(const struct reply *r)
{
	return r->body_bytes > r->end_bytes || r->header_bytes > HEADERS_MAX_BYTES;
}
