/*
 * rules.c - see rules.h.
 */
#include "agent/processor/rules.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct rule_tag {
	char key[RULE_TEXT_MAX], glob[RULE_TEXT_MAX];
};

struct rule {
	double rate; /* < 0: none given */
	char service[RULE_TEXT_MAX], name[RULE_TEXT_MAX], resource[RULE_TEXT_MAX];
	struct rule_tag *tags;
	size_t tag_count;
};

struct rules {
	struct rule *list;
	size_t count;
};

static bool
same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

bool
glob_match(const char *pattern, struct norm_text text)
{
	size_t i = 0, back_i = 0;
	const char *p = pattern, *back = NULL;

	/* On a mismatch the last star takes one more byte: never more than n * m steps. */
	while (i < text.n) {
		if (*p == '*') {
			back = ++p;
			back_i = i;
		} else if (*p != '\0' && (*p == '?' || same(*p, text.s[i]))) {
			p++;
			i++;
		} else if (back != NULL) {
			p = back;
			i = ++back_i;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return *p == '\0';
}

static bool
read_tags(struct json *j, struct rule *r)
{
	bool first = true;

	if (!text_enter(j, '{'))
		return false;
	while (text_more(j, '}', &first)) {
		struct rule_tag *tags;

		if (r->tag_count == RULE_TAGS_MAX)
			return text_fail(j, "too many tags in a rule");
		tags = realloc(r->tags, (r->tag_count + 1) * sizeof *tags);
		if (tags == NULL)
			return text_fail(j, "no memory");
		r->tags = tags;
		tags += r->tag_count;
		if (!text_key(j, tags->key, RULE_TEXT_MAX) ||
		    !text_string(j, tags->glob, RULE_TEXT_MAX))
			return false;
		r->tag_count++;
	}
	return j->problem == NULL;
}

static bool
read_member(struct json *j, const char *key, struct rule *r)
{
	if (strcmp(key, "service") == 0)
		return text_string(j, r->service, RULE_TEXT_MAX);
	if (strcmp(key, "name") == 0)
		return text_string(j, r->name, RULE_TEXT_MAX);
	if (strcmp(key, "resource") == 0)
		return text_string(j, r->resource, RULE_TEXT_MAX);
	if (strcmp(key, "tags") == 0)
		return read_tags(j, r);
	if (strcmp(key, "sample_rate") != 0)
		return text_skip(j);
	if (!text_number(j, &r->rate))
		return false;
	return r->rate >= 0 && r->rate <= 1 ? true : text_fail(j, "sample_rate is not 0 to 1");
}

static bool
read_rule(struct json *j, struct rule *r)
{
	char key[RULE_TEXT_MAX];
	bool first = true;

	r->rate = -1;
	if (!text_enter(j, '{'))
		return false;
	while (text_more(j, '}', &first))
		if (!text_key(j, key, sizeof key) || !read_member(j, key, r))
			return false;
	return j->problem == NULL;
}

static void
rule_free(struct rule *r)
{
	free(r->tags);
	memset(r, 0, sizeof *r);
}

enum err
rules_parse(const char *json, size_t n, struct rules **out, size_t *at, const char **problem)
{
	struct rules *r = calloc(1, sizeof *r);
	bool first = true;
	struct json j;

	if (r == NULL || (r->list = calloc(RULES_MAX, sizeof r->list[0])) == NULL) {
		free(r);
		return E_NOMEM;
	}
	text_init(&j, json, n);
	if (text_enter(&j, '[')) {
		while (text_more(&j, ']', &first)) {
			if (r->count == RULES_MAX) {
				text_fail(&j, "too many rules");
				break;
			}
			r->count++;
			if (!read_rule(&j, &r->list[r->count - 1]))
				break;
			if (r->list[r->count - 1].rate < 0)
				rule_free(&r->list[--r->count]);
		}
	}
	if (!text_end(&j)) {
		*at = j.problem_at;
		*problem = j.problem;
		rules_free(r);
		return E_INVAL;
	}
	*out = r;
	return E_OK;
}

void
rules_free(struct rules *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->count; i++)
		rule_free(&r->list[i]);
	free(r->list);
	free(r);
}

bool
rules_read_tags(const struct rules *r)
{
	for (size_t i = 0; r != NULL && i < r->count; i++)
		if (r->list[i].tag_count > 0)
			return true;
	return false;
}

static bool
tag_matches(const struct rule_tag *t, const struct sample_subject *s)
{
	for (size_t i = 0; i < s->tag_count; i++)
		if (s->tags[i].key.n == strlen(t->key) &&
		    memcmp(s->tags[i].key.s, t->key, s->tags[i].key.n) == 0)
			return glob_match(t->glob, s->tags[i].value);
	return false;
}

static bool
rule_matches(const struct rule *r, const struct sample_subject *s)
{
	if ((r->service[0] != '\0' && !glob_match(r->service, s->service)) ||
	    (r->name[0] != '\0' && !glob_match(r->name, s->name)) ||
	    (r->resource[0] != '\0' && !glob_match(r->resource, s->resource)))
		return false;
	for (size_t i = 0; i < r->tag_count; i++)
		if (!tag_matches(&r->tags[i], s))
			return false;
	return true;
}

bool
rules_match(const struct rules *r, const struct sample_subject *s, double *rate)
{
	for (size_t i = 0; r != NULL && i < r->count; i++) {
		if (!rule_matches(&r->list[i], s))
			continue;
		*rate = r->list[i].rate;
		return true;
	}
	return false;
}
