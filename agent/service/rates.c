/*
 * rates.c - spans a second over the last minute, from counters sampled whenever
 * the pipeline wakes for the rings: no timer of its own.  Pipeline's thread.
 */
#include "agent/base/clock.h"
#include "agent/service/pipeline.h"

#define WINDOW_NS (60 * NS_PER_S)

void
rates_sample(struct pipeline *p)
{
	struct store_stats now;

	if (p->store->ops->stats(p->store, &now) != E_OK)
		return; /* a gap in the samples only widens the window */
	p->samples[p->sample_count++ % PIPELINE_SAMPLES] = (struct rate_sample){ clock_mono_ns(),
		now.received[SIGNAL_TRACE], now.sent[SIGNAL_TRACE] };
}

void
rates_now(const struct pipeline *p, const struct store_stats *now, struct status_rates *out)
{
	uint64_t n = p->sample_count < PIPELINE_SAMPLES ? p->sample_count : PIPELINE_SAMPLES;
	uint64_t mono = clock_mono_ns();
	const struct rate_sample *from = NULL;

	for (uint64_t i = p->sample_count - n; i < p->sample_count && from == NULL; i++) {
		const struct rate_sample *s = &p->samples[i % PIPELINE_SAMPLES];

		if (mono - s->mono_ns <= WINDOW_NS)
			from = s;
	}
	if (from == NULL || mono - from->mono_ns < NS_PER_S / 10)
		return;

	double seconds = (double)(mono - from->mono_ns) / (double)NS_PER_S;
	uint64_t received = now->received[SIGNAL_TRACE], sent = now->sent[SIGNAL_TRACE];

	out->window_ms = (mono - from->mono_ns) / NS_PER_MS;
	/* Repeats are taken back from received: never below zero. */
	out->received_per_s =
	    received > from->received ? (double)(received - from->received) / seconds : 0;
	out->sent_per_s = sent > from->sent ? (double)(sent - from->sent) / seconds : 0;
}
