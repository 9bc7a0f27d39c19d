/*
 * rests.c - when a line that rests after a failure goes on: its time is over,
 * the network has changed, or a person asks.  Exporter's thread but for
 * exporter_retry_now.
 */
#include "agent/base/clock.h"
#include "agent/exporter/line.h"

#define POLL_MS   (10 * 60 * 1000)
#define SETTLE_MS 300u /* after a change of the network */

/*
 * How long to sleep, in ms, until the first rest is over; a rest that is over
 * wakes the pipeline, for nobody else would ask for the next chunk.
 */
int
rests_watch(struct exporter *e)
{
	uint64_t now = clock_mono_ns(), wait = (uint64_t)POLL_MS * NS_PER_MS;
	bool over = false;

	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++) {
		struct line *l = &e->lines[i];

		if (l->blocked_until_mono_ns == 0)
			continue;
		if (l->blocked_until_mono_ns <= now) {
			l->blocked_until_mono_ns = 0;
			over = true;
		} else if (l->blocked_until_mono_ns - now < wait) {
			wait = l->blocked_until_mono_ns - now;
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (over)
		e->wake(e->ctx);
	return (int)(wait / NS_PER_MS) + 1;
}

/*
 * An address, a route or a link has come: who found no way tries again as soon
 * as no more of them come for a moment.
 */
void
rests_heed_network(struct exporter *e)
{
	uint64_t soon = clock_mono_ns() + SETTLE_MS * NS_PER_MS;

	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++) {
		struct line *l = &e->lines[i];

		if (l->blocked_until_mono_ns == 0 || !l->unreachable)
			continue;
		l->rested = true;
		l->failures = 0;
		if (l->blocked_until_mono_ns > soon)
			l->blocked_until_mono_ns = soon;
	}
	(void)pthread_mutex_unlock(&e->lock);
}

void
exporter_retry_now(struct exporter *e)
{
	(void)pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++) {
		e->lines[i].blocked_until_mono_ns = 0;
		e->lines[i].rested = true;
	}
	(void)pthread_mutex_unlock(&e->lock);
	e->wake(e->ctx);
}
