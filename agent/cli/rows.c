/*
 * rows.c - verbs that go through all of the buffer: verify, export.  A running
 * agent is asked slice by slice, so that it does its work in between; without
 * one the buffer is read where it lies.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/offline.h"
#include "agent/control/views.h"
#include "agent/store/store.h"

static int
store_failed(const char *dir, enum err rv, const char *error)
{
	if (rv == E_NOTFOUND) {
		fprintf(stderr, "comfymon: there is no buffer in %s\n", dir);
		return CLI_NO_AGENT;
	}
	fprintf(stderr, "comfymon: %s: %s\n", dir, error[0] != '\0' ? error : err_text(rv));
	return CLI_FAILED;
}

static int
verify_offline(const struct cli *c, struct store_verify_report *r)
{
	const char *dir = config_string(c->config, OPT_DATA_DIR);
	char error[STORE_ERROR_BYTES] = "";
	int lock = -1, code = lock_data(c, &lock);

	if (code != CLI_OK)
		return code;

	enum err rv = store_verify(dir, r, error);

	close(lock);
	return rv == E_OK ? CLI_OK : store_failed(dir, rv, error);
}

/* Add an answer of the agent's: what it found, and where to go on. */
static int
add_slice(struct store_check *at, struct store_verify_report *r, const char *body)
{
	json_int_t table, after, rows, bad, jobs, notices, orphans, is, equal, behind, differ;
	int done, identity, recount;
	json_t *root = cli_parse(body);

	if (root == NULL)
		return CLI_FAILED;
	if (json_unpack(root, "{s:I,s:I,s:I,s:I,s:b,s:b,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "table",
		&table, "after", &after, "rows", &rows, "bad", &bad, "done", &done, "identity",
		&identity, "recount", &recount, "jobs", &jobs, "notices", &notices, "orphans",
		&orphans, "jobs_db", &is, "equal", &equal, "behind", &behind, "differ",
		&differ) != 0 ||
	    is < 0 || is > PROJECTION_OF_ANOTHER) {
		json_decref(root);
		fprintf(stderr, "comfymon: the agent's answer is not understood\n");
		return CLI_FAILED;
	}
	json_decref(root);
	at->table = (uint32_t)table;
	at->after = after;
	at->done = done != 0;
	r->rows += (uint64_t)rows;
	r->bad += (uint64_t)bad;
	r->identity = identity != 0;
	r->recount = recount != 0;
	r->jobs = (uint64_t)jobs;
	r->notices = (uint64_t)notices;
	r->orphans = (uint64_t)orphans;
	r->jobs_db.is = (enum projection_is)is;
	r->jobs_db.equal += (uint64_t)equal;
	r->jobs_db.behind += (uint64_t)behind;
	r->jobs_db.differ += (uint64_t)differ;
	return CLI_OK;
}

/* Ask until it is done; *nobody: no agent runs. */
static int
verify_online(const struct cli *c, struct store_verify_report *r, bool *nobody)
{
	struct store_check at = { 0 };
	int code = CLI_OK;

	while (code == CLI_OK && !at.done) {
		char target[96], *body = NULL;

		snprintf(target, sizeof target, "/check?table=%" PRIu32 "&after=%" PRId64, at.table,
		    at.after);
		code = view_ask(c, target, &body, nobody);
		if (code == CLI_OK)
			code = add_slice(&at, r, body);
		free(body);
	}
	return code;
}

static const char *const projection_states[] = {
	[PROJECTION_NOT_ASKED] = "not asked",
	[PROJECTION_ABSENT] = "absent",
	[PROJECTION_READ] = "read",
	[PROJECTION_HELD] = "held by somebody who writes to it",
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
	printf("%s: %" PRIu64 " rows, %" PRIu64 " bad; identity %s, counters %s\n",
	    good ? "good" : "DAMAGED", r->rows, r->bad, r->identity ? "holds" : "does not hold",
	    r->recount ? "equal the rows" : "differ from the rows");
	printf("%" PRIu64 " jobs; %" PRIu64 " notices for the webhook, %" PRIu64
	       " of them of no job; jobs.db %s",
	    r->jobs, r->notices, r->orphans,
	    r->jobs_db.is == PROJECTION_NOT_ASKED ? "follows by itself while an agent runs"
						  : projection_states[r->jobs_db.is]);
	if (r->jobs_db.is == PROJECTION_READ)
		printf(": %" PRIu64 " equal, %" PRIu64 " behind, %" PRIu64 " differ%s",
		    r->jobs_db.equal, r->jobs_db.behind, r->jobs_db.differ,
		    r->jobs_db.differ > 0 ? " (remove it: it is made anew)" : "");
	printf("\n");
}

