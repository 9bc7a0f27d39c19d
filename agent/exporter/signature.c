/*
 * signature.c - see signature.h.
 */
#include "agent/exporter/signature.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err
signature_make(const char *secret, uint64_t timestamp_s, const void *body, size_t body_bytes,
    char out[SIGNATURE_HEX_BYTES])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int md_bytes = 0;
	char head[24];
	int n = snprintf(head, sizeof head, "%" PRIu64 ".", timestamp_s);
	unsigned char *text = malloc((size_t)n + body_bytes);
	bool made;

	if (text == NULL)
		return E_NOMEM;
	memcpy(text, head, (size_t)n);
	memcpy(text + n, body, body_bytes);
	made = HMAC(EVP_sha256(), secret, (int)strlen(secret), text, (size_t)n + body_bytes, md,
		   &md_bytes) != NULL;
	free(text);
	if (!made || 2 * md_bytes + 1 != SIGNATURE_HEX_BYTES)
		return E_NOMEM;
	for (unsigned int i = 0; i < md_bytes; i++)
		snprintf(out + 2 * i, 3, "%02x", md[i]);
	return E_OK;
}
