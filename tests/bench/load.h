/*
 * load.h - the load of every figure of the collector: traces of 21 spans with
 * 10 tags (8 strings, 2 numbers), through the real probe core.  One thread.
 */
#pragma once

#include <stdint.h>

#define LOAD_TRACE 21u
#define LOAD_TAGS  10u

/* Start the probe with its sender in a run directory. Exits on failure. */
void load_start(const char *run_dir);
/*
 * Finish `spans` spans (whole traces), `rate` a second, 0: as fast as the ring
 * takes them.  Returns how many were taken; a full ring is waited for without a
 * rate and is a loss with one.
 */
uint64_t load_run(uint64_t spans, double rate);
/* Wait until everything is acknowledged; seconds from load_start of the last run, < 0: not in time.
 */
double load_settle(double limit_s);
uint64_t load_bytes(void); /* handed over so far, as ring positions */
