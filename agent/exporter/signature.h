/*
 * signature.h - HMAC-SHA256 of what is sent, by nettle: it needs no memory and
 * cannot fail, where OpenSSL's HMAC() crashed when its first allocation failed.
 * Only signature.c knows it.  Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SIGNATURE_HEX_BYTES 65u /* with the NUL */

/* Of "<timestamp>.<body>", in lower-case hex. */
void signature_make(const char *secret, uint64_t timestamp_s, const void *body, size_t body_bytes,
    char out[SIGNATURE_HEX_BYTES]);
