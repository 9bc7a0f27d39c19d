/*
 * comfy_ids.h - ids that a client chose, as they may leave the process.
 *
 * libc only, any thread.  A prompt id that is a UUID goes as it is; a node's id
 * that looks like one (letters, digits and ._:- , at most 64) too.  Whatever
 * else somebody wrote there is told as its hash, 16 hex digits.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define COMFY_ID_BYTES 65

/* Both write a terminated text and return its length. */
size_t comfy_prompt_id(const char *s, size_t n, char out[COMFY_ID_BYTES]);
size_t comfy_node_id(const char *s, size_t n, char out[COMFY_ID_BYTES]);
