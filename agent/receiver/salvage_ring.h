/*
 * salvage_ring.h - what salvage.c (the file) and salvage_read.c (its content)
 * share.  Nobody else includes it.
 */
#pragma once

#include "agent/core/salvage.h"

struct salvage {
	char path[512];
	int fd;
	uint64_t device, inode;
	struct probe_row probe;
	uint8_t *file; /* the whole file as it was read */
	size_t bytes;
	/* inside `file`, checked */
	uint64_t area, area_bytes, head, acknowledged, beat;
	uint64_t slots_at;
	uint32_t slots, slot_bytes;
	uint64_t arena, arena_bytes;
};
