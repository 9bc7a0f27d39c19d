/*
 * internal.h - inside of the room: one job that waits for its next life, and
 * the parts that work on it.  The room's thread, unless said.
 */
#pragma once

#include <sys/socket.h>

#include "agent/core/job.h"
#include "agent/resubmit/resubmit.h"

#define RESUBMIT_JOBS_MAX    4096u /* at hand; more are looked at when these have ended */
#define RESUBMIT_DEATHS      2u    /* that a workflow was at work at: it is not posted again */
#define RESUBMIT_DEATHS_LOOK 256u  /* newest failed jobs that are looked at for it */
#define LIFE_BYTES           64u

/* What the line of a file says. */
struct body_line {
	double number;
	char workflow[9]; /* 8 hex digits */
	char probe[2 * FRAME_PROBE_ID_BYTES + 1];
	bool secret;
	size_t json_at, json_bytes; /* in the file */
};

struct waiting {
	int64_t job, probe;
	uint8_t boot_id[FRAME_PROBE_ID_BYTES];
	char life[LIFE_BYTES], prompt_id[65], body[BODY_NAME_BYTES];
	struct body_line line;
	uint64_t since_mono_ns; /* nobody has answered since then */
	bool known;             /* `line` was read, or there is no file */
	bool missing;           /* there is none */
	bool sent;              /* it may have arrived: look before it is posted */
	uint64_t sent_mono_ns;  /* by this agent, 0: by an earlier one */
};

struct waiting_list {
	struct waiting *jobs;
	size_t count, cap;
};

/* ---- waiting.c: each one question to the pipeline's thread --------------- */

/* Jobs that wait and whose process is dead; those that are in the list already stay as they are. */
MUST_CHECK enum err waiting_gather(const struct agent_view *v, struct waiting_list *list);
/* Ends it. E_NOTFOUND, E_STATE: somebody else has. */
MUST_CHECK enum err waiting_resolve(
    const struct agent_view *v, const struct waiting *w, enum job_state state, const char *reason);
/* Has a job with its prompt id come from a later process? */
MUST_CHECK enum err waiting_arrived(
    const struct agent_view *v, const struct waiting *w, bool *arrived);
/*
 * At how many deaths under this supervisor was its workflow at work, and what
 * it is called.
 */
MUST_CHECK enum err waiting_deaths(
    const struct agent_view *v, const struct waiting *w, unsigned *deaths, char name[64]);
/* Is this probe known and open? */
MUST_CHECK enum err waiting_is_open(const struct agent_view *v, const char *probe_hex, bool *open);

/* "123-" and "89abcdef" of a life's "123-4-89abcdef"; false when it is none. Pure. */
bool life_same_supervisor(const char *a, const char *b);
bool life_supervisor_lives(const char *life);

/* ---- bodies.c ------------------------------------------------------------ */

/* The line and where the JSON lies. E_INVAL when it is no such file. Pure. */
MUST_CHECK enum err body_parse(
    const char *text, size_t n, size_t file_bytes, struct body_line *out);
/* Reads the line; fills known, missing, sent, line. */
void body_look(const char *run_dir, struct waiting *w);
/* The JSON, heap. */
MUST_CHECK enum err body_read(const char *run_dir, const struct waiting *w, char **json);
/* From now on it may have arrived; survives this agent. */
MUST_CHECK enum err body_mark(const char *run_dir, struct waiting *w);
void body_remove(const char *run_dir, const struct waiting *w);
/*
 * Files that are no job's: those of probes that are not open and not in the
 * list, and what was never finished.
 */
void body_clean(const struct agent_view *v, const char *run_dir, const struct waiting_list *list);

/* ---- place.c ------------------------------------------------------------- */

/* False: not known yet, or only by TLS. Pure. */
bool place_of(const struct status_process *p, struct sockaddr_storage *to, socklen_t *bytes);
