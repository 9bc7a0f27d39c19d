/*
 * last.c - before the agent stops: who has died by now is read and told, and what
 * that made is sent.  The supervisor stops its agent when the last process has
 * ended for good, and there may be no other one on this host, ever.  Asked by the
 * service's thread, answered by the pipeline's.
 */
#include <time.h>

#include "agent/base/clock.h"
#include "agent/service/pipeline.h"

#define NAP_NS (5 * NS_PER_MS)

struct look {
	struct pipeline *p;
	uint64_t found; /* by the looks before this one */
	bool begun, done;
};

static uint64_t
found_so_far(const struct pipeline *p)
{
	return p->work.salvaged_rings + p->ends.told_now;
}

/* The look is over, and nothing of it waits for another turn. */
static bool
has_looked(const struct pipeline *p)
{
	return p->scan_mono_ns > clock_mono_ns() && p->scan_again_ns == 0 && p->patience_ns == 0 &&
	       p->ends.state == END_NONE && !p->backlog && !p->gone && !p->begin_again;
}

/* All is sent, or nobody takes anything now. */
static bool
has_sent(struct pipeline *p, struct store *st)
{
	struct store_stats s;
	struct destination_status now;

	if (st->ops->stats(st, &s) != E_OK ||
	    s.queued[SIGNAL_TRACE] + s.in_flight[SIGNAL_TRACE] == 0)
		return true;
	for (size_t i = 0; i < p->destination_count; i++) {
		exporter_status(p->exporter, i, &now);
		if (now.state != DEST_OFFLINE && now.state != DEST_HOLD)
			return false;
	}
	return true;
}

static enum err
look(void *ctx, struct store *st, struct processor *processor)
{
	struct look *l = ctx;

	(void)processor;
	if (!l->begun) {
		l->found = found_so_far(l->p);
		l->p->scan_mono_ns = clock_mono_ns();
		l->p->scan_again_ns = 0;
	} else if (has_looked(l->p)) {
		l->done = found_so_far(l->p) == l->found || has_sent(l->p, st);
	}
	l->begun = true;
	return E_OK;
}

void
pipeline_last_look(struct pipeline *p, uint64_t timeout_ms)
{
	const struct timespec nap = { .tv_nsec = (long)NAP_NS };
	uint64_t until = clock_mono_ns() + timeout_ms * NS_PER_MS;
	struct look l = { .p = p };

	while (!l.done && clock_mono_ns() < until) {
		if (l.begun)
			nanosleep(&nap, NULL);
		if (pipeline_query(p, look, &l, timeout_ms) != E_OK)
			return; /* it is busy with worse */
	}
}
