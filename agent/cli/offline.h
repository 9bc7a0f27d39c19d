/*
 * offline.h - the control socket's answers without an agent: from a snapshot
 * of the buffer.
 */
#pragma once

#include "agent/cli/cli.h"
#include "agent/core/spanview.h"
#include "agent/core/status.h"

/* Same targets as the control socket: /status, /traces?..., /trace/ID, /jobs?..., /job/ID. Heap
 * text; prints why on failure. */
int offline_get(const struct cli *c, const char *target, char **body);

/* Hold the data directory's lock (close *lock to let go), or that and the buffer to read from
 * (close both, the store first, before anything is printed); prints why on failure. */
int lock_data(const struct cli *c, int *lock);
int open_snapshot(const struct cli *c, struct store **st, int *lock);

/* Identity for spans whose probe gave none, from the configuration (borrowed). */
struct span_defaults defaults_of(const struct cli *c);

/* "since" and "min_duration" of the command line as query arguments; false and a message when bad.
 */
bool filter_query(const struct cli *c, char *query, size_t cap);

/* A duration of the command line ("10m"), in ns; false and a message when it is none. */
bool duration_arg(const char *name, const char *text, uint64_t *ns);

/* Where the Datadog agent is, by configuration: http://host:port or unix:///path. */
void agent_url(const struct config *c, char *url, size_t cap);
/* Where metrics go, by configuration: udp://host:port or unix:///path. */
void metrics_url(const struct config *c, char *url, size_t cap);
/* The configured destinations (at most STATUS_DESTINATIONS); a usage error is printed. */
int destinations_of(const struct cli *c, struct destination_options *out, size_t *count);
