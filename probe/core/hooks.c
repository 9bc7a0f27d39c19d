/*
 * hooks.c - see hooks.h.  One word for each hook: its name is set once, its state
 * may change; a row is never given up, as the host's tables never shrink.
 */
#include "probe/core/hooks.h"

#include "probe/core/probe.h"

#define HOOKS_MAX     192u /* what a collector remembers of a probe */
#define PAYLOAD_BYTES 8u

static _Atomic uint64_t rows[HOOKS_MAX]; /* state << 32 | id of the name; 0 free */

static void
encode(uint8_t payload[PAYLOAD_BYTES], uint64_t row)
{
	wire_put32(payload, (uint32_t)row);
	wire_put32(payload + 4, (uint32_t)(row >> 32));
}

/* The row of this name, a free one's if it is new; NULL when there is none left. */
static _Atomic uint64_t *
row_of(uint32_t name, uint64_t fresh)
{
	for (unsigned i = 0; i < HOOKS_MAX; i++) {
		uint64_t now = 0;

		if (atomic_compare_exchange_strong(&rows[i], &now, fresh) || (uint32_t)now == name)
			return &rows[i];
	}
	return NULL;
}

bool
comfymon_hook(uint32_t name, uint32_t state)
{
	uint64_t row = name | (uint64_t)state << 32;
	_Atomic uint64_t *kept = name != 0 ? row_of(name, row) : NULL;
	uint8_t payload[PAYLOAD_BYTES];

	if (kept != NULL)
		atomic_store(kept, row);
	encode(payload, row);
	return comfymon_record(EVENT_HOOK, payload, sizeof payload);
}

static bool
put(struct ring *r, uint64_t row)
{
	uint64_t position;
	uint8_t *p = ring_reserve(r, RECORD_HEADER_BYTES + PAYLOAD_BYTES, EVENT_HOOK, &position);

	if (p == NULL)
		return false;
	encode(p + RECORD_HEADER_BYTES, row);
	ring_publish(r, p, position, RECORD_HEADER_BYTES + PAYLOAD_BYTES, EVENT_HOOK);
	return true;
}

void
hooks_tell(struct ring *r)
{
	for (unsigned i = 0; i < HOOKS_MAX; i++) {
		uint64_t row;

		/* A change meanwhile may lie before what we wrote: the last word is the newest. */
		do {
			row = atomic_load(&rows[i]);
			if (row == 0 || !put(r, row))
				return;
		} while (atomic_load(&rows[i]) != row);
	}
}
