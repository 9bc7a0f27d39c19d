/*
 * fault.h - marks of the moments at which a kill is most telling, on both sides
 * of the socket.  Nothing at all unless built with -DFAULT=ON; then, by
 * environment:
 *
 *   COMFYMON_FAULT_LOG=FILE    one line `pid enter|inside|leave|kill PHASE` for each mark
 *   COMFYMON_KILL_AT=PHASE:N   SIGKILL at the N-th mark of this phase in this process
 *   COMFYMON_KILL_PAUSE_MS=MS  let the other threads go on for so long before that
 *   COMFYMON_BREAK=NAME[,..]   do this wrong on purpose (tests/fault/README.md)
 *
 * A phase is what lies between two acts that a crash must not tear apart:
 * `enter` before the first, `inside` between the two, `leave` after the second.
 */
#pragma once

#include <stdbool.h>

#ifdef COMFYMON_FAULT
void fault_enter(const char *phase);
void fault_inside(const char *phase);
void fault_leave(const char *phase);
bool fault_breaks(const char *name);
#else
#define fault_enter(phase)  ((void)0)
#define fault_inside(phase) ((void)0)
#define fault_leave(phase)  ((void)0)
#define fault_breaks(name)  false
#endif
