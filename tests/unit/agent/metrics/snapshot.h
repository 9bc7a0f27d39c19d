/*
 * snapshot.h - a snapshot with something of everything, and one that is as large
 * and as hostile as it can be.
 */
#pragma once

#include "agent/core/status.h"
#include "tests/t.h"

static inline struct status_snapshot *
snapshot_plain(void)
{
	struct status_snapshot *s = calloc(1, sizeof *s);

	if (s == NULL)
		abort();
	strcpy(s->version, "1.2.3");
	s->uptime_s = 17;
	s->store.received[SIGNAL_TRACE] = 100;
	s->store.sent[SIGNAL_TRACE] = 60;
	s->store.queued[SIGNAL_TRACE] = 37;
	s->store.dropped[SIGNAL_TRACE][DROP_TOO_OLD] = 3;
	s->self.cpu_ns = 1500000007;
	s->jobs[JOB_RUNNING] = 1;
	s->jobs_ended[JOB_FAILED] = 2;
	return s;
}

/* Adds a pair to what a probe has said of itself. */
static inline void
snapshot_attr(struct status_probe *p, const char *key, const char *value)
{
	struct wire_attrs a = { p->attrs, p->attrs_bytes, sizeof p->attrs, false };

	wire_attr_put(&a, key, value);
	if (a.full)
		abort();
	p->attrs_bytes = a.used;
}

static inline struct status_process *
snapshot_process(struct status_snapshot *s, uint64_t pid)
{
	s->memory.known = true;
	s->memory.processes[s->memory.process_count++] =
	    (struct memory_process_now){ .pid = pid, .alive = true, .rss_bytes = 1024 * pid };
	s->probes[s->probe_count++] = (struct status_probe){ .pid = pid, .alive = true };
	s->health.processes[s->health.process_count] =
	    (struct status_process){ .pid = pid, .state = HEALTH_WELL };
	return &s->health.processes[s->health.process_count++];
}

/* Every place taken, every text as long as it can be and full of what separates. */
static inline struct status_snapshot *
snapshot_full(void)
{
	static const char bad[] = "|#,:\n\r\t\"\\ \xff\xc3{}=";
	struct status_snapshot *s = snapshot_plain();
	static char text[1000]; /* what points to it outlives the call */

	for (size_t i = 0; i < sizeof text - 1; i++)
		text[i] = bad[i % (sizeof bad - 1)];
	text[sizeof text - 1] = '\0';
	for (int g = 0; g < SIGNAL_COUNT; g++)
		s->store.received[g] = UINT64_MAX;
	for (size_t i = 0; i < MEMORY_PROCESSES; i++) {
		snapshot_process(s, UINT32_MAX - i);
		snapshot_attr(&s->probes[i], "service", text);
		snapshot_attr(&s->probes[i], "env", text);
		snapshot_attr(&s->probes[i], "version", text);
	}
	for (size_t i = 0; i < MEMORY_GPUS; i++) {
		struct memory_gpu_now *g = &s->memory.gpus[s->memory.gpu_count++];

		g->answers = true;
		g->total_bytes = UINT64_MAX;
		memcpy(g->name, text, sizeof g->name - 1);
		memcpy(g->id, text, sizeof g->id - 1);
	}
	for (size_t i = 0; i < STATUS_DESTINATIONS; i++) {
		struct status_destination *d = &s->destinations[s->destination_count++];

		snprintf(d->name, sizeof d->name, "%zu%.60s", i, text);
		d->now.sent_spans = UINT64_MAX - i;
	}
	for (size_t i = 0; i < STATUS_REJECTED; i++)
		s->rejected[s->rejected_count++] =
		    (struct status_rejected){ SIGNAL_TRACE, (int)(400 + i), 1 };
	s->supervisor_count = STATUS_SUPERVISORS;
	for (size_t i = 0; i < STATUS_VERDICTS; i++)
		s->ends[s->verdict_count++] = (struct status_ends){ text, i };
	s->webhook.configured = s->metrics.on = true;
	return s;
}
