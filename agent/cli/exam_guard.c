/*
 * exam_guard.c - station of the doctor: who holds ComfyUI to its memory limit,
 * and by which method.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/exam.h"
#include "agent/supervisor/state.h"

#define MOST 8u

static void
examine_one(struct exam *x, const struct supervised *s)
{
	char limit[32];

	if (s->limit_bytes == 0)
		station(x, WORTH_KNOWING, "limit", "",
		    "comfymon run, pid %llu, holds it to no limit", (unsigned long long)s->pid);
	else if (s->why[0] != '\0')
		station(x, WORTH_KNOWING, "limit", "",
		    "%s by watching (what it takes within 100 ms goes over it), since no cgroup "
		    "can be made: %s",
		    config_size_text(s->limit_bytes, limit, sizeof limit), s->why);
	else
		station(x, FINE, "limit", "", "%s by %s",
		    config_size_text(s->limit_bytes, limit, sizeof limit), s->method);
	if (s->verdict[0] != '\0' && strcmp(s->verdict, "exit_clean") != 0 &&
	    strcmp(s->verdict, "manager_restart") != 0)
		station(x, WORTH_KNOWING, "deaths", "",
		    "the last end was %s (%s): comfymon death %s", s->verdict, s->certainty,
		    s->death);
}

void
examine_guard(struct exam *x)
{
	struct supervised *all = calloc(MOST, sizeof *all);
	unsigned n =
	    all != NULL ? state_list(config_string(x->cli->config, OPT_RUN_DIR), all, MOST) : 0;

	for (unsigned i = 0; i < n; i++)
		examine_one(x, &all[i]);
	if (n == 0)
		station(x, NOT_SEEN, "limit", "",
		    "ComfyUI does not run under comfymon run here: nobody limits its memory or "
		    "starts it again");
	free(all);
}
