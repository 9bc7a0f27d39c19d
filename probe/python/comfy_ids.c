/* comfy_ids.c - see comfy_ids.h */
#include "probe/python/comfy_ids.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define UUID_BYTES 36

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
is_uuid(const char *s, size_t n)
{
	if (n != UUID_BYTES)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? s[i] != '-' : !is_hex(s[i]))
			return false;
	}
	return true;
}

static bool
is_plain(const char *s, size_t n)
{
	if (n == 0 || n >= COMFY_ID_BYTES)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (!is_digit(c) && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    c != '.' && c != '_' && c != ':' && c != '-')
			return false;
	}
	return true;
}

static size_t
hashed(const char *s, size_t n, char out[COMFY_ID_BYTES])
{
	uint64_t h = 0xcbf29ce484222325ull;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
	h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdull;
	h ^= h >> 33;
	return (size_t)snprintf(out, COMFY_ID_BYTES, "%016llx", (unsigned long long)h);
}

static size_t
copied(const char *s, size_t n, char out[COMFY_ID_BYTES])
{
	memcpy(out, s, n);
	out[n] = '\0';
	return n;
}

size_t
comfy_prompt_id(const char *s, size_t n, char out[COMFY_ID_BYTES])
{
	return is_uuid(s, n) ? copied(s, n, out) : hashed(s, n, out);
}

size_t
comfy_node_id(const char *s, size_t n, char out[COMFY_ID_BYTES])
{
	return is_plain(s, n) ? copied(s, n, out) : hashed(s, n, out);
}
