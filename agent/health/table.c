/*
 * table.c - what the pipeline tells: who lives, what its jobs' records say, and
 * what of it must outlive us.  Pipeline's thread.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/health/internal.h"

#define MEMO_ONE 32u

void
health_remember(struct health *h, const void *memo, size_t n)
{
	const uint8_t *p = memo;

	for (size_t i = 0; i < STATUS_PROCESSES && n >= (i + 1) * MEMO_ONE; i++, p += MEMO_ONE) {
		struct memo *m = &h->memo[i];
		uint32_t flags = wire_get32(p + 28);

		memcpy(m->probe_id, p, sizeof m->probe_id);
		m->worker = wire_get64(p + 16);
		m->device_failures = wire_get32(p + 24);
		m->worker_died = (flags & 1) != 0;
		m->worker_kept = (flags & 2) != 0;
	}
}

size_t
health_memo(struct health *h, uint8_t memo[HEALTH_MEMO_BYTES])
{
	uint8_t *p = memo;

	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; h->changed && i < STATUS_PROCESSES; i++) {
		const struct told *t = &h->told[i];

		if (!t->used)
			continue;
		memcpy(p, t->probe_id, sizeof t->probe_id);
		wire_put64(p + 16, t->worker);
		wire_put32(p + 24, t->device_failures);
		wire_put32(p + 28, (t->worker_died ? 1u : 0) | (t->worker_kept ? 2u : 0));
		p += MEMO_ONE;
	}
	pthread_mutex_unlock(&h->lock);
	return (size_t)(p - memo);
}

void
health_kept(struct health *h)
{
	pthread_mutex_lock(&h->lock);
	h->changed = false;
	pthread_mutex_unlock(&h->lock);
}

/* A forked child has the attributes, the sockets and the name of its parent, and runs no jobs. */
static bool
is_fork(const struct probe_row *row)
{
	char pid[24];

	return wire_attr_find(row->attrs, row->attrs_bytes, "pid", pid, sizeof pid) &&
	       strtoull(pid, NULL, 10) != row->pid;
}

static void
recall(const struct health *h, struct told *t)
{
	for (size_t i = 0; i < STATUS_PROCESSES; i++) {
		const struct memo *m = &h->memo[i];

		if (memcmp(m->probe_id, t->probe_id, sizeof t->probe_id) != 0)
			continue;
		t->worker = m->worker;
		t->device_failures = m->device_failures;
		t->worker_died = m->worker_died;
		t->worker_kept = m->worker_kept;
	}
}

void
health_hello(struct health *h, const struct probe_row *row)
{
	struct told *place = NULL;

	if (row->pid == 0 || row->closed || is_fork(row))
		return;
	pthread_mutex_lock(&h->lock);
	for (size_t i = STATUS_PROCESSES; i-- > 0;) {
		struct told *t = &h->told[i];

		if (!t->used) {
			place = place == NULL || place->used ? t : place;
		} else if (t->probe == row->id) {
			pthread_mutex_unlock(&h->lock);
			return; /* the same on another connection */
		} else if (t->pid == row->pid && t->start_ticks == row->start_ticks) {
			t->gone = true; /* it has begun anew by exec */
		}
	}
	if (place != NULL) {
		told_hello(place, row);
		recall(h, place);
	} else {
		h->unwatched++;
	}
	pthread_mutex_unlock(&h->lock);
	waker_wake(&h->waker);
}

static struct told *
find(struct health *h, int64_t probe)
{
	for (size_t i = 0; i < STATUS_PROCESSES; i++)
		if (h->told[i].used && h->told[i].probe == probe)
			return &h->told[i];
	return NULL;
}

void
health_gone(struct health *h, int64_t probe)
{
	struct told *t;

	pthread_mutex_lock(&h->lock);
	if ((t = find(h, probe)) != NULL)
		t->gone = true;
	pthread_mutex_unlock(&h->lock);
}

void
health_seen(struct health *h, const struct span_seen *s)
{
	struct told *t;

	pthread_mutex_lock(&h->lock);
	if ((t = find(h, s->probe)) != NULL && told_span(t, s))
		h->changed = true;
	pthread_mutex_unlock(&h->lock);
}

void
health_deaf(struct health *h, bool deaf)
{
	pthread_mutex_lock(&h->lock);
	h->deaf = deaf;
	pthread_mutex_unlock(&h->lock);
}
