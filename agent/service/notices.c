/*
 * notices.c - the part of a turn that faces the webhook: its result into the
 * transaction, then the next notice that is due out to it.  Pipeline's thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/core/job_json.h"
#include "agent/service/pipeline.h"

#define GONE_SLICE 256u /* notices that one transaction lets go */

enum err
notices_settle(struct pipeline *p)
{
	const struct webhook_result *r = &p->told;
	enum notice_end end = NOTICE_DONE;
	enum err e;

	if (p->webhook == NULL)
		return E_OK;
	p->has_told = p->has_told || webhook_take(p->webhook, &p->told) == E_OK;
	if (!p->has_told)
		return E_OK;
	if (r->end == WEBHOOK_AGAIN)
		end = r->refused ? NOTICE_REFUSED : NOTICE_AGAIN;
	e = pipeline_begin(p);
	if (e == E_OK)
		e = p->store->ops->notice_settle(p->store, r->id, end, r->next_try_real_ns);
	return e == E_NOTFOUND ? E_OK : e;
}

/* One that will not be told; in a transaction of its own. False: later. */
static bool
let_go(struct pipeline *p, const struct notice_row *n)
{
	enum err e = p->store->ops->notice_settle(p->store, n->id, NOTICE_DONE, 0);

	if (e != E_OK)
		log_warn("notice_not_deleted job=%" PRId64 " error=\"%s\"", n->job, err_text(e));
	return e == E_OK;
}

static void
write_notice(const struct notice_row *n, struct job_row *j, struct webhook_notice *out)
{
	char boot[2 * sizeof j->boot_id + 1];

	for (size_t i = 0; i < sizeof j->boot_id; i++)
		snprintf(boot + 2 * i, 3, "%02x", j->boot_id[i]);
	*out = (struct webhook_notice){
		.id = n->id, .job = n->job, .tries = n->attempts, .refusals = n->refusals
	};
	snprintf(
	    out->key, sizeof out->key, "%s-%" PRId64 "-%s", boot, n->job, job_state_name(n->state));
	j->state = n->state; /* it may have gone on */
	job_put_json(&out->body, j);
}

/* Too old to be of use: `store.age`, as for all that waits to be sent. */
static bool
is_old(const struct pipeline *p, const struct job_row *j, uint64_t now_real_ns)
{
	return p->notice_age_s > 0 && j->ended_real_ns < now_real_ns &&
	       now_real_ns - j->ended_real_ns > p->notice_age_s * NS_PER_S;
}

/* Hand a due notice over, or let it go. False when there is nothing more to do now. */
static bool
hand_over(struct pipeline *p, const struct notice_row *n)
{
	struct webhook_notice w;
	struct job_row j;
	enum err e = p->store->ops->job_get(p->store, n->job, &j);

	if (e == E_OK && is_old(p, &j, deliver_age_clock(p))) {
		if (p->notices_expired++ == 0)
			log_warn("notice_too_old job=%" PRId64, n->job);
		return let_go(p, n);
	}
	if (e == E_NOTFOUND) /* its row was damaged */
		return let_go(p, n);
	if (e != E_OK)
		return false;
	write_notice(n, &j, &w);
	if (w.body.failed || webhook_give(p->webhook, &w) != E_OK)
		outbuf_free(&w.body);
	return false;
}

void
notices_next(struct pipeline *p)
{
	uint64_t now = deliver_clock(p), next = 0;
	struct webhook_wish wish;
	struct notice_row n;

	if (p->webhook == NULL)
		return;
	p->has_told = false; /* the turn that wrote it has been committed */
	webhook_wants(p->webhook, &wish);
	p->notice_mono_ns = wish.from_mono_ns;
	if (!wish.ready)
		return;
	while (
	    p->store->ops->notice_next(p->store, wish.rested ? UINT64_MAX : now, &n, &next) == E_OK)
		if (!hand_over(p, &n))
			return;
	if (next > now)
		p->notice_mono_ns = clock_mono_ns() + (next - now);
}

void
notices_forget(struct pipeline *p)
{
	uint64_t gone = 0, next;
	struct notice_row n;
	enum err e = E_OK;

	while (e == E_OK && p->store->ops->notice_next(p->store, UINT64_MAX, &n, &next) == E_OK) {
		e = p->store->ops->begin(p->store);
		for (unsigned i = 0; e == E_OK && i < GONE_SLICE; i++) {
			e = p->store->ops->notice_settle(p->store, n.id, NOTICE_DONE, 0);
			gone += e == E_OK;
			if (p->store->ops->notice_next(p->store, UINT64_MAX, &n, &next) != E_OK)
				break;
		}
		if (e == E_OK)
			e = p->store->ops->commit(p->store);
		if (e != E_OK)
			p->store->ops->rollback(p->store);
	}
	if (e != E_OK)
		log_warn("notices_not_dropped error=\"%s\"", err_text(e));
	else if (gone > 0)
		log_warn("notices_dropped count=%" PRIu64 " reason=no_webhook", gone);
}
