/*
 * decided.c - what was decided about traces that have left, so that a late span
 * of one gets the same answer.  Pipeline thread.  Bounded: the oldest of a set
 * gives way.  Not written to disk: after a restart a late span is decided anew
 * from its own fields; the hash gives the same answer for the same rate, and
 * only a rule on the root's tags or the limiter could differ.
 */
#include "agent/processor/internal.h"

static struct decided *
set_of(const struct processor *p, int64_t probe, uint64_t lo)
{
	uint64_t h = (lo ^ (uint64_t)probe) * 0x9e3779b97f4a7c15u;

	return p->decided + (size_t)(h >> 40) % DECIDED_SETS * DECIDED_WAYS;
}

static bool
is_trace(const struct decided *d, int64_t probe, uint64_t hi, uint64_t lo)
{
	return d->probe == probe && d->lo == lo && d->hi == hi;
}

const struct decision *
decided_find(const struct processor *p, const struct probe *probe, uint64_t hi, uint64_t lo)
{
	const struct decided *set = set_of(p, probe->id, lo);

	for (unsigned i = 0; i < DECIDED_WAYS; i++)
		if (is_trace(&set[i], probe->id, hi, lo))
			return &set[i].decision;
	return NULL;
}

void
decided_put(struct processor *p, const struct trace *t)
{
	struct decided *set = set_of(p, t->probe->id, t->lo), *to = set;

	for (unsigned i = 0; i < DECIDED_WAYS; i++) {
		if (is_trace(&set[i], t->probe->id, t->hi, t->lo)) {
			to = &set[i];
			break;
		}
		if (p->stamp - set[i].stamp > p->stamp - to->stamp)
			to = &set[i];
	}
	*to = (struct decided){ t->hi, t->lo, t->probe->id, p->stamp++, t->decision };
}
