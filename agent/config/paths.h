/*
 * paths.h - where things live when nobody says: the run directory (socket and
 * rings), the data directory (the buffer), the host's certificates.  Reads the environment; main
 * thread, at load.
 */
#pragma once

#include <stddef.h>

void paths_run_dir(char *buf, size_t cap);
void paths_data_dir(char *buf, size_t cap);
/*
 * "" where the host has no such file.  The node folder carries Debian's
 * libcurl, whose built-in place is Debian's; the host may be another
 * distribution.  Certificates are not carried: they would grow old.
 */
void paths_ca_file(char *buf, size_t cap);
