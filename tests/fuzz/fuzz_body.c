/*
 * fuzz_body.c - any bytes as the file of a prompt.
 * rooms: resubmit journal processor store supervisor core base schema
 *
 * What is believed names a probe and a workflow, can stand in a queue, and has
 * its JSON within the file.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/resubmit/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool
is_hex(const char *text, size_t n)
{
	return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct body_line b;
	char *text;
	size_t read;

	if (n == 0)
		return 0;
	text = malloc(n);
	memcpy(text, data, n);
	read = n < BODY_LINE_MAX_BYTES ? n : BODY_LINE_MAX_BYTES; /* as bodies.c does */
	if (body_parse(text, read, n, &b) == E_OK &&
	    (isnan(b.number) || !is_hex(b.workflow, 8) ||
		!is_hex(b.probe, 2 * FRAME_PROBE_ID_BYTES) || b.json_at > n ||
		b.json_bytes != n - b.json_at || b.secret != (b.json_bytes == 0)))
		abort();
	free(text);
	return 0;
}
