/*
 * verbs.c - what the program can do, as a table.
 */
#include "agent/cli/cli.h"

const struct verb verb_table[] = {
	{ "agent", NULL, "a", "run the collector in the foreground", verb_agent },
	{ "run", "-- COMMAND", "mrvN",
	    "run ComfyUI under supervision: memory limit, verdict, restart", verb_run },
	{ "deaths", NULL, "l", "how ComfyUI ended, newest first", verb_deaths },
	{ "death", "ID", "", "one end of ComfyUI: verdict, evidence, memory, last lines",
	    verb_death },
	{ "status", NULL, "", "rates, queue, identity, destinations, probes", verb_status },
	{ "traces", NULL, "sxtdl", "list traces, newest first", verb_traces },
	{ "trace", "ID", "Ag", "draw one trace as a tree with a time bar per span", verb_trace },
	{ "doctor", NULL, "C", "walk from the node to Datadog and say what is wrong", verb_doctor },
	{ "check", NULL, "pDS", "print every option with its value and origin", verb_check },
	{ "install", NULL, "CnK", "put the node into a ComfyUI (--comfyui DIR)", verb_install },
	{ "uninstall", NULL, "C", "take the node out of a ComfyUI (--comfyui DIR)",
	    verb_uninstall },
	{ "purge", NULL, "y", "delete the buffer and the run directory (--yes)", verb_purge },
	{ "verify", NULL, "", "check every row of the buffer", verb_verify },
	{ "export", NULL, "o", "write every buffered span as JSON lines", verb_export },
};
const size_t verb_count = sizeof verb_table / sizeof verb_table[0];
