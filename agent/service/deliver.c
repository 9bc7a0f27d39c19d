/*
 * deliver.c - the part of a turn that faces the exporter: results into the
 * transaction, due chunks out as leases.  Pipeline's thread.
 */
#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/service/pipeline.h"
#include "schema/fault.h"

void
deliver_collect(struct pipeline *p)
{
	while (p->exporter != NULL && p->result_count < PIPELINE_RESULTS) {
		struct export_result *r = &p->results[p->result_count];

		memset(r, 0, sizeof *r);
		if (exporter_take(p->exporter, r) != E_OK)
			break;
		fault_enter("reply/record");
		p->result_count++;
	}
}

enum err
deliver_settle(struct pipeline *p)
{
	for (size_t i = 0; i < p->result_count; i++) {
		struct export_result *r = &p->results[i];
		enum err e = pipeline_begin(p);

		if (e == E_OK && r->split)
			e = p->store->ops->split(p->store, r->s.chunk, &r->a, &r->b);
		else if (e == E_OK)
			e = p->store->ops->settle(p->store, &r->s);
		if (e != E_OK && e != E_NOTFOUND) /* evicted meanwhile: counted there */
			return e;
		fault_inside("reply/record");
	}
	return E_OK;
}

void
deliver_done(struct pipeline *p)
{
	for (size_t i = 0; i < p->result_count; i++) {
		struct export_result *r = &p->results[i];

		fault_leave("reply/record");
		if (r->agent_reply != NULL && processor_agent_rates(p->processor, r->agent_reply,
						  r->agent_reply_bytes) != E_OK)
			log_debug("agent_reply_without_rates bytes=%zu", r->agent_reply_bytes);
		free(r->agent_reply);
		free(r->a.blob);
		free(r->b.blob);
	}
	p->result_count = 0;
}

/* A settlement in a transaction of its own. */
static void
settle_now(struct pipeline *p, const struct settlement *s)
{
	enum err e = p->store->ops->begin(p->store);

	if (e == E_OK && (e = p->store->ops->settle(p->store, s)) == E_OK)
		e = p->store->ops->commit(p->store);
	if (e != E_OK) {
		p->store->ops->rollback(p->store);
		log_warn("lease_not_returned error=\"%s\"", err_text(e));
	}
}

/* It could not be handed over: due again at once. */
static void
give_back(struct pipeline *p, struct lease *l)
{
	const struct settlement s = { .chunk = l->chunk.id,
		.destination = l->destination,
		.kind = SETTLE_RETRY,
		.next_try_real_ns = clock_real_ns() + NS_PER_S };

	settle_now(p, &s);
	lease_free(l);
}

void
deliver_lease(struct pipeline *p)
{
	p->lease_mono_ns = 0;
	for (size_t i = 0; i < p->destination_count; i++) {
		uint64_t next = 0, now = clock_real_ns();
		bool fresh;

		while (exporter_wants(p->exporter, i, &fresh) > 0) {
			struct lease l;
			enum err e = p->store->ops->lease(
			    p->store, p->destination_ids[i], fresh, now, &l, &next);

			if (e != E_OK)
				break;

			const struct settlement early = { .chunk = l.chunk.id,
				.destination = l.destination,
				.kind = SETTLE_SENT,
				.status = 200 };

			if (fault_breaks("sent-before-reply"))
				settle_now(p, &early);
			if (exporter_give(p->exporter, i, &l) != E_OK) {
				give_back(p, &l);
				break;
			}
		}
		if (next > now) {
			uint64_t at = clock_mono_ns() + (next - now);

			if (p->lease_mono_ns == 0 || at < p->lease_mono_ns)
				p->lease_mono_ns = at;
		}
	}
}
