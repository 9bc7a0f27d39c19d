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
		if (p->result_count++ ==
		    0) /* the phase is the turn's, however many results it has */
			fault_enter("reply/record");
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
	}
	if (p->result_count > 0)
		fault_inside("reply/record");
	return E_OK;
}

void
deliver_done(struct pipeline *p)
{
	if (p->result_count > 0) {
		p->room = true;
		fault_leave("reply/record");
	}
	for (size_t i = 0; i < p->result_count; i++) {
		struct export_result *r = &p->results[i];

		if (r->agent_reply != NULL && processor_agent_rates(p->processor, r->agent_reply,
						  r->agent_reply_bytes) != E_OK)
			log_debug("agent_reply_without_rates bytes=%zu", r->agent_reply_bytes);
		free(r->agent_reply);
		free(r->a.blob);
		free(r->b.blob);
	}
	p->result_count = 0;
}

/* Leases settled in a transaction of their own. */
static void
settle_now(struct pipeline *p, const struct lease *leases, size_t n, struct settlement s)
{
	enum err e = p->store->ops->begin(p->store);

	for (size_t i = 0; e == E_OK && i < n; i++) {
		s.chunk = leases[i].chunk.id;
		s.destination = leases[i].destination;
		e = p->store->ops->settle(p->store, &s);
	}
	if (e == E_OK)
		e = p->store->ops->commit(p->store);
	if (e != E_OK) {
		p->store->ops->rollback(p->store);
		log_warn("leases_not_returned error=\"%s\"", err_text(e));
	}
}

/* What is due for destination i, as one request. */
static void
lease_for(struct pipeline *p, size_t i, uint64_t now_real_ns, uint64_t *next_real_ns)
{
	struct lease leases[EXPORT_CHUNKS_MAX];
	struct export_wish wish;
	size_t n = 0, bytes = 0;

	exporter_wants(p->exporter, i, &wish);
	while (n < wish.chunks && bytes < wish.bytes) {
		enum err e = p->store->ops->lease(p->store, p->destination_ids[i], wish.fresh,
		    wish.rested ? UINT64_MAX : now_real_ns, &leases[n], next_real_ns);

		if (e != E_OK)
			break;
		bytes += leases[n++].chunk.blob_bytes;
	}
	if (n > 0 && fault_breaks("sent-before-reply"))
		settle_now(p, leases, n, (struct settlement){ .kind = SETTLE_SENT, .status = 200 });
	if (n == 0 || exporter_give(p->exporter, i, leases, n) == E_OK)
		return;
	settle_now(p, leases, n, (struct settlement){ .kind = SETTLE_RETURN });
	for (size_t k = 0; k < n; k++)
		lease_free(&leases[k]);
}

uint64_t
deliver_clock(struct pipeline *p)
{
	uint64_t mono = clock_mono_ns();
	int64_t ahead = (int64_t)(clock_real_ns() - mono);

	if (p->real_ahead_ns == 0 || ahead > p->real_ahead_ns)
		p->real_ahead_ns = ahead;
	return mono + (uint64_t)p->real_ahead_ns;
}

uint64_t
deliver_age_clock(struct pipeline *p)
{
	uint64_t mono = clock_mono_ns();
	int64_t ahead = (int64_t)(clock_real_ns() - mono);

	if (p->real_least_ns == 0 || ahead < p->real_least_ns)
		p->real_least_ns = ahead;
	return mono + (uint64_t)p->real_least_ns;
}

void
deliver_lease(struct pipeline *p)
{
	p->lease_mono_ns = 0;
	for (size_t i = 0; i < p->destination_count; i++) {
		uint64_t next = 0, now = deliver_clock(p);

		lease_for(p, i, now, &next);
		if (next > now) {
			uint64_t at = clock_mono_ns() + (next - now);

			if (p->lease_mono_ns == 0 || at < p->lease_mono_ns)
				p->lease_mono_ns = at;
		}
	}
}
