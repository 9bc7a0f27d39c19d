/*
 * verbs.c - what the program can do, as a table: help, the manual page and
 * main's dispatch come from it.
 */
#include "agent/cli/cli.h"

const struct verb verb_table[] = {
	{ "agent", NULL, "a", "run the collector in the foreground",
	    "It takes spans from every probe of this user through the run directory, keeps them "
	    "in the data directory, and delivers them to the destinations. ComfyUI's node starts "
	    "one by itself when none runs. One agent runs per data directory: a second one says "
	    "who the first is. SIGTERM and SIGINT end it: what is under way is finished within "
	    "the option drain, everything else is on disk already. SIGHUP opens the log file "
	    "anew, after a rotation. It logs one line an event to standard error.",
	    verb_agent },
	{ "run", "-- COMMAND", "mrvN",
	    "run ComfyUI under supervision: memory limit, verdict, restart",
	    "COMMAND is what starts ComfyUI. It runs beside an agent of its own, so that the end "
	    "of one costs the other nothing. Its output, input, signals and exit status pass "
	    "through. Over the soft limit it is asked for memory when idle, and restarted when "
	    "idle, "
	    "or after run.memory_soft_wait between two jobs, if that does not help; over the "
	    "memory limit it is ended as a container "
	    "would end it. Every end becomes a verdict with its evidence (see deaths), and it is "
	    "started again as --restart says: after 0.5 to 60 s, doubling, until five failures in "
	    "ten minutes (run.crash_limit). Ctrl-C and SIGTERM stop it in order, a second one, "
	    "half a "
	    "second later or more, at once. "
	    "The exit status is that of COMMAND; 126 or 127 when it could not be started.",
	    verb_run },
	{ "deaths", NULL, "l", "how ComfyUI ended, newest first",
	    "Each end that comfymon run saw, with its verdict: out of memory, a signal, a crash, "
	    "an exit status. The newest 50 are kept.",
	    verb_deaths },
	{ "death", "ID", "", "one end of ComfyUI: verdict, evidence, memory, last lines",
	    "With the memory in the last minutes, the kernel's counters, the job and node that "
	    "were running, and the last lines of output. ID is what deaths shows, or the word last "
	    "for the "
	    "newest.",
	    verb_death },
	{ "status", NULL, "RH", "rates, queue, identity, destinations, probes",
	    "Spans are counted so that received = sent + sampled out + queued + in flight + "
	    "dropped + rejected at every moment; dropped and rejected are told by reason. When no "
	    "agent runs, the buffer is read as it was left. With --ready or --healthy it answers "
	    "that alone, for a container's probes: no, status 1, also when no agent runs.",
	    verb_status },
	{ "traces", NULL, "sxtdl", "list traces, newest first",
	    "Those that are open or wait, and those that were sent, for as long as the history "
	    "keeps them. Without an agent the buffer is read.",
	    verb_traces },
	{ "trace", "ID", "Ag", "draw one trace as a tree with a time bar per span",
	    "ID is 32 hex digits, or the last 16 of them, or the word last for the newest. Failed, "
	    "unfinished and open spans are marked. A trace of more than 200 spans is drawn in "
	    "outline: the failed, the longest, the first and the last of many siblings; the rest "
	    "is summed up.",
	    verb_trace },
	{ "jobs", NULL, "jtl", "list jobs, newest first",
	    "Each job of ComfyUI from queued to its end: how it ended and why, how long it took, "
	    "the most memory it held, the node that failed. Kept for 30 days, 100,000 at most. "
	    "--since goes by when a job was queued. Without an agent the buffer is read.",
	    verb_jobs },
	{ "job", "ID", "", "one job: state, reason, node, times, memory",
	    "ID is the id that ComfyUI gave its prompt, the beginning of one, the number that "
	    "jobs shows, or the word last. Of several jobs under one prompt id it is the newest.",
	    verb_job },
	{ "memory", NULL, "tP", "memory of ComfyUI over time, with jobs and nodes under it",
	    "For each ComfyUI the highest of each part of the time (--since, an hour by default) "
	    "below its limit; RSS minus what nodes and models hold on purpose, and whether that "
	    "grows from job to job; who held most when the last job ended; the jobs that ran and "
	    "their nodes, each with its peak; each device, and ComfyUI's part of it; deaths. "
	    "Sampled each second, ten times a second while a job runs, kept for a day in ever "
	    "coarser steps. Needs a running agent.",
	    verb_memory },
	{ "doctor", NULL, "C", "walk from the node to Datadog and say what is wrong",
	    "It looks at the node (with --comfyui), its extension for ComfyUI's Python, the "
	    "switches, the run directory, the agent, the probes, the buffer and its disk, each "
	    "destination and the clock, and ends with what to do about the first that is broken.",
	    verb_doctor },
	{ "check", NULL, "pDS", "print every option with its value and origin",
	    "An option comes from the command line, the environment, the configuration file or "
	    "its default, in this order. An unknown key or a bad value is an error with line and "
	    "column.",
	    verb_check },
	{ "install", NULL, "CnK", "put the node into a ComfyUI (--comfyui DIR)",
	    "DIR is the folder with custom_nodes in it. The node is linked, so that an upgrade "
	    "here is an upgrade there, or copied with --copy. What is there and not ours is left "
	    "alone. Restart ComfyUI afterwards.",
	    verb_install },
	{ "uninstall", NULL, "C", "take the node out of a ComfyUI (--comfyui DIR)",
	    "Only the link or folder of ours is removed; buffer and traces stay (see purge).",
	    verb_uninstall },
	{ "purge", NULL, "y", "delete the buffer and the run directory (--yes)",
	    "All traces that were kept here are gone, sent or not. The agent must be stopped, and "
	    "ComfyUI with it.",
	    verb_purge },
	{ "verify", NULL, "", "check every row of the buffer",
	    "Each row is read and compared with its checksum, the counters with the rows, jobs.db "
	    "with the jobs. An agent that runs does it, a slice at a time, and goes on with its "
	    "work.",
	    verb_verify },
	{ "export", NULL, "o", "write every buffered span as JSON lines",
	    "One span a line, as in trace --json, with its trace_id; open ones too when an agent "
	    "runs. Nothing is taken from the queue. An existing FILE is not overwritten.",
	    verb_export },
	{ "help", "[VERB]", "M", "this text, or more about a verb",
	    "The manual page is made of the same tables: comfymon help --man | man -l -",
	    verb_help },
};
const size_t verb_count = sizeof verb_table / sizeof verb_table[0];

const struct exit_text exit_table[] = {
	{ CLI_OK, "it is so: done, found, well" },
	{ CLI_PROBLEM, "the answer is no: not found, damaged, something is wrong" },
	{ CLI_USAGE, "the arguments or the configuration are wrong; one line says where" },
	{ CLI_NO_AGENT, "there is nobody and nothing to ask: no agent, no buffer" },
	{ CLI_FAILED, "it could not be done: permission, disk, memory, an agent in the way" },
};
const size_t exit_count = sizeof exit_table / sizeof exit_table[0];
