/*
 * buffer.c - the verb purge.  It needs the data directory's lock, so no
 * collector may run.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/cli/cli.h"
#include "agent/cli/files.h"
#include "agent/cli/offline.h"
#include "agent/store/projection.h"
#include "agent/store/store.h"
#include "agent/supervisor/blackbox.h"
#include "agent/supervisor/exits.h"
#include "schema/frame.h"

static bool
asked(const char *dir, const char *run)
{
	char line[16];
	bool yes;

	fprintf(stderr, "delete %s and %s with all traces in them? [y/N] ", dir, run);
	yes = fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
	if (!yes)
		fputs("nothing was deleted (--yes does not ask)\n", stderr);
	return yes;
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