int
verb_verify(struct cli *c)
{
	struct store_verify_report r = { .rows = 0 };
	bool nobody = false;
	int code = verify_online(c, &r, &nobody);

	if (nobody)
		code = verify_offline(c, &r);
	if (code != CLI_OK)
		return code;

	bool good =
	    r.bad == 0 && r.identity && r.recount && r.orphans == 0 && r.jobs_db.differ == 0;

	if (c->json)
		verified_json(&r);
	else
		verified_text(&r, good);
	return good ? CLI_OK : CLI_PROBLEM;
}

/* Write the spans of an answer; the last line may say where to go on. */
static enum err
write_slice(FILE *f, const char *body, struct view_export *at)
{
	static const char more[] = "{\"before\":";

	at->done = true;
	while (*body != '\0') {
		size_t n = strcspn(body, "\n") + 1;

		if (strncmp(body, more, sizeof more - 1) == 0) {
			at->before = strtoll(body + sizeof more - 1, NULL, 10);
			at->done = at->before <= 0;
			return E_OK;
		}
		if (fwrite(body, 1, n, f) != n)
			return E_IO;
		at->count++;
		body += n;
	}
	return E_OK;
}

static int
export_online(const struct cli *c, FILE *f, struct view_export *at, bool *nobody)
{
	int code = CLI_OK;

	while (code == CLI_OK && !at->done) {
		char target[64], *body = NULL;

		snprintf(target, sizeof target, "/export?before=%" PRId64, at->before);
		code = view_ask(c, target, &body, nobody);
		if (code == CLI_OK && write_slice(f, body, at) != E_OK)
			code = CLI_FAILED;
		free(body);
	}
	return code;
}

static int
export_offline(const struct cli *c, FILE *f, struct view_export *at)
{
	struct span_defaults d = defaults_of(c);
	struct outbuf out = { 0 };
	struct store *st = NULL;
	enum err rv = E_OK;
	int lock = -1, code = open_snapshot(c, &st, &lock);

	if (code != CLI_OK)
		return code;
	while (rv == E_OK && !at->done) {
		outbuf_reset(&out, SIZE_MAX);
		rv = view_export(st, NULL, &d, at, &out);
		if (rv == E_OK && fwrite(out.p, 1, out.n, f) != out.n)
			rv = E_IO;
	}
	outbuf_free(&out);
	st->ops->close(st);
	close(lock);
	return rv == E_OK ? CLI_OK : store_failed(config_string(c->config, OPT_DATA_DIR), rv, "");
}

int
verb_export(struct cli *c)
{
	struct view_export at = { 0 };
	bool nobody = false;
	FILE *f = c->out != NULL ? fopen(c->out, "wxe") : stdout;

	if (f == NULL) {
		fprintf(stderr, "comfymon: %s: %s\n", c->out, strerror(errno));
		return CLI_FAILED;
	}

	int code = export_online(c, f, &at, &nobody);

	/* An agent that ended in the middle: what it has said is written, the rest is below. */
	if (nobody)
		code = export_offline(c, f, &at);
	if (fflush(f) != 0)
		code = CLI_FAILED;
	if (f != stdout && fclose(f) != 0)
		code = CLI_FAILED;
	if (code == CLI_OK)
		fprintf(stderr, "%" PRIu64 " spans\n", at.count);
	else if (code == CLI_FAILED)
		fprintf(stderr, "comfymon: the export is not complete\n");
	else if (c->out != NULL)
		(void)unlink(c->out); /* there was nothing to ask */
	return code;
}
