/*
 * sampling.c - the order of decisions, Datadog's hash and the limiter.
 * Pipeline thread.  See sampling.h.
 */
#include "agent/processor/sampling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/processor/rules.h"
#include "schema/wire.h"

#define MECHANISM_DEFAULT 0
#define MECHANISM_AGENT   1
#define MECHANISM_RULE    3
#define SECONDS           256u /* of trace starts that the limiter remembers */

struct second {
	uint64_t second;
	uint32_t allowed, total;
};

struct sampler {
	char *service, *env;
	struct rules *rules;
	double rate; /* < 0: unset */
	double limit;
	struct second seconds[SECONDS];
};

bool
sample_hash(uint64_t trace_lo, double rate)
{
	if (rate >= 1)
		return true;
	if (!(rate > 0))
		return false;
	return trace_lo * 1111111111111111111u <= (uint64_t)(rate * 18446744073709551615.0);
}

static void
read_rate(struct sampler *s, const char *text, char *problem, size_t cap)
{
	char *end;
	double rate;

	s->rate = -1;
	if (text == NULL || text[0] == '\0')
		return;
	rate = strtod(text, &end);
	if (end != text && *end == '\0' && rate >= 0 && rate <= 1)
		s->rate = rate;
	else
		snprintf(problem, cap, "sample rate \"%.32s\" is not 0 to 1", text);
}

enum err
sampler_new(const struct sampler_options *o, struct sampler **out, char *problem, size_t cap)
{
	struct sampler *s = calloc(1, sizeof *s);
	const char *why;
	enum err e = E_OK;
	size_t at;

	problem[0] = '\0';
	if (s == NULL)
		return E_NOMEM;
	s->service = strdup(o->service != NULL ? o->service : "");
	s->env = strdup(o->env != NULL ? o->env : "");
	s->limit = o->rate_limit;
	read_rate(s, o->sample_rate, problem, cap);
	if (o->sampling_rules != NULL && o->sampling_rules[0] != '\0')
		e = rules_parse(o->sampling_rules, strlen(o->sampling_rules), &s->rules, &at, &why);
	if (e == E_INVAL)
		snprintf(problem, cap, "sampling rules: %s at byte %zu", why, at);
	if (s->service == NULL || s->env == NULL || e == E_NOMEM) {
		sampler_free(s);
		return E_NOMEM;
	}
	*out = s;
	return E_OK;
}

void
sampler_free(struct sampler *s)
{
	if (s == NULL)
		return;
	rules_free(s->rules);
	free(s->service);
	free(s->env);
	free(s);
}

bool
sampler_reads_tags(const struct sampler *s)
{
	return rules_read_tags(s->rules);
}

/*
 * One trace of that start second asks to be kept.  A second that has left the
 * table is older than four minutes before the newest: its few stragglers pass.
 */
static bool
limiter_allows(struct sampler *s, uint64_t second, double *effective)
{
	struct second *now = &s->seconds[second % SECONDS];
	const struct second *before = &s->seconds[(second - 1) % SECONDS];
	bool allowed;

	*effective = 1;
	if (s->limit < 0)
		return true;
	if (now->second > second)
		return s->limit > 0;
	if (now->second < second)
		*now = (struct second){ .second = second };
	allowed = now->allowed < s->limit;
	now->total++;
	now->allowed += allowed;
	*effective = (double)now->allowed / now->total;
	if (before->second == second - 1 && before->total > 0)
		*effective = (*effective + (double)before->allowed / before->total) / 2;
	return allowed;
}

static void
by_rule(struct sampler *s, const struct sample_subject *subject, double rate, struct decision *out)
{
	bool keep = sample_hash(subject->trace_lo, rate);

	out->mechanism = MECHANISM_RULE;
	out->has = BUNDLE_HAS_RULE_PSR;
	out->rule_psr = rate;
	if (keep) {
		keep = limiter_allows(s, subject->start_second, &out->limit_psr);
		out->has |= BUNDLE_HAS_LIMIT_PSR;
	}
	out->priority = keep ? 2 : -1;
}

void
sample_keep_failure(struct decision *d)
{
	if (d->inherited && d->priority < 0)
		return;
	*d = (struct decision){ .priority = 2,
		.mechanism = MECHANISM_MANUAL,
		.inherited = d->inherited,
		.kept_failure = true };
}

void
sample_decide(struct sampler *s, const struct sampler_rates *rates,
    const struct sample_subject *subject, struct decision *out)
{
	struct sample_subject with = *subject;
	double rate;

	memset(out, 0, sizeof *out);
	if (with.service.n == 0)
		with.service = (struct norm_text){ s->service, strlen(s->service) };
	if (subject->inherited_priority != WIRE_PRIORITY_NONE) {
		out->inherited = true;
		out->priority = subject->inherited_priority;
		out->mechanism = subject->inherited_mechanism;
	} else if (rules_match(s->rules, &with, &rate)) {
		by_rule(s, subject, rate, out);
	} else if (s->rate >= 0) {
		by_rule(s, subject, s->rate, out);
	} else if (rates_find(
		       rates, with.service, (struct norm_text){ s->env, strlen(s->env) }, &rate)) {
		out->mechanism = MECHANISM_AGENT;
		out->has = BUNDLE_HAS_AGENT_PSR;
		out->agent_psr = rate;
		out->priority = sample_hash(subject->trace_lo, rate);
	} else {
		out->mechanism = MECHANISM_DEFAULT;
		out->priority = 1;
	}
	if (subject->failed && SAMPLE_REJECTED(out))
		sample_keep_failure(out);
}
