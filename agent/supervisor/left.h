/*
 * left.h - who is left of a life: processes of a session of their own, children
 * of a shell that was killed.  They would hold port, GPU and memory of the
 * next one.  Main thread; one walk over /proc.
 */
#pragma once

/*
 * End whoever carries this life in the environment that it began with
 * (COMFYMON_LIFE), as far as we may.
 */
void left_kill(const char *life);
