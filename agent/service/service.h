/*
 * service.h - the agent as one call: locks, rooms from back to front, signals,
 * drain.  service_run owns the process's signals and its main thread until it
 * returns.
 */
#pragma once

#include "agent/core/status.h"
#include "agent/core/webhook.h"
#include "agent/health/health.h"

enum service_store { SERVICE_STORE_SQLITE, SERVICE_STORE_RAM };

/* Who holds the directory when service_run says E_BUSY. */
struct service_holder {
	uint64_t pid;
	char path[256]; /* the lock file */
	char socket[256];
};

struct service_options {
	const char *run_dir, *data_dir; /* made if missing, 0700 */
	enum service_store store;
	struct store_limits limits;
	const struct destination_options *destinations; /* at most STATUS_DESTINATIONS */
	size_t destination_count;
	struct webhook_options webhook;
	struct metrics_options metrics;
	struct processor_options processor;
	struct health_options health; /* callbacks are filled in by the service */
	const uint32_t *allow_uids;   /* besides our own and root */
	size_t allow_uid_count;
	uint32_t max_connections; /* 0: 64 */
	size_t inbox_bytes;       /* 0: 4 MiB */
	const char *nvml;         /* NVIDIA's library; NULL or "": none */
	uint64_t drain_ms;        /* after SIGTERM; 0: 5 s */
	bool autostarted;         /* ends linger_ms after the last probe has gone */
	uint64_t linger_ms;       /* 0: 5 min */

	/* Called on the main thread, each may be NULL. */
	void *ctx;
	/* Everything runs: start what serves others (control). An error stops the agent. */
	enum err (*ready)(void *ctx, const struct agent_view *view);
	/* Before the pipeline stops; the view is dead after it. */
	void (*stopping)(void *ctx);
	/* While auto-started, four times in a linger time: true ends the agent in order. */
	bool (*enough)(void *ctx);
	/* A probe has ended for good and its jobs with it. Pipeline's thread, must not wait. */
	void (*gone)(void *ctx);
	/* What serves others has lost its socket: make it anew. */
	enum err (*listen_again)(void *ctx);
	/* SIGHUP; the service itself only reopens nothing: log and such are the caller's. */
	void (*reload)(void *ctx);
};

/*
 * Run until SIGTERM, SIGINT, or the end of the linger time.  E_OK after an
 * orderly stop (a second signal, or drain_ms passed, included: what is queued
 * is on disk).  E_BUSY: another agent holds the data or run directory, *holder
 * says who.  E_PERM: a directory is not ours alone.  Others: the store or the
 * listener could not be opened; logged.
 */
MUST_CHECK enum err service_run(const struct service_options *o, struct service_holder *holder);

/* For other verbs: hold the data directory's lock without running (reads, repair). *fd to close. */
MUST_CHECK enum err service_lock_data(
    const char *data_dir, uint64_t wait_ms, struct service_holder *holder, int *fd);
