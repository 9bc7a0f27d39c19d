/*
 * signature.c - see signature.h.
 */
#include "agent/exporter/signature.h"

#include <inttypes.h>
#include <nettle/hmac.h>
#include <stdio.h>
#include <string.h>

void
signature_make(const char *secret, uint64_t timestamp_s, const void *body, size_t body_bytes,
    char out[SIGNATURE_HEX_BYTES])
{
	struct hmac_sha256_ctx mac;
	uint8_t digest[SHA256_DIGEST_SIZE];
	char head[24];
	int head_bytes = snprintf(head, sizeof head, "%" PRIu64 ".", timestamp_s);

	hmac_sha256_set_key(&mac, strlen(secret), (const uint8_t *)secret);
	hmac_sha256_update(&mac, (size_t)head_bytes, (const uint8_t *)head);
	hmac_sha256_update(&mac, body_bytes, body);
	hmac_sha256_digest(&mac, sizeof digest, digest);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}
