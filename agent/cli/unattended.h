/*
 * unattended.h - what `comfymon agent --autostarted` does because nobody sees
 * its terminal and nobody restarts it: a small log of its own in the run
 * directory, and making room for the program that replaced its own (an upgrade
 * of the node folder under a running ComfyUI).  Main thread.
 */
#pragma once

#include "agent/cli/cli.h"

#define UNATTENDED_LOG_NAME "agent.log"

/* Log to RUN_DIR/agent.log, emptied when it is large; nothing when that cannot be: the probe and
 * `doctor` say what is wrong with the directory. */
void unattended_log(const char *run_dir);

/*
 * From time to time.  True when the file that we were started from is another
 * one by now and that one runs: stop in order, then call unattended_succeed.
 */
bool unattended_check(const struct cli *c, const char *run_dir);

/* Become the new program, same process id, arguments and environment. Returns only on failure. */
void unattended_succeed(const struct cli *c);
