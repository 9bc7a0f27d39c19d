/*
 * table.c - metrics.def into functions and descriptions, and the walk over a
 * snapshot.
 */
#include "agent/metrics/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "agent/base/clock.h"

/* 0 where the kernel does not say, or there is none. */
static double
known(uint64_t v)
{
	return v != 0 ? (double)v : (double)NAN;
}

/* Of a device that answers. */
static double
said(const struct memory_gpu_now *g, double v)
{
	return g->answers ? v : (double)NAN;
}

static double
gpu_free(const struct memory_gpu_now *g)
{
	return g->total_bytes > g->used_bytes ? (double)(g->total_bytes - g->used_bytes) : 0;
}

static double
identity_difference(const struct store_stats *st, size_t i)
{
	uint64_t sum = st->sent[i] + st->sampled_out[i] + st->queued[i] + st->in_flight[i] +
		       st->rejected_total[i];

	for (int r = 0; r < DROP_REASONS; r++)
		sum += st->dropped[i][r];
	return (double)(int64_t)(st->received[i] - sum);
}

static double
probes_alive(const struct status_snapshot *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->probe_count; i++)
		n += s->probes[i].alive;
	return n;
}

static double
processes_in(const struct status_health *h, size_t state)
{
	unsigned n = 0;

	for (size_t i = 0; i < h->process_count; i++)
		n += (size_t)h->processes[i].state == state;
	return n;
}

/* ---- one function a row -------------------------------------------------- */

#define GETTER(type, id, value)                                         \
	static type get_##id(const struct status_snapshot *s, size_t i) \
	{                                                               \
		(void)s;                                                \
		(void)i;                                                \
		return (type)(value);                                   \
	}
#define GAUGE(id, over, stage, what, unit, value, help) GETTER(double, id, value)
#define COUNT(id, over, stage, what, unit, value, help) GETTER(uint64_t, id, value)
#define TIME(id, over, stage, what, unit, value, help)  GETTER(uint64_t, id, value)
#include "agent/metrics/metrics.def"
#undef GAUGE
#undef COUNT
#undef TIME

#define GAUGE(id, over, stage, what, unit, value, help) \
	{ KIND_GAUGE, stage, what, unit, help, over_##over, get_##id, NULL },
#define COUNT(id, over, stage, what, unit, value, help) \
	{ KIND_COUNT, stage, what, unit, help, over_##over, NULL, get_##id },
#define TIME(id, over, stage, what, unit, value, help) \
	{ KIND_TIME, stage, what, unit, help, over_##over, NULL, get_##id },
const struct metric_desc metric_table[METRIC_COUNT] = {
#include "agent/metrics/metrics.def"
};
#undef GAUGE
#undef COUNT
#undef TIME

void
metrics_walk(const struct status_snapshot *s, metric_fn fn, void *ctx)
{
	for (unsigned m = 0; m < METRIC_COUNT; m++) {
		const struct metric_desc *d = &metric_table[m];

		for (size_t i = 0;; i++) {
			struct metric_item item = { .count = 0 };
			struct metric_value v = { .metric = (enum metric)m, .item = &item };
			enum item is = d->over(s, i, &item);

			if (is == ITEM_END)
				break;
			if (is == ITEM_NONE)
				continue;
			if (d->kind == KIND_GAUGE)
				v.gauge = d->gauge(s, i);
			else
				v.count = d->count(s, i);
			if (isfinite(v.gauge))
				fn(ctx, &v);
		}
	}
}

void
metric_print_gauge(double v, char out[METRIC_NUMBER_BYTES])
{
	bool whole = fabs(v) < 9e15 && v >= floor(v) && v <= floor(v);

	snprintf(out, METRIC_NUMBER_BYTES, whole ? "%.0f" : "%.9g", v);
}

void
metric_print_count(enum metric_kind kind, uint64_t v, char out[METRIC_NUMBER_BYTES])
{
	if (kind == KIND_TIME)
		snprintf(
		    out, METRIC_NUMBER_BYTES, "%" PRIu64 ".%09" PRIu64, v / NS_PER_S, v % NS_PER_S);
	else
		snprintf(out, METRIC_NUMBER_BYTES, "%" PRIu64, v);
}
