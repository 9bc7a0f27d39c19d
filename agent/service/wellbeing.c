/*
 * wellbeing.c - between the pipeline and those who observe: health and memory.
 * Who lives, what runs, and what is known of it across our own restart.  Pipeline's thread.
 */
#include "agent/base/log.h"
#include "agent/service/pipeline.h"

void
pipeline_saw(void *ctx, const struct span_seen *s)
{
	struct pipeline *p = ctx;

	journal_see(p->journal, s);
	health_seen(p->health, s);
	if (p->memory != NULL)
		memory_saw(p->memory, s);
}

static void
saw_open(void *ctx, const struct span_seen *s)
{
	struct pipeline *p = ctx;

	health_seen(p->health, s);
	if (p->memory != NULL)
		memory_saw(p->memory, s);
}

void
wellbeing_begin(struct pipeline *p)
{
	uint8_t memo[HEALTH_MEMO_BYTES];
	struct probe_row row;
	size_t n = 0;
	int64_t at = 0;
	enum err e = p->store->ops->meta_get(p->store, HEALTH_MEMO_KEY, memo, sizeof memo, &n);

	if (e == E_OK)
		health_remember(p->health, memo, n);
	else if (e != E_NOTFOUND)
		log_warn("health_not_remembered error=\"%s\"", err_text(e));
	while (p->store->ops->probe_next(p->store, &at, &row) == E_OK)
		health_hello(p->health, &row);
	processor_open_jobs(p->processor, saw_open, p);
}

enum err
wellbeing_keep(struct pipeline *p)
{
	uint8_t memo[HEALTH_MEMO_BYTES];
	size_t n = health_memo(p->health, memo);
	enum err e;

	if (n == 0)
		return E_OK;
	if ((e = pipeline_begin(p)) != E_OK)
		return e;
	e = p->store->ops->meta_put(p->store, HEALTH_MEMO_KEY, memo, n);
	p->memo = e == E_OK;
	return e;
}

void
wellbeing_kept(struct pipeline *p)
{
	if (p->memo)
		health_kept(p->health);
	p->memo = false;
}
