/*
 * jobs.c - the journal as JSON: a list, and one job found by what a person has
 * of it.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/control/views.h"
#include "agent/core/job_json.h"
#include "agent/core/json.h"

#define ROW_DIGITS 18 /* of a row's id: all of them fit */

bool
view_parse_states(const char *text, uint32_t *states)
{
	uint32_t found = 0;

	do {
		size_t n = strcspn(text, ",");
		enum job_state s;
		char name[16];

		if (n >= sizeof name)
			return false;
		memcpy(name, text, n);
		name[n] = '\0';
		if (!job_state_find(name, &s))
			return false;
		found |= 1u << s;
		text += n;
	} while (*text++ == ',');
	*states = found;
	return true;
}

bool
view_parse_job_id(const char *text)
{
	static const char legal[] =
	    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";
	size_t n = strspn(text, legal);

	return n > 0 && text[n] == '\0' && n < sizeof((struct job_row *)0)->prompt_id;
}

static enum err
put_line(void *ctx, const struct job_row *j)
{
	struct outbuf *out = ctx;

	job_put_json(out, j);
	put_raw(out, "\n");
	return out->failed ? E_NOMEM : E_OK;
}

enum err
view_jobs(struct store *st, const struct job_filter *f, struct outbuf *out)
{
	return st->ops->jobs(st, f, put_line, out);
}

struct match {
	struct job_row job;
	bool found;
};

/* The newest of a prompt id; of another one that begins alike there may be none. */
static enum err
take_match(void *ctx, const struct job_row *j)
{
	struct match *m = ctx;

	if (m->found && strcmp(m->job.prompt_id, j->prompt_id) != 0)
		return E_EXISTS;
	if (!m->found)
		m->job = *j;
	m->found = true;
	return E_OK;
}

enum err
view_job(struct store *st, const char *id, struct outbuf *out)
{
	struct job_filter f = { .prompt_id = id, .prompt_begins = true };
	struct match m = { .found = false };
	size_t digits = strspn(id, "0123456789");
	enum err rv = E_NOTFOUND;

	if (digits <= ROW_DIGITS && id[digits] == '\0')
		rv = st->ops->job_get(st, strtoll(id, NULL, 10), &m.job);
	if (rv == E_NOTFOUND) {
		rv = st->ops->jobs(st, &f, take_match, &m);
		if (rv == E_OK && !m.found)
			rv = E_NOTFOUND;
	}
	if (rv != E_OK)
		return rv;
	job_put_json(out, &m.job);
	return out->failed ? E_NOMEM : E_OK;
}
