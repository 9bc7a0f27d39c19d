/*
 * over.c - what a metric is told of each of: signals, destinations, processes
 * and their like, with the tags that tell one from the other.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/metrics/table.h"

static void
tag_n(struct metric_item *item, const char *key, const char *s, size_t n)
{
	if (item->count < METRIC_TAGS)
		item->tags[item->count++] = (struct metric_tag){ key, s, n };
}

static void
tag(struct metric_item *item, const char *key, const char *s)
{
	tag_n(item, key, s, strlen(s));
}

/* One of an item, since its text lies there. */
static void
tag_number(struct metric_item *item, const char *key, int64_t v)
{
	snprintf(item->number, sizeof item->number, "%" PRId64, v);
	tag(item, key, item->number);
}

enum item
over_ONCE(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)s;
	(void)item;
	return i == 0 ? ITEM_IS : ITEM_END;
}

enum item
over_BUILD(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	tag(item, "agent_version", s->version);
	return i == 0 ? ITEM_IS : ITEM_END;
}

enum item
over_AGENT_STATE(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)s;
	tag(item, "state", agent_state_name((enum agent_state)i));
	return i <= AGENT_DEGRADED ? ITEM_IS : ITEM_END;
}

/* Traces always; another signal when there has been any of it. */
static bool
has_signal(const struct status_snapshot *s, size_t i)
{
	return i == SIGNAL_TRACE || s->store.received[i] > 0;
}

enum item
over_SIGNAL(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= SIGNAL_COUNT)
		return ITEM_END;
	tag(item, "signal", signal_name((enum signal)i));
	return has_signal(s, i) ? ITEM_IS : ITEM_NONE;
}

enum item
over_SIGNAL_REASON(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= (size_t)SIGNAL_COUNT * DROP_REASONS)
		return ITEM_END;
	tag(item, "signal", signal_name((enum signal)(i / DROP_REASONS)));
	tag(item, "reason", drop_reason_name((enum drop_reason)(i % DROP_REASONS)));
	return has_signal(s, i / DROP_REASONS) ? ITEM_IS : ITEM_NONE;
}

enum item
over_REJECTED(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= s->rejected_count)
		return ITEM_END;
	tag(item, "signal", signal_name(s->rejected[i].signal));
	tag_number(item, "status", s->rejected[i].status);
	return ITEM_IS;
}

enum item
over_LOSS(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)s;
	if (i >= WIRE_LOSS_COUNT)
		return ITEM_END;
	tag(item, "reason", loss_name((enum wire_loss)i));
	return ITEM_IS;
}

enum item
over_DESTINATION(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= s->destination_count)
		return ITEM_END;
	tag(item, "destination", s->destinations[i].name);
	return ITEM_IS;
}

enum item
over_WEBHOOK(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)item;
	return s->webhook.configured && i == 0 ? ITEM_IS : ITEM_END;
}

enum item
over_JOB_ACTIVE(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)s;
	if (i >= JOB_STATES)
		return ITEM_END;
	tag(item, "state", job_state_name((enum job_state)i));
	return job_state_is_final((enum job_state)i) ? ITEM_NONE : ITEM_IS;
}

enum item
over_JOB_ENDED(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)s;
	if (i >= JOB_STATES)
		return ITEM_END;
	tag(item, "state", job_state_name((enum job_state)i));
	return job_state_is_final((enum job_state)i) ? ITEM_IS : ITEM_NONE;
}

/* An attribute of a greeting as a tag, when it is there. */
static void
tag_attr(struct metric_item *item, const struct status_probe *p, const char *key)
{
	const char *k, *v;
	uint16_t k_bytes, v_bytes;
	struct wire_error err;
	size_t at = 0;

	while (wire_attr_next(p->attrs, p->attrs_bytes, &at, &k, &k_bytes, &v, &v_bytes, &err) == 1)
		if (k_bytes == strlen(key) && memcmp(k, key, k_bytes) == 0 && v_bytes > 0) {
			tag_n(item, key, v, v_bytes);
			return;
		}
}

/* Named as its spans are: by what its own environment says. */
enum item
over_PROCESS(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= s->memory.process_count)
		return ITEM_END;
	if (!s->memory.processes[i].alive)
		return ITEM_NONE;
	tag_number(item, "pid", (int64_t)s->memory.processes[i].pid);
	for (size_t k = 0; k < s->probe_count; k++) {
		const struct status_probe *p = &s->probes[k];

		if (p->pid != s->memory.processes[i].pid || p->closed)
			continue;
		tag_attr(item, p, "service");
		tag_attr(item, p, "env");
		tag_attr(item, p, "version");
		break;
	}
	return ITEM_IS;
}

/* The sampler sleeps while nobody lives: what it saw of host and devices is no longer so. */
static bool
is_sampled(const struct status_snapshot *s)
{
	return s->memory.process_count > 0;
}

enum item
over_MEMORY(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)item;
	return is_sampled(s) && i == 0 ? ITEM_IS : ITEM_END;
}

enum item
over_GPU(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (!is_sampled(s) || i >= s->memory.gpu_count)
		return ITEM_END;
	tag_number(item, "gpu", (int64_t)i);
	tag(item, "gpu_id", s->memory.gpus[i].id);
	tag(item, "gpu_name", s->memory.gpus[i].name);
	return s->memory.gpus[i].id[0] != '\0' || s->memory.gpus[i].name[0] != '\0' ? ITEM_IS
										    : ITEM_NONE;
}

enum item
over_HEALTH_STATE(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)s;
	if (i >= HEALTH_STATES)
		return ITEM_END;
	tag(item, "state", health_state_name((enum health_state)i));
	return ITEM_IS;
}

enum item
over_ILLNESS(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)s;
	if (i >= HEALTH_STATES)
		return ITEM_END;
	tag(item, "state", health_state_name((enum health_state)i));
	return i > HEALTH_WELL ? ITEM_IS : ITEM_NONE;
}

enum item
over_VERDICT(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= s->verdict_count)
		return ITEM_END;
	tag(item, "verdict", s->ends[i].verdict);
	return ITEM_IS;
}

enum item
over_SUPERVISOR(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= s->supervisor_count)
		return ITEM_END;
	tag_number(item, "supervisor", (int64_t)s->supervisors[i].pid);
	tag(item, "method", s->supervisors[i].method);
	return ITEM_IS;
}

enum item
over_SENDER(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	(void)item;
	return s->metrics.on && i == 0 ? ITEM_IS : ITEM_END;
}

enum item
over_SENDER_DROP(const struct status_snapshot *s, size_t i, struct metric_item *item)
{
	if (i >= METRICS_DROPS || !s->metrics.on)
		return ITEM_END;
	tag(item, "signal", signal_name(SIGNAL_METRIC));
	tag(item, "reason", metrics_drop_name((enum metrics_drop)i));
	return ITEM_IS;
}
