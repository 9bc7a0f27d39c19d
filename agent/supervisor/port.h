/*
 * port.h - does anybody listen on a TCP port, as a process sees it? From
 * /proc/PID/net.  Source: proc(5).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

bool port_listens(pid_t pid, uint16_t port);
