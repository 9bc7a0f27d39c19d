/*
 * rates.c - what the Datadog agent last answered: a rate for each service and
 * env, and a default ("service:,env:").  Pipeline thread.  At most RATES_MAX
 * services are kept (the agent's own catalogue has as many).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/processor/json.h"
#include "agent/processor/sampling.h"

#define RATES_MAX 5000u
#define KEY_MAX   512u

struct rate {
	char *key;
	double rate;
};

struct sampler_rates {
	struct rate *list; /* sorted by key */
	size_t count;
};

enum err
rates_new(struct sampler_rates **out)
{
	*out = calloc(1, sizeof **out);
	return *out != NULL ? E_OK : E_NOMEM;
}

static void
list_free(struct rate *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].key);
	free(list);
}

void
rates_free(struct sampler_rates *r)
{
	if (r != NULL)
		list_free(r->list, r->count);
	free(r);
}

static int
by_key(const void *a, const void *b)
{
	return strcmp(((const struct rate *)a)->key, ((const struct rate *)b)->key);
}

static enum err
add(struct rate **list, size_t *n, size_t *cap, const char *key, double rate)
{
	if (*n == *cap) {
		size_t more = *cap > 0 ? 2 * *cap : 16;
		struct rate *bigger = realloc(*list, more * sizeof *bigger);

		if (bigger == NULL)
			return E_NOMEM;
		*list = bigger;
		*cap = more;
	}
	(*list)[*n] = (struct rate){ strdup(key), rate };
	if ((*list)[*n].key == NULL)
		return E_NOMEM;
	(*n)++;
	return E_OK;
}

static enum err
read_rates(struct json *j, struct rate **list, size_t *n)
{
	char key[KEY_MAX];
	size_t cap = 0;
	bool first = true;
	double rate;

	if (!text_enter(j, '{'))
		return E_INVAL;
	while (text_more(j, '}', &first)) {
		if (!text_key(j, key, sizeof key) || !text_number(j, &rate))
			return E_INVAL;
		if (!(rate >= 0 && rate <= 1) || *n == RATES_MAX)
			continue;
		if (add(list, n, &cap, key, rate) != E_OK)
			return E_NOMEM;
	}
	return j->problem == NULL ? E_OK : E_INVAL;
}

enum err
rates_parse(struct sampler_rates *r, const char *json, size_t n)
{
	struct rate *list = NULL;
	size_t count = 0;
	bool first = true, found = false;
	char key[KEY_MAX];
	enum err e = E_OK;
	struct json j;

	text_init(&j, json, n);
	if (!text_enter(&j, '{'))
		return E_INVAL;
	while (e == E_OK && text_more(&j, '}', &first)) {
		if (!text_key(&j, key, sizeof key))
			break;
		if (strcmp(key, "rate_by_service") == 0 && !found) {
			found = true;
			e = read_rates(&j, &list, &count);
		} else if (!text_skip(&j)) {
			break;
		}
	}
	if (e == E_OK && (!text_end(&j) || !found))
		e = E_INVAL;
	if (e != E_OK) {
		list_free(list, count);
		return e;
	}
	if (count > 0)
		qsort(list, count, sizeof list[0], by_key);
	list_free(r->list, r->count);
	r->list = list;
	r->count = count;
	return E_OK;
}

static bool
look_up(const struct sampler_rates *r, char *key, double *rate)
{
	struct rate wanted = { .key = key };
	const struct rate *found =
	    r->count > 0 ? bsearch(&wanted, r->list, r->count, sizeof wanted, by_key) : NULL;

	if (found != NULL)
		*rate = found->rate;
	return found != NULL;
}

bool
rates_find(
    const struct sampler_rates *r, struct norm_text service, struct norm_text env, double *rate)
{
	char key[KEY_MAX], any[] = "service:,env:", a[NORM_SCRATCH_BYTES], b[NORM_SCRATCH_BYTES];
	struct norm_text s, v;
	int n;

	if (r->count == 0)
		return false;
	s = norm_service(service.s, service.n, NULL, a);
	v = norm_tag_value(env.s, env.n, b);
	n = snprintf(key, sizeof key, "service:%.*s,env:%.*s", (int)s.n, s.s, (int)v.n, v.s);
	if (n > 0 && (size_t)n < sizeof key && look_up(r, key, rate))
		return true;
	return look_up(r, any, rate);
}
