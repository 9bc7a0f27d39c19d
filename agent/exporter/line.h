/*
 * line.h - inside of the exporter: one destination ("line") and the two ways
 * chunks can travel on it.  The exporter's thread owns everything here but what
 * is marked.
 *
 * One request is outstanding per line, from exporter_give until the results of
 * all its chunks have been taken: so a kill repeats at most one request.
 */
#pragma once

#include "agent/base/thread.h"
#include "agent/core/export.h"
#include "agent/core/outbuf.h"
#include "agent/core/spanview.h"
#include "agent/exporter/libcurl.h"
#include "agent/exporter/reply.h"

#define LINES_MAX       8u
#define REPLY_MAX_BYTES (64u * 1024) /* kept of a reply's body */

#define REQUEST_MAX_BYTES (8u << 20)
/* 1, 2, 4 MB: 1.30, 1.28, 1.25 CPU seconds a million spans, 30, 32, 35 MB resident at the peak. */
#define REQUEST_TARGET_BYTES (2u << 20)

/* The chunk could not be encoded: neither an HTTP status nor a negative curl code. */
#define STATUS_NOT_ENCODED (-1000)

/* What became of a lease when its request was made. */
enum fate {
	FATE_GOES,      /* it is in the body */
	FATE_LATER,     /* no room for it any more */
	FATE_TOO_LARGE, /* alone larger than a request may be */
	FATE_BROKEN,    /* cannot be encoded */
};

struct line {
	struct destination_options options;

	/* guarded by the exporter's lock */
	struct destination_status status;
	struct lease given[EXPORT_CHUNKS_MAX]; /* wait for the thread */
	size_t given_count;
	struct export_result results[EXPORT_CHUNKS_MAX];
	size_t result_count, result_at;
	bool outstanding, fresh_next;
	uint32_t chunk_limit; /* of a request: halved when the far end refuses one, doubled again */
	uint32_t expansion;   /* bytes of a body for 16 bytes of blob, learnt */
	uint64_t blocked_until_mono_ns; /* circuit: nothing is given before; 0 it is closed */
	uint32_t failures;              /* in a row */
	bool unreachable;               /* the last attempt found no way to the far end */
	bool rested;                    /* since then a way may be there, and nothing failed */

	/* the thread's own */
	struct lease leases[EXPORT_CHUNKS_MAX];
	enum fate fates[EXPORT_CHUNKS_MAX];
	size_t lease_count, goes; /* goes: how many are in the body */
	uint32_t traces, learnt;  /* expansion of this body */
	bool busy;
	uint64_t stall_mono_ns; /* it must have moved by then */
	uint64_t moved;         /* bytes when that was set */
	int logged; /* status of the last failure that was logged since the last success */
	struct spanview *view;
	struct span_identity *identity;
	struct outbuf body;
	/* datadog_agent */
	CURL *easy;
	struct curl_slist *headers;
	bool direct; /* loopback or a Unix socket: no proxy is asked */
	char target[600], socket[300], error[CURL_ERROR_SIZE];
	struct reply reply;
	/* file */
	int fd;
};

/* All lines, and what they share. */
struct exporter {
	struct line lines[LINES_MAX];
	size_t count;
	exporter_wake_fn wake;
	void *ctx;
	int network; /* tells of changes, -1 none */
	struct thread thread;
	struct waker first; /* the thread's sleep until the first lease: without libcurl */

	pthread_mutex_t lock;
	CURLM *multi; /* guarded by lock until it is there, from the first lease on */
	bool stop;    /* guarded by lock */
	uint64_t stop_mono_ns;
	uint64_t random; /* the thread's own */
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

/* request.c: l->leases into l->body, as many as fit; sets fates, goes, traces. Only E_NOMEM. */
MUST_CHECK enum err request_encode(struct line *l);

/* http.c; libcurl is open */
MUST_CHECK enum err http_init(struct line *l);
/* Send l->body: add the request to the multi handle. E_NOMEM: nothing was started. */
MUST_CHECK enum err http_begin(struct line *l, CURLM *multi);
/* Bytes that have moved in either direction. */
uint64_t http_moved(const struct line *l);
void http_end(struct line *l, CURLM *multi, CURLcode code, struct outcome *out);
void http_fini(struct line *l, CURLM *multi);
/* Is the far end this host?  Such traffic has no business with a proxy. */
bool http_is_loopback(const char *url);

/* file.c: append l->body and sync, here and now. */
void file_write(struct line *l, struct outcome *out);
void file_fini(struct line *l);

/* How long to sleep, in ms, until the first rest is over; those that are over wake the pipeline. */
int rests_watch(struct exporter *e);
/* The network has changed: who found no way will soon try again. */
void rests_heed_network(struct exporter *e);
