/*
 * fault.h - marks of the moments at which a kill is most telling.  Nothing at
 * all unless built with -DFAULT=ON; then COMFYMON_FAULT_LOG (a file) gets one
 * line `phase-enter NAME` / `phase-leave NAME` for each, and
 * COMFYMON_KILL_AT=NAME:N kills the process on the N-th entry of a phase.
 */
#pragma once

#ifdef COMFYMON_FAULT
void fault_enter(const char *phase);
void fault_leave(const char *phase);
#else
#define fault_enter(phase) ((void)0)
#define fault_leave(phase) ((void)0)
#endif
