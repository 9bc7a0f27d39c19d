/*
 * buffer.c - verbs on the buffer itself: verify, export, purge.  They need the
 * data directory's lock, so no collector may run (export asks the agent's file
 * only when there is none).
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/cli/cli.h"
#include "agent/cli/files.h"
#include "agent/cli/offline.h"
#include "agent/control/views.h"
#include "agent/store/projection.h"
#include "agent/store/store.h"
#include "agent/supervisor/blackbox.h"
#include "agent/supervisor/exits.h"
#include "schema/frame.h"

static int
store_failed(const char *dir, enum err rv, const char *error)
{
	if (rv == E_NOTFOUND) {
		fprintf(stderr, "comfymon: there is no buffer in %s\n", dir);
		return CLI_NO_AGENT;
	}
	fprintf(stderr, "comfymon: %s: %s\n", dir,
	    error[0] != '\0' ? error
	    : rv == E_BUSY   ? "an agent runs; stop it first"
			     : err_text(rv));
	return CLI_FAILED;
}

static const char *const projection_states[] = {
	[PROJECTION_ABSENT] = "absent",
	[PROJECTION_READ] = "read",
	[PROJECTION_UNREADABLE] = "unreadable",
	[PROJECTION_OF_ANOTHER] = "of another buffer",
};

static void
verified_json(const struct store_verify_report *r)
{
	printf("{\"rows\":%" PRIu64 ",\"bad\":%" PRIu64
	       ",\"identity\":%s,\"recount\":%s,\"jobs\":%" PRIu64 ",\"notices\":%" PRIu64
	       ",\"orphans\":%" PRIu64 ",\"jobs_db\":{\"state\":\"%s\",\"equal\":%" PRIu64
	       ",\"behind\":%" PRIu64 ",\"differ\":%" PRIu64 "}}\n",
	    r->rows, r->bad, r->identity ? "true" : "false", r->recount ? "true" : "false", r->jobs,
	    r->notices, r->orphans, projection_states[r->jobs_db.is], r->jobs_db.equal,
	    r->jobs_db.behind, r->jobs_db.differ);
}

static void
verified_text(const struct store_verify_report *r, bool good)
{
	printf("%s: %" PRIu64 " rows good, %" PRIu64 " bad; identity %s, counters %s\n",
	    good ? "good" : "DAMAGED", r->rows, r->bad, r->identity ? "holds" : "does not hold",
	    r->recount ? "equal the rows" : "differ from the rows");
	printf("%" PRIu64 " jobs, %" PRIu64 " notices, %" PRIu64 " of them of no job; jobs.db %s",
	    r->jobs, r->notices, r->orphans, projection_states[r->jobs_db.is]);
	if (r->jobs_db.is == PROJECTION_READ)
		printf(": %" PRIu64 " equal, %" PRIu64 " behind, %" PRIu64 " differ%s",
		    r->jobs_db.equal, r->jobs_db.behind, r->jobs_db.differ,
		    r->jobs_db.differ > 0 ? " (remove it: it is made anew)" : "");
	printf("\n");
}

int
verb_verify(struct cli *c)
{
	const char *dir = config_string(c->config, OPT_DATA_DIR);
	struct store_verify_report r = { 0 };
	char error[STORE_ERROR_BYTES] = "";
	int lock = -1, code = lock_data(c, &lock);

	if (code != CLI_OK)
		return code;

	enum err rv = store_verify(dir, &r, error);
	bool good =
	    r.bad == 0 && r.identity && r.recount && r.orphans == 0 && r.jobs_db.differ == 0;

	close(lock);
	if (rv != E_OK)
		return store_failed(dir, rv, error);
	if (c->json)
		verified_json(&r);
	else
		verified_text(&r, good);
	return good ? CLI_OK : CLI_PROBLEM;
}

int
verb_export(struct cli *c)
{
	struct span_defaults d = defaults_of(c);
	struct store *st = NULL;
	uint64_t count = 0;
	int lock = -1, code = open_snapshot(c, &st, &lock);

	if (code != CLI_OK)
		return code;

	FILE *f = c->out != NULL ? fopen(c->out, "wxe") : stdout;

	if (f == NULL) {
		fprintf(stderr, "comfymon: %s: %s\n", c->out, strerror(errno));
		st->ops->close(st);
		close(lock);
		return CLI_FAILED;
	}

	enum err rv = view_export(st, NULL, &d, f, &count);

	st->ops->close(st);
	close(lock);
	if (f != stdout && fclose(f) != 0 && rv == E_OK)
		rv = E_IO;
	if (rv != E_OK)
		return store_failed(config_string(c->config, OPT_DATA_DIR), rv, "");
	fprintf(stderr, "%" PRIu64 " spans\n", count);
	return CLI_OK;
}

static bool
asked(const char *dir, const char *run)
{
	char line[16];

	fprintf(stderr, "delete %s and %s with all traces in them? [y/N] ", dir, run);
	return fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
}

/* All that agent and probe make there; whatever else is in a folder that was named is not ours. */
static const char *const data_files[] = { STORE_FILE_NAME "*", PROJECTION_FILE_NAME "*", EXITS_FILE,
	EXITS_FILE ".*", "memory", "memory.*", "lock", "ballast", NULL };
static const char *const death_files[] = { "*.json", NULL };
static const char *const run_files[] = { "lock", RUN_SOCKET_NAME, RUN_CONTROL_NAME,
	RUN_RING_PREFIX "*" RUN_RING_SUFFIX, "new-*.tmp", "agent.log", "order-*", "session-*",
	NULL };
static const char *const body_files[] = { "*.json", "*.json.sent", "*.tmp", NULL };

/* Ours in a folder of `dir`, then in `dir` itself; *kept counts what is not ours. */
static enum err
purge_directory(const char *dir, const char *const *files, const char *folder,
    const char *const *folder_files, size_t *kept)
{
	char path[PATH_MAX];
	size_t inside = 0;
	enum err rv = path_join(path, sizeof path, dir, folder);

	*kept = 0;
	if (rv == E_OK && files_is_directory(path))
		rv = files_remove_known(path, folder_files, &inside);
	if (rv == E_OK)
		rv = files_remove_known(dir, files, kept);
	*kept += inside;
	return rv;
}

int
verb_purge(struct cli *c)
{
	size_t kept = 0, kept_run = 0;
	const char *dir = config_string(c->config, OPT_DATA_DIR);
	const char *run = config_string(c->config, OPT_RUN_DIR);
	int lock = -1;

	if (!c->yes && !asked(dir, run))
		return CLI_PROBLEM;

	if (files_is_directory(dir)) {
		int code = lock_data(c, &lock);

		if (code != CLI_OK)
			return code;
	}

	enum err rv = purge_directory(dir, data_files, BLACKBOX_DIR, death_files, &kept);

	if (rv == E_OK)
		rv = purge_directory(run, run_files, RUN_BODIES_NAME, body_files, &kept_run);
	if (lock >= 0)
		close(lock);
	if (rv != E_OK) {
		fprintf(stderr, "comfymon: purge: %s\n", err_text(rv));
		return CLI_FAILED;
	}
	if (c->json)
		return cli_print_json(
		    json_pack("{s:[o,o]}", "removed", cli_string(dir), cli_string(run)));
	printf("removed %s and %s\n", dir, run);
	if (kept + kept_run > 0)
		printf("not ours, left there: %zu\n", kept + kept_run);
	return CLI_OK;
}
