/*
 * off.c - the way out when something is inconsistent.  Any thread; the first
 * reason wins.
 */
#include "probe/core/off.h"

#include <stdio.h>

#include "probe/core/probe.h"
#include "probe/core/state.h"

static char reason[256];
static atomic_int written; /* 0 no, 1 being written, 2 readable */

void
off_turn(const char *format, ...)
{
	int expected = 0;
	va_list ap;

	if (atomic_compare_exchange_strong(&written, &expected, 1)) {
		va_start(ap, format);
		vsnprintf(reason, sizeof reason, format, ap);
		va_end(ap);
		atomic_store_explicit(&written, 2, memory_order_release);
	}
	atomic_store(&probe.phase, PHASE_OFF);
	atomic_store(&gate.ring, NULL);
}

const char *
comfymon_off_reason(void)
{
	if (comfymon_is_on())
		return "";
	if (atomic_load_explicit(&written, memory_order_acquire) == 2)
		return reason;
	return "not started";
}
