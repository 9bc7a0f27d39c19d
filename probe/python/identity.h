/*
 * identity.h - who this process is and how its traces shall be sampled: the
 * probe's side of the environment, as the attrs block of frame.h.
 *
 * libc only; reads the environment, so not beside a thread that writes it.
 * What is not set is left out: the collector has the defaults.  Never a key.
 */
#pragma once

#include <stdbool.h>

#include "schema/wire.h"

#define IDENTITY_WARNINGS_MAX 16

struct identity {
	struct wire_attrs attrs;
	uint8_t bytes[FRAME_ATTRS_MAX_BYTES];
	bool enabled; /* DD_TRACE_ENABLED and COMFYMON_ENABLED allow it */
	const char *disabled_by;
	char warnings[IDENTITY_WARNINGS_MAX][160];
	unsigned warning_count; /* more than fit are counted only */
};

/* Fill from the environment; `language_version` is Python's ("3.11.2"). */
void identity_read(struct identity *id, const char *language_version);

/* The variable says yes. */
bool identity_switch(const char *variable);
