/*
 * rules.h - DD_TRACE_SAMPLING_RULES: a list of globs over a local root, each
 * with a rate.  Pipeline thread.  Bounded: RULES_MAX rules, RULE_TAGS_MAX tags
 * in one, texts of RULE_TEXT_MAX - 1 bytes.
 */
#pragma once

#include "agent/processor/json.h"
#include "agent/processor/sampling.h"

#define RULES_MAX     64u
#define RULE_TAGS_MAX 16u
#define RULE_TEXT_MAX 256u

struct rules;

/*
 * Read them.  A rule without sample_rate is skipped, as other tracers do.
 * E_INVAL: no JSON or not of this shape; *at says where, *problem what.
 */
MUST_CHECK enum err rules_parse(
    const char *json, size_t n, struct rules **out, size_t *at, const char **problem);
void rules_free(struct rules *r);
bool rules_read_tags(const struct rules *r);
/* The rate of the first rule that matches; false: none does. */
bool rules_match(const struct rules *r, const struct sample_subject *s, double *rate);
/* '*' any run, '?' any one byte, letters of ASCII in either case. */
bool glob_match(const char *pattern, struct norm_text text);
