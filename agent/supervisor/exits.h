/*
 * exits.h - DATA_DIR/exits: one line for each end of a supervised process, which
 * the parent writes and the agent reads.  Any thread; blocks on the disk.
 *
 *	exit life=412-1-9f03a1c2 pid=413 ticks=8812 time_ns=... verdict=oom_cgroup
 *	certainty=certain signal=9 exit=-1 limit=... rss=... peak=... restarted=1 death=ID
 *	uptime_ms=... why=ended+by+signal+9+(SIGKILL)|...
 *
 * on one line; -1 and "none" where there is nothing to say.  why: the evidence, its sentences
 * joined by "|", with "+" for a space and %XX for what else a word cannot hold.  Keys are only
 * ever added, and who does not know one skips it.  Over 256 KiB the file becomes `exits.1`, in
 *place of an older one.  A line is written at once and is on the disk when exits_append returns; a
 *torn one is skipped, and does not spoil the next.
 */
#pragma once

#include "agent/base/err.h"
#include "agent/supervisor/death.h"

#define LIFE_BYTES       64
#define EXITS_FILE       "exits"
#define EXITS_MAX_BYTES  (256u * 1024)
#define EXITS_LINE_BYTES 8192
#define EXITS_WHY_BYTES  (DEATH_LINES * DEATH_LINE_BYTES)

/* One start of the command, COMFYMON_LIFE: its text is of [0-9a-f-]. */
struct exit_record {
	char life[LIFE_BYTES];
	uint64_t pid, start_ticks, time_real_ns;
	enum cause cause;
	enum certainty certainty;
	int signal, exit_code; /* -1 none */
	uint64_t limit_bytes, rss_bytes, peak_bytes;
	uint64_t uptime_ms; /* 0 unknown */
	bool restarted;
	char death[96];            /* its black box, "" none */
	char why[EXITS_WHY_BYTES]; /* the evidence, a sentence a line; "" unknown */
};

bool life_is_valid(const char *life);
/* Verdict, certainty, signal, exit code and evidence of a death. */
void exit_record_death(struct exit_record *r, const struct death *d);

/* E_INVAL: the life or the death is no word that a line can hold. */
MUST_CHECK enum err exits_append(const char *data_dir, const struct exit_record *r);
/* The newest line of that life; E_NOTFOUND. Reads at most 512 KiB. */
MUST_CHECK enum err exits_find(const char *data_dir, const char *life, struct exit_record *out);
/*
 * The line behind that of the life `after` ("" or a life that no line has any more: the
 * oldest), of a life that has no earlier one.  E_NOTFOUND.  Reads at most 512 KiB.
 */
MUST_CHECK enum err exits_next(const char *data_dir, const char *after, struct exit_record *out);
