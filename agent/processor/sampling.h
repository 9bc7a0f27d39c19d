/*
 * sampling.h - keep or reject: the decision about a trace, made once.  Pipeline
 * thread.  Order: inherited priority, rules on the local root, sample rate (a
 * rule without matchers at the end of the list), the agent's rates, keep.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"
#include "agent/core/normalise.h"

/* As it goes into a bundle; `inherited` and `kept_failure` become flags there. */
struct decision {
	int8_t priority, mechanism;
	bool inherited, kept_failure;
	uint32_t has; /* BUNDLE_HAS_* */
	double rule_psr, limit_psr, agent_psr;
};

#define SAMPLE_REJECTED(d) ((d)->priority <= 0)
#define MECHANISM_MANUAL   4 /* kept because somebody wants to have it */

/* One service's rate from the agent's last reply. */
struct sampler_rates;
MUST_CHECK enum err rates_new(struct sampler_rates **out);
void rates_free(struct sampler_rates *r);
/* Replace them by a reply's body. E_INVAL: it has no rate_by_service; the old ones stay. */
MUST_CHECK enum err rates_parse(struct sampler_rates *r, const char *json, size_t n);
/* The rate for service and env (normalised here), else the agent's default; false: none known. */
bool rates_find(
    const struct sampler_rates *r, struct norm_text service, struct norm_text env, double *rate);

/* The rules, rate and limit of one probe, with its limiter. */
struct sampler;
struct sampler_options {
	const char *service, *env;  /* of the probe, else the agent's own */
	const char *sample_rate;    /* text, "" unset */
	const char *sampling_rules; /* JSON, "" none */
	double rate_limit;          /* per second, < 0 none */
};
/*
 * A rate or rules that cannot be read count as unset (other tracers do the
 * same); *problem then says what and where, else it is "".
 */
MUST_CHECK enum err sampler_new(
    const struct sampler_options *o, struct sampler **out, char *problem, size_t cap);
void sampler_free(struct sampler *s);

/* Do its rules look at tags? If not, a subject may come without. */
bool sampler_reads_tags(const struct sampler *s);

/* What rules look at. */
struct sample_tag {
	struct norm_text key, value;
};
struct sample_subject {
	uint64_t trace_lo;
	uint64_t start_second; /* of the trace, realtime */
	int8_t inherited_priority, inherited_mechanism;
	bool failed; /* its job failed or was killed */
	struct norm_text service, name, resource;
	const struct sample_tag *tags;
	size_t tag_count;
};
void sample_decide(struct sampler *s, const struct sampler_rates *rates,
    const struct sample_subject *subject, struct decision *out);
/* A failed job in a trace that was rejected: keep it, unless an inherited -1 forbids. */
void sample_keep_failure(struct decision *d);
/* Datadog's hash: would a trace of this id be kept at this rate? */
bool sample_hash(uint64_t trace_lo, double rate);
