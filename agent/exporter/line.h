/*
 * line.h - inside of the exporter: one destination ("line") and the two ways a
 * chunk can travel on it.  The exporter's thread owns everything here but what
 * is marked.
 *
 * One chunk is outstanding per line, from exporter_give until its result has
 * been taken: so a kill repeats at most one request.
 */
#pragma once

#include <curl/curl.h>

#include "agent/core/export.h"
#include "agent/core/outbuf.h"
#include "agent/core/spanview.h"

#define REPLY_MAX_BYTES   (64u * 1024) /* kept of a reply's body */
#define HEADERS_MAX_BYTES (64u * 1024) /* taken of a reply's headers, trailers included */

/* The chunk could not be encoded: neither an HTTP status nor a negative curl code. */
#define STATUS_NOT_ENCODED (-1000)

struct line {
	struct destination_options options;

	/* guarded by the exporter's lock */
	struct destination_status status;
	struct lease given; /* waits for the thread */
	bool has_given, has_result, outstanding, fresh_next;
	struct export_result result;
	uint64_t blocked_until_mono_ns; /* circuit: nothing is given before; 0 it is closed */
	uint32_t failures;              /* in a row */

	/* the thread's own */
	struct lease lease;
	bool busy;
	int logged; /* status of the last failure that was logged since the last success */
	struct spanview *view;
	struct span_identity *identity;
	struct outbuf body;
	/* datadog_agent */
	CURL *easy;
	struct curl_slist *headers;
	bool direct; /* loopback or a Unix socket: no proxy is asked */
	char target[600], socket[300], error[CURL_ERROR_SIZE];
	struct outbuf reply;
	size_t reply_bytes, header_bytes; /* all that came, kept or not */
	char retry_after[64];
	/* file */
	int fd;
};

/* How an attempt ended. */
struct outcome {
	int status; /* HTTP status; 200 for a file written; negative curl code when there was no
		       reply */
	const char *error; /* "" or text */
	const char *body;
	size_t body_bytes;
	const char *retry_after; /* "" or the header's value */
};

/* http.c */
MUST_CHECK enum err http_init(struct line *l);
/* Encode l->lease and add the request to the multi handle. E_CORRUPT, E_NOMEM: nothing was started.
 */
MUST_CHECK enum err http_begin(struct line *l, CURLM *multi);
void http_end(struct line *l, CURLM *multi, CURLcode code, struct outcome *out);
void http_fini(struct line *l, CURLM *multi);

/* file.c: append l->lease and sync, here and now. */
MUST_CHECK enum err file_write(struct line *l, struct outcome *out);
void file_fini(struct line *l);

/* The identity of the lease's probe, kept while it stays the same. */
MUST_CHECK enum err line_identity(struct line *l);
