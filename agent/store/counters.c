/*
 * counters.c - the counters of the identity, leases in memory, outcomes.  Pure
 * functions on structs; the owner's thread only.
 */
#include <stdlib.h>

#include "agent/store/common.h"

void
count_rejected(struct counters *n, enum signal s, int32_t status, uint64_t spans)
{
	size_t last = STORE_REJECTED_MAX - SIGNAL_COUNT, i = 0;

	if (status == 0)
		i = last;
	while (i < last && n->rejected[i].spans > 0 &&
	       (n->rejected[i].signal != (int64_t)s || n->rejected[i].status != status))
		i++;
	if (i == last) { /* more kinds than places: each signal has one for the rest */
		i = last + s;
		status = 0;
	}
	n->rejected[i].signal = s;
	n->rejected[i].status = status;
	n->rejected[i].spans += spans;
}

uint64_t
counters_rejected(const struct counters *n, enum signal s)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < STORE_REJECTED_MAX; i++)
		if (n->rejected[i].spans > 0 && n->rejected[i].signal == (int64_t)s)
			sum += n->rejected[i].spans;
	return sum;
}

bool
counters_identity(const struct counters *n, enum signal s)
{
	uint64_t sum = n->v[s][COUNT_SENT] + n->v[s][COUNT_SAMPLED_OUT] + n->v[s][COUNT_QUEUED];

	for (int r = 0; r < DROP_REASONS; r++)
		sum += n->v[s][COUNT_DROPPED + r];
	return n->v[s][COUNT_RECEIVED] == sum + counters_rejected(n, s);
}

enum delivery_state
delivery_outcome(const struct delivery_row *rows, size_t n, bool *open, int32_t *status)
{
	const struct delivery_row *best = NULL;

	*open = false;
	*status = 0;
	for (size_t i = 0; i < n; i++) {
		if (rows[i].state == DELIVERY_QUEUED) {
			*open = true;
			continue;
		}
		/* sent beats rejected beats dropped: their order in the enum */
		if (best == NULL || rows[i].state < best->state)
			best = &rows[i];
	}
	if (best == NULL)
		return n == 0 ? DELIVERY_SENT : DELIVERY_QUEUED;
	*status = best->status;
	return best->state;
}

enum delivery_state
counters_end(struct counters *n, enum signal s, enum chunk_class class, uint32_t spans,
    const struct delivery_row *rows, size_t row_count)
{
	bool open;
	int32_t status;
	enum delivery_state state = delivery_outcome(rows, row_count, &open, &status);

	n->v[s][COUNT_QUEUED] -= spans;
	switch (state) {
	case DELIVERY_SENT:
		n->v[s][class == CHUNK_SAMPLED_OUT ? COUNT_SAMPLED_OUT : COUNT_SENT] += spans;
		break;
	case DELIVERY_REJECTED:
		count_rejected(n, s, status, spans);
		break;
	case DELIVERY_DROPPED:
	case DELIVERY_QUEUED:
		if (status < 0 || status >= DROP_REASONS)
			status = DROP_STORE_FULL;
		n->v[s][COUNT_DROPPED + status] += spans;
		break;
	}
	return state;
}

bool
lease_held(const struct lease_table *t, int64_t chunk, int32_t destination)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->entries[i].chunk == chunk && t->entries[i].destination == destination)
			return true;
	return false;
}

size_t
lease_count(const struct lease_table *t, int64_t chunk)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += t->entries[i].chunk == chunk && !t->entries[i].settled;
	return n;
}

enum err
lease_add(struct lease_table *t, const struct chunk_row *c, int32_t dest)
{
	if (t->n == STORE_LEASES_MAX)
		return E_FULL;
	if (t->n == t->cap) {
		size_t cap = t->cap > 0 ? 2 * t->cap : 64;
		struct lease_entry *p = realloc(t->entries, cap * sizeof *p);

		if (p == NULL)
			return E_NOMEM;
		t->entries = p;
		t->cap = cap;
	}
	t->entries[t->n++] = (struct lease_entry){
		.chunk = c->id,
		.destination = dest,
		.spans = c->spans,
		.signal = c->signal,
	};
	return E_OK;
}

void
lease_settled(struct lease_table *t, int64_t chunk, int32_t destination)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->entries[i].chunk == chunk && t->entries[i].destination == destination)
			t->entries[i].settled = true;
}

void
lease_settled_all(struct lease_table *t, int64_t chunk)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->entries[i].chunk == chunk)
			t->entries[i].settled = true;
}

void
lease_forget(struct lease_table *t, int32_t destination)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->n; i++)
		if (t->entries[i].destination != destination)
			t->entries[kept++] = t->entries[i];
	t->n = kept;
}

void
lease_in_flight(const struct lease_table *t, uint64_t out[SIGNAL_COUNT])
{
	memset(out, 0, SIGNAL_COUNT * sizeof *out);
	for (size_t i = 0; i < t->n; i++) {
		bool counted = t->entries[i].settled;

		for (size_t k = 0; k < i && !counted; k++)
			counted =
			    t->entries[k].chunk == t->entries[i].chunk && !t->entries[k].settled;
		if (!counted)
			out[t->entries[i].signal] += t->entries[i].spans;
	}
}

static int
find_name(const struct destination_set *d, const char *name)
{
	for (size_t i = 0; i < d->n; i++)
		if (strcmp(d->names[i], name) == 0)
			return (int)i;
	return -1;
}

enum err
destinations_plan(struct destination_set *d, const char *const *names, size_t n, int32_t *ids,
    bool wanted[STORE_DESTINATIONS_MAX])
{
	memset(wanted, 0, STORE_DESTINATIONS_MAX * sizeof *wanted);
	for (size_t i = 0; i < n; i++) {
		int at = find_name(d, names[i]);
		size_t len = strlen(names[i]);

		if (len == 0 || len >= sizeof d->names[0])
			return E_INVAL;
		if (at < 0) {
			if (d->n == STORE_DESTINATIONS_MAX)
				return E_INVAL;
			at = (int)d->n++;
			memcpy(d->names[at], names[i], len + 1);
			d->active[at] = false;
		}
		if (wanted[at])
			return E_INVAL;
		wanted[at] = true;
		ids[i] = at + 1;
	}
	return E_OK;
}
