/*
 * series.c - see series.h.
 */
#include "agent/memory/series.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"

static const struct {
	uint32_t points;
	int64_t bucket_ns; /* 0: as sampled */
} shape[SERIES_LEVELS] = {
	{ 3000, 0 },
	{ 7200, (int64_t)NS_PER_S },
	{ 1440, 60 * (int64_t)NS_PER_S },
};

enum err
series_init(struct series *s)
{
	memset(s, 0, sizeof *s);
	for (unsigned i = 0; i < SERIES_LEVELS; i++) {
		s->levels[i].cap = shape[i].points;
		s->levels[i].points = calloc(shape[i].points, sizeof *s->levels[i].points);
		if (s->levels[i].points == NULL) {
			series_fini(s);
			return E_NOMEM;
		}
	}
	return E_OK;
}

void
series_fini(struct series *s)
{
	for (unsigned i = 0; i < SERIES_LEVELS; i++)
		free(s->levels[i].points);
	memset(s, 0, sizeof *s);
}

static const struct point *
at(const struct level *l, uint32_t i)
{
	return &l->points[(l->first + i) % l->cap];
}

static void
append(struct level *l, const struct point *p)
{
	if (l->count == l->cap) {
		l->first = (l->first + 1) % l->cap;
		l->count--;
	}
	l->points[(l->first + l->count++) % l->cap] = *p;
}

static int64_t
bucket_of(int64_t t_ns, int64_t bucket_ns)
{
	int64_t n = t_ns / bucket_ns;

	return t_ns % bucket_ns < 0 ? n - 1 : n;
}

/* A point goes into the bucket of its end; the bucket stands for the time of all that it got. */
static void
widen(struct point *open, const struct point *p)
{
	int64_t span_ms = (p->t_ns - open->t_ns) / (int64_t)NS_PER_MS + open->span_ms;

	open->span_ms = span_ms < UINT32_MAX ? (uint32_t)span_ms : UINT32_MAX;
	open->t_ns = p->t_ns;
	for (unsigned i = 0; i < SERIES_VALUES; i++)
		if (p->v[i] > open->v[i])
			open->v[i] = p->v[i];
}

/* True: *closed is a bucket that is complete. */
static bool
gather(struct level *l, int64_t bucket_ns, const struct point *p, struct point *closed)
{
	int64_t bucket = bucket_of(p->t_ns, bucket_ns);
	bool complete = l->has_open && bucket != l->bucket;

	if (complete) {
		*closed = l->open;
		append(l, &l->open);
	}
	if (l->has_open && !complete) {
		widen(&l->open, p);
	} else {
		l->open = *p;
		l->bucket = bucket;
		l->has_open = true;
	}
	return complete;
}

bool
series_add(struct series *s, const struct point *p, struct point *minute)
{
	struct level *fine = &s->levels[0];
	struct point second;

	if (fine->count > 0 && p->t_ns <= at(fine, fine->count - 1)->t_ns)
		return false;
	append(fine, p);
	(void)gather(&s->levels[1], shape[1].bucket_ns, p, &second);
	return gather(&s->levels[2], shape[2].bucket_ns, p, minute);
}

void
series_restore(struct series *s, const struct point *minute)
{
	struct level *l = &s->levels[2];

	if (l->count == 0 || minute->t_ns > at(l, l->count - 1)->t_ns)
		append(l, minute);
}

/* Index of the first point that ends behind t. */
static uint32_t
first_behind(const struct level *l, int64_t t_ns)
{
	uint32_t lo = 0, hi = l->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (at(l, mid)->t_ns > t_ns)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static int64_t
begin_of(const struct point *p)
{
	return p->t_ns - (int64_t)p->span_ms * (int64_t)NS_PER_MS;
}

/* Where a level begins to know; INT64_MAX when it is empty. */
static int64_t
begin_of_level(const struct level *l)
{
	return l->count > 0 ? begin_of(at(l, 0)) : INT64_MAX;
}

void
series_each(const struct series *s, int64_t from_ns, int64_t to_ns, series_fn fn, void *ctx)
{
	for (unsigned i = SERIES_LEVELS; i-- > 0;) {
		const struct level *l = &s->levels[i];
		int64_t until = INT64_MAX;

		/* What a finer level has is told by it; a bucket at the seam is told as well. */
		for (unsigned k = 0; k < i; k++)
			if (begin_of_level(&s->levels[k]) < until)
				until = begin_of_level(&s->levels[k]);
		for (uint32_t n = first_behind(l, from_ns); n < l->count; n++) {
			const struct point *p = at(l, n);

			if (p->t_ns > to_ns || begin_of(p) >= until)
				break;
			if (!fn(ctx, p, i))
				return;
		}
	}
}

struct highest {
	int64_t from_ns;
	unsigned instant, interval;
	uint32_t value;
	bool any;
};

static bool
look(void *ctx, const struct point *p, unsigned level)
{
	struct highest *h = ctx;
	bool whole = begin_of(p) >= h->from_ns;
	uint32_t v = p->v[h->instant];

	if (level > 0 && !whole)
		return true;
	if (whole && p->v[h->interval] > v)
		v = p->v[h->interval];
	if (v > h->value)
		h->value = v;
	h->any = true;
	return true;
}

bool
series_max(const struct series *s, int64_t from_ns, int64_t to_ns, unsigned instant,
    unsigned interval, uint32_t *out)
{
	struct highest h = { .from_ns = from_ns, .instant = instant, .interval = interval };

	series_each(s, from_ns - 1, to_ns, look, &h);
	if (h.any)
		*out = h.value;
	return h.any;
}

bool
series_since(const struct series *s, int64_t *t_ns)
{
	int64_t begin = INT64_MAX;

	for (unsigned i = 0; i < SERIES_LEVELS; i++)
		if (begin_of_level(&s->levels[i]) < begin)
			begin = begin_of_level(&s->levels[i]);
	if (begin != INT64_MAX)
		*t_ns = begin;
	return begin != INT64_MAX;
}
