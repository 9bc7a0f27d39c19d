/*
 * table.h - inside of the metrics room: metrics.def as data, and one way through
 * the values of a snapshot.  Pure; any thread.
 */
#pragma once

#include "agent/core/status.h"

enum metric {
#define GAUGE(id, ...) METRIC_##id,
#define COUNT(id, ...) METRIC_##id,
#define TIME(id, ...)  METRIC_##id,
#include "agent/metrics/metrics.def"
#undef GAUGE
#undef COUNT
#undef TIME
	METRIC_COUNT
};

enum metric_kind { KIND_GAUGE, KIND_COUNT, KIND_TIME };

#define METRIC_TAGS 5u

/* Not terminated, any bytes: an encoder makes it legal. */
struct metric_tag {
	const char *key;
	const char *s;
	size_t n;
};

/* What one value is of. The texts lie in the snapshot, or in here. */
struct metric_item {
	struct metric_tag tags[METRIC_TAGS];
	unsigned count;
	char number[24];
};

/* What there is one of each of; ITEM_NONE: not that one, ITEM_END: no more. */
enum item { ITEM_IS, ITEM_NONE, ITEM_END };
typedef enum item (*over_fn)(const struct status_snapshot *s, size_t i, struct metric_item *item);

struct metric_desc {
	enum metric_kind kind;
	const char *stage, *what, *unit, *help;
	over_fn over;
	double (*gauge)(const struct status_snapshot *s, size_t i);   /* GAUGE */
	uint64_t (*count)(const struct status_snapshot *s, size_t i); /* COUNT; TIME: ns */
};
extern const struct metric_desc metric_table[METRIC_COUNT];

struct metric_value {
	enum metric metric;
	const struct metric_item *item;
	double gauge;   /* GAUGE, finite */
	uint64_t count; /* COUNT, TIME */
};
typedef void (*metric_fn)(void *ctx, const struct metric_value *v);
/* Every value, in the order of the table, so that those of one metric come together. */
void metrics_walk(const struct status_snapshot *s, metric_fn fn, void *ctx);

/* A number as an encoder prints it: no exponent for whole ones, seconds of a TIME. */
#define METRIC_NUMBER_BYTES 32u
void metric_print_gauge(double v, char out[METRIC_NUMBER_BYTES]);
void metric_print_count(enum metric_kind kind, uint64_t v, char out[METRIC_NUMBER_BYTES]);

/* ---- over.c: one function for each word in the second column of metrics.def --- */

enum item over_ONCE(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_BUILD(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_AGENT_STATE(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_SIGNAL(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_SIGNAL_REASON(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_REJECTED(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_LOSS(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_DESTINATION(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_WEBHOOK(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_JOB_ACTIVE(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_JOB_ENDED(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_PROCESS(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_MEMORY(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_GPU(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_HEALTH_STATE(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_ILLNESS(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_VERDICT(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_SUPERVISOR(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_SENDER(const struct status_snapshot *s, size_t i, struct metric_item *item);
enum item over_SENDER_DROP(const struct status_snapshot *s, size_t i, struct metric_item *item);
