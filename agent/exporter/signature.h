/*
 * signature.h - HMAC-SHA256 of what is sent, by the TLS library that libcurl
 * brings.  Only signature.c knows it.  Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"

#define SIGNATURE_HEX_BYTES 65u /* with the NUL */

/* Of "<timestamp>.<body>", in lower-case hex.  E_NOMEM: out is unchanged. */
MUST_CHECK enum err signature_make(const char *secret, uint64_t timestamp_s, const void *body,
    size_t body_bytes, char out[SIGNATURE_HEX_BYTES]);
