/*
 * jobs.c - see jobs.h.
 */
#include "agent/memory/jobs.h"

#include <stdlib.h>
#include <string.h>

enum err
jobs_init(struct jobs *j)
{
	memset(j, 0, sizeof *j);
	j->jobs.of = calloc(JOBS_MAX, sizeof *j->jobs.of);
	j->nodes.of = calloc(NODES_MAX, sizeof *j->nodes.of);
	j->jobs.cap = JOBS_MAX;
	j->nodes.cap = NODES_MAX;
	if (j->jobs.of != NULL && j->nodes.of != NULL)
		return E_OK;
	jobs_fini(j);
	return E_NOMEM;
}

void
jobs_fini(struct jobs *j)
{
	free(j->jobs.of);
	free(j->nodes.of);
	memset(j, 0, sizeof *j);
}

const struct ran *
ran_at(const struct ran_ring *ring, uint32_t i)
{
	return &ring->of[(ring->first + i) % ring->cap];
}

bool
ran_of(const struct ran *r, uint64_t pid, uint64_t start_ticks, bool earlier_boot)
{
	return r->pid == pid && r->start_ticks == start_ticks && r->earlier_boot == earlier_boot;
}

bool
ran_within(const struct ran *node, const struct ran *job)
{
	return node->prompt == job->prompt &&
	       ran_of(node, job->pid, job->start_ticks, job->earlier_boot) &&
	       node->from_ns >= job->from_ns && (job->to_ns == 0 || node->from_ns <= job->to_ns);
}

/* Newest first: its opening was not long ago. */
static struct ran *
find(struct ran_ring *ring, const struct ran *r)
{
	for (uint32_t i = ring->count; i-- > 0;) {
		struct ran *known = &ring->of[(ring->first + i) % ring->cap];

		if (known->span_id == r->span_id && known->pid == r->pid)
			return known;
	}
	return NULL;
}

static struct ran_ring *
ring_of(struct jobs *j, enum span_kind kind)
{
	return kind == SPAN_WORKFLOW ? &j->jobs : &j->nodes;
}

void
jobs_put(struct jobs *j, enum span_kind kind, const struct ran *r)
{
	struct ran_ring *ring = ring_of(j, kind);
	struct ran *known = find(ring, r);

	if (known != NULL) {
		*known = *r;
		return;
	}
	if (ring->count == ring->cap)
		ring->first = (ring->first + 1) % ring->cap;
	else
		ring->count++;
	ring->of[(ring->first + ring->count - 1) % ring->cap] = *r;
}

void
jobs_drop(struct jobs *j, enum span_kind kind, const struct ran *r)
{
	struct ran_ring *ring = ring_of(j, kind);
	struct ran *known = find(ring, r);

	if (known == NULL)
		return;
	if (known == ran_at(ring, ring->count - 1))
		ring->count--;
	else
		known->pid = 0; /* of no process: nobody sees it any more */
}
