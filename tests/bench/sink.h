/*
 * sink.h - a Datadog agent that only takes: HTTP/1.1 on loopback, one thread a
 * connection, every body read, walked as msgpack and counted.  It runs in the
 * process of the benchmark, so that its CPU is not the collector's.
 */
#pragma once

#include <stdint.h>

struct sink_counts {
	uint64_t requests, bytes, traces, spans, connections, malformed;
};

/* Listen on a free port of 127.0.0.1; the port is kept until the end. Exits on failure. */
void sink_start(void);
const char *sink_url(void);
/* Away: the port refuses and open connections break. Back again. */
void sink_close(void);
void sink_open(void);
void sink_count(struct sink_counts *out);
