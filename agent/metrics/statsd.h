/*
 * statsd.h - inside of the metrics room: a snapshot into datagrams.  Source of the
 * format: Datadog, DogStatsD datagram protocol 1.0.
 *
 *	comfymon.process.rss:123|g|#pid:17,service:x,env:y	a gauge
 *	comfymon.pipeline.sent:5|c|#signal:trace,service:x	five more than was told before
 *
 * Lines are joined by a line end; no line is ever split.  What a count has grown
 * by is told once a datagram with it has gone out: until then it stays, and goes
 * with the next.  One thread at a time.
 */
#pragma once

#include "agent/core/status.h"

#define STATSD_UDP_BYTES  1432u
#define STATSD_UNIX_BYTES 8192u

struct statsd;

typedef bool (*statsd_send_fn)(void *ctx, const char *datagram, size_t n);

struct statsd_options {
	size_t datagram_bytes; /* of the two above */
	const char *service, *env, *version, *hostname, *tags;
	statsd_send_fn send; /* false: it has not gone out */
	void *ctx;
};

MUST_CHECK enum err statsd_new(const struct statsd_options *o, struct statsd **out);
void statsd_free(struct statsd *d);
/* Counts are told from what they are now on. */
void statsd_begin(struct statsd *d, const struct status_snapshot *s);
/* Everything, in as many datagrams as it takes; false: some did not go out. */
bool statsd_flush(struct statsd *d, const struct status_snapshot *s);
/* It turns out that nobody took the last flush: its counts are still to be told. How many
 * datagrams it was. */
unsigned statsd_take_back(struct statsd *d);
/* Tags of the options that have no room in a line. */
unsigned statsd_tags_left_out(const struct statsd *d);
