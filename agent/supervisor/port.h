/*
 * port.h - does anybody listen on a TCP port here?  The kernel is asked for its
 * listeners alone: a host may have many thousand connections, and reading /proc/net
 * walks them all.  Source: sock_diag(7).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* False also where the kernel does not answer such questions. */
bool port_listens(uint16_t port);
