/*
 * names.c - the words for the enums of the contracts, as status and metrics
 * print them.  Pure; any thread.  An unknown value is "unknown".
 */
#include "agent/core/status.h"

#define NAME(table, i) ((size_t)(i) < sizeof(table) / sizeof((table)[0]) ? (table)[i] : "unknown")

const char *
agent_state_name(enum agent_state s)
{
	static const char *const names[] = { "ok", "local", "offline", "degraded" };

	return NAME(names, s);
}

const char *
destination_state_name(enum destination_state s)
{
	static const char *const names[] = { "unknown", "ok", "offline", "hold", "local" };

	return NAME(names, s);
}

const char *
health_state_name(enum health_state s)
{
	static const char *const names[] = {
		[HEALTH_UNKNOWN] = "unknown",
		[HEALTH_STARTING] = "starting",
		[HEALTH_WELL] = "well",
		[HEALTH_NO_PROGRESS] = "no_progress",
		[HEALTH_HTTP_SILENT] = "http_silent",
		[HEALTH_CUDA_POISONED] = "cuda_poisoned",
		[HEALTH_ZOMBIE] = "zombie",
	};

	return NAME(names, s);
}

bool
health_state_is_broken(enum health_state s)
{
	return s == HEALTH_HTTP_SILENT || s == HEALTH_CUDA_POISONED || s == HEALTH_ZOMBIE;
}

const char *
signal_name(enum signal s)
{
	static const char *const names[] = { "trace", "profile", "metric", "log" };

	return NAME(names, s);
}

const char *
drop_reason_name(enum drop_reason r)
{
	static const char *const names[] = {
		[DROP_TOO_LARGE] = "too_large",
		[DROP_MALFORMED] = "malformed",
		[DROP_STORE_FULL] = "store_full",
		[DROP_TOO_OLD] = "too_old",
		[DROP_DESTINATION_REMOVED] = "destination_removed",
		[DROP_UNSUPPORTED] = "unsupported",
		[DROP_CORRUPT] = "corrupt",
	};

	return NAME(names, r);
}

const char *
loss_name(enum wire_loss l)
{
	static const char *const names[] = { "ring_full", "arena_full", "open_full", "torn",
		"too_large", "fork", "off", "other" };

	return NAME(names, l);
}

const char *
metrics_drop_name(enum metrics_drop d)
{
	static const char *const names[] = {
		[METRICS_REFUSED] = "refused",
		[METRICS_ABSENT] = "absent",
		[METRICS_FULL] = "full",
		[METRICS_UNRESOLVED] = "unresolved",
		[METRICS_TOO_LARGE] = "too_large",
		[METRICS_FAILED] = "failed",
	};

	return NAME(names, d);
}
