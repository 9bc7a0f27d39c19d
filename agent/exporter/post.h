/*
 * post.h - one POST as all who deliver make it: what libcurl may do and what it
 * may not.  The thread that owns the handle.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"
#include "agent/exporter/libcurl.h"
#include "agent/exporter/reply.h"

/* All of it stays the caller's until the request has ended. */
struct post {
	const char *url, *socket; /* socket: "" goes over TCP */
	const char *ca_file;      /* "" libcurl's own */
	bool direct;              /* by no proxy, whatever the environment names */
	uint64_t timeout_ms;      /* of the whole request */
	const void *body;
	size_t body_bytes;
	struct curl_slist *headers;
	char *error; /* CURL_ERROR_SIZE bytes */
	struct reply *reply;
};

/* The handle keeps its connection. */
void post_options(CURL *easy, const struct post *p);
/* E_NOMEM: the list is as it was. */
MUST_CHECK enum err post_header(struct curl_slist **list, const char *text);
