/*
 * paths.h - where things live when nobody says: the run directory (socket and
 * rings) and the data directory (the buffer).  Reads the environment; main
 * thread, at load.
 */
#pragma once

#include <stddef.h>

void paths_run_dir(char *buf, size_t cap);
void paths_data_dir(char *buf, size_t cap);
