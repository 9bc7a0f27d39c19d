/*
 * off.h - the probe turns itself off: one reason is kept, every later call is
 * a cheap no-op that counts.  Any thread, never waits.  The ring file stays
 * for the collector; its lock is held until the process ends or stops.
 */
#pragma once

#include <stdarg.h>

__attribute__((format(printf, 1, 2))) void off_turn(const char *format, ...);
